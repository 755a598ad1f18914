"""A name server for one zone, on loopback: UDP and TCP, faults that are switched while it runs, no recursion."""

from __future__ import annotations

import os
import socketserver
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.zone

from .registrar import REFUSING, SILENT, UNAVAILABLE, WELL, Fault


class _Server(socketserver.BaseServer):
    """Has ``answer`` answer each query, in a thread of its own."""

    answer: Callable[[bytes], bytes | None]
    process: int | None = None

    def start(self) -> None:
        self.process = os.getpid()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        if self.process == os.getpid():  # in a forked child there are no threads to wait for
            self.shutdown()
        self.server_close()


class _Datagram(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        query, bound = self.request
        answer = self.server.answer(query)
        if answer is not None:
            bound.sendto(answer, self.client_address)


class _Stream(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        while len(prefix := self.rfile.read(2)) == 2:
            answer = self.server.answer(self.rfile.read(*struct.unpack("!H", prefix)))
            if answer is not None:
                self.wfile.write(struct.pack("!H", len(answer)) + answer)


class _Datagrams(_Server, socketserver.UDPServer):
    def __init__(self, address: tuple[str, int], answer: Callable[[bytes], bytes | None]) -> None:
        self.answer = answer
        super().__init__(address, _Datagram)


class _Streams(_Server, socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], answer: Callable[[bytes], bytes | None]) -> None:
        self.answer = answer
        super().__init__(address, _Stream)


class NameServer:
    """Answers for *zone* (the text of a zone file, RFC 1035) of the domain *origin* at *address*:*port*.

    It answers in its own threads, within its ``with`` block. With *port* 0 it takes a free port, then in ``port``.
    ``fault`` may be assigned at any time: ``WELL``, ``SILENT`` (it answers nothing), ``REFUSING`` (its sockets are
    closed), ``UNAVAILABLE`` (SERVFAIL to every question); ValueError for another. Raises OSError, with the address in
    its message, if the port is taken or needs privileges as 53 does, and ValueError for a zone that is not valid.
    """

    def __init__(self, zone: str, origin: str, address: str, port: int = 53) -> None:
        try:
            self._origin = dns.name.from_text(origin)
            self._zone = dns.zone.from_text(zone, self._origin, relativize=False)
        except dns.exception.DNSException as error:
            advice = "begin with @ 60 SOA ns admin 1 60 60 60 60, and @ 60 NS ns"
            raise ValueError(f"the zone of {origin} is not valid: {error}; {advice}") from error
        self._fault = WELL
        self._entered = False
        self.address = address
        self.port = port
        self._servers: list[_Datagrams | _Streams] = []
        self._open()

    def _open(self) -> None:
        try:
            self._servers.append(_Datagrams((self.address, self.port), self._answer))
            self.port = self._servers[0].server_address[1]
            self._servers.append(_Streams((self.address, self.port), self._answer))
        except OSError as error:
            self._close()
            raise OSError(error.errno, f"cannot listen on {self.endpoint}: {error.strerror}") from None

    def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    def __enter__(self) -> Self:
        self._entered = True
        for server in self._servers:
            server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

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
        if fault not in (WELL, SILENT, REFUSING, UNAVAILABLE):
            raise ValueError(f"a name server does not fail by {fault!r}; give WELL, SILENT, REFUSING or UNAVAILABLE")
        self._fault = fault
        if fault == REFUSING:
            self._close()
        elif not self._servers:
            self._open()
            if self._entered:
                self.__enter__()

    def _answer(self, raw: bytes) -> bytes | None:
        if self._fault == SILENT:
            return None
        query = dns.message.from_wire(raw)
        answer = dns.message.make_response(query)
        if self._fault == UNAVAILABLE:
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
