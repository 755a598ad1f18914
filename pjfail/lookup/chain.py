"""Several lookups, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from ..errors import LookupFailed, UnknownTarget
from ..model import Candidate, Family, Target, Transport
from .optional import OptionalMethods, require_lookup
from .protocol import Lookup, TellStale, TellTable

log = logging.getLogger("pjfail")


class ChainLookup:
    """Asks *lookups* in order, and returns what the first one finds.

    The next lookup is asked if one does not know the target (:class:`pjfail.UnknownTarget`), finds no candidates, fails
    temporarily, or raises an unexpected exception (which is logged). A lookup that says "there is none" ends the chain.

    Servers that one of them knows by a host name (:class:`StaticLookup`) are found by those after it.

    The lookups' times add up; the worker waits ten seconds for all of them together.

    Raises :class:`TypeError` without lookups, or if an argument is not a lookup.
    """

    def __init__(self, *lookups: Lookup) -> None:
        if not lookups:
            raise TypeError("a ChainLookup without lookups finds nothing; give at least one")
        for lookup in lookups:
            require_lookup("a lookup", lookup)
        self._lookups = lookups
        self._methods = [OptionalMethods(lookup) for lookup in lookups]
        for place, methods in enumerate(self._methods[:-1], 1):
            methods.resolve_names_by(ChainLookup(*lookups[place:]))

    async def lookup(self, target: Target) -> Sequence[Candidate]:
        """Returns the candidates of the first lookup that has any. Runs in the loop of the caller.

        Raises :class:`pjfail.LookupFailed`: the first temporary failure if there was one, because that lookup might
        have known more than those after it; otherwise the failure that ended the chain; otherwise
        :class:`pjfail.UnknownTarget`.
        """
        unknown: list[LookupFailed] = []
        failed: list[LookupFailed] = []
        for lookup in self._lookups:
            try:
                if found := await lookup.lookup(target):
                    return found
            except UnknownTarget as error:
                unknown.append(error)
            except LookupFailed as error:
                failed.append(error)
                if not error.temporary:
                    break
            except (Exception, SystemExit) as error:
                name = type(lookup).__name__
                log.exception("%s: %s failed; the next lookup is asked", target, name)
                failed.append(LookupFailed(f"{target}: {name} failed: {error!r}", temporary=True))
        raise [*failed, *unknown, UnknownTarget(f"{target}: no lookup has a candidate")][0]

    def adapt(self, transports: Sequence[Transport], families: Sequence[Family]) -> None:
        """Tells those lookups that are :class:`Adaptive` what the endpoint has."""
        for methods in self._methods:
            methods.adapt(transports, families)

    def ask_anew(self) -> None:
        """Has those of the lookups that remember answers ask anew (:class:`Caching`)."""
        for methods in self._methods:
            methods.ask_anew()

    def on_stale(self, tell: TellStale) -> None:
        """Makes those lookups that are :class:`ServesStale` call *tell* when they use old answers."""
        for methods in self._methods:
            methods.on_stale(tell)

    def on_table(self, tell: TellTable) -> None:
        """Has *tell* called with the hosts in the tables of all lookups."""
        tables: dict[int, frozenset[tuple[str, int]]] = {}

        def tell_all(place: int, hosts: frozenset[tuple[str, int]]) -> None:
            tables[place] = hosts
            tell(frozenset().union(*tables.values()))

        for place, methods in enumerate(self._methods):
            methods.on_table(partial(tell_all, place))

    async def prepare(self) -> None:
        """Has those of the lookups that can tell at once what they will not find do so."""
        for methods in self._methods:
            await methods.prepare()

    def files(self) -> Collection[Path] | None:
        """The files that the lookups read; None where one does not tell which."""
        named: list[Path] = []
        for methods in self._methods:
            files = methods.files()
            if files is None:
                return None
            named += files
        return named

    def files_changed(self) -> bool:
        """Whether one of the lookups says that a file of its own has changed (:class:`ReadsFiles`)."""
        changed = [methods.files_changed() for methods in self._methods]
        return any(changed)  # of all that have been asked
