"""A name server for one zone, on loopback: UDP and TCP, no faults, no recursion."""

from __future__ import annotations

import socketserver
import struct
import threading
from types import TracebackType
from typing import Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.zone


class NameServer:
    """Answers for *zone* (the text of a zone file, RFC 1035) of the domain *origin* at *address*:*port*.

    It answers in its own threads, within its ``with`` block. Raises OSError, with the address in its message, if the
    port is taken or needs privileges as 53 does, and ``dns.exception.DNSException`` for an invalid zone.
    """

    def __init__(self, zone: str, origin: str, address: str, port: int = 53) -> None:
        self._origin = dns.name.from_text(origin)
        self._zone = dns.zone.from_text(zone, self._origin, relativize=False)
        name_server = self

        class Datagram(socketserver.DatagramRequestHandler):
            def handle(self) -> None:
                self.wfile.write(name_server._answer(self.rfile.read()))

        class Stream(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while len(prefix := self.rfile.read(2)) == 2:
                    answer = name_server._answer(self.rfile.read(*struct.unpack("!H", prefix)))
                    self.wfile.write(struct.pack("!H", len(answer)) + answer)

        class StreamServer(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._servers: list[socketserver.BaseServer] = []
        try:
            self._servers.append(socketserver.UDPServer((address, port), Datagram))
            self._servers.append(StreamServer((address, port), Stream))
        except OSError as error:
            for server in self._servers:
                server.server_close()
            raise OSError(error.errno, f"cannot listen on {address}:{port}: {error.strerror}") from None

    def __enter__(self) -> Self:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _answer(self, raw: bytes) -> bytes:
        query = dns.message.from_wire(raw)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA
        for question in query.question:
            if not question.name.is_subdomain(self._origin):
                answer.set_rcode(dns.rcode.REFUSED)
            elif found := self._zone.get_rrset(question.name, question.rdtype):
                answer.answer.append(found)
            elif question.name not in self._zone:
                answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer.to_wire()
