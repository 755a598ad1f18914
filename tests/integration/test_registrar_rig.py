"""The registrar that the demo and the tests run against: each of its faults, seen from outside."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import dns.message
import pytest
import trustme
from rig.app import run_app

from pjfail.testing import DYING, REFUSING, RESETTING, SILENT, STALLING, UNAVAILABLE, WELL, Fault, NameServer, Registrar

pytestmark = pytest.mark.timeout(30)

AUTHORITY = trustme.CA()


@pytest.fixture
def registrar() -> Iterator[Registrar]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("127.0.21.1").configure_cert(context)
    with Registrar("127.0.21.1", 0, tls=context) as registrar:
        yield registrar


@pytest.fixture
def udp(registrar: Registrar) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect((registrar.address, registrar.port))
        udp.settimeout(0.3)
        yield udp


@pytest.fixture
def tcp(registrar: Registrar) -> Iterator[socket.socket]:
    with socket.create_connection((registrar.address, registrar.port), timeout=2) as tcp:
        yield tcp


def request(method: str, *headers: str, branch: str = "one", transport: str = "UDP") -> bytes:
    lines = [
        f"{method} sip:voip.example SIP/2.0",
        f"Via: SIP/2.0/{transport} 127.0.0.1:5999;rport;branch=z9hG4bK{branch}",
        "From: <sip:alice@voip.example>;tag=a",
        "To: <sip:alice@voip.example>",
        "Call-ID: call-1",
        f"CSeq: 7 {method}",
        "Contact: <sip:alice@127.0.0.1:5999>",
        *headers,
        "Content-Length: 0",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def status(response: bytes) -> int:
    return int(response.split()[1])


def test_register_is_granted_as_asked(registrar: Registrar, udp: socket.socket) -> None:
    udp.send(request("REGISTER", "Expires: 77"))
    answer = udp.recv(4096).decode()
    assert answer.startswith("SIP/2.0 200 OK\r\n")
    assert "Contact: <sip:alice@127.0.0.1:5999>\r\n" in answer
    assert "Expires: 77\r\n" in answer
    assert f"rport={udp.getsockname()[1]}" in answer
    assert re.search(r"\r\nTo: .*;tag=\w+\r\n", answer)
    [seen] = registrar.requests
    assert (seen.method, seen.call_id, seen.cseq, seen.branch) == ("REGISTER", "call-1", 7, "z9hG4bKone")
    assert (seen.transport, seen.source) == ("udp", udp.getsockname())
    assert 0 <= time.monotonic() - seen.at < 5


def test_a_sips_call_gets_a_sips_contact(registrar: Registrar, udp: socket.socket) -> None:
    """RFC 3261 section 12.1.1; pjsip answers another Contact with 480 SIPS Required."""
    for scheme in (b"sips", b"sip"):
        udp.send(request("INVITE", branch=scheme.decode()).replace(b" sip:voip.example SIP", b" " + scheme + b":x SIP"))
        ringing, answer = udp.recv(4096), udp.recv(4096)
        assert (status(ringing), status(answer)) == (180, 200)
        assert b"Contact: <" + scheme + b":127.0.21.1:" in ringing
        assert b"Contact: <" + scheme + b":127.0.21.1:" in answer


def test_messages_on_a_stream_are_cut_by_their_length(registrar: Registrar, tcp: socket.socket) -> None:
    both = request("OPTIONS", branch="one") + b"\r\n\r\n" + request("MESSAGE", branch="two")
    tcp.sendall(both[:100])
    time.sleep(0.05)
    tcp.sendall(both[100:])
    registrar.wait_for("OPTIONS")
    registrar.wait_for("MESSAGE")
    assert [seen.transport for seen in registrar.requests] == ["tcp", "tcp"]


def test_silence_is_recorded_and_ends(registrar: Registrar, udp: socket.socket) -> None:
    registrar.fault = SILENT
    udp.send(request("REGISTER"))
    with pytest.raises(TimeoutError):
        udp.recv(4096)
    assert len(registrar.wait_for("REGISTER")) == 1
    registrar.fault = WELL
    udp.send(request("REGISTER"))
    assert status(udp.recv(4096)) == 200


def test_refusing_closes_ports_and_connections(registrar: Registrar, udp: socket.socket, tcp: socket.socket) -> None:
    tcp.sendall(request("OPTIONS", transport="TCP"))
    assert status(tcp.recv(4096)) == 200
    registrar.fault = REFUSING
    udp.send(request("REGISTER"))
    with pytest.raises(ConnectionRefusedError):  # this is how ICMP port unreachable shows
        udp.recv(4096)
    assert tcp.recv(4096) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((registrar.address, registrar.port))
    registrar.fault = WELL
    udp.send(request("REGISTER"))
    assert status(udp.recv(4096)) == 200


def test_connections_are_reset_and_new_ones_accepted(registrar: Registrar, tcp: socket.socket) -> None:
    tcp.sendall(request("OPTIONS", transport="TCP"))
    assert status(tcp.recv(4096)) == 200
    registrar.reset()
    with pytest.raises(ConnectionResetError):
        tcp.recv(4096)
    with socket.create_connection((registrar.address, registrar.port), timeout=2) as again:
        again.sendall(request("OPTIONS", branch="two", transport="TCP"))
        assert status(again.recv(4096)) == 200


def test_a_request_is_answered_by_rst(registrar: Registrar, tcp: socket.socket) -> None:
    registrar.fault = RESETTING
    tcp.sendall(request("OPTIONS", transport="TCP"))
    with pytest.raises(ConnectionResetError):
        tcp.recv(4096)
    assert registrar.wait_for("OPTIONS")


def test_the_first_request_is_the_death_of_it(registrar: Registrar, udp: socket.socket, tcp: socket.socket) -> None:
    tcp.sendall(request("MESSAGE", transport="TCP"))
    assert status(tcp.recv(4096)) == 200
    registrar.fault = DYING
    udp.send(request("OPTIONS"))
    assert registrar.wait_for("OPTIONS")
    assert tcp.recv(4096) == b""
    udp.send(request("OPTIONS"))
    with pytest.raises(ConnectionRefusedError):
        udp.recv(4096)
    assert [(answer.request.method, answer.code) for answer in registrar.answers] == [("MESSAGE", 200)]
    registrar.fault = WELL
    udp.send(request("OPTIONS"))
    assert status(udp.recv(4096)) == 200


def test_tls_answers_and_stalls(registrar: Registrar) -> None:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    endpoint = registrar.address, registrar.tls_port
    with socket.create_connection(endpoint, timeout=2) as tcp:
        with context.wrap_socket(tcp, server_hostname="127.0.21.1") as tls:
            tls.sendall(request("OPTIONS", transport="TLS"))
            assert status(tls.recv(4096)) == 200
    assert registrar.requests[0].transport == "tls"
    registrar.fault = STALLING
    with socket.create_connection(endpoint, timeout=0.3) as tcp, pytest.raises(TimeoutError):
        context.wrap_socket(tcp, server_hostname="127.0.21.1")


def test_503_with_and_without_retry_after(registrar: Registrar, udp: socket.socket) -> None:
    registrar.fault = UNAVAILABLE
    udp.send(request("REGISTER"))
    answer = udp.recv(4096)
    assert status(answer) == 503
    assert b"Retry-After" not in answer
    registrar.fault = Fault(code=503, retry_after=7)
    udp.send(request("REGISTER"))
    assert b"Retry-After: 7\r\n" in udp.recv(4096)


def test_a_provisional_response_then_silence_or_503(registrar: Registrar, udp: socket.socket) -> None:
    registrar.fault = Fault(provisional=(100, 180), answers=False)
    udp.send(request("INVITE"))
    assert [status(udp.recv(4096)), status(udp.recv(4096))] == [100, 180]
    with pytest.raises(TimeoutError):
        udp.recv(4096)
    registrar.fault = Fault(provisional=(100,), code=503)
    udp.send(request("INVITE", branch="two"))
    assert [status(udp.recv(4096)), status(udp.recv(4096))] == [100, 503]


def test_a_slow_answer_comes_once(registrar: Registrar, udp: socket.socket) -> None:
    registrar.fault = Fault(delay=0.2)
    sent_at = time.monotonic()
    udp.send(request("REGISTER"))
    udp.send(request("REGISTER"))
    assert status(udp.recv(4096)) == 200
    assert time.monotonic() - sent_at >= 0.2
    with pytest.raises(TimeoutError):
        udp.recv(4096)
    assert len(registrar.wait_for("REGISTER", 2)) == 2


def test_what_waits_for_its_latency_ends_with_the_server(
    registrar: Registrar, udp: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    """Answered after the sockets were closed, a request was an "OSError: Bad file descriptor" in the log."""
    registrar.fault = Fault(latency=0.3)
    udp.send(request("REGISTER"))
    registrar.wait_for("REGISTER")
    registrar.fault = REFUSING
    time.sleep(0.5)
    registrar.fault = WELL
    udp.send(request("OPTIONS"))
    assert b"OPTIONS" in udp.recv(4096)
    assert [answer.request.method for answer in registrar.answers] == ["OPTIONS"]
    assert not caplog.records


def test_a_client_that_is_gone_before_its_latency_is_over(
    registrar: Registrar, tcp: socket.socket, udp: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    registrar.fault = Fault(latency=0.3, resets=True)
    tcp.sendall(request("OPTIONS", transport="TCP"))
    registrar.wait_for("OPTIONS")
    tcp.close()
    time.sleep(0.5)
    registrar.fault = WELL
    udp.send(request("OPTIONS"))
    assert status(udp.recv(4096)) == 200
    assert not caplog.records


def test_a_call_is_answered_busy_or_cancelled(registrar: Registrar, udp: socket.socket) -> None:
    udp.send(request("INVITE"))
    assert status(udp.recv(4096)) == 180
    answer = udp.recv(4096)
    assert status(answer) == 200
    assert b"PCMU/8000" in answer
    registrar.busy = True
    udp.send(request("INVITE", branch="two"))
    assert status(udp.recv(4096)) == 486
    registrar.busy = False
    registrar.fault = Fault(delay=20)
    udp.send(request("INVITE", branch="three"))
    assert status(udp.recv(4096)) == 180
    udp.send(request("CANCEL", branch="three"))
    assert [status(udp.recv(4096)), status(udp.recv(4096))] == [200, 487]


def test_only_its_own_nonce_will_do(udp: socket.socket, registrar: Registrar) -> None:
    registrar.realm = "voip.example"
    udp.send(request("REGISTER"))
    challenge = udp.recv(4096).decode()
    assert status(challenge.encode()) == 401
    found = re.search(r'WWW-Authenticate: Digest realm="voip.example", nonce="(\w+)"', challenge)
    assert found is not None
    udp.send(request("REGISTER", 'Authorization: Digest nonce="foreign"', branch="two"))
    assert status(udp.recv(4096)) == 401
    udp.send(request("REGISTER", f'Authorization: Digest nonce="{found[1]}"', branch="three"))
    assert status(udp.recv(4096)) == 200


def test_waiting_for_too_much_says_what_came(registrar: Registrar, udp: socket.socket) -> None:
    udp.send(request("OPTIONS"))
    udp.recv(4096)
    with pytest.raises(TimeoutError, match=r"got 0 of 1 REGISTER within 0.1 s; in all it has seen OPTIONS"):
        registrar.wait_for("REGISTER", timeout=0.1)


def test_a_taken_port_is_named_and_nothing_is_left(registrar: Registrar) -> None:
    threads = threading.active_count()
    with pytest.raises(OSError, match=rf"cannot listen on udp:127.0.21.1:{registrar.port}: another program"):
        Registrar("127.0.21.1", registrar.port).start()
    assert threading.active_count() == threads


PJSUA2 = """
    import sys, threading
    import pjsua2 as pj
    from rig.prelude import emit

    registered, confirmed, over = threading.Event(), threading.Event(), threading.Event()

    class Account(pj.Account):
        def onRegState(self, prm):
            emit(code=prm.code)
            registered.set()

    class Call(pj.Call):
        def onCallState(self, _):
            state = self.getInfo().stateText
            emit(call=state)
            if state == "CONFIRMED":
                confirmed.set()
            if state == "DISCONNECTED":
                over.set()

    endpoint = pj.Endpoint()
    endpoint.libCreate()
    config = pj.EpConfig()
    config.medConfig.clockRate = 8000  # PCMU's own: this pjproject is built without a resampler
    endpoint.libInit(config)
    endpoint.transportCreate(pj.PJSIP_TRANSPORT_TCP, pj.TransportConfig())
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    config = pj.AccountConfig()
    config.idUri = "sip:alice@voip.example"
    config.regConfig.registrarUri = f"sip:{sys.argv[1]};transport=tcp"
    config.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", "alice", 0, "secret"))
    account = Account()
    account.create(config)
    registered.wait(5)
    call = Call(account)
    call.makeCall(f"sip:bob@{sys.argv[1]};transport=tcp", pj.CallOpParam(True))
    confirmed.wait(5)
    call.hangup(pj.CallOpParam())
    over.wait(5)
    del call
    endpoint.libDestroy()
"""


def test_pjsua2_registers_with_digest_and_calls(registrar: Registrar) -> None:
    registrar.realm = "voip.example"
    lines = run_app(PJSUA2, str(registrar)).lines
    assert lines[0] == {"code": 200}
    states = [line["call"] for line in lines if "call" in line]
    assert states == ["CALLING", "EARLY", "CONNECTING", "CONFIRMED", "DISCONNECTED"]
    methods = [seen.method for seen in registrar.requests]
    assert methods[:2] == ["REGISTER", "REGISTER"]
    assert {"INVITE", "ACK", "BYE"} < set(methods)


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"transports": "udp"}, "transports is one string; give a list of them"),
        ({"transports": ["sctp"]}, "choose among udp, tcp, tls"),
        ({"transports": ()}, "choose among udp, tcp, tls"),
        ({"tls": 5}, r"tls is 5; give an ssl\.SSLContext, or a function \(client\)"),
        ({"tls": ssl.SSLContext}, "tls is"),
        ({"port": 70000}, "port is 70000; give 1 to 65535, or 0 for a free one"),
        ({"port": "5060"}, "port is '5060'"),
        ({"realm": 3}, "realm is 3; give a string"),
    ],
)
def test_an_argument_that_is_not_valid_is_refused_in_words(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        Registrar("127.0.21.1", **{"port": 0} | arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"answers": "no"},
        {"delay": -1},
        {"code": "503"},
        {"methods": "INVITE"},
        {"provisional": "100"},
        {"provisional": 180},
        {"retry_after": "x"},
    ],
)
def test_a_fault_that_is_not_valid_is_refused_by_name(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(arguments))} is "):
        Fault(**arguments)


ZONE = "@ 60 SOA ns admin 1 60 60 60 60\n@ 60 NS ns\n@ 60 A 192.0.2.1\n"


@pytest.mark.parametrize(("zone", "words"), [("garbage", "malformed"), ("@ 60 A 192.0.2.1\n", "no SOA")])
def test_a_zone_that_is_not_valid_is_refused_with_one_that_is(zone: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"the zone of voip.example is not valid: .*{words}.*; begin with @ 60 SOA"):
        NameServer(zone, "voip.example", "127.0.21.1", 0)


def test_a_name_server_is_gone_while_it_refuses() -> None:
    def answers() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(5)
            udp.connect((names.address, names.port))
            udp.send(dns.message.make_query("voip.example", "A").to_wire())
            try:
                return bool(udp.recv(4096))
            except ConnectionRefusedError:
                return False

    names = NameServer(ZONE, "voip.example", "127.0.21.1", 0)
    names.fault = REFUSING
    assert not answers()
    with names:
        assert not answers()
        names.fault = WELL
        assert answers()
        names.fault = REFUSING
        assert not answers()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((names.address, names.port), timeout=5)
        names.fault = WELL
        assert answers()
        socket.create_connection((names.address, names.port), timeout=5).close()
    assert not answers()


def test_what_is_not_a_fault_changes_nothing(registrar: Registrar) -> None:
    wrong: Any = "SILENT"
    with pytest.raises(TypeError, match="fault is 'SILENT'; give a Fault, such as SILENT"):
        registrar.fault = wrong
    assert registrar.fault is WELL


@pytest.mark.filterwarnings("error")
def test_before_its_start_and_after_its_end_there_is_nothing_to_reset() -> None:
    registrar = Registrar("127.0.21.1", 0)
    for change in (registrar.reset, registrar.close_connections):
        with pytest.raises(RuntimeError, match="does not run"):
            change()
    registrar.start()
    registrar.stop()
    with pytest.raises(RuntimeError, match="does not run"):
        registrar.reset()


def test_in_a_forked_child_it_ends_at_once_and_the_parents_goes_on() -> None:
    """A child that leaves a with block of its parent's waited for a thread that it does not have."""
    run_app("""
        import os, signal, socket
        from pjfail.testing import NameServer, Registrar

        registrar = Registrar("127.0.21.1", 0)
        names = NameServer("@ 60 IN SOA . . 1 60 60 60 60\\n@ 60 IN NS ns", "voip.example", "127.0.21.1", 0)
        with registrar, names:
            if not (child := os.fork()):
                signal.alarm(10)
                try:
                    registrar.reset()
                except RuntimeError as error:
                    assert "in the parent process" in str(error)
                names.__exit__(None, None, None)
                registrar.stop()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            socket.create_connection((registrar.address, registrar.port), timeout=5).close()
            socket.create_connection((names.address, names.port), timeout=5).close()
            registrar.reset()
    """)
