"""A name server for one zone, on loopback: UDP and TCP, faults that are switched while it runs, no recursion."""

from __future__ import annotations

import os
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

from .registrar import SILENT, UNAVAILABLE, WELL, Fault


class NameServer:
    """Answers for *zone* (the text of a zone file, RFC 1035) of the domain *origin* at *address*:*port*.

    It answers in its own threads, within its ``with`` block. With *port* 0 it takes a free port, then in ``port``.
    ``fault`` may be assigned at any time: ``WELL``, ``SILENT`` (it answers nothing), ``UNAVAILABLE`` (SERVFAIL to every
    question); ValueError for another. Raises OSError, with the address in its message, if the
    port is taken or needs privileges as 53 does, and ``dns.exception.DNSException`` for an invalid zone.
    """

    def __init__(self, zone: str, origin: str, address: str, port: int = 53) -> None:
        self._origin = dns.name.from_text(origin)
        self._zone = dns.zone.from_text(zone, self._origin, relativize=False)
        self._fault = WELL
        self.address = address
        name_server = self

        class Datagram(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                query, bound = self.request
                answer = name_server._answer(query)
                if answer is not None:
                    bound.sendto(answer, self.client_address)

        class Stream(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while len(prefix := self.rfile.read(2)) == 2:
                    answer = name_server._answer(self.rfile.read(*struct.unpack("!H", prefix)))
                    if answer is not None:
                        self.wfile.write(struct.pack("!H", len(answer)) + answer)

        class StreamServer(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._servers: list[socketserver.BaseServer] = []
        try:
            datagrams = socketserver.UDPServer((address, port), Datagram)
            self._servers.append(datagrams)
            self.port: int = datagrams.socket.getsockname()[1]
            self._servers.append(StreamServer((address, self.port), Stream))
        except OSError as error:
            for server in self._servers:
                server.server_close()
            raise OSError(error.errno, f"cannot listen on {address}:{port}: {error.strerror}") from None

    def __enter__(self) -> Self:
        self._process = os.getpid()
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for server in self._servers:
            if os.getpid() == self._process:  # in a forked child there are no threads to wait for
                server.shutdown()
            server.server_close()

    @property
    def endpoint(self) -> str:
        """``address:port``, as a :class:`pjfail.DnsLookup` takes it."""
        return f"{self.address}:{self.port}"

    @property
    def fault(self) -> Fault:
        """How it fails just now."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        if fault not in (WELL, SILENT, UNAVAILABLE):
            raise ValueError(f"a name server does not fail by {fault!r}; give WELL, SILENT or UNAVAILABLE")
        self._fault = fault

    def _answer(self, raw: bytes) -> bytes | None:
        if self._fault is SILENT:
            return None
        query = dns.message.from_wire(raw)
        answer = dns.message.make_response(query)
        if self._fault is UNAVAILABLE:
            answer.set_rcode(dns.rcode.SERVFAIL)
            return answer.to_wire()
        answer.flags |= dns.flags.AA
        for question in query.question:
            if not question.name.is_subdomain(self._origin):
                answer.set_rcode(dns.rcode.REFUSED)
            elif found := self._zone.get_rrset(question.name, question.rdtype):
                answer.answer.append(found)
            elif question.name not in self._zone:
                answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer.to_wire()
