"""The methods that a lookup may have besides ``lookup()``: called so that one that fails does no harm."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from .._validation import is_plain, require, require_arguments
from ..model import Family, Transport
from .protocol import (
    Adaptive,
    Caching,
    HasTable,
    Lookup,
    NamesFiles,
    NamesHosts,
    Prepares,
    ReadsFiles,
    ServesStale,
    TellStale,
    TellTable,
)

log = logging.getLogger("pjfail")


def require_lookup(name: str, lookup: object) -> None:
    """Raises TypeError unless *lookup* is a lookup, as far as that can be known before the first call."""
    advice = "an object with a method: async def lookup(self, target)"
    require(name, lookup, Lookup, advice)
    function: Callable[..., object] = getattr(lookup, "lookup")  # noqa: B009 - require() has seen that it is there
    if is_plain(function):
        raise TypeError(f"{name} is {lookup!r}, whose lookup() is not async; give {advice}")
    require_arguments(name, function, ("target",), advice)


class OptionalMethods:
    """Calls those methods that *lookup* has of the protocols that it may have; the others do nothing.

    A method may be the application's: if it raises, or returns what it must not, the log says so in words for its
    author, and pjfail goes on as if the lookup did not have it. It is called again when it is needed next. It is logged
    once, and once more after it has worked in between.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._failed: set[str] = set()

    def adapt(self, transports: Sequence[Transport], families: Sequence[Family]) -> None:
        self._call(Adaptive, "adapt", transports, families)

    def on_stale(self, tell: TellStale) -> None:
        self._call(ServesStale, "on_stale", tell)

    def on_table(self, tell: TellTable) -> None:
        self._call(HasTable, "on_table", tell)

    def resolve_names_by(self, lookup: Lookup) -> None:
        self._call(NamesHosts, "resolve_names_by", lookup)

    def ask_anew(self) -> None:
        self._call(Caching, "ask_anew")

    async def prepare(self) -> None:
        if isinstance(self._lookup, Prepares):
            try:
                await self._lookup.prepare()
            except (Exception, SystemExit):
                self._log("prepare")

    def files(self) -> Collection[Path] | None:
        """The files that the lookup reads, none if it reads none; None where it does not say which."""
        if not isinstance(self._lookup, ReadsFiles):
            return ()
        files: Collection[Path] | None = self._call(NamesFiles, "files", returns=_paths)
        return files

    def files_changed(self) -> bool:
        return bool(self._call(ReadsFiles, "files_changed", returns=bool))

    def _call(
        self, protocol: type, method: str, *arguments: object, returns: Callable[[Any], object] = lambda found: found
    ) -> Any:
        """What *returns* makes of the method's result; None where the lookup has no such method, or it fails."""
        if not isinstance(self._lookup, protocol):
            return None
        try:
            found = getattr(self._lookup, method)(*arguments)
            if inspect.iscoroutine(found):
                found.close()
                raise TypeError("it is async, and nobody would await it; write def")
            result = returns(found)
        except (Exception, SystemExit):
            self._log(method)
            return None
        self._failed.discard(method)
        return result

    def _log(self, method: str) -> None:
        if method not in self._failed:
            self._failed.add(method)
            log.exception(
                "%s.%s() failed; pjfail goes on without it (logged once)", type(self._lookup).__name__, method
            )


def _paths(found: object) -> Collection[Path] | None:
    if found is None or (isinstance(found, Collection) and all(isinstance(each, Path) for each in found)):
        return found
    raise TypeError(f"it has returned {found!r}, which is not a list of pathlib.Path, nor None")
