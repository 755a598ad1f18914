"""A cell of the fault matrix, in a network of its own: fault_cell.py FAILURE TRANSPORT METHOD STACK CERTIFICATES.

Servers, name server and program share the process, and so one clock. The first line says that the program is up; then
comes one for each of its two requests.
"""

from __future__ import annotations

import ssl
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pjsua2 as pj

import pjfail
from pjfail.testing import Registrar
from rig.dns_server import DnsServer
from rig.faults import DOMAIN, FAILURES, Failure
from rig.network import vanish
from rig.prelude import Account, Answer, Call, Endpoint, emit

FIRST, SECOND, NAME_SERVER = "127.0.80.1", "127.0.80.2", "127.0.80.53"
ZONE = [
    *(
        f"{service}.{DOMAIN} 3600 SRV {priority} 0 {port} {server}.{DOMAIN}."
        for service, port in (("_sip._udp", 5060), ("_sip._tcp", 5060), ("_sips._tcp", 5061))
        for priority, server in ((10, "first"), (20, "second"))
    ),
    f"first.{DOMAIN} 3600 A {FIRST}",
    f"second.{DOMAIN} 3600 A {SECOND}",
]
GIVEN_UP = 33.0  # pjsip ends every transaction after 32 s
LINGER = 0.7  # in which an answer too many would come


class Client(Account):
    """Sends requests of one method, and keeps what it is told of these alone."""

    def __init__(self, endpoint: Endpoint, method: str, uri: str) -> None:
        super().__init__(endpoint, retries=False)
        self.method = method
        self.uri = uri
        self.told = 0
        self._calls: list[Call] = []
        self.open(f"sip:alice@{DOMAIN}", uri)

    def keep(self, method: str, code: int, reason: str, server: str) -> None:
        if method == self.method:
            self.told += 1
            super().keep(method, code, reason, server)

    def send_one(self) -> None:
        if self.method == "REGISTER":
            self.send_register()
        elif self.method == "INVITE":
            self._calls.append(self.call(self.uri))
        elif self.method == "SUBSCRIBE":
            self.send(self.method, self.uri, Event="presence", Expires="600")
        else:
            self.send(self.method, self.uri)

    def hang_up(self) -> None:
        for call in self._calls:
            if call.isActive():
                call.hangup(pj.CallOpParam())
                self.endpoint.run(0.2)  # or the next request waits in TCP for the BYE to be acknowledged


class Servers:
    """The first and the second, behind one domain."""

    def __init__(self, stack: ExitStack, failure: Failure, certificates: Path) -> None:
        def server(address: str, certified: str) -> Registrar:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates / f"{certified}.crt", certificates / f"{certified}.key")
            return stack.enter_context(Registrar(address, 5060, tls=context))

        self._failure = failure
        self._named = {"first": server(FIRST, failure.name), "second": server(SECOND, DOMAIN)}

    def fail(self) -> None:
        """From now on the first one does."""
        self._named["first"].fault = self._failure.fault
        if self._failure.vanishes:
            vanish(FIRST)

    def who_answered(self, method: str, code: int, since: float, until: float) -> str:
        """Who sent such an answer in that time, the later one where both did; "" where nobody did."""
        answers = [
            (answer.at, name)
            for name, server in self._named.items()
            for answer in server.answers
            if answer.request.method == method and answer.code == code and since <= answer.at <= until
        ]
        return max(answers, default=(0.0, ""))[1]


def main(kind: str, transport: str, method: str, stack: str, certificates: str) -> None:
    failure = FAILURES[kind]
    uri = f"sip:{DOMAIN};transport={transport}"
    with ExitStack() as running:
        running.enter_context(DnsServer(ZONE, NAME_SERVER, 53))
        servers = Servers(running, failure, Path(certificates))
        authority = str(Path(certificates, "authority.pem"))
        endpoint = running.enter_context(Endpoint(nameserver=NAME_SERVER, transports=(transport,), ca=authority))
        if stack == "pjfail":
            pjfail.attach(lookup=pjfail.DnsLookup([NAME_SERVER]))
        client = Client(endpoint, method, uri)
        emit(up=True)
        if failure.connected:
            another = Account(endpoint)
            another.open(f"sip:bob@{DOMAIN}")
            assert another.options(uri).code == 200
        servers.fail()
        for request in ("first", "next"):
            told, sent_at = client.told, time.monotonic()
            client.send_one()
            answer = endpoint.wait(client.answers, GIVEN_UP) or Answer(method, 0, "", GIVEN_UP, "", 0)
            server = servers.who_answered(method, answer.code, sent_at, time.monotonic())
            if request == "next":
                endpoint.run(LINGER + failure.fault.delay)
            emit(request=request, seconds=answer.seconds, code=answer.code, server=server, answers=client.told - told)
            client.hang_up()
        endpoint.run(LINGER)


main(*sys.argv[1:])
