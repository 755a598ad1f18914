"""Ends the hold-down of a server early: accounts want it back, and it answers. Pure, but for what it keeps.

Such a server is probed all along. A server that goes down again soon after that flaps: it serves its hold-downs to the
end, each longer than the one before, until it has stayed up for ``STEADY`` seconds.
"""

from __future__ import annotations

from dataclasses import replace

from ._values import dataclass
from .model import Health, Outcome, OutcomeKind, Server, State

# So many probes in a row must be answered, or as many as the policy's ``rise`` where that is more.
ANSWERS = 2
# A server that goes down again within so many seconds flaps.
STEADY = 120.0


@dataclass(slots=True)
class _Down:
    """A server that is down: whether that may end early, and how many probes in a row it has answered, since when.

    ``first`` is its health in the first hold-down of this outage.
    """

    may_end: bool
    first: Health
    answers: int = 0
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class _Spared:
    """A server that came back before its hold-down ended: the hold-down that the next is to be longer than, and when it
    came back last. However long the outage was, it counts for one hold-down.
    """

    failures: int
    hold: float
    at: float


class Recoveries:
    """The servers that are down, or were lately. Worker only."""

    def __init__(self, rise: int) -> None:
        self._needed = max(rise, ANSWERS)
        self._down: dict[Server, _Down] = {}
        self._spared: dict[Server, _Spared] = {}

    def remembered(self, server: Server, health: Health, now: float) -> Health:
        """Returns *health* with the failures of the last hold-down, if *server* was spared the rest of that lately."""
        spared = self._spared.get(server)
        if spared is None or health.state is State.DOWN:
            return health
        if now - spared.at >= STEADY:
            del self._spared[server]
            return health
        failures, hold = max(health.failures, spared.failures), max(health.hold, spared.hold)
        return replace(health, failures=failures, hold=hold)

    def went_down(self, server: Server, health: Health, outcome: Outcome) -> None:
        """Called when *outcome* has taken *server* down, or moved the end of its hold-down."""
        asked = outcome.seen is OutcomeKind.UNAVAILABLE and outcome.retry_after is not None
        spared, before = self._spared.get(server), self._down.get(server)
        first = health if before is None else before.first
        self._down[server] = _Down(may_end=spared is None and not asked, first=first)
        if spared is not None:
            self._spared[server] = replace(spared, failures=health.failures, hold=health.hold)

    def may_end_early(self, server: Server) -> bool:
        down = self._down.get(server)
        return down is not None and down.may_end

    def probed(self, server: Server, health: Health, outcome: Outcome) -> Health | None:
        """Called after a probe of a server that :meth:`may_end_early`.

        Returns None until it has answered often enough: then *health*, half-open, as it was when the first answer came,
        which one more answer makes up.
        """
        down = self._down[server]
        if outcome.seen is not OutcomeKind.ANSWERED:
            down.answers = 0
            return None
        down.since = down.since if down.answers else outcome.at
        down.answers += 1
        if down.answers < self._needed:
            return None
        self._spared[server] = _Spared(down.first.failures, down.first.hold, outcome.at)
        return replace(
            health,
            state=State.HALF_OPEN,
            since=down.since,
            until=None,
            held=False,
            successes=self._needed - 1,
            generation=health.generation + 1,
        )

    def came_back(self, server: Server, now: float) -> None:
        self._down.pop(server, None)
        spared = self._spared.get(server)
        if spared is not None:
            self._spared[server] = replace(spared, at=now)

    def forget(self, server: Server) -> None:
        self._down.pop(server, None)
        self._spared.pop(server, None)
