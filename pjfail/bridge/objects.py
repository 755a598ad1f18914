"""The shared objects in this process, by the loader's own paths for them, and the symbols in them."""

from __future__ import annotations

import os
from typing import Any

from .._native import ffi, lib


def c_object(path: str | None) -> Any:
    return ffi.NULL if path is None else ffi.new("char[]", os.fsencode(path))


def _path(c: Any) -> str | None:
    return os.fsdecode(ffi.string(c)) or None


def loaded_objects() -> list[str]:
    """The loader's paths of the shared objects in this process, of libraries too; the main program has none."""
    room = 0
    while (size := lib.pf_loaded_objects(paths := ffi.new("char[]", room), room)) > room:
        room = size
    return [os.fsdecode(path) for path in ffi.buffer(paths, size)[:].split(b"\0") if path]


def loaded(path: str) -> str | None:
    """The loader's own path of the object that *path* is; None when it is not loaded."""
    name = lib.pf_object(c_object(path))
    return None if name == ffi.NULL else _path(name)


def symbol(path: str | None, name: str) -> int:
    """The address of *name* in the loaded object *path* (None: the main program) or what it needs, 0 for none."""
    return int(ffi.cast("uintptr_t", lib.pf_symbol(c_object(path), name.encode())))


def object_of(address: int) -> str | None:
    """The path of the loaded object that *address*, a symbol's, lies in; None for the main program."""
    return _path(lib.pf_object_of(ffi.cast("void *", address)))


def data_of(path: str | None) -> int:
    """An address within the data on which the pjsip of the object *path* works, in whatever object that is."""
    return int(ffi.cast("uintptr_t", lib.pf_pjsip_data(c_object(path))))
