"""Which loaded object carries pjsip, and whether it is one that pjfail can work with."""

from __future__ import annotations

import threading
from pathlib import Path
from types import ModuleType

from . import bridge, errors

# A function that only the object with pjsip's own state has, and one that tells that pjsua is there too.
_PJSIP = "pjsip_endpt_set_ext_resolver"
_PJSUA = "pjsua_get_pjsip_endpt"

_binding = threading.Lock()


def loaded_objects() -> list[str]:
    """The files of the shared objects mapped into this process, as the kernel lists them."""
    paths: dict[str, None] = {}
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and "x" in fields[1] and ".so" in fields[5]:
            paths[fields[5].removesuffix(" (deleted)")] = None
    return list(paths)


def _object_of(host: str | Path | ModuleType) -> str:
    """The path of the object that the user named."""
    if isinstance(host, ModuleType):
        extension = getattr(host, "_pjsua2", host)  # pjsua2 is a wrapper of SWIG's around it
        path = getattr(extension, "__file__", None)
        if path is None:
            raise errors.NoPjsip(f"the module {host.__name__} is no shared object; give host= the one with pjsip in it")
        return str(path)
    return str(host)


def find(host: str | Path | ModuleType | None = None) -> str | None:
    """The path of the object that carries pjsip in this process, None for the main program itself.

    *host* names it where the search must not decide: a path, or an imported module. Raises :class:`pjfail.NoPjsip`,
    :class:`pjfail.TwoPjsips`.
    """
    if host is not None:
        path = _object_of(host)
        if not bridge.symbol(path, _PJSIP):
            raise errors.NoPjsip(f"{path} carries no pjsip, or is not loaded into this process")
        return path
    carriers: dict[int, str | None] = {}
    for candidate in [*loaded_objects(), None]:
        address = bridge.symbol(candidate, _PJSIP)
        # An object that only depends on shared pjsip libraries finds the same address as those.
        if address and (address not in carriers or not bridge.symbol(carriers[address], _PJSUA)):
            carriers[address] = candidate
    if not carriers:
        raise errors.NoPjsip(
            "no pjsip in this process: import pjsua2 and create its Endpoint before pjfail.attach(), "
            "or give host= the object that carries pjsip"
        )
    if len(carriers) > 1:
        names = " and ".join(path or "the main program" for path in carriers.values())
        raise errors.TwoPjsips(f"{names} each carry a pjsip of their own; give host= the one your application uses")
    return next(iter(carriers.values()))


def bind(host: str | Path | ModuleType | None = None) -> str:
    """Binds the C core to this process's pjsip, checks version, endpoint and layout, and returns the version.

    Installs nothing. Raises :class:`pjfail.HostError`.
    """
    with _binding:
        path = find(host)
        if bridge.attached():
            raise errors.AlreadyAttached(errors.ATTACHED_ALREADY)
        version = bridge.open_host(path)
        if bridge.layout_of(version) is None:
            raise errors.UnsupportedVersion(
                f"{path or 'the main program'} carries pjsip {version}, which pjfail does not know; it knows "
                f"{', '.join(bridge.known_layouts())}: {errors.WHAT_TO_DO}"
            )
        bridge.check_host()
        return version
