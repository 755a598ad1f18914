"""Pins, which decide where an account's requests go, and the registrations of followed accounts.

The results of registrations come through :func:`pjfail.bridge.queue.registrations`.
"""

from __future__ import annotations

from .. import errors
from .._native import ffi, lib
from .._values import dataclass
from ..model import Server, Target
from .values import c_target, fill_address, own_octets


@dataclass(frozen=True, slots=True)
class Pin:
    """One account's server for its requests to ``next_hop``; ``registrar``, if not None, gets its REGISTERs instead.

    An ``idle`` pin changes nothing, but its server is watched. The registrations of a ``followed`` account are
    reported; its connections end after ``keepalive`` seconds in which the other end acknowledges nothing, if not None.
    """

    account: int
    aor: str
    next_hop: Target
    server: Server | None
    registrar: Server | None = None
    idle: bool = False
    followed: bool = False
    keepalive: float | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """A followed account's REGISTER: answered with ``code``; just sent (code 0, with a server); or not sent, because of
    ``status``. Or one of another account: ``account`` is negative then, and the response finds its request, which has
    ``next_hop``, by ``call``.

    ``answered`` is the server that answered, where the REGISTER was hedged not ``server``, where the account stays.
    ``retry_after`` is in seconds. ``removed``: the REGISTER removes the binding. With neither server nor status the
    account exists, and ``registered`` says whether it is registered; or it is
    ``closed``: the connection that answered the account's last REGISTER has ended.
    """

    account: int
    aor: str
    server: Server | None
    code: int
    status: int
    retry_after: float | None
    removed: bool
    registered: bool = False
    closed: bool = False
    answered: Server | None = None
    next_hop: Target | None = None
    call: int = 0


def set_pin(pin: Pin) -> None:
    """Puts *pin* in force, in place of the one for the same AOR and account."""
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
    c.keepalive = pin.keepalive or 0.0
    if not lib.pf_set_pin(c):
        raise errors.NotAttached(f"account {pin.account} is not pinned: {errors.DETACHED}")


def drop_pin(pin: Pin) -> None:
    """Ends *pin*."""
    lib.pf_drop_pin(own_octets(pin.aor), pin.account)


def register(number: int, aor: str) -> None:
    """Makes account *number* register soon, on pjsip's polling thread, if its AOR is still *aor*.

    If the account is followed, the queue reports the result.
    """
    lib.pf_account_job(lib.PF_REGISTER, number, own_octets(aor), ffi.NULL)


def resubscribe(number: int, aor: str, server: Server) -> None:
    """Has account *number* subscribe again to what it is subscribed to at other servers than *server*, and tells these
    nothing. On pjsip's polling thread, if the account's AOR is still *aor*.
    """
    address = ffi.new("pf_address *")
    fill_address(address, server)
    lib.pf_account_job(lib.PF_RESUBSCRIBE, number, own_octets(aor), address)


def can_resubscribe() -> bool:
    """Returns whether the loaded pjsip has what :func:`resubscribe` needs."""
    return bool(lib.pf_can_move_subscriptions())


def ask_after(number: int, aor: str) -> None:
    """Makes the queue report whether account *number* still has the AOR *aor*, and whether it is registered."""
    lib.pf_account_job(lib.PF_ASK_AFTER, number, own_octets(aor), ffi.NULL)
