"""A resolver without a wire, for tests of what stands in front of one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import dns.name
import dns.rdatatype
import dns.zone
from dns.name import Name

from pjfail.errors import LookupFailed
from pjfail.lookup.resolver import Answer, Kind, Silence


class TableResolver:
    """Answers from *records* (lines of zone text) at once, and never for what stands in ``silent``.

    Questions in ``failing`` fail for the time being, those in ``given_up`` after a silence. All hold pairs of a name
    without its final dot and a kind.
    """

    def __init__(self, records: Iterable[str] = (), *, negative_ttl: float = 60.0) -> None:
        self.records(records)
        self.failing: set[tuple[str, Kind]] = set()
        self.silent: set[tuple[str, Kind]] = set()
        self.given_up: set[tuple[str, Kind]] = set()
        self.asked: list[tuple[str, Kind]] = []
        self._negative_ttl = negative_ttl

    def records(self, records: Iterable[str]) -> None:
        self._zone = dns.zone.from_text("\n".join(records), dns.name.root, relativize=False, check_origin=False)

    async def resolve(self, name: Name, kind: Kind) -> Answer:
        question = (name.to_text(omit_final_dot=True).lower(), kind)
        self.asked.append(question)
        if question in self.silent:
            await asyncio.Event().wait()
        if question in self.given_up:
            raise Silence(f"{kind} {name}: silence", temporary=True)
        if question in self.failing:
            raise LookupFailed(f"{kind} {name}: SERVFAIL", temporary=True)
        link = self._zone.get_rdataset(name, "CNAME")
        if link is not None:
            return await self.resolve(link[0].target, kind)
        found = self._zone.get_rdataset(name, kind)
        if found is None:
            return Answer(name, (), self._negative_ttl)
        return Answer(name, tuple(found), float(found.ttl))
