"""A call that pjfail has moved to another server over TCP: pjsip sends and hears there what it does without pjfail."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rig.app import App

from pjfail.demo.registrar import RESETTING, UNAVAILABLE, Fault, Registrar

FIRST, SECOND = "127.0.45.1", "127.0.45.2"
RINGING = Fault(provisional=(180,), delay=60, methods=("INVITE",))

# Calls over TCP, and prints the states that the call goes through.
CALL = f"""
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    class Call(pj.Call):
        def onCallState(self, prm):
            info = self.getInfo()
            emit(state=info.stateText, code=info.lastStatusCode)

    table = {{"sip.test": [("{FIRST}:5060", 1, 0), ("{SECOND}:5060", 2, 0)]}}
    with Endpoint() as endpoint:
        failover = pjfail.attach(lookup=pjfail.StaticLookup(table))
        account = Account(endpoint)
        account.open("sip:alice@sip.test")
        call = Call(account)
        call.makeCall("sip:bob@sip.test;transport=tcp", pj.CallOpParam(True))
        while word := heard():
            if word == "hang up":
                call.hangup(pj.CallOpParam())
            elif word == "detach":
                failover.detach()
                emit(state="detached")
        del call
"""


def until(app: App, state: str, timeout: float = 20) -> int:
    """Waits until the call is in *state*; returns the code that came with it."""
    while (line := app.next(timeout))["state"] != state:
        assert line["state"] != "DISCONNECTED", line
    code: int = line.get("code", 0)
    return code


@contextmanager
def moved_call(first: Registrar, second: Registrar, fault: Fault, detached: bool) -> Iterator[App]:
    """A call that *first* has failed by *fault*, and that rings at *second*. The first connection is gone."""
    first.fault = fault
    with App(CALL) as app:
        second.wait_for("INVITE")
        first.reset()
        until(app, "EARLY")
        if detached:
            app.tell("detach")
            until(app, "detached")
        yield app


# --- Via --------------------------------------------------------------------------------------------------------------

# pjfail keeps the first connection of a call that got 503 until the application detaches.
FAILURES = pytest.mark.parametrize(
    ("fault", "detached"),
    [(RESETTING, False), (UNAVAILABLE, False), (UNAVAILABLE, True)],
    ids=["reset", "503", "503-detached"],
)


@pytest.fixture
def freed_memory_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library overwrites memory when a program frees it."""
    monkeypatch.setenv("MALLOC_PERTURB_", "165")


@FAILURES
@pytest.mark.usefixtures("freed_memory_shows")
def test_the_ack_of_a_moved_call_has_the_via_of_its_invite(
    first: Registrar, second: Registrar, fault: Fault, detached: bool
) -> None:
    """RFC 3261 section 17.1.1.3. The Via names the address of the connection on which the INVITE was first sent."""
    second.fault = Fault(provisional=(180,), code=486, delay=0.6, methods=("INVITE",))
    with moved_call(first, second, fault, detached) as app:
        assert until(app, "DISCONNECTED") == 486
        [ack] = second.wait_for("ACK")
        assert ack.header("via") == second.requests[0].header("via")


@FAILURES
@pytest.mark.usefixtures("freed_memory_shows")
def test_the_cancel_of_a_moved_call_has_the_via_of_its_invite(
    first: Registrar, second: Registrar, fault: Fault, detached: bool
) -> None:
    """RFC 3261 section 9.1."""
    second.fault = RINGING
    with moved_call(first, second, fault, detached) as app:
        time.sleep(0.3)  # pjsip destroys a connection that is closed
        app.tell("hang up")
        assert until(app, "DISCONNECTED") == 487
        [cancel] = second.wait_for("CANCEL")
        [ack] = second.wait_for("ACK")
        assert {cancel.header("via"), ack.header("via")} == {second.requests[0].header("via")}
