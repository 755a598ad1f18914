"""The cache in front of a resolver: TTLs, negative answers (RFC 2308), one question under way at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from dns.name import Name

from ..errors import LookupFailed
from .resolver import Answer, Kind, Resolver

NEGATIVE_CEILING = 300.0  # a name that is new in the DNS is found after five minutes at the latest
MAX_ENTRIES = 20_000


@dataclass(frozen=True, slots=True)
class _Entry:
    outcome: Answer | LookupFailed
    expires: float


class Cache:
    """A :class:`Resolver` that remembers what another one said.

    An answer is kept for its TTL, at least *floor* and at most *ceiling* seconds; a failure for *floor* seconds, so
    that a name service in trouble is not asked faster (RFC 9520). The same question asked again while under way is
    asked once; it runs to its end even when nobody waits for it any more. For one asyncio loop at a time. *clock*
    gives seconds and never runs backwards.
    """

    def __init__(
        self, resolver: Resolver, *, floor: float, ceiling: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._resolver = resolver
        self._floor = floor
        self._ceiling = ceiling
        self._clock = clock
        self._entries: dict[tuple[Name, Kind], _Entry] = {}
        self._under_way: dict[tuple[Name, Kind], asyncio.Task[_Entry]] = {}

    async def resolve(self, name: Name, kind: Kind) -> Answer:
        """The answer at hand, else a fresh one; its TTL is what is left of it. Raises :class:`pjfail.LookupFailed`."""
        key = (name, kind)
        entry = self._entries.get(key)
        now = self._clock()
        if entry is None or entry.expires <= now:
            outcome = (await asyncio.shield(self._question(key))).outcome
        elif isinstance(entry.outcome, Answer):
            outcome = replace(entry.outcome, ttl=entry.expires - now)
        else:
            outcome = entry.outcome
        if isinstance(outcome, LookupFailed):
            raise LookupFailed(str(outcome), temporary=outcome.temporary)
        return outcome

    def _question(self, key: tuple[Name, Kind]) -> asyncio.Task[_Entry]:
        loop = asyncio.get_running_loop()
        task = self._under_way.get(key)
        if task is None or task.get_loop() is not loop:
            task = loop.create_task(self._ask(key))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return task

    async def _ask(self, key: tuple[Name, Kind]) -> _Entry:
        outcome: Answer | LookupFailed
        try:
            answer = await self._resolver.resolve(*key)
            ceiling = self._ceiling if answer else min(self._ceiling, NEGATIVE_CEILING)
            lifetime = max(self._floor, min(answer.ttl, ceiling))
            outcome = replace(answer, ttl=lifetime)
        except LookupFailed as failure:
            outcome, lifetime = failure, self._floor
        entry = _Entry(outcome, self._clock() + lifetime)
        self._entries.pop(key, None)
        self._entries[key] = entry
        if len(self._entries) > MAX_ENTRIES:
            del self._entries[next(iter(self._entries))]  # the one learnt longest ago
        return entry
