"""The rig does what the tests believe of it."""

from __future__ import annotations

import os
import re
import socket
import ssl
import time
from collections.abc import Iterator

import dns.message
import dns.query
import dns.rcode
import pytest
from rig.app import PYTHON, TESTS, App, run_app
from rig.daemon import group_lives
from rig.kamailio import Kamailio
from rig.knot import Knot
from rig.network import BECOME, alone

REGISTRAR = "127.0.61.1"
NAME_SERVER = "127.0.61.53"
ZONE = """\
_sip._udp SRV 10 60 5060 a
_sip._udp SRV 20 0 5060 b
@ NAPTR 10 10 "s" "SIP+D2U" "" _sip._udp
a A 127.0.61.1
b A 127.0.61.2
"""


@pytest.fixture(scope="module")
def registrar() -> Iterator[Kamailio]:
    with Kamailio(REGISTRAR, "sip.example.com") as server:
        yield server


def options(timeout: float = 1) -> str:
    """Sends OPTIONS over UDP from a plain socket; the response, or "" when none came in time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.settimeout(timeout)
        request = (
            f"OPTIONS sip:{REGISTRAR} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 127.0.0.1:{udp.getsockname()[1]};branch=z9hG4bK-{os.urandom(6).hex()}\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:rig@127.0.0.1>;tag=1\r\nTo: <sip:{REGISTRAR}>\r\n"
            f"Call-ID: {os.urandom(6).hex()}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        )
        udp.sendto(request.encode(), (REGISTRAR, 5060))
        try:
            return udp.recv(4096).decode()
        except TimeoutError:
            return ""


def test_kamailio_answers_and_fails_as_told(registrar: Kamailio) -> None:
    assert options().startswith("SIP/2.0 200 ")
    registrar.fault(503, retry_after=7)
    response = options()
    assert response.startswith("SIP/2.0 503 ")
    assert re.search(r"^Retry-After: 7\r$", response, re.MULTILINE)
    registrar.fault(486)
    assert options().startswith("SIP/2.0 486 ")
    registrar.fault(Kamailio.SILENT)
    assert options() == ""
    registrar.fault(0)
    assert options().startswith("SIP/2.0 200 ")


def test_kamailio_answers_two_seconds_late_and_tells_what_it_heard(registrar: Kamailio) -> None:
    before = len(registrar.heard())
    registrar.fault(Kamailio.SLOW)
    began = time.time()
    assert options(timeout=10).startswith("SIP/2.0 200 ")
    assert time.time() - began > 1.9
    registrar.fault(0)
    [heard] = registrar.heard()[before:]
    assert (heard.method, heard.subject) == ("OPTIONS", "")
    assert 0 <= heard.at - began < 1


def test_kamailio_paused_accepts_connections_and_says_nothing(registrar: Kamailio) -> None:
    registrar.pause()
    assert options() == ""
    socket.create_connection((REGISTRAR, 5060), timeout=1).close()
    registrar.resume()
    assert options().startswith("SIP/2.0 200 ")


def test_kamailio_stopped_refuses_and_comes_back(registrar: Kamailio) -> None:
    registrar.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((REGISTRAR, 5060), timeout=1)
    registrar.serve()
    assert options().startswith("SIP/2.0 200 ")


def test_kamailio_shows_a_certificate_of_its_authority(registrar: Kamailio) -> None:
    trust = ssl.create_default_context(cafile=str(registrar.authority.path))

    def shake_hands(name: str) -> None:
        with socket.create_connection((REGISTRAR, 5061), timeout=2) as tcp:
            trust.wrap_socket(tcp, server_hostname=name).close()

    shake_hands("sip.example.com")
    shake_hands(REGISTRAR)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands("sip.example.net")


def test_a_server_that_does_not_start_shows_its_log(registrar: Kamailio) -> None:
    with pytest.raises(AssertionError, match="Address already in use"), Kamailio(registrar.address):
        pass


def test_knot_answers_srv_and_naptr_and_reloads() -> None:
    def ask(name: str, kind: str) -> list[str]:
        answer = dns.query.udp(dns.message.make_query(name, kind), NAME_SERVER, timeout=2, port=5353)
        assert answer.rcode() == dns.rcode.NOERROR
        return sorted(str(record) for rrset in answer.answer for record in rrset)

    with Knot(NAME_SERVER, ZONE) as server:
        assert server.nameserver == f"{NAME_SERVER}:5353"
        assert ask("_sip._udp.example.com", "SRV") == ["10 60 5060 a.example.com.", "20 0 5060 b.example.com."]
        assert ask("example.com", "NAPTR") == ['10 10 "s" "SIP+D2U" "" _sip._udp.example.com.']
        assert ask("a.example.com", "A") == ["127.0.61.1"]
        server.reload(ZONE.replace("a A 127.0.61.1", "a A 127.0.61.9"))
        assert ask("a.example.com", "A") == ["127.0.61.9"]


def test_packets_vanish_in_a_network_of_its_own_and_no_sender_is_told() -> None:
    program = """
import socket, sys
sys.path.insert(0, sys.argv[1])
from rig.network import vanish
from rig.prelude import emit
receiver, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
receiver.bind(("127.0.0.9", 5060))
receiver.settimeout(0.3)
listening = socket.create_server(("127.0.0.9", 5060))
sender.sendto(b"one", receiver.getsockname())
emit(got=receiver.recv(10).decode())
socket.create_connection(("127.0.0.9", 5060), timeout=0.3).close()
vanish("127.0.0.9")
emit(sent=sender.sendto(b"two", receiver.getsockname()))
for attempt in (lambda: receiver.recv(10), lambda: socket.create_connection(("127.0.0.9", 5060), timeout=0.3)):
    try:
        emit(got=str(attempt()))
    except TimeoutError:
        emit(got=None)
"""
    lines = run_app(BECOME, *alone(), PYTHON, "-c", program, str(TESTS)).lines
    assert lines == [{"got": "one"}, {"sent": 3}, {"got": None}, {"got": None}]


def test_an_app_talks_and_leaves_nothing_behind() -> None:
    with App("""
        import subprocess, sys
        from rig.prelude import emit, heard
        child = subprocess.Popen(["sleep", "60"])
        print("not JSON")
        emit(word=heard())
        sys.exit(3)
    """) as app:
        app.tell("hello")
        line = app.next()
        assert line["word"] == "hello"
        result = app.finish()
    assert (result.returncode, result.lines) == (3, [line])
    assert "not JSON" in result.stderr
    assert not group_lives(app.pid)


def test_an_app_that_hangs_tells_where() -> None:
    with pytest.raises(AssertionError, match="did not end within 1 s") as failure:
        run_app("import time\ntime.sleep(60)  # here", timeout=1)
    assert 'app.py", line 2 in <module>' in failure.value.__notes__[0]


def test_an_app_that_fails_shows_its_traceback() -> None:
    with pytest.raises(AssertionError, match="status 1, not 0") as failure:
        run_app("1 / 0")
    assert "ZeroDivisionError" in failure.value.__notes__[0]
