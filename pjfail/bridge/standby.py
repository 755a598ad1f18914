"""Standby registrations: further registrations of an account, each at one server beside its own.

What becomes of them comes through :func:`pjfail.bridge.queue.standbys`.
"""

from __future__ import annotations

from .._native import ffi, lib
from .._values import dataclass
from ..model import Server
from .values import c_address, own_octets


@dataclass(frozen=True, slots=True)
class StandbyResult:
    """What became of the standby of account ``account`` at ``server``.

    Its REGISTER was answered with ``code``, or ended without an answer because of ``status``; ``retry_after`` is in
    seconds. ``lost``: its connection has ended. ``unknown``: the account has sent no REGISTER of its own to copy.
    """

    account: int
    aor: str
    server: Server
    code: int
    status: int
    retry_after: float | None = None
    lost: bool = False
    unknown: bool = False


def is_possible() -> bool:
    """Returns whether the credentials of accounts can be read in this pjsip."""
    return bool(lib.pf_standby_is_possible())


def watch(account: int, aor: str, keepalive: float | None) -> None:
    """Keeps a copy of each REGISTER of the account from now on, for its standbys.

    Their connections end after *keepalive* seconds in which the other end acknowledges nothing, if not None.
    """
    milliseconds = 0 if keepalive is None else int(keepalive * 1000)
    lib.pf_standby_job(lib.PF_STANDBY_WATCH, account, own_octets(aor), ffi.NULL, milliseconds)


def register(account: int, aor: str, server: Server, number: int) -> None:
    """Registers the account at *server*, soon, on pjsip's polling thread; *number* is its reg-id there."""
    _do(lib.PF_STANDBY_REGISTER, account, aor, server, number)


def update(account: int, aor: str, server: Server, number: int) -> None:
    """Does what :func:`register` does, if the account's Contact is another one by now."""
    _do(lib.PF_STANDBY_UPDATE, account, aor, server, number)


def end(account: int, aor: str, server: Server) -> None:
    """Removes the account's binding at *server*, unless it is the account's own by its Contact."""
    _do(lib.PF_STANDBY_END, account, aor, server)


def let_go(account: int, aor: str, server: Server) -> None:
    """Ends the standby at *server* with nothing sent: the binding ends by itself."""
    _do(lib.PF_STANDBY_LET_GO, account, aor, server)


def keep_alive(account: int, aor: str, server: Server) -> None:
    """Sends *server* a CRLF over UDP, from the socket that registered there."""
    _do(lib.PF_STANDBY_KEEP_ALIVE, account, aor, server)


def forget(account: int, aor: str) -> None:
    """Ends all standbys of the account, and what :func:`watch` began."""
    lib.pf_standby_job(lib.PF_STANDBY_FORGET, account, own_octets(aor), ffi.NULL, 0)


def end_all() -> None:
    """Ends all standbys of all accounts, at a detach. Waits for the answers, half a second at the most."""
    lib.pf_standby_end_all()


def _do(job: int, account: int, aor: str, server: Server, number: int = 0) -> None:
    lib.pf_standby_job(job, account, own_octets(aor), c_address(server), number)
