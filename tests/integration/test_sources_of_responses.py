"""Responses that come from elsewhere than the request was sent to: another port or address, another connection, UDP.

The registrars of these tests get the requests. The tests send the responses themselves, from sockets of their own.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from rig.app import App

from pjfail.model import Transport
from pjfail.testing import RESETTING, SILENT, UNAVAILABLE, Fault, Registrar, Request

FIRST, SECOND, THIRD, OTHER = "127.0.46.1", "127.0.46.2", "127.0.46.3", "127.0.46.12"

# Sends each method that the test names and prints the answer. "call" and "hang up": prints each state of the call.
# "servers": prints what pjfail has counted of each server, and its state.
APP = """
    import sys
    import pjfail
    import pjsua2 as pj
    from pjfail.bridge.counts import stats
    from rig.prelude import Account, Endpoint, emit, heard

    class Call(pj.Call):
        def onCallState(self, prm):
            info = self.getInfo()
            emit(state=info.stateText, code=info.lastStatusCode)

    transport, *servers = sys.argv[1:]
    table = {"sip.test": [(f"{server}:5060", number, 0) for number, server in enumerate(servers)]}
    uri = "sip:sip.test" + ("" if transport == "udp" else f";transport={transport}")
    call = None
    with Endpoint() as endpoint:
        failover = pjfail.attach(lookup=pjfail.StaticLookup(table))
        account = Account(endpoint)
        account.open("sip:alice@sip.test")
        ports = [endpoint.pj.transportGetInfo(number).localAddress.rpartition(":")[2] for number in (0, 1)]
        emit(udp=int(ports[0]), tcp=int(ports[1]))
        while word := heard():
            if word == "call":
                call = Call(account)
                call.makeCall(uri, pj.CallOpParam(True))
            elif word == "hang up":
                call.hangup(pj.CallOpParam())
            elif word == "servers":
                emit(**{
                    server.address: [health.state.value, stats(server).answers]
                    for server, health in failover.servers().items()
                })
            else:
                emit(**account.request(word, uri)._asdict())
        del call
"""

SDP = f"v=0\r\no=- 1 1 IN IP4 {SECOND}\r\ns=-\r\nc=IN IP4 {SECOND}\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"

ELSEWHERE = pytest.mark.parametrize("source", [(SECOND, 5070), (OTHER, 5060)], ids=["port", "address"])


def send(response: bytes, source: tuple[str, int], to: tuple[str, int]) -> None:
    """Sends *response* over UDP."""
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(source)
        udp.sendto(response, to)


def until(app: App, state: str, timeout: float = 20) -> int:
    """Waits until the call is in *state*; returns the code that came with it."""
    while (line := app.next(timeout))["state"] != state:
        assert line["state"] != "DISCONNECTED", line
    code: int = line["code"]
    return code


def methods(registrar: Registrar) -> set[str]:
    return {request.method for request in registrar.requests}


def another_than(known: Request, registrar: Registrar) -> Request:
    """The first request of another transaction than *known*."""
    until = time.monotonic() + 5
    while not (found := [request for request in registrar.requests if request.branch != known.branch]):
        assert time.monotonic() < until, f"{registrar} has only got the requests of one transaction"
        time.sleep(0.01)
    return found[0]


# --- a server that answers from another address -----------------------------------------------------------------------


@ELSEWHERE
def test_a_silent_server_gets_no_credit_for_the_answer_of_another(
    first: Registrar, second: Registrar, source: tuple[str, int]
) -> None:
    first.fault = second.fault = SILENT
    with App(APP, "udp", FIRST, SECOND) as app:
        app.next()
        app.tell("SUBSCRIBE")
        asked = second.wait_for("SUBSCRIBE")[0]
        send(asked.response(200, tag="2"), source, asked.source)
        answer = app.next()
        assert answer["code"] == 200
        assert answer["seconds"] < 1.5
        servers = app.ask("servers")
        assert (servers[FIRST][1], servers[SECOND][1]) == (0, 0), "an answer was counted, and neither has sent one"
        time.sleep(2.5)
        assert app.ask("servers")[SECOND][0] == "up"
        app.tell("SUBSCRIBE")
        again = another_than(asked, second)
        send(again.response(200, tag="2"), source, again.source)
        assert app.next()["code"] == 200
        assert again.call_id not in {request.call_id for request in first.requests}, "the silent server was asked first"


@ELSEWHERE
def test_the_answer_from_elsewhere_ends_the_request_at_once_after_a_503(
    first: Registrar, second: Registrar, source: tuple[str, int]
) -> None:
    first.fault, second.fault = UNAVAILABLE, SILENT
    with App(APP, "udp", FIRST, SECOND) as app:
        app.next()
        app.tell("SUBSCRIBE")
        asked = second.wait_for("SUBSCRIBE")[0]
        send(asked.response(200, tag="2"), source, asked.source)
        answer = app.next()
        assert answer["code"] == 200
        assert answer["seconds"] < 1.5
        time.sleep(2.5)
        assert app.ask("servers")[SECOND][0] == "up"


@ELSEWHERE
def test_a_call_that_is_taken_from_elsewhere_is_with_the_server_that_took_it(
    first: Registrar, second: Registrar, source: tuple[str, int]
) -> None:
    first.fault = Fault(code=503, methods=("INVITE",))
    second.fault = Fault(answers=False, methods=("INVITE",))
    with Registrar(THIRD) as third, App(APP, "udp", FIRST, SECOND, THIRD) as app:
        app.next()
        app.tell("call")
        invite = second.wait_for("INVITE")[0]
        headers = [("Contact", f"<sip:{SECOND}:5060>"), ("Content-Type", "application/sdp")]
        send(invite.response(200, *headers, tag="2", body=SDP), source, invite.source)
        assert until(app, "CONFIRMED", timeout=3) == 200
        second.wait_for("ACK")
        app.tell("hang up")
        second.wait_for("BYE")
        assert until(app, "DISCONNECTED") == 200
        assert methods(first) == {"INVITE", "ACK"}
        assert methods(third) == set()


# --- a response on another way than its INVITE's ----------------------------------------------------------------------


@pytest.fixture
def over_tcp() -> Iterator[tuple[Registrar, Registrar]]:
    """Two servers that get an INVITE over TCP and do not answer it there."""
    with Registrar(FIRST, transports=("tcp",)) as first, Registrar(SECOND, transports=("tcp",)) as second:
        first.fault = second.fault = Fault(answers=False, methods=("INVITE",))
        yield first, second


def acknowledged_on_its_connection(registrar: Registrar) -> None:
    [invite] = registrar.wait_for("INVITE")
    [ack] = registrar.wait_for("ACK")
    assert (ack.transport, ack.source) == ("tcp", invite.source)


def test_a_challenge_over_udp_is_acknowledged_over_tcp(over_tcp: tuple[Registrar, Registrar]) -> None:
    first, _ = over_tcp
    with App(APP, "tcp", FIRST, SECOND) as app:
        udp = app.next()["udp"]
        app.tell("call")
        [invite] = first.wait_for("INVITE")
        challenge = ("WWW-Authenticate", 'Digest realm="test", nonce="1", algorithm=MD5')
        send(invite.response(401, challenge, tag="1"), (FIRST, 5060), ("127.0.0.1", udp))
        assert until(app, "DISCONNECTED") == 401
        acknowledged_on_its_connection(first)


@pytest.mark.parametrize("way", ["udp", "tcp"])
def test_a_refusal_on_another_way_is_acknowledged_on_the_connection_that_the_call_was_moved_to(
    over_tcp: tuple[Registrar, Registrar], way: Transport
) -> None:
    first, second = over_tcp
    first.fault = RESETTING
    with App(APP, "tcp", FIRST, SECOND) as app:
        pjsip = "127.0.0.1", app.next()[way]
        app.tell("call")
        [invite] = second.wait_for("INVITE")
        refusal = invite.response(486, tag="2")
        with ExitStack() as stack:
            if way == "udp":
                send(refusal, (SECOND, 5060), pjsip)
            else:
                connection = stack.enter_context(socket.create_connection(pjsip, source_address=(SECOND, 0)))
                connection.sendall(refusal)
            assert until(app, "DISCONNECTED", timeout=3) == 486
            acknowledged_on_its_connection(second)


# --- an attempt's response ends that attempt alone --------------------------------------------------------------------


def test_a_late_refusal_from_elsewhere_does_not_end_the_next_attempt(first: Registrar, second: Registrar) -> None:
    """Nobody knows whose it is. The second server's own answer, which comes afterwards, ends the request at once."""
    first.fault, second.fault = SILENT, Fault(delay=0.6)
    with App(APP, "udp", FIRST, SECOND) as app:
        app.next()
        app.tell("SUBSCRIBE")
        second.wait_for("SUBSCRIBE")
        late = first.requests[0]
        send(late.response(503, tag="1"), (FIRST, 5070), late.source)
        answer = app.next()
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert answer["seconds"] < 2.5


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_503_that_comes_again_does_not_end_the_next_attempt(
    first: Registrar, second: Registrar, transport: str
) -> None:
    first.fault = Fault(provisional=(503,), code=503, delay=0.3, methods=("INVITE", "SUBSCRIBE"))
    second.fault = Fault(delay=0.8)
    with App(APP, transport, FIRST, SECOND) as app:
        app.next()
        answer = app.ask("SUBSCRIBE")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert 0.7 < answer["seconds"] < 2.5


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_503_to_a_call_that_comes_again_is_acknowledged_again(
    first: Registrar, second: Registrar, transport: str
) -> None:
    first.fault = Fault(provisional=(503,), code=503, delay=0.3, methods=("INVITE",))
    second.fault = Fault(provisional=(180,), delay=1.0, methods=("INVITE",))
    with App(APP, transport, FIRST, SECOND) as app:
        app.next()
        app.tell("call")
        assert until(app, "CONFIRMED") == 200
        assert {ack.source for ack in first.wait_for("ACK", count=2)} == {first.requests[0].source}
        second.wait_for("ACK")
        app.tell("hang up")
        second.wait_for("BYE")
        assert until(app, "DISCONNECTED") == 200
        assert methods(first) == {"INVITE", "ACK"}


def test_a_call_that_is_taken_late_and_from_elsewhere_is_released_where_it_was_taken(
    first: Registrar, second: Registrar
) -> None:
    first.fault = Fault(answers=False, methods=("INVITE",))
    with App(APP, "udp", FIRST, SECOND) as app:
        app.next()
        app.tell("call")
        assert until(app, "CONFIRMED") == 200
        late = first.requests[0]
        contact = "Contact", f"<sip:{FIRST}:5060>"
        send(late.response(200, contact, tag="1"), (FIRST, 5070), late.source)
        first.wait_for("ACK")
        first.wait_for("BYE")
        second.wait_for("ACK")
        assert "BYE" not in methods(second), "the call itself was ended"
        app.tell("hang up")
        second.wait_for("BYE")
        assert until(app, "DISCONNECTED") == 200
