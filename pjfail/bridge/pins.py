"""Which server an account's requests go to, and the registrations of those that are followed.

What becomes of a registration comes through :func:`pjfail.bridge.queue.registrations`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import errors
from .._native import ffi, lib
from ..model import Server, Target
from .values import c_target, fill_address, own_octets


@dataclass(frozen=True, slots=True)
class Pin:
    """One account's server: for all its requests to ``next_hop``, and ``registrar``, if any, for its REGISTERs alone.

    A pin that is ``idle`` changes nothing; its server is watched all the same. The registrations of an account that is
    ``followed`` are told.
    """

    account: int
    aor: str
    next_hop: Target
    server: Server | None
    registrar: Server | None = None
    idle: bool = False
    followed: bool = False


@dataclass(frozen=True, slots=True)
class Registration:
    """A followed account's REGISTER: answered with ``code``, just sent (0), or without a server, unsent for ``status``.

    ``retry_after`` is in seconds. ``removed``: it takes the binding away. Neither server nor status: the account is
    there, and ``registered`` or not.
    """

    account: int
    aor: str
    server: Server | None
    code: int
    status: int
    retry_after: float | None
    removed: bool
    registered: bool = False


def set_pin(pin: Pin) -> None:
    """Has *pin* decide from now on, in place of the one for the same AOR and account."""
    c = ffi.new("pf_pin *")
    c.account = pin.account
    c.aor = own_octets(pin.aor)
    ffi.memmove(ffi.addressof(c, "next_hop"), c_target(pin.next_hop), ffi.sizeof("pf_target"))
    if pin.server is not None:
        fill_address(c.server, pin.server)
    if pin.registrar is not None:
        fill_address(c.registrar, pin.registrar)
    c.idle = pin.idle
    c.followed = pin.followed
    if not lib.pf_set_pin(c):
        raise errors.NotAttached(f"account {pin.account} is not pinned: {errors.DETACHED}")


def drop_pin(pin: Pin) -> None:
    """Ends *pin*."""
    lib.pf_drop_pin(own_octets(pin.aor), pin.account)


def register(number: int, aor: str) -> None:
    """Has account *number* register, soon and on pjsip's polling thread, if its AOR is still *aor*.

    What becomes of it is told by the queue where the account is followed.
    """
    lib.pf_account_job(lib.PF_REGISTER, number, own_octets(aor), ffi.NULL)


def ask_after(number: int, aor: str) -> None:
    """Has the queue tell whether account *number*'s AOR is still *aor*, and whether it is registered."""
    lib.pf_account_job(lib.PF_ASK_AFTER, number, own_octets(aor), ffi.NULL)
