"""The pjsip that the core is bound to: its version, its layout, and what else is known about it."""

from __future__ import annotations

from .._native import ffi, lib
from .._values import dataclass
from .loader import c_object
from .status import check
from .values import text_of


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What :func:`check_host` has found out about this process's pjsip.

    ``layout`` is the name of its row in the table of layouts (see :func:`known_layouts`), "" before the check.
    ``addresses`` is how many servers one answer may name (PJSIP_MAX_RESOLVED_ADDRESSES), ``packet`` about how many
    octets a received message may have (PJSIP_MAX_PKT_LEN). ``accounts``: whether pjfail can read and change accounts,
    each with up to ``proxies`` proxies (PJSUA_ACC_MAX_PROXIES). ``native_affinity``: whether pjsip has its own server
    affinity. ``state_callback``: whether pjfail can read pjsua's own state, which it needs to share the transport state
    callback with a pjsua that creates a transport later. ``own_lookups``: whether pjfail can keep pjsua from looking up
    an account's domain by itself.
    """

    version: str
    layout: str
    addresses: int
    packet: int
    accounts: bool
    proxies: int
    native_affinity: bool
    state_callback: bool
    own_lookups: bool


def built_for() -> str:
    """Returns the version of pjproject that the core was compiled against."""
    return text_of(lib.pf_built_for())


def open_host(path: str | None) -> str:
    """Binds the pjsip in the loaded object *path*, and returns its version. Raises :class:`pjfail.HostError`."""
    check(lib.pf_host_open(c_object(path)))
    return text_of(lib.pf_host_version())


def check_host() -> None:
    """Checks the endpoint and the layout; installs nothing. Raises :class:`pjfail.HostError`."""
    check(lib.pf_host_check())


def known_layouts() -> tuple[str, ...]:
    """Returns the versions of pjsip whose layout is known, as ranges: "2.14 to 2.14.1", "2.16"."""
    return tuple(text_of(name) for index in range(64) if (name := lib.pf_known_layout(index)) != ffi.NULL)


def layout_of(version: str) -> str | None:
    """Returns the name of the layout for a *version* as pjsip reports it; None for an unknown version."""
    name = lib.pf_layout_of(version.encode())
    return None if name == ffi.NULL else text_of(name)


def host_facts() -> HostFacts:
    """Returns what is known about the host; valid after :func:`check_host`. Any thread."""
    c = ffi.new("pf_host_facts *")
    lib.pf_read_host_facts(c)
    return HostFacts(
        version=text_of(c.version),
        layout=text_of(c.layout),
        addresses=int(c.addresses),
        packet=int(c.packet),
        accounts=bool(c.proxies),
        proxies=int(c.proxies),
        native_affinity=bool(c.native_affinity),
        state_callback=bool(c.state_callback),
        own_lookups=bool(c.own_lookups),
    )
