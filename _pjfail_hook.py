"""What ``PJFAIL=1`` puts into a Python process: once ``pjsua2`` is loaded, its ``libStart()`` attaches pjfail first.

``pjfail.pth`` imports this module at the start of the interpreter, before the program. So it stands outside of the
package and imports next to nothing; pjfail itself is imported when an endpoint starts.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# SWIG's pjsua2 is a module of this name around an extension; every method of the one calls a function of the other.
_NAMES = ("pjsua2", "_pjsua2")
_START = "Endpoint_libStart"


def install() -> None:
    """Has every ``pjsua2`` that this process imports from now on attach pjfail."""
    if file := os.environ.get("PJFAIL_CONFIG"):
        os.environ["PJFAIL_CONFIG"] = os.path.abspath(file)  # the program may change its folder before it has children
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds nothing by itself: puts a :class:`_Loader` before that of a ``pjsua2`` which another finder has found."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.rpartition(".")[2] not in _NAMES:
            return None
        for finder in sys.meta_path:
            find: Any = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find else None
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader)  # type: ignore[assignment]  # it passes on all that a loader has
                return spec
        return None


class _Loader:
    """Loads as *loader* does, which the module has afterwards, and wraps what starts an endpoint."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _wrap(module)


def _wrap(module: ModuleType) -> None:
    """Wraps the one function that starts an endpoint in *module*: of SWIG's extension, else the method of the class."""
    names = vars(module)
    if _START in names:
        names[_START] = _attaching(names[_START])
    elif not hasattr(names.get("_pjsua2"), _START) and hasattr(names.get("Endpoint"), "libStart"):
        endpoint: Any = names["Endpoint"]
        if not hasattr(endpoint.libStart, "__wrapped__"):
            endpoint.libStart = _attaching(endpoint.libStart)


def _attaching(start: Any) -> Any:
    """Returns *start* with the attaching put before it, on the thread that calls it: one of Python's.

    Where pjfail cannot attach, the program runs on without it, unless PJFAIL_STRICT is set: then the endpoint does not
    start, and the caller has the error.
    """

    def libStart(*arguments: Any) -> Any:
        try:
            from pjfail.launch import attach

            attach()
        except Exception as error:
            if os.environ.get("PJFAIL_STRICT", "0").strip().lower() not in ("", "0", "false"):
                raise
            import logging

            logging.getLogger("pjfail").warning("pjfail is not attached, and the program runs without it: %s", error)
        return start(*arguments)

    libStart.__wrapped__ = start  # type: ignore[attr-defined]
    return libStart
