"""The cache in front of a resolver: TTLs, negative answers (RFC 2308), and old answers during an outage (RFC 8767)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from dns.name import Name

from .._values import dataclass
from ..errors import LookupFailed
from .resolver import Answer, Asked, Kind, Resolver
from .store import Store, octets_of

NEGATIVE_CEILING = 300.0  # seconds: a name that is new in the DNS is found within five minutes
REFRESH_AT = 0.8  # the share of its TTL after which an answer is asked for again; plans are renewed then, too
STALE_TTL = 30.0  # seconds, of an answer past its own TTL (RFC 8767 section 4)
RETRY = 20.0  # seconds after a failed refresh; less than REFRESH_AT * STALE_TTL, so that a renewed plan asks again
ROOM = 32 << 20  # octets of memory, for all answers together: some 25 000 of one or two records


@dataclass(frozen=True, slots=True)
class _Entry:
    """An answer, and when it is asked for again. It is valid until ``expires``, and may be used as stale after that.

    ``trouble`` says how the last attempt to refresh it failed.
    """

    outcome: Answer | LookupFailed
    ask_at: float
    expires: float
    trouble: str = ""


class Cache:
    """A :class:`Resolver` that keeps the answers of another one. Only it writes them.

    An answer is kept for its TTL, at least *floor* and at most *ceiling* seconds. A use in the last fifth of that time
    makes the cache ask the other resolver again. If that fails or takes longer than *hurry* seconds, the old answer is
    used, for up to *max_stale* seconds after its TTL; any newer answer, "there is none" included, replaces it. A
    failure without an old answer is kept for *floor* seconds, so that a failing name service is not asked more often
    (RFC 9520).

    While a question is under way, asking it again starts no second one. It runs to its end even if nobody waits any
    more. For one asyncio loop at a time. *clock* returns seconds and never runs backwards. *learnt* is called in the
    loop after each new answer. *answers* come from an earlier process: each is asked for again at its first use. The
    answers take at most *room* octets of memory (:class:`pjfail.lookup.store.Store`).
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        floor: float,
        ceiling: float,
        max_stale: float,
        hurry: float,
        clock: Callable[[], float] = time.monotonic,
        learnt: Callable[[], object] = lambda: None,
        answers: Mapping[Asked, Answer] | None = None,
        room: int = ROOM,
    ) -> None:
        self._resolver = resolver
        self._floor = floor
        self._ceiling = ceiling
        self._max_stale = max_stale
        self._hurry = hurry
        self._clock = clock
        self._learnt = learnt
        self._under_way: dict[Asked, asyncio.Task[_Entry]] = {}
        now = clock()
        self._entries: Store[Asked, _Entry] = Store(room)
        for asked, answer in (answers or {}).items():
            self._put(asked, _Entry(answer, ask_at=now, expires=now + min(answer.ttl, ceiling)))

    async def resolve(self, name: Name, kind: Kind) -> Answer:
        """Returns the answer in the cache, else a new one; its TTL is the time left. Raises
        :class:`pjfail.LookupFailed`.
        """
        asked = Asked(name, kind)
        entry = self._entries.get(asked)
        if entry is None or entry.ask_at <= self._clock():
            entry = await self._newer(asked, entry)
        if isinstance(entry.outcome, LookupFailed):
            raise _bare(entry.outcome)
        left = entry.expires - self._clock()
        if entry.trouble and left <= 0:
            return replace(entry.outcome, ttl=STALE_TTL, stale=entry.trouble)
        return replace(entry.outcome, ttl=max(left, 0.0))

    def ask_anew(self) -> None:
        """Has all that is remembered asked for again at its next use; where that fails, it serves as before."""
        now = self._clock()
        for asked, entry in list(self._entries.items()):
            self._put(asked, replace(entry, ask_at=now))

    def answers(self) -> dict[Asked, Answer]:
        """Returns the answers that may still be used, each with the seconds left of its TTL, negative after its end.

        Any thread.
        """
        now = self._clock()
        return {
            asked: replace(entry.outcome, ttl=entry.expires - now)
            for asked, entry in self._entries.items()
            if isinstance(entry.outcome, Answer) and self._serves(entry, now)
        }

    def _serves(self, entry: _Entry, now: float) -> bool:
        return isinstance(entry.outcome, Answer) and now < entry.expires + self._max_stale

    async def _newer(self, asked: Asked, entry: _Entry | None) -> _Entry:
        """Returns the resolver's new answer, or *entry* if that takes too long."""
        question = asyncio.shield(self._question(asked))
        if entry is None or not self._serves(entry, self._clock()):
            return await question
        try:
            async with asyncio.timeout(self._hurry):
                return await question
        except TimeoutError:
            return replace(entry, trouble=f"no answer to {asked} within {self._hurry:g} s")

    def _question(self, asked: Asked) -> asyncio.Task[_Entry]:
        loop = asyncio.get_running_loop()
        task = self._under_way.get(asked)
        if task is None or task.get_loop() is not loop:
            task = loop.create_task(self._ask(asked))
            self._under_way[asked] = task
            task.add_done_callback(lambda _: self._under_way.pop(asked, None))
        return task

    async def _ask(self, asked: Asked) -> _Entry:
        try:
            answer = await self._resolver.resolve(*asked)
        except LookupFailed as failure:
            return self._put(asked, self._failed(asked, failure))
        ceiling = self._ceiling if answer else min(self._ceiling, NEGATIVE_CEILING)
        lifetime = max(self._floor, min(answer.ttl, ceiling))
        now = self._clock()
        entry = self._put(asked, _Entry(answer, now + REFRESH_AT * lifetime, now + lifetime))
        self._learnt()
        return entry

    def _put(self, asked: Asked, entry: _Entry) -> _Entry:
        self._entries.put(asked, entry, octets_of(entry.outcome) + len(entry.trouble))
        return entry

    def _failed(self, asked: Asked, failure: LookupFailed) -> _Entry:
        """Returns the old answer if *failure* is temporary and the answer may still be used; otherwise the failure."""
        now = self._clock()
        entry = self._entries.get(asked)
        if entry is not None and failure.temporary and self._serves(entry, now):
            until = entry.expires + self._max_stale
            return replace(entry, ask_at=min(now + RETRY, until), trouble=str(failure))
        return _Entry(_bare(failure), now + self._floor, now + self._floor)


def _bare(failure: LookupFailed) -> LookupFailed:
    """*failure* without its traceback, which would keep all its frames."""
    return type(failure)(str(failure), temporary=failure.temporary)
