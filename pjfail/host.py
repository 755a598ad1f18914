"""Finds the loaded object that carries pjsip, and checks that pjfail can work with it."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from . import errors
from .bridge.core import attachment, is_forked_child
from .bridge.host import check_host, known_layouts, layout_of, open_host
from .bridge.loader import data_of, loaded, loaded_objects, object_of, symbol

# A function of pjsip and one of pjsua, which pjfail calls: the object that exports them carries pjsip.
_PJSIP = "pjsip_endpt_set_ext_resolver"
_PJSUA = "pjsua_get_pjsip_endpt"
# pjlib's own texts for its log: every object that pjlib is linked into has them, even one that exports no function.
_PJLIB_SAYS = re.compile(rb"pjlib %s for |PJLIB \(c\)")
_PROGRAM = Path("/proc/self/exe")

_binding = threading.Lock()


def name_of(path: str | None) -> str:
    """Returns an object's name for people."""
    return "the main program" if path is None else path


def find(host: str | Path | ModuleType | None = None) -> str | None:
    """Returns the path of the object that carries pjsip in this process; None for the main program itself.

    *host*, a path or an imported module, names it in place of the search. Paths are those of the dynamic loader, so the
    file may have been deleted or replaced since. Raises :class:`pjfail.NoPjsip` (and its subclass
    :class:`pjfail.UnusablePjsip`), :class:`pjfail.TwoPjsips`, and :class:`pjfail.NoEndpoint` in a forked child of the
    process that attached.
    """
    if is_forked_child():
        raise errors.NoEndpoint(
            "pjfail was attached when this process was forked from its parent, and stays in the parent, where pjsip's "
            'threads are; fork before pjfail.attach(), or start children anew (multiprocessing\'s "spawn")'
        )
    objects = [None, *loaded_objects()] if host is None else [_named(host)]
    carriers = _carriers(objects)
    if not carriers:
        raise _none_in(objects, searched=host is None)
    if len(carriers) > 1:
        raise errors.TwoPjsips(
            f"{' and '.join(map(name_of, carriers))} each carry a pjsip of their own; "
            "give host= the one that your application uses, as the imported module or as a path"
        )
    return carriers[0]


def _named(host: str | Path | ModuleType) -> str | None:
    """Returns the loader's path of the object that the user named."""
    if not isinstance(host, str | os.PathLike | ModuleType):
        raise TypeError(f"host is {host!r}; give a module or a path")
    path = _file_of(host) if isinstance(host, ModuleType) else os.fspath(host)
    if path is None or _is_program(path):
        return None
    name = loaded(path)
    if name is None:
        raise errors.NoPjsip(f"{path} is not loaded into this process; import it, or load it, before pjfail.attach()")
    return name


def _file_of(module: ModuleType) -> str | None:
    """Returns the file of the extension that *module* is, or wraps as SWIG's modules do; None: part of the main
    program.
    """
    within = (getattr(module, name, None) for name in ("_pjsua2", f"_{module.__name__.rpartition('.')[2]}"))
    extension = next((each for each in within if isinstance(each, ModuleType)), module)
    if extension.__name__ in sys.builtin_module_names:
        return None
    path = getattr(extension, "__file__", None)
    if path is None or path.endswith((".py", ".pyc")):
        raise errors.NoPjsip(
            f"the module {module.__name__} is not a shared object; give host= the extension that carries pjsip"
        )
    return str(path)


def _is_program(path: str) -> bool:
    try:
        return os.path.samefile(path, _PROGRAM)
    except OSError:
        return False


def _carriers(objects: Iterable[str | None]) -> list[str | None]:
    """Returns the objects whose pjsip the *objects* use."""
    found = {object_of(address) for path in objects if (address := symbol(path, _PJSUA))}
    return list(dict.fromkeys(map(_at_work, sorted(found, key=name_of))))


def _at_work(path: str | None) -> str | None:
    """Returns the object whose functions run when those of *path* are called.

    If another object with the same symbols was loaded before and shows them to all (the main program, or RTLD_GLOBAL),
    the functions of *path* work on that object's data.
    """
    data = data_of(path)
    owner = object_of(data) if data else path
    address = symbol(owner, _PJSUA)
    return owner if address and object_of(address) == owner else path


def _none_in(objects: Iterable[str | None], *, searched: bool) -> errors.NoPjsip:
    """Returns the error that says why pjfail cannot use a pjsip of *objects*, and what to do."""
    for path in objects:
        if address := symbol(path, _PJSIP):
            return errors.UnusablePjsip(
                f"{name_of(object_of(address))} carries pjsip, but no pjsua is loaded into this process; pjfail "
                "works through pjsua (as pjsua2 does), and not with a pjsip endpoint made without it"
            )
    for path in objects:
        if _hides_pjlib(path):
            without = "without -fvisibility=hidden, --exclude-libs or a version script"
            remedy = "with -rdynamic" if path is None else without
            return errors.UnusablePjsip(
                f"{name_of(path)} seems to carry pjsip, judging by the texts in it, but exports none of pjsip's "
                f"functions, which pjfail needs; build it {remedy}"
            )
    if searched:
        return errors.NoPjsip(
            "this process has no pjsip: import pjsua2 and create its Endpoint before pjfail.attach(), "
            "or give host= the object that carries pjsip"
        )
    return errors.NoPjsip(
        f"{name_of(next(iter(objects)))} carries no pjsip; give host= the object that does, or leave host= out"
    )


def _hides_pjlib(path: str | None) -> bool:
    """Returns whether the object contains pjlib without exporting it: looks for pjlib's texts in the file, which may be
    large or deleted.
    """
    if symbol(path, "pj_init"):
        return False
    try:
        with open(path or _PROGRAM, "rb") as file:
            end = b""
            while block := file.read(1 << 20):
                if _PJLIB_SAYS.search(end + block):
                    return True
                end = block[-64:]
    except OSError:
        pass
    return False


def bind(host: str | Path | ModuleType | None = None) -> str:
    """Binds the C core to this process's pjsip, checks version, endpoint and layout, and returns the version.

    Installs nothing. Raises :class:`pjfail.HostError`.
    """
    with _binding:
        path = find(host)
        if attachment():
            raise errors.AlreadyAttached(errors.ATTACHED_ALREADY)
        version = open_host(path)
        if layout_of(version) is None:
            raise errors.UnsupportedVersion(
                f"{name_of(path)} carries pjsip {version}, which pjfail does not know; it knows "
                f"{', '.join(known_layouts())}: {errors.WHAT_TO_DO}"
            )
        try:
            check_host()
        except errors.NoEndpoint:
            raise errors.NoEndpoint(
                f"{name_of(path)} carries pjsip {version}, which has no initialised endpoint; "
                "call libCreate() and libInit() before pjfail.attach()"
            ) from None
        return version
