"""What the procedure of RFC 3263 needs of a DNS: one question, one answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from dns.name import Name
from dns.rdata import Rdata

Kind = Literal["NAPTR", "SRV", "A", "AAAA"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a name service said to one question. Without records it is false, and means "there is none".

    ``name`` is where the CNAME chain ended. ``ttl`` is in seconds; without records it is RFC 2308's negative TTL.
    """

    name: Name
    records: tuple[Rdata, ...]
    ttl: float

    def __bool__(self) -> bool:
        return bool(self.records)


class Resolver(Protocol):
    """Answers DNS questions."""

    async def resolve(self, name: Name, kind: Kind) -> Answer:
        """The records of *kind* at *name*, CNAMEs followed.

        Raises :class:`pjfail.LookupFailed`, temporary where no name server gave an answer.
        """
        ...
