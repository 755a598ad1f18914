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
from rig.faults import DOMAIN, FAILURES, SECOND, Failure
from rig.network import vanish
from rig.prelude import LARGE, Account, Answer, Call, Endpoint, emit

NAME_SERVER = "127.0.80.53"
SERVICES = {"udp": ("_sip._udp", 5060), "tcp": ("_sip._tcp", 5060), "tls": ("_sips._tcp", 5061)}
GIVEN_UP = 33.0  # pjsip ends every transaction after 32 s
LINGER = 0.7  # in which an answer too many would come


def zone(failure: Failure) -> list[str]:
    """Both servers on all transports, or each on its own one."""
    own = None if failure.other is None else {"first": failure.transports[0], "second": failure.other}
    return [
        *(
            f"{service}.{DOMAIN} 3600 SRV {priority} 0 {port} {server}.{DOMAIN}."
            for transport, (service, port) in SERVICES.items()
            for priority, server in ((10, "first"), (20, "second"))
            if own is None or own[server] == transport
        ),
        f"first.{DOMAIN} 3600 {'AAAA' if ':' in failure.address else 'A'} {failure.address}",
        f"second.{DOMAIN} 3600 A {SECOND}",
    ]


class Client(Account):
    """Sends requests of one method, and keeps what it is told of these alone."""

    def __init__(self, endpoint: Endpoint, method: str, uri: str, bound: str | None) -> None:
        super().__init__(endpoint, retries=False, bound=bound)
        self.method = method.rsplit(maxsplit=1)[-1]
        self.headers = LARGE if method.startswith("large") else {}
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
            self._calls.append(self.call(self.uri, **self.headers))
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
        self._named = {"first": server(failure.address, failure.name), "second": server(SECOND, DOMAIN)}

    def fail(self) -> None:
        """From now on the first one does."""
        self._named["first"].fault = self._failure.fault
        if self._failure.vanishes:
            vanish(self._failure.address)

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
    uri = f"sip:{DOMAIN}" if failure.other else f"sip:{DOMAIN};transport={transport}"
    # A request that is too large for UDP needs TCP, too, and another server what that one speaks.
    transports = {transport: 1, failure.other or transport: 1, "tcp" if method.startswith("large") else transport: 1}
    if ":" in failure.address:
        transports |= {f"{each}6": 1 for each in transports}
    with ExitStack() as running:
        running.enter_context(DnsServer(zone(failure), NAME_SERVER, 53))
        servers = Servers(running, failure, Path(certificates))
        authority = str(Path(certificates, "authority.pem"))
        endpoint = running.enter_context(Endpoint(nameserver=NAME_SERVER, transports=tuple(transports), ca=authority))
        if stack == "pjfail":
            pjfail.attach(lookup=pjfail.DnsLookup([NAME_SERVER]), follow=False)  # each REGISTER is the client's
        client = Client(endpoint, method, uri, transport if method.startswith("bound") else None)
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
            server = servers.who_answered(client.method, answer.code, sent_at, time.monotonic())
            if request == "next":
                endpoint.run(LINGER + failure.fault.delay)
            emit(request=request, seconds=answer.seconds, code=answer.code, server=server, answers=client.told - told)
            client.hang_up()
        endpoint.run(LINGER)


main(*sys.argv[1:])
