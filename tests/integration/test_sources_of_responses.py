"""Responses that come from elsewhere than the request was sent to: another port or address, another connection, UDP.

The registrars of these tests get the requests. The tests send the responses themselves, from sockets of their own.
"""

from __future__ import annotations

import socket
import time

import pytest
from rig.app import App

from pjfail.demo.registrar import SILENT, UNAVAILABLE, Fault, Registrar

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
        emit(udp=int(endpoint.pj.transportGetInfo(0).localAddress.rpartition(":")[2]))
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
        again = second.wait_for("SUBSCRIBE", count=2)[-1]
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
