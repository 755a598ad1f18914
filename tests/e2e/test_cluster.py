"""RetryPolicy(dialogs=): two Kamailios that record-route by the cluster's name, and share nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from rig.console import Console
from rig.kamailio import Kamailio

from pjfail.testing import Registrar, Request
from pjfail.testing.sockets import Peer

FIRST, SECOND, CALLEE = "127.0.94.1", "127.0.94.2", "127.0.94.3"
TABLE = {"sip.test": [(f"{FIRST}:5060", 1, 1), (f"{SECOND}:5060", 2, 1)]}
CALL = """
class Phone(pj.Call):
    def __init__(self, account):
        super().__init__(account)
        self.states = queue.Queue()

    def onCallState(self, prm):
        self.states.put(self.getInfo().state)

    def wait(self, state):
        while self.states.get(timeout=20) != state:
            pass

alice = opened("sip:alice@sip.test")
phone = Phone(alice)
phone.makeCall("sip:bob@sip.test", pj.CallOpParam(True))
phone.wait(pj.PJSIP_INV_STATE_CONFIRMED)
"""


class Callee(Registrar):
    """It answers calls, and gives back the route by which they came."""

    def _send_final(self, request: Request, code: int, peer: Peer, *headers: tuple[str, str], body: str = "") -> None:
        route = [("Record-Route", value) for value in request.every("record-route")]
        super()._send_final(request, code, peer, *route, *headers, body=body)


def register(callee: str, registrar: str) -> None:
    """Has bob at *callee* known to *registrar*."""
    lines = [
        "REGISTER sip:sip.test SIP/2.0",
        f"Via: SIP/2.0/UDP {CALLEE}:5062;branch=z9hG4bK{registrar}",
        "From: <sip:bob@sip.test>;tag=bob",
        "To: <sip:bob@sip.test>",
        f"Call-ID: bob-at-{registrar}",
        "CSeq: 1 REGISTER",
        f"Contact: <sip:bob@{callee}:5060>",
        "Max-Forwards: 70",
        "Expires: 600",
        "Content-Length: 0",
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind((CALLEE, 5062))
        client.settimeout(5)
        client.sendto(("\r\n".join(lines) + "\r\n\r\n").encode(), (registrar, 5060))
        assert client.recv(4096).startswith(b"SIP/2.0 200")


Rig = tuple[Kamailio, Kamailio, Callee]


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(Kamailio(address, cluster="sip.test")) for address in (FIRST, SECOND))
        callee = stack.enter_context(Callee(CALLEE))
        for address in (FIRST, SECOND):
            register(CALLEE, address)
        yield first, second, callee


def silence(server: Kamailio) -> None:
    server.fault(Kamailio.SILENT)


def stop(server: Kamailio) -> None:
    server.close()


@pytest.mark.parametrize("fail", [silence, stop, lambda server: server.fault(503)], ids=["silent", "stopped", "503"])
def test_the_bye_arrives_by_a_sibling_when_the_calls_own_server_fails(rig: Rig, fail: object) -> None:
    first, _, callee = rig
    with Console(table=TABLE, dialogs=["SIP.test"]) as console:
        console.run(CALL)
        callee.wait_for("ACK")
        assert callable(fail)
        fail(first)
        began = time.monotonic()
        console.run("phone.hangup(pj.CallOpParam(True))")
        [bye] = callee.wait_for("BYE", timeout=10)
        assert bye.at - began < 3
        console.run("phone.wait(pj.PJSIP_INV_STATE_DISCONNECTED)")


def test_a_followed_accounts_call_ends_at_a_sibling_too(rig: Rig) -> None:
    first, _, callee = rig
    with Console(table=TABLE, dialogs=["sip.test"]) as console:
        console.run(CALL.replace('opened("sip:alice@sip.test")', 'opened("sip:alice@sip.test", "sip:sip.test")'))
        console.run("failover.follow(alice)")
        assert console.get("alice.reregister().code") == 200
        callee.wait_for("ACK")
        silence(first)
        console.run("phone.hangup(pj.CallOpParam(True))")
        callee.wait_for("BYE", timeout=10)


def test_a_call_goes_on_at_the_sibling(rig: Rig) -> None:
    """A re-INVITE, its ACK, an UPDATE and a BYE, the later ones at once."""
    first, _, callee = rig
    with Console(table=TABLE, dialogs=["sip.test"]) as console:
        console.run(CALL)
        callee.wait_for("ACK")
        silence(first)
        console.run("phone.setHold(pj.CallOpParam(True))")
        callee.wait_for("ACK", 2, timeout=10)
        assert len([each for each in callee.requests if each.method == "INVITE"]) == 2
        before = len(first.heard())
        console.run("phone.update(pj.CallOpParam(True))")
        callee.wait_for("UPDATE")
        console.run("phone.hangup(pj.CallOpParam(True))")
        callee.wait_for("BYE")
        assert len(first.heard()) == before


def test_in_a_cluster_too_a_dialog_stays_while_its_server_is_well(rig: Rig) -> None:
    first, second, callee = rig
    with Console(table=TABLE, dialogs=["sip.test"]) as console:
        console.run(CALL)
        console.run("phone.hangup(pj.CallOpParam(True))")
        callee.wait_for("BYE")
        assert [each.method for each in first.heard()][-1] == "BYE"
        assert [each.method for each in second.heard()] == ["REGISTER"]


def test_without_being_named_a_dialog_stays_where_it_is(rig: Rig) -> None:
    first, second, callee = rig
    with Console(table=TABLE, dialogs=["another.test"]) as console:
        console.run(CALL)
        callee.wait_for("ACK")
        silence(first)
        console.run("phone.hangup(pj.CallOpParam(True))")
        time.sleep(3)
        assert [each.method for each in second.heard()] == ["REGISTER"]
        assert "BYE" not in [each.method for each in callee.requests]
