"""Scenarios in which pjsip and the core share memory: `make sanitize` runs them with both built with the sanitizers.

Each asserts its outcome too, so that `make test` runs them as well.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rig.app import App, run_app
from rig.certificates import Authority

from pjfail.model import Transport
from pjfail.testing import RESETTING, SILENT, UNAVAILABLE, WELL, Fault, Registrar, Request
from pjfail.testing.sockets import Peer, bind

FIRST, SECOND, ELSEWHERE = "127.0.46.1", "127.0.46.2", "127.0.46.3"

# Calls sip:sip.test, and prints each state of the call. "call" makes a call, "hang up" ends it.
CALLS = """
    import sys
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    class Call(pj.Call):
        def onCallState(self, prm):
            info = self.getInfo()
            emit(state=info.stateText, code=info.lastStatusCode)

    transport, authority, *servers = sys.argv[1:]
    table = {"sip.test": [(server, number, 0) for number, server in enumerate(servers)]}
    uri = "sip:bob@sip.test" + ("" if transport == "udp" else f";transport={transport}")
    calls = []
    with Endpoint(transports=("udp", "tcp", "tls"), ca=authority or None) as endpoint:
        pjfail.attach(lookup=pjfail.StaticLookup(table), retry=pjfail.RetryPolicy(timeouts={"INVITE": 0.5}))
        account = Account(endpoint)
        account.open("sip:alice@sip.test")
        while word := heard():
            if word == "call":
                calls.append(Call(account))
                calls[-1].makeCall(uri, pj.CallOpParam(True))
            elif word == "hang up" and calls[-1].isActive():
                calls[-1].hangup(pj.CallOpParam())
        calls.clear()
"""


def until(app: App, state: str) -> int:
    """The code with which the call comes into *state*, which it must reach before it ends."""
    while (line := app.next(20))["state"] != state:
        assert line["state"] != "DISCONNECTED", line
    return int(line["code"])


@contextmanager
def servers(transport: Transport, folder: Path) -> Iterator[tuple[Registrar, Registrar, App]]:
    """Two servers, and a program that calls over *transport*."""
    authority = Authority(folder)
    tls = authority.issue("sip.test").context() if transport == "tls" else None
    with ExitStack() as stack:
        first, second = (stack.enter_context(Registrar(address, tls=tls)) for address in (FIRST, SECOND))
        port = 5061 if transport == "tls" else 5060
        known = [f"{address}:{port}" for address in (FIRST, SECOND)]
        path = str(authority.path) if tls else ""
        yield first, second, stack.enter_context(App(CALLS, transport, path, *known))


OVER = pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
# Over UDP there is no connection that could be reset.
LOSING = {"udp": SILENT, "tcp": RESETTING, "tls": RESETTING}


@OVER
@pytest.mark.parametrize("failing", ["503", "lost"])
def test_a_call_fails_over_and_is_declined(transport: Transport, failing: str, tmp_path: Path) -> None:
    with servers(transport, tmp_path) as (first, second, app):
        first.fault = UNAVAILABLE if failing == "503" else LOSING[transport]
        second.fault = Fault(code=486, delay=0.8, provisional=(180,), methods=("INVITE",))
        for calls in (1, 2):
            app.tell("call")
            assert until(app, "DISCONNECTED") == 486
            second.wait_for("ACK", calls)


@OVER
def test_a_held_response_is_acknowledged_at_its_server(transport: Transport, tmp_path: Path) -> None:
    """The first server is silent to the end, so the application gets what the second one had said."""
    with servers(transport, tmp_path) as (first, second, app):
        first.fault, second.fault = SILENT, UNAVAILABLE
        app.tell("call")
        assert until(app, "DISCONNECTED") == 503
        second.wait_for("ACK")
        time.sleep(0.5)  # whatever pjsip still sends
        assert not [request for request in first.requests if request.method == "ACK"]


@OVER
@pytest.mark.parametrize("failing", ["503", "lost"])
def test_a_call_fails_over_and_is_cancelled(transport: Transport, failing: str, tmp_path: Path) -> None:
    with servers(transport, tmp_path) as (first, second, app):
        first.fault = UNAVAILABLE if failing == "503" else LOSING[transport]
        second.fault = Fault(delay=60, provisional=(180,), methods=("INVITE",))
        app.tell("call")
        assert until(app, "EARLY") == 180
        first.fault = replace(SILENT, methods=("INVITE",))  # which pjsip may repeat there, late
        time.sleep(0.5)  # pjsip lets go of the connection that was reset
        app.tell("hang up")
        assert until(app, "DISCONNECTED") == 487
        second.wait_for("CANCEL")
        second.wait_for("ACK")


@OVER
@pytest.mark.parametrize("failing", ["503", "lost"])
def test_a_call_fails_over_and_is_answered(transport: Transport, failing: str, tmp_path: Path) -> None:
    with servers(transport, tmp_path) as (first, second, app):
        first.fault = UNAVAILABLE if failing == "503" else LOSING[transport]
        second.fault = Fault(delay=0.8, provisional=(180,), methods=("INVITE",))
        app.tell("call")
        assert until(app, "CONFIRMED") == 200
        second.wait_for("ACK")
        app.tell("hang up")
        until(app, "DISCONNECTED")
        second.wait_for("BYE")


@OVER
def test_a_call_that_is_answered_twice_is_ended_where_it_is_not_wanted(transport: Transport, tmp_path: Path) -> None:
    """The first server answers after the second one has."""
    with servers(transport, tmp_path) as (first, second, app):
        first.fault = Fault(latency=1.5, methods=("INVITE",))
        app.tell("call")
        assert until(app, "CONFIRMED") == 200
        second.wait_for("ACK")
        first.wait_for("ACK")
        first.wait_for("BYE")
        assert not [request for request in second.requests if request.method == "BYE"]
        app.tell("hang up")
        until(app, "DISCONNECTED")
        second.wait_for("BYE")


# --- a server with two addresses --------------------------------------------------------------------------------------


class _ElsewherePeer:
    """Answers over UDP from another address than that at which the request came in."""

    def __init__(self, sending: socket.socket, request: Request) -> None:
        self._sending = sending
        self._source = request.source

    def send(self, response: bytes) -> None:
        self._sending.sendto(response, self._source)

    def reset(self) -> None: ...


class TwoAddresses(Registrar):
    """A server that is asked at its own address and answers from ELSEWHERE."""

    def start(self) -> None:
        self._sending = bind(ELSEWHERE, 5060, "udp")
        super().start()

    def stop(self) -> None:
        super().stop()
        self._sending.close()

    def _receive(self, request: Request, peer: Peer) -> None:
        super()._receive(request, peer if request.transport != "udp" else _ElsewherePeer(self._sending, request))


@pytest.mark.parametrize("failing", [WELL, SILENT, UNAVAILABLE], ids=["well", "silent", "503"])
def test_a_server_answers_from_its_other_address(failing: Fault, tmp_path: Path) -> None:
    with (
        Registrar(FIRST) as first,
        TwoAddresses(SECOND) as second,
        App(CALLS, "udp", "", f"{FIRST}:5060", f"{SECOND}:5060") as app,
    ):
        first.fault = failing
        app.tell("call")
        assert until(app, "CONFIRMED") == 200
        app.tell("hang up")
        until(app, "DISCONNECTED")
        answering = first if failing == WELL else second
        answering.wait_for("BYE")


# --- the end, in the middle -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_program_detaches_within_the_callback_of_a_call_that_failed_over(transport: Transport) -> None:
    """The call goes on with stock pjsip, and ends as ever."""
    emitting = "emit(state=info.stateText, code=info.lastStatusCode)"
    detaching = f"""{emitting}
            if info.state == pj.PJSIP_INV_STATE_EARLY:
                failover.detach()
                emit(state="detached")"""
    code = CALLS.replace(emitting, detaching).replace("pjfail.attach(", "failover = pjfail.attach(")
    with (
        Registrar(FIRST) as first,
        Registrar(SECOND) as second,
        App(code, transport, "", f"{FIRST}:5060", f"{SECOND}:5060") as app,
    ):
        first.fault = LOSING[transport]
        second.fault = Fault(delay=1.0, provisional=(180,), methods=("INVITE",))
        app.tell("call")
        assert until(app, "EARLY") == 180
        assert app.next()["state"] == "detached"
        assert until(app, "CONFIRMED") == 200
        app.tell("hang up")
        until(app, "DISCONNECTED")
        second.wait_for("BYE")


# --- many at once -----------------------------------------------------------------------------------------------------

MANY = 150


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_many_requests_on_a_connection_that_is_reset(transport: Transport, tmp_path: Path) -> None:
    code = f"""
        import sys
        import pjfail
        from rig.prelude import Account, Endpoint, emit

        transport, authority, *servers = sys.argv[1:]
        table = {{"sip.test": [(server, number, 0) for number, server in enumerate(servers)]}}
        with Endpoint(transports=("udp", "tcp", "tls"), ca=authority) as endpoint:
            # Only the connection's end makes the requests fail over.
            pjfail.attach(lookup=pjfail.StaticLookup(table), retry=pjfail.RetryPolicy(timeouts={{}}, hedge_budget=0))
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            for _ in range({MANY}):
                account.send("OPTIONS", f"sip:sip.test;transport={{transport}}")
            emit(codes=[account.answer().code for _ in range({MANY})])
    """
    authority = Authority(tmp_path)
    tls = authority.issue("sip.test").context()
    port = 5061 if transport == "tls" else 5060
    with Registrar(FIRST, tls=tls) as first, Registrar(SECOND, tls=tls) as second:
        first.fault = SILENT
        with App(code, transport, str(authority.path), f"{FIRST}:{port}", f"{SECOND}:{port}") as app:
            first.wait_for("OPTIONS", MANY, timeout=20)
            first.reset()
            assert app.next(30)["codes"] == [200] * MANY
        assert len(second.requests) >= MANY


def test_accounts_are_added_and_deleted_under_traffic() -> None:
    """Half of the accounts go while their requests are under way at a server that is silent."""
    code = f"""
        import time
        import pjfail
        import pjsua2 as pj
        from rig.prelude import Account, Endpoint, emit

        table = {{"sip.test": [("{FIRST}:5060", 1, 0), ("{SECOND}:5060", 2, 0)]}}
        codes = []
        with Endpoint(threads=2) as endpoint:
            failover = pjfail.attach(lookup=pjfail.StaticLookup(table))
            steady = Account(endpoint)
            steady.open("sip:steady@sip.test", "sip:sip.test")
            for round in range(20):
                transport = ("", ";transport=tcp")[round % 2]
                accounts = [Account(endpoint) for _ in range(4)]
                for number, account in enumerate(accounts):
                    account.open(f"sip:a{{number}}@sip.test", f"sip:sip.test{{transport}}")
                    if number % 2:
                        failover.follow(account)
                    account.send_register()
                    account.send("MESSAGE", f"sip:sip.test{{transport}}")
                steady.send("OPTIONS", f"sip:sip.test{{transport}}")
                if round % 3:
                    time.sleep(0.02 * round)
                for account in accounts[:2]:
                    account.shutdown()
                for account in accounts[2:]:
                    codes.append(account.answer().code)
                    account.shutdown()
                codes.append(steady.answer().code)
            emit(codes=sorted(set(codes)), count=len(codes))
    """
    with Registrar(FIRST) as first, Registrar(SECOND):
        first.fault = SILENT
        result = run_app(code, timeout=120)
        assert result.returncode == 0, result.stderr
        assert result.lines == [{"codes": [200], "count": 60}]
