"""A dialog stays with its server while it lives, whatever else is sent meanwhile, and is forgotten when it ends."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
from rig.console import Console

from pjfail.testing import Registrar, Request

FIRST, SECOND = "127.0.36.1", "127.0.36.2"
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
phone.makeCall("sip:sip.test", pj.CallOpParam(True))
phone.wait(pj.PJSIP_INV_STATE_CONFIRMED)
"""
MESSAGES = """
sent = answered = 0
while answered < 17000:
    if sent - answered < 100 and sent < 17000:
        alice.send("MESSAGE", "sip:sip.test")
        sent += 1
    else:
        assert alice.answer().code == 200
        answered += 1
"""


class Named(Registrar):
    """Its Contact is the domain's name, so that a dialog's later requests have to be resolved."""

    def _contact(self, request: Request) -> tuple[str, str]:
        return "Contact", f"<sip:sip.test;transport={request.transport}>"


@pytest.fixture
def servers() -> Iterator[tuple[Registrar, Registrar]]:
    with Named(FIRST) as first, Named(SECOND) as second:
        yield first, second


@pytest.fixture
def console() -> Iterator[Console]:
    with Console(table={"sip.test": [(f"{FIRST}:5060", 1, 1), (f"{SECOND}:5060", 2, 1)]}) as console:
        console.run(CALL)
        yield console


def bye_of(invite: Request, tag: str) -> bytes:
    """The other side's, to whoever sent *invite*, which was answered with *tag*."""
    lines = [
        f"BYE {re.findall('<(.*)>', invite.header('contact'))[0]} SIP/2.0",
        "Via: SIP/2.0/UDP 127.0.36.9:5060;branch=z9hG4bKbye",
        f"From: {invite.to};tag={tag}",
        f"To: {invite.from_}",
        f"Call-ID: {invite.call_id}",
        "CSeq: 1 BYE",
        "Max-Forwards: 70",
        "Content-Length: 0",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_a_call_stays_with_its_server_through_17_000_messages(
    servers: tuple[Registrar, Registrar], console: Console
) -> None:
    first, second = servers
    first.wait_for("ACK")
    console.run(MESSAGES)
    assert console.get("failover.counters().dialogs") == 1
    console.run(f'failover.drain("{FIRST}:5060")')
    first._requests.clear()
    console.run("phone.hangup(pj.CallOpParam(True))")
    first.wait_for("BYE")
    assert "BYE" not in [each.method for each in second.requests]


@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_a_call_that_has_ended_is_counted_no_more(
    servers: tuple[Registrar, Registrar], console: Console, whose: str
) -> None:
    first, _ = servers
    first.wait_for("ACK")
    assert console.get("failover.counters().dialogs") == 1
    if whose == "ours":
        console.run("phone.hangup(pj.CallOpParam(True))")
    else:
        invite = next(each for each in first.requests if each.method == "INVITE")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            sending.sendto(bye_of(invite, first._tag), invite.source)
    console.run("phone.wait(pj.PJSIP_INV_STATE_DISCONNECTED)")
    assert console.get("failover.counters().dialogs") == 0
