"""pjsua's own lookups of an account's domain, for the Contact of TCP and TLS: none while pjfail is attached.

pjsua_acc_get_uac_addr() calls getaddrinfo on the thread that is there, under pjsua's lock, and connects to what it
finds.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

import pytest
from rig.app import PYTHON, App
from rig.certificates import Authority
from rig.network import BECOME, mounted
from rig.tls import TlsServer

from pjfail.testing import NameServer, Registrar

FIRST, SECOND = "127.0.93.1", "127.0.93.2"
WEB, NAME_SERVER = "127.0.93.80", "127.0.93.53"
ZONE = f"""
$TTL 300
@           SOA  ns hostmaster 1 3600 600 86400 300
@           NS   ns
@           A    {WEB}
ns          A    {NAME_SERVER}
_sip._tcp   SRV  0 0 5060 first
_sips._tcp  SRV  0 0 5061 first
first       A    {FIRST}
"""

# A line from the test is what to do; the answer tells how long the call took, or what came of the REGISTER.
APP = """
    import json
    import sys
    import time
    import pjfail
    from rig.prelude import Account, Endpoint, emit, heard

    transport, ca, nameserver, options = sys.argv[1:]
    options = json.loads(options)
    lookup = pjfail.StaticLookup(options["table"]) if "table" in options else pjfail.DnsLookup(options["dns"])
    suffix = ";transport=" + transport
    with Endpoint(transports=("udp", "tcp", "tls"), ca=ca, nameserver=nameserver or None) as endpoint:
        account, failover = None, None
        emit(ready=True)
        while job := heard():
            if job == "attach":
                failover = pjfail.attach(lookup=lookup)
                emit(own_lookups=pjfail.bridge.host.host_facts().own_lookups)
            elif job == "detach":
                failover.detach()
                emit(detached=True)
            elif job == "create":
                account = Account(endpoint, retries=False)
                began = time.monotonic()
                account.open("sip:alice@own.test", "sip:own.test" + suffix)
                account.send_register()
                emit(seconds=time.monotonic() - began)
            elif job == "answer":
                emit(**account.answer(90)._asdict())
            elif job == "register":
                emit(**account.reregister()._asdict())
"""


class Deaf:
    """Hears what comes to *address*, datagrams or connections, and says nothing."""

    def __init__(self, address: str, port: int, kind: socket.SocketKind) -> None:
        self.heard: list[bytes] = []
        self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((address, port))
        self._socket.settimeout(0.1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen if kind == socket.SOCK_STREAM else self._receive)

    def __enter__(self) -> Deaf:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()

    def wait(self) -> None:
        """Until something has come."""
        deadline = time.monotonic() + 10
        while not self.heard:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _receive(self) -> None:
        while not self._ended.is_set():
            with suppress(TimeoutError):
                self.heard.append(self._socket.recv(4096))

    def _listen(self) -> None:
        self._socket.listen()
        with ExitStack() as connections:
            while not self._ended.is_set():
                with suppress(TimeoutError):
                    connections.enter_context(self._socket.accept()[0])
                    self.heard.append(b"a connection")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextmanager
def registrar(address: str, transport: str, authority: Authority) -> Iterator[Registrar]:
    with TlsServer(address, authority.issue("own.test")) if transport == "tls" else Registrar(address) as there:
        yield there


@contextmanager
def app(tmp_path: Path, transport: str, authority: Authority, nameserver: str = "", **options: object) -> Iterator[App]:
    """The program, on a machine whose name server is NAME_SERVER."""
    resolv_conf, program = tmp_path / "resolv.conf", tmp_path / "program.py"
    resolv_conf.write_text(f"nameserver {NAME_SERVER}\n")
    program.write_text("if True:\n" + APP)
    arguments = [PYTHON, str(program), transport, str(authority.path), nameserver, json.dumps(options)]
    with App(BECOME, *mounted((resolv_conf, "/etc/resolv.conf")), *arguments) as running:
        running.next()
        yield running


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_silent_name_servers_hold_up_nobody_who_needs_none(
    tmp_path: Path, authority: Authority, transport: str
) -> None:
    """Not the thread that creates an account, and not pjsua's own, which register it again when its server dies.

    Without pjfail's part in it `Account.create()` takes 40 s on stock Debian, and the registration 60 s.
    """
    port = 5061 if transport == "tls" else 5060
    table = {"own.test": [f"{transport}:{address}:{port}" for address in (FIRST, SECOND)]}
    with (
        Deaf(NAME_SERVER, 53, socket.SOCK_DGRAM) as name_server,
        registrar(SECOND, transport, authority) as second,
        app(tmp_path, transport, authority, table=table) as program,
    ):
        with registrar(FIRST, transport, authority) as first:
            assert program.ask("attach")["own_lookups"]
            assert program.ask("create")["seconds"] < 5
            line = program.ask("answer")
            assert (line["code"], line["server"]) == (200, f"{FIRST}:{port}")
            assert len(first.requests) == 1
        line = program.ask("register")
        assert (line["code"], line["server"]) == (200, f"{SECOND}:{port}")
        assert line["seconds"] < 15
        assert second.requests
        assert not [query for query in name_server.heard if b"\3own\4test" in query]


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_nobody_connects_to_the_address_of_the_domain(tmp_path: Path, authority: Authority, transport: str) -> None:
    """Which is a web server's; and the Contact does not have that connection's port. After the detach it is as ever."""
    port = 5061 if transport == "tls" else 5060
    with (
        NameServer(ZONE, "own.test", NAME_SERVER),
        Deaf(WEB, port, socket.SOCK_STREAM) as web,
        registrar(FIRST, transport, authority),
        app(tmp_path, transport, authority, dns=[NAME_SERVER]) as program,
    ):
        program.ask("attach")
        assert program.ask("create")["seconds"] < 5
        assert program.ask("answer")["code"] == 200
        assert program.ask("register")["code"] == 200
        assert not web.heard
        program.ask("detach")
        program.ask("create")
        web.wait()
        program.ask("attach")
        program.ask("answer")
        heard = len(web.heard)
        program.ask("create")
        assert program.ask("answer")["code"] == 200
        assert len(web.heard) == heard


def test_a_program_with_name_servers_of_its_own_keeps_them(tmp_path: Path, authority: Authority) -> None:
    """After the detach pjsua is as it was: it connects to nobody for a Contact."""
    with (
        NameServer(ZONE, "own.test", NAME_SERVER),
        Deaf(WEB, 5060, socket.SOCK_STREAM) as web,
        registrar(FIRST, "tcp", authority),
        app(tmp_path, "tcp", authority, NAME_SERVER, dns=[NAME_SERVER]) as program,
    ):
        program.ask("attach")
        program.ask("detach")
        program.ask("create")
        assert program.ask("answer")["code"] == 200
        assert not web.heard
