"""The protocols of lookups: the one that each has, and two that it may have besides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from ..model import Candidate, Family, Target, Transport

TellStale = Callable[[Target, str], object]
"""Called with a target whose candidates come from old answers, and the reason why there are no newer ones."""


@runtime_checkable
class Lookup(Protocol):
    """Finds the candidates of a target."""

    async def lookup(self, target: Target) -> Sequence[Candidate]:
        """Returns the candidates of *target*, at least one. Runs on pjfail's worker, in its asyncio loop; must not
        block it.

        Raises :class:`pjfail.LookupFailed`; :class:`pjfail.UnknownTarget` says that another lookup may know more. After
        any other exception, which pjfail logs, the system's resolver is asked instead.
        """
        ...


@runtime_checkable
class Adaptive(Protocol):
    """A lookup that finds only what the endpoint can use."""

    def adapt(self, transports: Sequence[Transport], families: Sequence[Family]) -> None:
        """The endpoint now has *transports* and *families*. Called on the worker, when pjfail attaches and when they
        change.
        """
        ...


@runtime_checkable
class ServesStale(Protocol):
    """A lookup that uses old answers while its source does not work."""

    def on_stale(self, tell: TellStale) -> None:
        """From now on calls *tell*, and nothing else, on the worker, for each target that starts to use old answers.

        It is called once for each target and outage.
        """
        ...
