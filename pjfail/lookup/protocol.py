"""What a lookup is, and what it may be besides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from ..model import Candidate, Family, Target, Transport

TellStale = Callable[[Target, str], object]
"""Told a target whose candidates come from answers of before, and why no newer ones were to be had."""


@runtime_checkable
class Lookup(Protocol):
    """Finds the candidates of a target."""

    async def lookup(self, target: Target) -> Sequence[Candidate]:
        """The candidates of *target*, at least one. Runs on pjfail's worker, in its asyncio loop; must not block it.

        Raises :class:`pjfail.LookupFailed`; :class:`pjfail.UnknownTarget` says that another lookup may know more.
        Anything else it raises is logged, and the system's resolver is asked instead.
        """
        ...


@runtime_checkable
class Adaptive(Protocol):
    """A lookup that finds only what the endpoint can use."""

    def adapt(self, transports: Sequence[Transport], families: Sequence[Family]) -> None:
        """The endpoint has *transports* and *families* now. Called on the worker, at attach and when they change."""
        ...


@runtime_checkable
class ServesStale(Protocol):
    """A lookup that lives on old answers while its source is out of order."""

    def on_stale(self, tell: TellStale) -> None:
        """From now on *tell*, and nobody else, hears on the worker of each target that begins to live on old answers.

        Once a target and outage.
        """
        ...


@runtime_checkable
class Caching(Protocol):
    """A lookup that remembers answers."""

    def ask_anew(self) -> None:
        """From now on asks for each answer that it remembers when that is needed next; until then the old one serves.

        Called on the worker, by :meth:`pjfail.Failover.refresh`.
        """
        ...
