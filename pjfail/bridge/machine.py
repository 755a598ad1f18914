"""Descriptors that tell of changes of this machine. They are the caller's, to be closed by :func:`os.close`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .._native import lib


def watch_clock() -> int | None:
    """Returns a descriptor that can be read when the time of day was set or the machine was suspended; None: this
    system has none.
    """
    descriptor = int(lib.pf_watch_clock())
    return None if descriptor < 0 else descriptor


def watch_files(paths: Iterable[Path]) -> int | None:
    """Returns a descriptor that can be read when one of the files at *paths* has been written, replaced or made.

    None: this system has none at the moment. The folders of the files are watched, too, also those that links lead to,
    or where a folder is missing the one that it would be in.
    """
    descriptor = int(lib.pf_watch_files())
    if descriptor < 0:
        return None
    for path in paths:
        lib.pf_watch_file(descriptor, os.fsencode(path))
        for place in {path.absolute(), path.resolve()}:
            if not any(lib.pf_watch_file(descriptor, os.fsencode(folder)) for folder in place.parents):
                os.close(descriptor)
                return None
    return descriptor


def watch_file(path: Path) -> int | None:
    """Returns a descriptor that can be read when the file at *path* has been written; None: it is not there, or this
    system has none at the moment.
    """
    descriptor = int(lib.pf_watch_files())
    if descriptor >= 0 and not lib.pf_watch_file(descriptor, os.fsencode(path)):
        os.close(descriptor)
        return None
    return None if descriptor < 0 else descriptor


def drain(descriptor: int) -> None:
    """Reads what *descriptor* has to tell."""
    try:
        while os.read(descriptor, 4096):
            pass
    except OSError:  # nothing more, or the clock was set
        pass
