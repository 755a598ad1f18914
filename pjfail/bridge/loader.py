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
    """Returns the loader's paths of the shared objects in this process, libraries included; the main program has no
    path.
    """
    room = 0
    while (size := lib.pf_loaded_objects(paths := ffi.new("char[]", room), room)) > room:
        room = size
    return [os.fsdecode(path) for path in ffi.buffer(paths, size)[:].split(b"\0") if path]


def loaded(path: str) -> str | None:
    """Returns the loader's own path of the object at *path*; None if it is not loaded."""
    name = lib.pf_object(c_object(path))
    return None if name == ffi.NULL else _path(name)


def symbol(path: str | None, name: str) -> int:
    """Returns the address of *name* in the loaded object *path* (None: the main program) or its dependencies; 0: not
    found.
    """
    return int(ffi.cast("uintptr_t", lib.pf_symbol(c_object(path), name.encode())))


def object_of(address: int) -> str | None:
    """Returns the path of the loaded object that contains *address*; None for the main program."""
    return _path(lib.pf_object_of(ffi.cast("void *", address)))


def data_of(path: str | None) -> int:
    """Returns an address within the data that the pjsip of object *path* works on, in whichever object that data is."""
    return int(ffi.cast("uintptr_t", lib.pf_pjsip_data(c_object(path))))
