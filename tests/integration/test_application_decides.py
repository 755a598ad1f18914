"""RetryPolicy(decide=): the application decides about a final response while it is held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from rig.app import App
from rig.certificates import Authority

from pjfail.model import Transport
from pjfail.testing import SILENT, Fault, Registrar

FIRST, SECOND = "127.0.93.1", "127.0.93.2"

# Sends each method that it is told to, or calls; "asked" prints what the function was asked, "detach" detaches.
APP = """
    import sys
    import threading
    import time
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    class Call(pj.Call):
        def onCallState(self, prm):
            info = self.getInfo()
            emit(state=info.stateText, code=info.lastStatusCode)

    asked = []

    def decide(request, response, remaining):
        asked.append([
            request.method, request.uri, response.code, response.header("X-None"), response.server.address,
            [server.address for server in remaining], threading.current_thread().name,
        ])
        DECISION

    transport, authority, *servers = sys.argv[1:]
    table = {"sip.test": [(server, number, 0) for number, server in enumerate(servers)]}
    uri = "sip:sip.test" + ("" if transport == "udp" else f";transport={transport}")
    calls = []
    with Endpoint(transports=("udp", "tcp", "tls"), ca=authority or None) as endpoint:
        # A followed account would send the next request to the server that it has registered with.
        failover = pjfail.attach(
            lookup=pjfail.StaticLookup(table), retry=pjfail.RetryPolicy(decide=decide), follow=False
        )
        account = Account(endpoint, retries=False)
        account.open("sip:alice@sip.test", uri)
        while word := heard():
            if word == "call":
                calls.append(Call(account))
                audio = pj.CallOpParam(True)
                audio.opt.videoCount = audio.opt.textCount = 0
                calls[-1].makeCall(uri.replace("sip:", "sip:bob@"), audio)
            elif word == "hang up":
                calls[-1].hangup(pj.CallOpParam())
            elif word == "asked":
                emit(asked=asked)
            elif word == "detach":
                time.sleep(0.1)
                failover.detach()
            elif word == "send":
                account.send("OPTIONS", uri)
            elif word == "answer":
                emit(**account.answer()._asdict())
            elif word == "REGISTER":
                emit(**account.reregister()._asdict())
            else:
                emit(**account.request(word, uri)._asdict())
        calls.clear()
"""


@contextmanager
def pair(folder: Path, transport: Transport, decision: str) -> Iterator[tuple[Registrar, Registrar, App]]:
    authority = Authority(folder)
    tls = authority.issue("sip.test").context() if transport == "tls" else None
    port = 5061 if transport == "tls" else 5060
    with ExitStack() as stack:
        first, second = (stack.enter_context(Registrar(address, tls=tls)) for address in (FIRST, SECOND))
        path = str(authority.path) if tls else ""
        code = APP.replace("DECISION", decision)
        yield first, second, stack.enter_context(App(code, transport, path, f"{FIRST}:{port}", f"{SECOND}:{port}"))


def until(app: App, state: str) -> int:
    """The code with which the call comes into *state*, which it must reach before it ends."""
    while (line := app.next(40))["state"] != state:
        assert line["state"] != "DISCONNECTED", line
    return int(line["code"])


OVER = pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])


@OVER
def test_a_request_goes_on_when_the_application_says_so(transport: Transport, tmp_path: Path) -> None:
    with pair(tmp_path, transport, "return response.code == 480") as (first, _, app):
        first.fault = Fault(code=480)
        answer = app.ask("REGISTER")
        assert (answer["code"], answer["server"].split(":")[0]) == (200, SECOND)
        first.fault = Fault(code=404)
        answer = app.ask("OPTIONS")
        assert (answer["code"], answer["server"].split(":")[0]) == (404, FIRST)
        assert answer["seconds"] < 0.4, "the application had decided, and the response was still held"
        assert [row[:1] + row[2:] for row in app.ask("asked")["asked"]] == [
            ["REGISTER", 480, None, FIRST, [SECOND], "pjfail"],
            ["OPTIONS", 404, None, FIRST, [SECOND], "pjfail"],
        ]


@OVER
def test_a_call_goes_on_when_the_application_says_so(transport: Transport, tmp_path: Path) -> None:
    with pair(tmp_path, transport, "return True") as (first, second, app):
        first.fault = Fault(code=480, provisional=(100,), methods=("INVITE",))
        app.tell("call")
        assert until(app, "CONFIRMED") == 200
        first.wait_for("ACK")
        second.wait_for("ACK")
        app.tell("hang up")
        second.wait_for("BYE")


@OVER
def test_a_call_ends_when_the_application_says_so(transport: Transport, tmp_path: Path) -> None:
    with pair(tmp_path, transport, "return False") as (first, second, app):
        first.fault = Fault(code=486, methods=("INVITE",))
        app.tell("call")
        assert until(app, "DISCONNECTED") == 486
        first.wait_for("ACK")
        assert not second.requests


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ("raise KeyError(1)", "raised KeyError"),
        ("return 'yes'", "returned 'yes'"),
        ("time.sleep(1.2); return True", "took 1."),
    ],
)
def test_a_function_that_fails_passes_the_response_on(decision: str, words: str, tmp_path: Path) -> None:
    with pair(tmp_path, "udp", decision) as (first, second, app):
        first.fault = Fault(code=404)
        for _ in range(3):
            answer = app.ask("OPTIONS")
            assert (answer["code"], answer["server"]) == (404, f"{FIRST}:5060")
            assert answer["seconds"] < 1.1, "the response was held for as long as the function took"
        assert app.stderr.count(words) == 1
        assert not second.requests


def test_challenges_codes_and_the_last_server_are_not_asked_about(tmp_path: Path) -> None:
    with pair(tmp_path, "udp", "return True") as (first, second, app):
        first.fault = Fault(code=401)
        assert app.ask("OPTIONS")["code"] == 401
        first.fault = Fault(code=503)
        assert app.ask("OPTIONS")["server"] == f"{SECOND}:5060"
        first.fault = second.fault = Fault(code=404)
        assert app.ask("OPTIONS")["code"] == 404
        assert [row[2] for row in app.ask("asked")["asked"]] == [404]


def test_a_call_that_rings_is_not_asked_about(tmp_path: Path) -> None:
    with pair(tmp_path, "udp", "return True") as (first, _, app):
        first.fault = Fault(code=486, provisional=(180,), delay=0.2, methods=("INVITE",))
        app.tell("call")
        assert until(app, "DISCONNECTED") == 486
        assert app.ask("asked")["asked"] == []


def test_a_call_that_is_hung_up_while_the_application_decides_goes_nowhere(tmp_path: Path) -> None:
    with pair(tmp_path, "udp", "time.sleep(0.35); return True") as (first, second, app):
        first.fault = Fault(code=480, methods=("INVITE",))
        app.tell("call")
        first.wait_for("ACK")
        app.tell("hang up")
        assert until(app, "DISCONNECTED") >= 400
        assert not second.requests


def test_a_response_that_is_held_is_delivered_when_pjfail_detaches(tmp_path: Path) -> None:
    with pair(tmp_path, "udp", "time.sleep(5); return True") as (first, second, app):
        first.fault = Fault(code=404)
        app.tell("send")
        app.tell("detach")
        answer = app.ask("answer")
        assert (answer["code"], answer["seconds"] < 3) == (404, True)
        assert not second.requests


def test_the_answer_is_the_held_one_when_the_next_server_is_silent(tmp_path: Path) -> None:
    with pair(tmp_path, "udp", "return True") as (first, second, app):
        first.fault, second.fault = Fault(code=480), SILENT
        answer = app.ask("OPTIONS", 60)
        assert (answer["code"], answer["server"]) == (480, f"{FIRST}:5060")
        assert answer["seconds"] < 20
