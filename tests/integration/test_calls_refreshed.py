"""Calls whose connection has ended, and calls whose server is gone, of a followed account with calls="refresh"."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from rig.app import App

from pjfail.testing import SILENT, Fault, Registrar
from pjfail.testing.sip import Request

FIRST, SECOND = "127.0.98.1", "127.0.98.2"

# "register", "call", "end" do so; every line is answered with what is known.
APP = """
    import sys
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    transport, calls, first, second = sys.argv[1:5]
    taken = []

    class Called(Account):
        contact_rewrite = 1

        def onIncomingCall(self, prm):
            call = pj.Call(self, prm.callId)
            answer = pj.CallOpParam()
            answer.statusCode = 200
            call.answer(answer)
            taken.append(call)

    events = []
    with Endpoint(transports=[transport], log_level=4) as endpoint:
        failover = pjfail.attach(
            {"voip.test": [first, second]}, listeners=[lambda event: events.append(event.as_dict())]
        )
        account = Called(endpoint, retries=False)
        account.open("sip:alice@voip.test", f"sip:voip.test;transport={transport}")
        failover.follow(account, calls=calls or None, spread=0)
        while (line := heard()) != "end":
            if line == "register":
                account.reregister()
            elif line == "call":
                taken.append(account.call(f"sip:bob@voip.test;transport={transport}"))
                while account.answer().method != "INVITE":
                    pass
            states = [call.getInfo().stateText if call.isActive() else "DISCONNECTED" for call in taken]
            emit(states=states, events=[each for each in events if each["event"].startswith("Call")])
"""


def program(transport: str = "tcp", calls: str = "refresh") -> App:
    return App(APP, transport, calls, FIRST, SECOND)


def wait(condition: Callable[[], bool], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def sent(registrar: Registrar, method: str) -> list[Request]:
    return [request for request in registrar.requests if request.method == method]


def write(registrar: Registrar, *lines: str, body: str = "") -> None:
    """Sends a request over the newest connection that *registrar* has."""
    [connection] = registrar._sockets._connections
    assert registrar._loop is not None
    text = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body])
    registrar._loop.call_soon_threadsafe(connection.write, text.encode())


def hang_up(registrar: Registrar, invite: Request) -> None:
    """Sends the BYE of a server that knows of us what *invite* has told."""
    [contact, *_] = re.findall(r"<(.*?)>", invite.header("contact"))
    write(
        registrar,
        f"BYE {contact} SIP/2.0",
        f"Via: SIP/2.0/TCP {FIRST}:5060;branch=z9hG4bK-bye",
        f"From: {invite.to}",
        f"To: {invite.from_}",
        f"Call-ID: {invite.call_id}",
        "CSeq: 1000 BYE",
        "Max-Forwards: 70",
    )


def call_in(registrar: Registrar, register: Request) -> None:
    """Calls the account over its connection."""
    [contact, *_] = re.findall(r"<(.*?)>", register.header("contact"))
    write(
        registrar,
        f"INVITE {contact} SIP/2.0",
        f"Via: SIP/2.0/TCP {FIRST}:5060;branch=z9hG4bK-invite",
        "From: <sip:bob@voip.test>;tag=bob",
        "To: <sip:alice@voip.test>",
        "Call-ID: comes-in",
        "CSeq: 1 INVITE",
        f"Contact: <sip:{FIRST}:5060;transport=tcp>",
        "Max-Forwards: 70",
        "Content-Type: application/sdp",
        body=f"v=0\r\no=- 1 1 IN IP4 {FIRST}\r\ns=-\r\nc=IN IP4 {FIRST}\r\nt=0 0\r\n"
        "m=audio 9 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n",
    )


def test_a_call_whose_connection_has_ended_is_refreshed(first: Registrar) -> None:
    """So the server's BYE comes over the new connection."""
    with program() as running:
        running.ask("register")
        running.ask("call")
        first.reset()
        running.ask("register")
        wait(lambda: len(sent(first, "INVITE")) == 2)
        before, after = sent(first, "INVITE")
        assert before.call_id == after.call_id
        assert before.source != after.source
        assert sent(first, "REGISTER")[-1].source == after.source
        wait(lambda: [each["event"] for each in running.ask("state")["events"]] == ["CallRefreshed"])
        hang_up(first, after)
        wait(lambda: running.ask("state")["states"] == ["DISCONNECTED"])


def test_a_call_that_came_in_is_refreshed_too(first: Registrar) -> None:
    with program() as running:
        running.ask("register")
        call_in(first, sent(first, "REGISTER")[-1])
        wait(lambda: bool(our_tags(running)))
        write(first, *ack(sent(first, "REGISTER")[-1], running))
        wait(lambda: running.ask("state")["states"] == ["CONFIRMED"])
        first.reset()
        running.ask("register")
        wait(lambda: bool(sent(first, "INVITE")))
        [invite] = sent(first, "INVITE")
        assert invite.call_id == "comes-in"
        assert invite.source == sent(first, "REGISTER")[-1].source
        wait(lambda: bool(running.ask("state")["events"]))
        [event] = running.ask("state")["events"]
        assert (event["event"], event["call_id"]) == ("CallRefreshed", "comes-in")


def our_tags(running: App) -> list[str]:
    """Those of our answers to the call that comes in, by pjsip's log."""
    return re.findall(r"SIP/2.0 200 OK\n(?:.+\n)*?Call-ID: comes-in\n(?:.+\n)*?To: .*;tag=(\S+)\n", running.stderr)


def ack(register: Request, running: App) -> list[str]:
    [contact, *_] = re.findall(r"<(.*?)>", register.header("contact"))
    return [
        f"ACK {contact} SIP/2.0",
        f"Via: SIP/2.0/TCP {FIRST}:5060;branch=z9hG4bK-ack",
        "From: <sip:bob@voip.test>;tag=bob",
        f"To: <sip:alice@voip.test>;tag={our_tags(running)[0]}",
        "Call-ID: comes-in",
        "CSeq: 1 ACK",
        "Max-Forwards: 70",
    ]


@pytest.mark.parametrize("calls", ["", "refresh"])
def test_a_call_on_a_connection_that_is_there_is_left_alone(first: Registrar, calls: str) -> None:
    """So is any call without the setting, whatever becomes of its connection."""
    with program(calls=calls) as running:
        running.ask("register")
        running.ask("call")
        if not calls:
            first.reset()
        running.ask("register")
        time.sleep(1)
        assert len(sent(first, "INVITE")) == 1
        state = running.ask("state")
        assert (state["states"], state["events"]) == (["CONFIRMED"], [])


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("round_trip", [0, 0.25], ids=["near", "far"])
def test_a_call_whose_server_is_gone_is_told_of_once_and_goes_on(
    first: Registrar, second: Registrar, transport: str, round_trip: float
) -> None:
    """Where the server is near, a hedge answers the REGISTER, and the account moves once the server is down; where the
    server is far, the account moves at once, before its silence has taken the server down.
    """
    first.fault = Fault(latency=round_trip, methods=("REGISTER",))
    with program(transport) as running:
        running.ask("register")
        running.ask("call")
        invites = [each.cseq for each in sent(first, "INVITE")]
        first.fault = SILENT
        running.ask("register")
        wait(lambda: bool(sent(second, "REGISTER")))
        wait(lambda: bool(running.ask("state")["events"]))
        running.ask("register")
        time.sleep(1)
        state = running.ask("state")
        [event] = state["events"]
        assert (event["event"], event["server"]) == ("CallStranded", f"{transport}:{FIRST}:5060")
        assert state["states"] == ["CONFIRMED"]
        assert {each.cseq for server in (first, second) for each in sent(server, "INVITE")} == set(invites)
