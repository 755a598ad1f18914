"""Calls under way, and their re-INVITEs. What is found comes through :func:`pjfail.bridge.queue.calls`."""

from __future__ import annotations

from .._native import ffi, lib
from .._values import dataclass
from ..model import Server
from .values import own_octets


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a followed account: pjsua's number of it, its Call-ID, and the server of its dialog.

    ``ended``: its connection has ended. ``refreshed``: the re-INVITE of :func:`refresh` has been accepted.
    """

    account: int
    id: int
    call_id: str
    server: Server
    ended: bool
    refreshed: bool


def review(account: int, aor: str) -> None:
    """Makes the queue report each call of account *account*, if its AOR is still *aor*; soon."""
    lib.pf_account_job(lib.PF_REVIEW_CALLS, account, own_octets(aor), ffi.NULL)


def refresh(call: Call, aor: str) -> None:
    """Sends a re-INVITE with the account's Contact in *call*, on pjsip's polling thread, soon."""
    lib.pf_refresh_call(call.account, own_octets(aor), call.id, own_octets(call.call_id))
