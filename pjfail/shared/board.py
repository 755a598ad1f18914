"""What others have told, and what it weighs. Pure: times are arguments, by this process's monotonic clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from .._values import dataclass
from ..model import Server
from .entries import ORDERS, Entry

WINDOW_S = 60.0
"""Processes agree when they say so within this time of each other."""
MAX_ENTRIES = 10_000
"""Entries of all servers together; of more, the one that was heard longest ago goes."""
MAX_VOICES = 8
"""Processes that say the same of one server; a further one keeps its word to itself."""
CEILING_S = 300.0
"""No word holds longer than this, whatever it says; an order: MAX_ORDER_S."""
MAX_ORDER_S = 86_400.0
RECOVERY_S = 60.0
"""For so long it stays known that a server has answered, or that a word was taken back."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An entry, with its times on this process's clock: since when it is so, until when it holds, when it came."""

    entry: Entry
    since: float
    until: float
    at: float


@dataclass(frozen=True, slots=True)
class Belief:
    """What others say of a server, as far as this process believes it."""

    since: float
    until: float
    reason: str
    failures: int
    voices: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to make of a server: it is down (``down``), or a stranger had an answer at ``recovered``.

    ``contradicted``: somebody says that it is down, and this process has had an answer since: it should say so.
    """

    down: Belief | None = None
    recovered: Heard | None = None
    contradicted: bool = False


class Board:
    """The entries of other processes, and the orders of operators.

    *own* is this process, whose own words are left out. *trust*: how many processes must agree that a server is down;
    None: two, or one whose other servers are well.
    """

    def __init__(self, own: str, trust: int | None) -> None:
        self._own = own
        self._trust = trust
        self._heard: dict[tuple[Server, str], Heard] = {}
        self._of: dict[Server, dict[str, Heard]] = {}

    def __len__(self) -> int:
        return len(self._heard)

    def servers(self) -> list[Server]:
        """The servers of which anything is known."""
        return list(self._of)

    def hear(self, entry: Entry, now: float) -> bool:
        """Takes *entry*; returns whether it says anything new. Late, doubled and expired entries do not."""
        key = entry.server, entry.writer
        before = self._heard.get(key)
        if entry.writer == self._own or entry.left <= 0 or (before and before.entry.sequence >= entry.sequence):
            return False
        left = min(entry.left, MAX_ORDER_S if entry.kind in ORDERS else CEILING_S)
        self._heard.pop(key, None)
        self._heard[key] = self._of.setdefault(entry.server, {})[entry.writer] = Heard(
            entry, now - max(entry.age, 0.0), now + left, now
        )
        while len(self._heard) > MAX_ENTRIES:
            self._drop(next(iter(self._heard)))
        return True

    def take(self, entries: Sequence[Entry], began: float, now: float) -> set[Server]:
        """Takes all that a store has, asked for at *began*; what it has no longer is forgotten, unless it came since.

        Returns the servers of which anything has changed.
        """
        there = {(entry.server, entry.writer) for entry in entries}
        lost = [key for key, heard in self._heard.items() if key not in there and heard.at < began]
        for key in lost:
            self._drop(key)
        return {server for server, _ in lost} | {entry.server for entry in entries if self.hear(entry, now)}

    def expire(self, now: float) -> set[Server]:
        """Forgets what does not hold any more, and returns of which servers."""
        over = [key for key, heard in self._heard.items() if heard.until <= now]
        for key in over:
            self._drop(key)
        return {server for server, _ in over}

    def order(self, server: Server, now: float) -> Heard | None:
        """The operator's order for *server* that holds."""
        return next((heard for heard in self._on(server, now) if heard.entry.kind in ORDERS), None)

    def voices(self, server: Server, now: float) -> int:
        """How many other processes say that *server* is down."""
        return sum(heard.entry.kind == "down" for heard in self._on(server, now))

    def weigh(self, server: Server, now: float, last_answer: float | None, *, doubted: bool) -> Verdict:
        """What the entries about *server* amount to for this process, whose own last answer came at *last_answer*.

        *doubted*: this process has it down by itself, or waits for a probe of it: then one other's word is enough.
        """
        heard = list(self._on(server, now))
        downs = sorted((each for each in heard if each.entry.kind == "down"), key=lambda each: each.at)
        recovered = max((each for each in heard if each.entry.kind == "up"), key=lambda each: each.since, default=None)
        answered = max(recovered.since if recovered else 0.0, 0.0 if last_answer is None else last_answer)
        standing = [each for each in downs if each.since > answered]
        if not standing:
            unknown = recovered is None or any(each.since > recovered.since for each in downs)
            return Verdict(recovered=recovered, contradicted=bool(downs) and unknown)
        if not self._believes(standing, doubted=doubted):
            return Verdict(recovered=recovered)
        first = standing[0].entry
        told = f"{first.reason} at {first.host or 'another process'}, told by {len(standing)}"
        return Verdict(
            Belief(
                since=min(each.since for each in standing),
                until=max(each.until for each in standing),
                reason=told,
                failures=max(each.entry.failures for each in standing),
                voices=len(standing),
            ),
            recovered,
        )

    def _believes(self, standing: Sequence[Heard], *, doubted: bool) -> bool:
        if doubted or (self._trust is None and any(each.entry.sure for each in standing)):
            return True
        needed = 2 if self._trust is None else self._trust
        together = zip(standing, standing[needed - 1 :], strict=False)
        return any(last.at - first.at <= WINDOW_S for first, last in together)

    def _on(self, server: Server, now: float) -> Iterator[Heard]:
        return (heard for heard in self._of.get(server, {}).values() if heard.until > now)

    def _drop(self, key: tuple[Server, str]) -> None:
        server, writer = key
        del self._heard[key]
        of = self._of[server]
        del of[writer]
        if not of:
            del self._of[server]


def missing(own: Iterable[Entry], there: Iterable[Entry]) -> list[Entry]:
    """Those of the process's *own* entries that a store, which has what is *there*, has not."""
    kept = {(entry.server, entry.writer): entry.sequence for entry in there}
    return [entry for entry in own if kept.get((entry.server, entry.writer), -1) < entry.sequence]
