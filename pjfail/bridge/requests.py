"""Sends one request outside any dialog; its end comes through :func:`pjfail.bridge.queue.answers`."""

from __future__ import annotations

from collections.abc import Sequence

from .._native import ffi, lib
from .._values import dataclass
from ..model import Server
from .status import check
from .values import c_address


@dataclass(frozen=True, slots=True)
class Answer:
    """How request ``number`` ended: with a response (``code``), or without one (code 0) because of ``status``.

    ``headers`` are lines, each unfolded.
    """

    number: int
    status: int
    at: float
    server: Server | None
    code: int = 0
    reason: str = ""
    headers: tuple[str, ...] = ()
    body: bytes = b""


def send(
    number: int,
    method: str,
    uri: str,
    *,
    server: Server | None,
    from_uri: str,
    to_uri: str,
    headers: Sequence[tuple[str, str]],
    content_type: str,
    body: bytes,
) -> None:
    """Sends one request outside any dialog, to exactly *server* if that is given.

    Not from a SIP thread. Raises :class:`pjfail.PjfailError` if it cannot be sent.
    """
    names = [ffi.new("char[]", name.encode()) for name, _ in headers]
    values = [ffi.new("char[]", value.encode()) for _, value in headers]
    result = lib.pf_request(
        number,
        ffi.NULL if server is None else c_address(server),
        method.encode(),
        uri.encode(),
        from_uri.encode(),
        to_uri.encode(),
        ffi.new("char *[]", names),
        ffi.new("char *[]", values),
        len(headers),
        content_type.encode(),
        body,
        len(body),
    )
    check(result)


def cancel(number: int) -> None:
    """Ends request *number* soon, if it has not ended: pjsip no longer retransmits it. Any thread; never waits."""
    lib.pf_cancel_request(number)


def polled_since() -> float:
    """Since when pjsip's polling thread has run (``time.monotonic()``); now, while it does not."""
    return float(lib.pf_polled_since())
