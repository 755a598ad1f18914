"""What RFC 3263 needs of the DNS: one question, one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from dns.name import Name
from dns.rdata import Rdata

from .._values import dataclass
from ..errors import LookupFailed

Kind = Literal["NAPTR", "SRV", "A", "AAAA"]


class Silence(LookupFailed):
    """No name server has said anything to a question."""


class Asked(NamedTuple):
    """A question to the DNS."""

    name: Name
    kind: Kind

    def __str__(self) -> str:
        return f"{self.kind} {self.name.to_text(omit_final_dot=True)}"


NOTHING_BESIDE: Mapping[Asked, tuple[Rdata, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Answer:
    """A name service's answer to one question. Without records it is false, and means "there is none".

    ``name`` is where the CNAME chain ended. ``ttl`` is in seconds; without records it is RFC 2308's negative TTL.
    ``stale`` says why an answer is used after its TTL (RFC 8767); otherwise it is empty. ``beside`` are the addresses
    of the servers in ``records`` that came in the same answer: for lookups that use these records, and for no others
    (RFC 2181 section 5.4.1).
    """

    name: Name
    records: tuple[Rdata, ...]
    ttl: float
    stale: str = ""
    beside: Mapping[Asked, tuple[Rdata, ...]] = field(default_factory=lambda: NOTHING_BESIDE, hash=False)

    def __bool__(self) -> bool:
        return bool(self.records)


class Resolver(Protocol):
    """Answers DNS questions."""

    async def resolve(self, name: Name, kind: Kind) -> Answer:
        """Returns the records of *kind* at *name*, following CNAMEs.

        Raises :class:`pjfail.LookupFailed`, temporary where no name server gave an answer, and :class:`Silence` where
        none said anything.
        """
        ...
