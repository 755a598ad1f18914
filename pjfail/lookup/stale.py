"""Notices that lookups use old answers (RFC 8767), and reports each target once per outage."""

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


class StaleTargets:
    """The targets that use old answers. For one asyncio loop at a time."""

    def __init__(self) -> None:
        self._targets: dict[Target, None] = {}
        self._tell: TellStale = lambda _target, _reason: None

    def on_stale(self, tell: TellStale) -> None:
        """Calls *tell* from now on."""
        self._tell = tell

    def found(self, target: Target, stale: list[Answer]) -> None:
        """Called when candidates of *target* were found; *stale* are the stale answers among those that led there."""
        reasons = [answer.stale for answer in stale if answer]  # an answer without records gave no candidate
        if reasons and target not in self._targets:
            self._targets[target] = None
            if len(self._targets) > MAX_TARGETS:
                del self._targets[next(iter(self._targets))]
            log.warning("%s is found by old answers, because there are no new ones: %s", target, reasons[0])
            self._tell(target, reasons[0])
        elif not reasons and target in self._targets:
            del self._targets[target]
            log.info("%s is found by new answers again", target)
