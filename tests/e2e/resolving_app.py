"""A pjsua2 program with pjfail attached, in a world with a SIP server at every address: who gets its requests?

resolving_app.py TRANSPORT...: with just these transports it sends an OPTIONS for each shared case whose client has
them, and prints how it ended and who saw it. For a network of its own, in which every address is this machine's.
"""

from __future__ import annotations

import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pjsua2 as pj
from rig.certificates import Authority
from rig.dns_server import DnsServer
from rig.prelude import Account, Endpoint, emit
from rig.resolve_cases import CASES, ZONES, expected, switches

import pjfail
from pjfail.model import Server, Transport
from pjfail.testing.sip import cut_message, parse_request

IP_PKTINFO = 8  # the socket module has it from Python 3.14 on
TLS_HANDSHAKE = b"\x16"


class Servers:
    """SIP servers at every address, on each of *ports*, over UDP, TCP and TLS; they answer 200 to every request.

    TLS clients are shown ``certificate``. ``seen`` are the servers that got a request, once for each time.
    """

    def __init__(self, ports: Iterable[int]) -> None:
        self.certificate: ssl.SSLContext
        self.seen: list[str] = []
        for port in ports:
            datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            datagrams.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)  # tells where a datagram was sent to
            datagrams.bind(("0.0.0.0", port))
            _spawn(self._read, datagrams, port)
            _spawn(self._accept, socket.create_server(("0.0.0.0", port)))

    def _read(self, datagrams: socket.socket, port: int) -> None:
        while True:
            raw, [(level, kind, sent_to)], _, client = datagrams.recvmsg(65535, socket.CMSG_SPACE(12))
            if not raw.strip():
                continue  # a keep-alive, or pjfail looking whether the port is closed
            answer = self._answer(raw, "udp", (socket.inet_ntoa(sent_to[8:12]), port), client)
            datagrams.sendmsg([answer], [(level, kind, sent_to)], 0, client)  # from that very address

    def _accept(self, listening: socket.socket) -> None:
        while True:
            _spawn(self._converse, *listening.accept())

    def _converse(self, connection: socket.socket, client: tuple[str, int]) -> None:
        transport: Transport = "tcp"
        if connection.recv(1, socket.MSG_PEEK) == TLS_HANDSHAKE:
            transport = "tls"
            connection = self.certificate.wrap_socket(connection, server_side=True)
        unread = bytearray()
        while data := connection.recv(65535):
            unread += data
            while (raw := cut_message(unread)) is not None:
                connection.sendall(self._answer(raw, transport, connection.getsockname(), client))

    def _answer(self, raw: bytes, transport: Transport, server: tuple[str, int], client: tuple[str, int]) -> bytes:
        request = parse_request(raw, time.monotonic(), transport, client)
        assert request is not None, raw
        self.seen.append(str(Server(server[0], server[1], transport)))
        return request.response(200, tag="here")


def _spawn(work: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=work, args=args, daemon=True).start()


def ports(cases: Iterable[dict[str, Any]]) -> set[int]:
    """Where the cases' servers listen, and where a request goes that went wrong."""
    groups = [group for case in cases if expected(case) != "fail" for group in expected(case)]
    return {5060, 5061}.union(Server.parse(server).port for group in groups for server in group)


def lookup(case: dict[str, Any], name_server: DnsServer) -> pjfail.DnsLookup:
    """As the case says; but what its client can use is for pjfail to find out, from the endpoint."""
    options = switches(case)
    del options["families"]
    if options["transports"] == case["ua"]["transports"]:
        del options["transports"]
    return pjfail.DnsLookup([str(name_server)], hosts=None, **options)


def main(transports: list[str], folder: Path) -> None:
    cases = {name: case for name, case in CASES.items() if case["ua"]["transports"] == transports}
    authority = Authority(folder)

    @cache
    def certificate(host: str) -> ssl.SSLContext:
        key, chain = authority.issue(host)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        return context

    servers = Servers(ports(cases.values()))
    with DnsServer() as name_server, Endpoint(transports=transports, ca=str(authority.path)) as endpoint:
        account = Account(endpoint)
        account.open("sip:alice@client.example")
        for name, case in cases.items():
            servers.seen.clear()
            servers.certificate = certificate(case["query"]["host"])
            name_server.records(ZONES[case["zone"]]["records"])
            with pjfail.attach(lookup=lookup(case, name_server)):  # a new one: nothing is known from the case before
                try:
                    answer = account.options(case["query"]["uri"])
                    code, reason = answer.code, answer.reason
                except pj.Error as error:
                    code, reason = 0, error.reason
            emit(case=name, code=code, reason=reason, seen=sorted(set(servers.seen)))


with tempfile.TemporaryDirectory() as folder:
    main(sys.argv[1:], Path(folder))
