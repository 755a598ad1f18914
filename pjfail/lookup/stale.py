"""Troubles that a lookup gets over, said once a target and outage; above all old answers (RFC 8767)."""

from __future__ import annotations

import logging

from dns.name import Name

from ..model import Target
from .protocol import TellStale
from .resolver import Answer, Kind, Resolver

log = logging.getLogger("pjfail")

MAX_TARGETS = 20_000


class StaleRecorder:
    """A :class:`Resolver` for one lookup, which passes on another one's answers and keeps the stale ones in its list
    ``stale``.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self.stale: list[Answer] = []

    async def resolve(self, name: Name, kind: Kind) -> Answer:
        """Does what :meth:`Resolver.resolve` says."""
        answer = await self._resolver.resolve(name, kind)
        if answer.stale:
            self.stale.append(answer)
        return answer


class TargetsInTrouble:
    """The targets that have some trouble: its begin and its end are logged once. For one asyncio loop at a time.

    *begins* and *ends* are the log's words, with a place for the target, and in *begins* one for the reason.
    """

    def __init__(self, begins: str, ends: str) -> None:
        self._begins = begins
        self._ends = ends
        self._targets: dict[Target, None] = {}

    def __contains__(self, target: Target) -> bool:
        return target in self._targets

    def note(self, target: Target, reason: str) -> bool:
        """Whether the trouble of *target* begins, for *reason*; it ends with an empty one."""
        begins = bool(reason) and target not in self._targets
        if begins:
            self._targets[target] = None
            if len(self._targets) > MAX_TARGETS:
                del self._targets[next(iter(self._targets))]
            log.warning(self._begins, target, reason)
        elif not reason and target in self._targets:
            del self._targets[target]
            log.info(self._ends, target)
        return begins


class StaleTargets:
    """The targets that use old answers. For one asyncio loop at a time."""

    def __init__(self) -> None:
        self._targets = TargetsInTrouble(
            "%s is found by old answers, because there are no new ones: %s", "%s is found by new answers again"
        )
        self._tell: TellStale = lambda _target, _reason: None

    def on_stale(self, tell: TellStale) -> None:
        """Calls *tell* from now on."""
        self._tell = tell

    def found(self, target: Target, stale: list[Answer]) -> None:
        """Called when candidates of *target* were found; *stale* are the stale answers among those that led there."""
        reason = next((answer.stale for answer in stale if answer), "")  # one without records gave no candidate
        if self._targets.note(target, reason):
            self._tell(target, reason)
