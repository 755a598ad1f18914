"""Several lookups, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..errors import LookupFailed, UnknownTarget
from ..model import Candidate, Family, Target, Transport
from .protocol import Adaptive, Lookup, ServesStale, TellStale

log = logging.getLogger("pjfail")


class ChainLookup:
    """Asks *lookups* in order, and returns what the first one finds.

    The next lookup is asked if one does not know the target (:class:`pjfail.UnknownTarget`), finds no candidates, fails
    temporarily, or raises an unexpected exception (which is logged). A lookup that says "there is none" ends the chain.

    The lookups' times add up; the worker waits ten seconds for all of them together.

    Raises :class:`TypeError` without lookups, or if an argument is not a lookup.
    """

    def __init__(self, *lookups: Lookup) -> None:
        if not lookups:
            raise TypeError("a ChainLookup without lookups finds nothing; give at least one")
        for lookup in lookups:
            if not isinstance(lookup, Lookup):
                raise TypeError(f"{lookup!r} is not a valid lookup; give an object with async def lookup(self, target)")
        self._lookups = lookups

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
            except Exception as error:
                name = type(lookup).__name__
                log.exception("%s: %s failed; the next lookup is asked", target, name)
                failed.append(LookupFailed(f"{target}: {name} failed: {error!r}", temporary=True))
        raise [*failed, *unknown, UnknownTarget(f"{target}: no lookup has a candidate")][0]

    def adapt(self, transports: Sequence[Transport], families: Sequence[Family]) -> None:
        """Tells those lookups that are :class:`Adaptive` what the endpoint has."""
        for lookup in self._lookups:
            if isinstance(lookup, Adaptive):
                lookup.adapt(transports, families)

    def on_stale(self, tell: TellStale) -> None:
        """Makes those lookups that are :class:`ServesStale` call *tell* when they use old answers."""
        for lookup in self._lookups:
            if isinstance(lookup, ServesStale):
                lookup.on_stale(tell)
