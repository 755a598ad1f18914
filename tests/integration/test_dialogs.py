"""A dialog stays with its server while it lives, whatever else is sent meanwhile, and is forgotten when it ends."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
from rig.console import Console

from pjfail.testing import Registrar, Request

FIRST, SECOND = "127.0.36.1", "127.0.36.2"
TABLE = {"sip.test": [(f"{FIRST}:5060", 1, 1), (f"{SECOND}:5060", 2, 1)]}
SDP = "\r\n".join(
    ["v=0", f"o=- 1 1 IN IP4 {SECOND}", "s=-", f"c=IN IP4 {SECOND}", "t=0 0", "m=audio 40000 RTP/AVP 0", ""]
)
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
ANSWERING = """
class Answering(Account):
    def onIncomingCall(self, prm):
        self.phone = pj.Call(self, prm.callId)
        answer = pj.CallOpParam()
        answer.statusCode = 200
        self.phone.answer(answer)
        incoming.put(self.phone)

incoming = queue.Queue()
alice = opened("sip:alice@sip.test", "sip:sip.test;transport={0}", kind=Answering)
assert alice.reregister().code == 200
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


class Caller:
    """Calls from the second server, by a route through the domain's name: over UDP from its port, over TCP from any."""

    def __init__(self, transport: str, to: tuple[str, int]) -> None:
        self._to = to
        self._transport = transport
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM)
        self._socket.bind((SECOND, 5060 if transport == "udp" else 0))
        self._socket.settimeout(20)
        self._socket.connect(to)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(self) -> None:
        """Returns once the call is answered and the answer acknowledged."""
        self._send("INVITE", "z9hG4bKi", "")
        self._send("ACK", "z9hG4bKa", re.findall(r"^To:.*(;tag=\S+)", self.hear("SIP/2.0 200"), re.MULTILINE)[0])

    def hear(self, beginning: str) -> str:
        """The next message that begins so."""
        message = ""
        while not message.startswith(beginning):
            message = self._socket.recv(65535).decode()
        return message

    def _send(self, method: str, branch: str, tag: str) -> None:
        host, port = self._to
        body = SDP if method == "INVITE" else ""
        lines = [
            f"{method} sip:alice@{host}:{port};transport={self._transport} SIP/2.0",
            f"Via: SIP/2.0/{self._transport.upper()} {SECOND}:5060;branch={branch}",
            f"Record-Route: <sip:sip.test;lr;transport={self._transport}>",
            "From: <sip:bob@sip.test>;tag=bob",
            f"To: <sip:alice@sip.test>{tag}",
            "Call-ID: came-in",
            f"CSeq: 1 {method}",
            f"Contact: <sip:bob@{SECOND}:5060;transport={self._transport}>",
            "Max-Forwards: 70",
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        self._socket.send(("\r\n".join(lines) + "\r\n\r\n" + body).encode())


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
    with Console(table=TABLE) as console:
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


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_call_that_came_in_belongs_to_the_server_that_it_came_from(transport: str) -> None:
    with Named(FIRST) as first, Registrar(SECOND, transports=("tcp",)) as listening, Console(table=TABLE) as console:
        console.run(ANSWERING.format(transport))
        endpoints = console.get("[endpoint.pj.transportGetInfo(id).localAddress for id in (0, 1)]")
        host, _, port = endpoints[transport == "tcp"].rpartition(":")
        with Caller(transport, (host, int(port))) as caller:
            caller.call()
            console.run("phone = incoming.get(timeout=20)")
            assert console.get("failover.counters().dialogs") == 1
            console.run("phone.hangup(pj.CallOpParam(True))")
            if transport == "udp":
                caller.hear("BYE")
            else:
                listening.wait_for("BYE")
        assert "BYE" not in [each.method for each in first.requests]
        assert console.get("failover.counters().dialogs") == 0
