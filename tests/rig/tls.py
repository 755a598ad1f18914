"""TLS servers that remember which name each client asked for (SNI).

A registrar does, by what its own TLS library tells it, and so does one that only reads the ClientHello and goes:

    with TlsServer("127.0.33.1", authority.issue("sip.test")) as server:
        ...
        assert [handshake.sni for handshake in server.handshakes] == ["sip.test"]
        assert server.handshake_of(server.requests[0]).sni == "sip.test"
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from pjfail.testing import REFUSING, WELL, Registrar, Request
from pjfail.testing.sockets import bind

from .certificates import Certificate


@dataclass(frozen=True, slots=True)
class Handshake:
    """A connection's beginning: which client (address, port) asked for which name (None: for no name)."""

    source: tuple[str, int]
    sni: str | None


class TlsServer(Registrar):
    """A registrar that speaks TLS alone, with all the faults of one.

    `certificate` may be changed at any time, and `adjust`, which may alter its context: both hold from the next
    handshake on.
    """

    def __init__(self, address: str, certificate: Certificate, port: int = 5061, realm: str | None = None) -> None:
        super().__init__(address, port - 1, (), tls=self._context, realm=realm)
        self.certificate = certificate
        self.adjust: Callable[[ssl.SSLContext], object] = lambda _: None
        self._handshakes: list[Handshake] = []

    def __str__(self) -> str:
        return f"{self.address}:{self.tls_port}"

    @property
    def handshakes(self) -> list[Handshake]:
        """The ClientHellos so far, in order (a copy), whatever became of their connections."""
        return list(self._handshakes)

    def handshake_of(self, request: Request) -> Handshake:
        """How the connection that brought *request* began."""
        [handshake] = [one for one in self._handshakes if one.source == request.source]
        return handshake

    def cut(self) -> None:
        """Ends all connections; new ones are welcome."""
        self.fault, fault = REFUSING, self.fault
        self.fault = fault if fault.listens else WELL

    def _context(self, source: tuple[str, int]) -> ssl.SSLContext:
        """A context of its own for every client: only so can its name be told from those of others."""

        def note(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
            self._handshakes.append(Handshake(source, name))

        context = self.certificate.context()
        context.sni_callback = note
        self.adjust(context)
        return context


class HelloReader:
    """Takes each connection, reads its ClientHello off the bare socket into `hellos`, and resets the connection."""

    def __init__(self, address: str, port: int = 5061) -> None:
        self.hellos: list[bytes] = []
        self._listening = bind(address, port, "tls")
        self._listening.setblocking(True)
        self._listening.listen()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> HelloReader:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() would not
        self._thread.join()
        self._listening.close()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._listening.accept()
                with accepted:
                    self.hellos.append(_read_record(accepted))
                    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _read_record(connection: socket.socket) -> bytes:
    """The body of one TLS record; a ClientHello of ours fits in one."""
    with connection.makefile("rb") as stream:
        kind, _, length = struct.unpack("!BHH", stream.read(5))
        assert kind == 22, "a TLS connection begins with a handshake"
        return stream.read(length)


def server_name(hello: bytes) -> str | None:
    """The host name in a ClientHello's server_name extension (RFC 8446 section 4.1.2, RFC 6066 section 3)."""
    assert hello[0] == 1, "not a ClientHello"
    at = 4 + 2 + 32  # type and length, version, random
    at += 1 + hello[at]  # session id
    at += 2 + int.from_bytes(hello[at : at + 2])  # cipher suites
    at += 1 + hello[at]  # compression methods
    end = at + 2 + int.from_bytes(hello[at : at + 2])
    at += 2
    while at < end:
        kind, length = struct.unpack_from("!HH", hello, at)
        if kind == 0:
            return hello[at + 9 : at + 4 + length].decode()  # one name of type host_name, behind three lengths
        at += 4 + length
    return None
