"""pjfail in every kind of host: each does the same, whatever pjsip it carries and whoever runs it.

The hosts are those of rig/hosts.py; `make test-hosts` builds all there are, and shows these tests as a table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rig.app import SANITIZED, App, AppResult, Line
from rig.certificates import Authority
from rig.dns_server import DnsServer
from rig.hosts import Host
from rig.network import unanswered_connects
from rig.tls import TlsServer

from pjfail.testing import REFUSING, SILENT, UNAVAILABLE, WELL, Fault, Registrar

FIRST, SECOND, NAME_SERVER = "127.0.71.1", "127.0.71.2", "127.0.71.53"
NAME = "host.test"

ZONE = [
    *(
        f"{service}.{NAME}. 60 IN SRV {priority} 0 {port} {server}.{NAME}."
        for service, port in (("_sip._udp", 5060), ("_sip._tcp", 5060), ("_sips._tcp", 5061))
        for priority, server in ((10, "first"), (20, "second"))
    ),
    f"first.{NAME}. 60 IN A {FIRST}",
    f"second.{NAME}. 60 IN A {SECOND}",
]

PROGRAM = Path(__file__).with_name("host_program.py")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def name_server() -> Iterator[DnsServer]:
    with DnsServer(ZONE, NAME_SERVER) as server:
        yield server


@pytest.fixture
def first() -> Iterator[Registrar]:
    with Registrar(FIRST) as registrar:
        yield registrar


@pytest.fixture
def second() -> Iterator[Registrar]:
    with Registrar(SECOND) as registrar:
        yield registrar


class Program:
    """host_program.py, under way in a host."""

    def __init__(self, app: App) -> None:
        self._app = app

    def tell(self, *words: object) -> Line:
        with self._explained(str(words)):
            return self._app.ask(" ".join(map(str, words)))

    def finish(self) -> AppResult:
        """Waits for its end, which must be a good one."""
        with self._explained("its end"):
            result = self._app.finish(30)
            assert result.returncode == 0, f"it ended with status {result.returncode}"
            return result

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except (AssertionError, OSError) as error:
            error.add_note(f"{what}\nthe program's standard error:\n{self._app.stderr[-5000:]}")
            raise


@pytest.fixture
def transport() -> str:
    return "udp"


@pytest.fixture
def affinity() -> str:
    """As "native" for an account with pjsip's own server affinity, where there is such a thing."""
    return "none"


@pytest.fixture
def program(
    host: Host, transport: str, affinity: str, name_server: DnsServer, authority: Authority
) -> Iterator[Program]:
    arguments = host.mode, transport, affinity, str(name_server), str(authority.path) if host.tls else "-"
    with App(PROGRAM, *arguments, python=host.python) as app:
        yield Program(app)


def test_register(program: Program, first: Registrar, second: Registrar, name_server: DnsServer) -> None:
    answer = program.tell("REGISTER")
    assert (answer["code"], answer["server"]) == (200, f"{FIRST}:5060")
    assert {request.method for request in first.requests} == {"REGISTER"}
    assert f"_sip._udp.{NAME}" in name_server.asked("SRV")


@pytest.mark.parametrize("affinity", ["none", "native"])
def test_failover_on_silence(program: Program, first: Registrar, second: Registrar) -> None:
    """The very REGISTER that finds the first server silent is answered by the second; so is the next, at once."""
    first.fault = SILENT
    answer = program.tell("REGISTER")
    assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
    assert answer["seconds"] < 8  # stock pjsip: 408 after 32 s
    assert {request.branch for request in first.requests} == {request.branch for request in second.requests}
    asked = len(second.requests)
    assert program.tell("OPTIONS")["server"] == f"{SECOND}:5060"
    assert len(second.requests) > asked


def test_from_udp_to_tcp(program: Program, first: Registrar, second: Registrar) -> None:
    """Neither server listens on UDP: the transaction goes on over TCP, and pjsip repeats the request no more."""
    first.transports = second.transports = ("tcp",)
    for server in (first, second):
        server.fault = REFUSING
        server.fault = Fault(delay=1.5)  # longer than pjsip's first two repetitions over UDP
    answer = program.tell("REGISTER")
    assert (answer["code"], answer["server"]) == (200, f"{FIRST}:5060")
    assert [request.transport for request in first.requests] == ["tcp"]
    assert program.tell("detach")["as_found"]


@pytest.mark.parametrize("transport", ["tcp"])
def test_raced_tcp(program: Program, second: Registrar) -> None:
    with unanswered_connects(FIRST, 5060):
        answer = program.tell("REGISTER")
    assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
    assert answer["seconds"] < 8  # stock pjsip: 32 s
    assert {request.transport for request in second.requests} == {"tcp"}
    assert program.tell("raced") == {"raced": 1}


@pytest.mark.parametrize("transport", ["tcp"])
def test_contact(program: Program, first: Registrar, second: Registrar) -> None:
    """The Contact has the port of the connection, which the registrar can reach."""
    assert program.tell("REGISTER")["code"] == 200
    *_, request = first.wait_for("REGISTER", 2)
    assert f":{request.source[1]};" in request.header("contact").partition("@")[2]


@pytest.mark.parametrize(("transport", "affinity"), [("tls", "native")])
def test_tls_pin(program: Program, authority: Authority) -> None:
    """The pinned server is shown the host name, and must have a certificate for that name."""
    good, other = authority.issue(NAME), authority.issue("other.test")
    with TlsServer(FIRST, good) as first, TlsServer(SECOND, good) as second:
        assert program.tell("pin", second) == {"error": ""}
        answer = program.tell("REGISTER")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5061")
        assert {handshake.sni for handshake in second.handshakes} == {NAME}
        assert not first.handshakes

        second.certificate = other
        second.cut()
        arrived, shaken = len(second.requests), len(second.handshakes)
        deadline = time.monotonic() + 20
        while len(second.handshakes) == shaken:  # until pjsip has seen that its connection is gone
            assert time.monotonic() < deadline
            assert program.tell("OPTIONS")["server"] != f"{SECOND}:5061"
        assert len(second.requests) == arrived
        assert second.handshakes[-1].sni == NAME


def test_probe(program: Program, first: Registrar, second: Registrar) -> None:
    """A server that was down is asked with an OPTIONS of pjfail's own, and used again."""
    first.fault = UNAVAILABLE
    answer = program.tell("REGISTER")
    assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
    assert program.tell("OPTIONS")["server"] == f"{SECOND}:5060"
    first.fault = WELL
    deadline = time.monotonic() + 20
    while program.tell("OPTIONS")["server"] != f"{FIRST}:5060":
        assert time.monotonic() < deadline, "the server is well, but nothing goes there again"
        time.sleep(0.05)
    assert any(f"pjfail@{NAME}" in request.raw for request in first.requests), "nobody asked it before"


def test_detach_under_traffic(program: Program, first: Registrar, second: Registrar, name_server: DnsServer) -> None:
    """Who is under way is answered, pjsip is as it was found, and goes its own way from then on."""
    assert program.tell("REGISTER")["code"] == 200
    first.fault = Fault(latency=0.4)
    program.tell("load", 20, f"sip:{NAME}")
    first.wait_for("OPTIONS", count=20, timeout=20)
    assert program.tell("detach") == {"as_found": True, "taken": True}
    assert program.tell("answers", 20) == {"codes": [200] * 20}
    asked = len(name_server.asked("SRV"))
    answer = program.tell("OPTIONS")
    assert (answer["code"], answer["server"]) == (200, f"{FIRST}:5060")
    assert len(name_server.asked("SRV")) > asked, "not found by pjsip's own resolver"


@pytest.mark.parametrize("end", ["exit", "destroy"])
def test_interpreter_exit(
    host: Host, program: Program, first: Registrar, second: Registrar, name_server: DnsServer, end: str
) -> None:
    """sys.exit() while attached, requests under way and others not yet resolved, with libDestroy() and without.

    None is answered: an answer that pjsip's thread takes to a Python that has ended is the end of any program.
    """
    first.fault = second.fault = SILENT
    program.tell("load", 20, f"sip:{NAME}")
    first.wait_for("OPTIONS", count=20, timeout=20)
    name_server.fault("silent")
    program.tell("load", 20, "sip:elsewhere.test")
    assert program.tell(end) == {"attached": True}
    assert str(host.pjfail) not in program.finish().stderr, "an exception of pjfail's"


CHALLENGED = f"""
    import sys
    from rig.prelude import Account, Endpoint, emit

    mode, called = sys.argv[1:]
    with Endpoint(threads=mode != "polls", transports=("udp",), digests=called == "called") as endpoint:
        account = Account(endpoint, password="secret", retries=False)
        emit(code=account.register("sip:alice@{FIRST}", "sip:{FIRST}").code)
"""

DOCTOR = """
    import contextlib, io, json
    from pjfail.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()) as said:
        main(["doctor", "--json"])
    report = json.loads(said.getvalue())
    print(json.dumps({"digests": report["pjsip"]["digests"], "notes": report["notes"]}))
"""


def test_challenge(host: Host) -> None:
    """An account with a password registers: as it is, where the doctor says so, else after the call that he names."""

    def registered(called: str) -> int:
        with App(CHALLENGED, host.mode, called, python=host.python) as app:
            return int(app.next()["code"])

    with App(DOCTOR, python=host.python) as app:
        told = app.next(90)
    able = told["digests"] is None or "MD5" in told["digests"]
    with Registrar(FIRST, realm="host.test"):
        assert registered("as it is") == (200 if able else 401)
        assert registered("called") == 200
    assert any("utilSslGetAvailableCiphers()" in note for note in told["notes"]) is not able


INSTALLED = """
    import json, importlib.metadata
    import pjsua2

    try:
        wheel = importlib.metadata.distribution("pjsua2")
    except importlib.metadata.PackageNotFoundError:
        tag, files = "", []
    else:
        tag = wheel.read_text("WHEEL").partition("Tag: ")[2].split()[0]
        files = [str(file.locate()) for file in wheel.files]
    print(json.dumps({"tag": tag, "files": files, "loaded": [pjsua2.__file__, pjsua2._pjsua2.__file__]}))
"""


def test_installed_pjsua2(host: Host, record_property: Callable[[str, object], None]) -> None:
    """Where it is the wheel of `make pjsua2-wheel`, that has pjproject's licence in it, and none of its sources."""
    with App(INSTALLED, python=host.python) as app:
        found = app.next(90)
    record_property("facts", {"our wheel": found["tag"]})
    assert bool(found["files"]) is host.our_wheel
    if host.our_wheel:
        assert set(found["loaded"]) <= set(found["files"])
        assert [file for file in found["files"] if file.endswith("/licenses/COPYING")]
        assert not [
            file for file in found["files"] if Path(file).suffix in (".i", ".c", ".h", ".cpp", ".hpp", ".o", ".a")
        ]


def test_one_thousand_requests(program: Program, first: Registrar, second: Registrar) -> None:
    """Now to a server that is well and now to one that is not; each is answered, and pjsip left as it was found."""
    codes: list[int] = []
    for round in range(20):
        first.fault = UNAVAILABLE if round % 2 else WELL
        program.tell("load", 50, f"sip:{NAME}")
        codes += program.tell("answers", 50)["codes"]
    assert codes == [200] * 1000
    assert program.tell("detach") == {"as_found": True, "taken": True}
    program.tell("destroy")
    program.finish()  # and the sanitizer, where there is one, looks for what was left behind


def test_one_binary(host: Host, program: Program, record_property: Callable[[str, object], None]) -> None:
    """The extension is this clone's own in every host for this platform; what pjfail has found out there stands in the
    table.
    """
    facts = program.tell("facts")
    record_property("facts", facts)
    assert Path(facts["extension"]).is_relative_to(host.pjfail) or SANITIZED
