"""The protocols of lookups: the one that each has, and two that it may have besides."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..model import Candidate, Family, Target, Transport

TellStale = Callable[[Target, str], object]
"""Called with a target whose candidates come from old answers, and the reason why there are no newer ones."""

TellTable = Callable[[frozenset[tuple[str, int]]], object]
"""Told the hosts that are in a table, each with its port, 0 for none."""


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


@runtime_checkable
class HasTable(Protocol):
    """A lookup with a table of hosts, some of which may be addresses."""

    def on_table(self, tell: TellTable) -> None:
        """From now on *tell*, and nobody else, hears of what is in the table: at once, and after each change.

        It may be called on any thread.
        """
        ...


@runtime_checkable
class NamesHosts(Protocol):
    """A lookup that knows some servers by their host names alone."""

    def resolve_names_by(self, lookup: Lookup) -> None:
        """From now on *lookup* finds these. Called by the chain that both are in."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A lookup that can tell at once what it will not find."""

    async def prepare(self) -> None:
        """Logs that. Called once, on the worker, when pjfail has attached."""
        ...


@runtime_checkable
class ReadsFiles(Protocol):
    """A lookup that reads files of this machine."""

    def files_changed(self) -> bool:
        """Whether one has changed since the last call; then all targets are looked up again.

        Called on the worker: every two seconds, or when the system tells of a change to one of :class:`NamesFiles`.
        """
        ...


@runtime_checkable
class NamesFiles(ReadsFiles, Protocol):
    """A lookup that tells which files it reads, so that nobody has to look at them every two seconds."""

    def files(self) -> Collection[Path] | None:
        """The files, which may be missing; None where not all of them are known. Called on the worker."""
        ...


@runtime_checkable
class Caching(Protocol):
    """A lookup that remembers answers."""

    def ask_anew(self) -> None:
        """From now on asks for each answer that it remembers when that is needed next; until then the old one serves.

        Called on the worker, by :meth:`pjfail.Failover.refresh`.
        """
        ...
