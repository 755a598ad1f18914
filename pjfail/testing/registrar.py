"""A small SIP registrar with faults that are switched while it runs.

It answers every request itself: REGISTER with the Contact it was given, INVITE with 180 and a PCMU answer, all else
with a bare 200. It runs in a thread of its own, so pjsip, a test and any number of registrars fit in one process::

    with Registrar("127.0.20.1", 5060) as registrar:
        registrar.wait_for("REGISTER")
        registrar.fault = SILENT

``requests`` has all that has arrived, retransmissions and requests that were not answered among it; ``answers`` has the
final responses that were sent.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

from .._validation import is_amount, require, require_bool, require_function, require_some_of
from ..model import TRANSPORTS, Transport
from .sip import Request
from .sockets import Peer, Sockets, Tls, bind

_PCMU_ANSWER = """v=0\r
o=- 1 1 IN {family} {address}\r
s=-\r
c=IN {family} {address}\r
t=0 0\r
m=audio 9 RTP/AVP 0\r
a=rtpmap:0 PCMU/8000\r
"""


def _is_code(value: object) -> bool:
    return isinstance(value, int) and 100 <= value < 700


@dataclass(frozen=True, slots=True)
class Fault:
    """How a registrar fails; with the defaults it does not. Times are in seconds.

    ``listens``: with False its sockets are closed (UDP: ICMP port unreachable, TCP: RST). ``handshakes``: with False
    TLS connections are accepted and get no ServerHello. ``answers``: with False requests are read and ignored, but for
    the ``provisional`` responses, which are sent at once. ``resets``: a request over TCP or TLS gets an RST, over UDP
    nothing. ``dies``: the first request closes the registrar's sockets unanswered, as when a process is killed.
    ``code``: the final response's code, with ``retry_after`` in its Retry-After. ``delay``: how long before the final
    response. ``latency``: how long before anything at all is done with a request. ``methods``: the methods of the
    requests that it fails on, empty for all.

    Ready ones: ``WELL``, ``SILENT``, ``REFUSING``, ``RESETTING``, ``DYING``, ``STALLING`` (in the TLS handshake) and
    ``UNAVAILABLE`` (503).
    """

    listens: bool = True
    handshakes: bool = True
    answers: bool = True
    resets: bool = False
    dies: bool = False
    code: int | None = None
    retry_after: int | None = None
    delay: float = 0.0
    latency: float = 0.0
    provisional: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("listens", "handshakes", "answers", "resets", "dies"):
            require_bool(name, getattr(self, name))
        for name in ("delay", "latency"):
            if not is_amount(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)!r}; give seconds")
        if self.code is not None and not _is_code(self.code):
            raise ValueError(f"code is {self.code!r}; give a number from 100 to 699")
        if not isinstance(self.provisional, Sequence) or not all(map(_is_code, self.provisional)):
            raise ValueError(f"provisional is {self.provisional!r}; give a tuple of numbers from 100 to 699")
        if self.retry_after is not None and not is_amount(self.retry_after):
            raise ValueError(f"retry_after is {self.retry_after!r}; give seconds, or None for no Retry-After")
        if isinstance(self.methods, str):
            raise ValueError(f"methods is one string; give a tuple of them: ({self.methods!r},)")


WELL = Fault()
SILENT = Fault(answers=False)
REFUSING = Fault(listens=False)
RESETTING = Fault(resets=True)
DYING = Fault(dies=True)
STALLING = Fault(handshakes=False)
UNAVAILABLE = Fault(code=503)


class Answer(NamedTuple):
    """A final response of a registrar: to ``request``, with ``code``, at ``at`` (``time.monotonic()``)."""

    request: Request
    code: int
    at: float


class Registrar:
    """A registrar at *address*:*port* (0: a free port, which ``port`` then has), in its own thread.

    It listens from :meth:`start` to :meth:`stop`, or within a ``with`` block. *transports* are "udp" and "tcp". With
    *tls* (a server's ``ssl.SSLContext``, or a function that returns one for a client's (address, port)) it listens for
    TLS too, on ``tls_port``, the port after *port*. With *realm* it challenges (401) and accepts any credentials with
    its own nonce; it checks no passwords. While ``busy`` is True it answers INVITE with 486. Any thread may use all
    attributes and methods.

    Raises ValueError for "tls" in *transports* without *tls*, and for another argument that is not valid, TypeError for
    a *tls* of another kind. In a forked child of the process that started it, nothing but :meth:`stop` works, which
    closes the child's own copies of the sockets.
    """

    def __init__(
        self,
        address: str = "127.0.20.1",
        port: int = 5060,
        transports: Sequence[Transport] = ("udp", "tcp"),
        tls: Tls | None = None,
        realm: str | None = None,
    ) -> None:
        if transports or tls is None:
            require_some_of("transports", transports, TRANSPORTS)
        highest = 65535 if tls is None else 65534  # that for TLS is the one after it
        if not (isinstance(port, int) and 0 <= port <= highest):
            raise ValueError(f"port is {port!r}; give 1 to {highest}, or 0 for a free one")
        if tls is not None and not isinstance(tls, ssl.SSLContext):
            require_function("tls", tls, ("client",), "ssl.SSLContext", instead="an ssl.SSLContext, or ")
        if "tls" in transports and tls is None:
            raise ValueError("a registrar that speaks TLS needs its certificate: give it tls=, an ssl.SSLContext")
        self.address = address
        self.port = port or _free_port(address)
        self.transports: tuple[Transport, ...] = tuple(transports)
        if tls is not None and "tls" not in transports:
            self.transports += ("tls",)
        if realm is not None:
            require("realm", realm, str, "a string")
        self.realm = realm
        self.nonce = secrets.token_hex(8)
        self.busy = False
        self._tag = secrets.token_hex(4)
        self._fault = WELL
        self._arrived = threading.Condition()
        self._requests: list[Request] = []
        self._answers: list[Answer] = []
        self._delayed: dict[tuple[str, str], _Delayed] = {}
        self._death: asyncio.Task[None] | None = None
        self._sockets = Sockets(address, tls, self._receive, lambda: self._fault.handshakes)
        self._process = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def endpoint(self) -> str:
        """``address:port``, as a :class:`pjfail.StaticLookup` takes it."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def tls_port(self) -> int:
        return self.port + 1

    @property
    def requests(self) -> list[Request]:
        """The requests that have arrived so far, in order (a copy)."""
        with self._arrived:
            return list(self._requests)

    @property
    def answers(self) -> list[Answer]:
        """The final responses sent so far, in order (a copy); a request that came twice may have two."""
        with self._arrived:
            return list(self._answers)

    @property
    def fault(self) -> Fault:
        """How it fails now; a new fault applies to everything that arrives after the assignment.

        Assigning a fault that listens again raises OSError if another program has taken the port meanwhile; assigning
        what is not a :class:`Fault` raises TypeError.
        """
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        require("fault", fault, Fault, "a Fault, such as SILENT")
        self._fault = fault
        if self._loop is not None:
            self._run(self._open if fault.listens else self._close)

    def wait_for(self, method: str, count: int = 1, timeout: float = 30.0) -> list[Request]:
        """Waits until *count* requests of *method* have arrived in all, retransmissions included, and returns them.

        Raises TimeoutError after *timeout* seconds, with what has arrived in its message.
        """

        def matching() -> list[Request]:
            return [request for request in self._requests if request.method == method]

        with self._arrived:
            if not self._arrived.wait_for(lambda: len(matching()) >= count, timeout):
                seen = ", ".join(request.method for request in self._requests) or "nothing"
                got = f"{len(matching())} of {count} {method} within {timeout} s"
                raise TimeoutError(f"{self} got {got}; in all it has seen {seen}")
            return matching()

    def reset(self) -> None:
        """Closes all connections with RST, and continues to listen. Raises RuntimeError unless it is started."""
        self._run(self._sockets.reset)

    def close_connections(self) -> None:
        """Closes all connections with FIN, and continues to listen. Raises RuntimeError unless it is started."""
        self._run(self._sockets.finish)

    def start(self) -> None:
        """Listens, and starts the thread. Raises OSError, with the address in its message, if a port is taken."""
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"registrar {self}", daemon=True)
        self._thread.start()
        try:
            self.fault = self._fault
        except OSError:
            self.stop()
            raise

    def stop(self) -> None:
        """Closes all sockets and ends the thread. A second call does nothing."""
        if self._loop is None or self._thread is None:
            return
        if os.getpid() == self._process:
            self._run(self._close)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
        else:  # the thread is the parent's, which the loop still serves
            self._sockets.release()
        self._loop = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"

    def _run(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._loop is None:
            raise RuntimeError(f"the registrar at {self} does not run; start() it first")
        if os.getpid() != self._process:
            raise RuntimeError(f"the registrar at {self} runs in the parent process, not in this forked child")
        asyncio.run_coroutine_threadsafe(function(), self._loop).result()

    # What follows runs on the registrar's own thread.

    async def _open(self) -> None:
        await self._sockets.open(
            [(transport, self.tls_port if transport == "tls" else self.port) for transport in self.transports]
        )

    async def _close(self) -> None:
        for delayed in self._delayed.values():
            delayed.timer.cancel()
        self._delayed.clear()
        await self._sockets.close()

    def _receive(self, request: Request, peer: Peer) -> None:
        with self._arrived:
            self._requests.append(request)
            self._arrived.notify_all()
        fault = self._fault
        if fault.methods and request.method not in fault.methods:
            fault = WELL
        if fault.latency:
            self._sockets.call_later(fault.latency, self._handle, request, peer, fault)
        else:
            self._handle(request, peer, fault)

    def _handle(self, request: Request, peer: Peer, fault: Fault) -> None:
        key = request.branch, request.method
        if request.method == "ACK" or key in self._delayed:
            return
        if fault.resets:
            peer.reset()
            return
        if fault.dies:
            self._death = asyncio.get_running_loop().create_task(self._close())
            return
        for code in fault.provisional:
            peer.send(request.response(code, tag=self._tag))
        if not fault.answers:
            return
        final = self._final_code(request, fault)
        if request.method == "CANCEL":
            self._answer(request, final, fault, peer)
            self._cancel(request.branch)
            return
        if request.method == "INVITE" and final == 200 and not fault.provisional:
            peer.send(request.response(180, self._contact(request), tag=self._tag))
        if fault.delay:
            timer = asyncio.get_running_loop().call_later(fault.delay, self._answer, request, final, fault, peer)
            self._delayed[key] = _Delayed(request, peer, timer)
        else:
            self._answer(request, final, fault, peer)

    def _final_code(self, request: Request, fault: Fault) -> int:
        if fault.code is not None:
            return fault.code
        # another server's nonce does not count, as with real registrars behind one name
        known = f'nonce="{self.nonce}"' in request.header("authorization")
        if self.realm is not None and request.method != "CANCEL" and not known:
            return 401
        return 486 if self.busy and request.method == "INVITE" else 200

    def _answer(self, request: Request, code: int, fault: Fault, peer: Peer) -> None:
        self._delayed.pop((request.branch, request.method), None)
        headers: list[tuple[str, str]] = []
        body = ""
        if fault.retry_after is not None:
            headers.append(("Retry-After", str(fault.retry_after)))
        if code == 401:
            challenge = f'Digest realm="{self.realm}", nonce="{self.nonce}", algorithm=MD5, qop="auth"'
            headers.append(("WWW-Authenticate", challenge))
        if code == 200 and request.method == "REGISTER" and request.expires:
            headers += [("Contact", contact) for contact in request.every("contact")]
        if code == 200 and request.method in ("REGISTER", "SUBSCRIBE"):
            headers.append(("Expires", str(request.expires)))
        if code == 200 and request.method in ("INVITE", "SUBSCRIBE"):
            headers.append(self._contact(request))
        if code == 200 and request.method == "INVITE":
            headers.append(("Content-Type", "application/sdp"))
            body = _PCMU_ANSWER.format(address=self.address, family="IP6" if ":" in self.address else "IP4")
        self._send_final(request, code, peer, *headers, body=body)

    def _cancel(self, branch: str) -> None:
        invited = self._delayed.pop((branch, "INVITE"), None)
        if invited is not None:
            invited.timer.cancel()
            self._send_final(invited.request, 487, invited.peer)

    def _send_final(self, request: Request, code: int, peer: Peer, *headers: tuple[str, str], body: str = "") -> None:
        with self._arrived:
            self._answers.append(Answer(request, code, time.monotonic()))
        peer.send(request.response(code, *headers, tag=self._tag, body=body))

    def _contact(self, request: Request) -> tuple[str, str]:
        host = f"[{self.address}]" if ":" in self.address else self.address
        port = self.tls_port if request.transport == "tls" else self.port
        scheme = "sips" if request.uri.startswith("sips:") else "sip"
        return "Contact", f"<{scheme}:{host}:{port};transport={request.transport}>"


@dataclass(frozen=True, slots=True)
class _Delayed:
    """A request whose final response waits for its time."""

    request: Request
    peer: Peer
    timer: asyncio.TimerHandle


def _free_port(address: str) -> int:
    with bind(address, 0, "udp") as probe:
        port: int = probe.getsockname()[1]
        return port
