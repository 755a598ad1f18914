"""pjsua's accounts: their settings, their proxies, and pjsip's own server affinity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import errors
from .._native import ffi, lib
from .._values import dataclass
from ..model import Server, Target
from .status import check
from .values import optional_address, own_octets, own_text_of, target_of, text_of

MAX_ACCOUNTS = 1 << 16


@dataclass(frozen=True, slots=True)
class Account:
    """An account's settings in pjsua.

    ``aor`` is its user@host[:port] as in From; ``next_hop`` is the target of its requests, None for an account without
    proxy and registrar. ``secure``: its own URI, its registrar or a proxy has the scheme sips or transport=tls.
    ``affinity``: whether pjsip's own server affinity is enabled; None: inherited, or this pjsip has none.
    """

    id: int
    aor: str
    next_hop: Target | None
    next_hop_uri: str
    secure: bool
    registers: bool
    registered: bool
    transport_id: int | None
    affinity: bool | None
    proxies: tuple[str, ...]


def read_account(number: int) -> Account:
    """Returns the settings of account *number*. Raises :class:`pjfail.UnknownAccount`, :class:`pjfail.HostError`."""
    c = ffi.new("pf_account *")
    check(lib.pf_read_account(number, c))
    return account_of(number, c)


def read_soon(number: int) -> None:
    """Has pjsip's polling thread read account *number*: :func:`pjfail.bridge.queue.found_accounts` has it then."""
    lib.pf_account_job(lib.PF_READ, number, b"", ffi.NULL)


def account_ids() -> list[int]:
    """Returns the ids of all accounts."""
    ids = ffi.new("int[]", MAX_ACCOUNTS)
    return [ids[index] for index in range(lib.pf_list_accounts(ids, MAX_ACCOUNTS))]


def account_of(number: int, c: Any) -> Account:
    """Returns the account of a ``pf_account``."""
    uri = text_of(c.next_hop_uri)
    affinity = {lib.PF_AFFINITY_ENABLED: True, lib.PF_AFFINITY_DISABLED: False}.get(c.affinity)
    return Account(
        id=number,
        aor=own_text_of(c.aor),
        next_hop=target_of(c.next_hop) if uri else None,
        next_hop_uri=uri,
        secure=bool(c.secure),
        registers=bool(c.registers),
        registered=bool(c.registered),
        transport_id=None if c.transport_id < 0 else int(c.transport_id),
        affinity=affinity,
        proxies=tuple(own_text_of(c.proxy[index]) for index in range(c.proxies)),
    )


def account_exists(number: int) -> bool:
    return bool(lib.pf_account_is_valid(number))


def account_is(number: int, aor: str) -> bool:
    """Returns whether account *number* still has the AOR *aor*."""
    try:
        return read_account(number).aor == aor
    except errors.PjfailError:
        return False


def set_proxies(number: int, proxies: Sequence[str]) -> None:
    """Sets the proxies of account *number*, in order, by ``pjsua_acc_modify()``. Raises :class:`pjfail.PjfailError`."""
    texts = [ffi.new("char[]", own_octets(proxy)) for proxy in proxies]
    check(lib.pf_set_proxies(number, ffi.new("char *[]", texts), len(texts)))


def has_native_affinity() -> bool:
    """Returns whether this pjsip has its own server affinity (after 2.17)."""
    return bool(lib.pf_has_native_affinity())


def native_pin(number: int, server: Server | None) -> None:
    """Calls ``pjsua_acc_set_affinity_addr()``; for None, ``pjsua_acc_refresh_transport()``. Raises
    :class:`pjfail.PjsipError`.
    """
    check(lib.pf_native_pin(number, optional_address(server)))


def native_pin_soon(number: int, aor: str, server: Server | None) -> None:
    """Does what :func:`native_pin` does, on pjsip's polling thread; pjsip logs what fails there."""
    job = lib.PF_NATIVE_UNPIN if server is None else lib.PF_NATIVE_PIN
    lib.pf_account_job(job, number, own_octets(aor), optional_address(server))


def change_network() -> None:
    """Has pjsip close its connections and register all accounts with their new addresses, on its polling thread."""
    lib.pf_account_job(lib.PF_CHANGE_NETWORK, -1, b"", ffi.NULL)
