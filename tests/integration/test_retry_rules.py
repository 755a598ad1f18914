"""Which requests under way may go on to the next server: after a 100, a challenge, a hang-up; by the codes' classes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from rig.app import App
from rig.certificates import Authority

from pjfail.model import Transport
from pjfail.testing import RESETTING, SILENT, WELL, Fault, Registrar, Request
from pjfail.testing.sockets import Peer

FIRST, SECOND = "127.0.78.1", "127.0.78.2"

# Calls sip:sip.test and prints each state of the call; "hang up" ends it. Any other word is the method of a request.
APP = """
    import ctypes
    import sys
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    class Text(ctypes.Structure):
        _fields_ = [("octets", ctypes.c_char_p), ("length", ctypes.c_ssize_t)]

    class Method(ctypes.Structure):
        _fields_ = [("id", ctypes.c_int), ("name", Text)]

    pjsip = ctypes.CDLL(pj._pjsua2.__file__)
    pjsip.pjsua_get_pjsip_endpt.restype = pjsip.pjsip_generic_string_hdr_create.restype = ctypes.c_void_p

    def by_hand(answer):
        '''Sends a REGISTER of always the same Call-ID through pjsip alone; answer: a Digest, or anything else.'''
        def text(value):
            return ctypes.byref(Text(value.encode(), len(value)))
        endpt, request = ctypes.c_void_p(pjsip.pjsua_get_pjsip_endpt()), ctypes.c_void_p()
        register, whom = Method(4, Text(b"REGISTER", 8)), text("<sip:alice@sip.test>")
        assert not pjsip.pjsip_endpt_create_request(
            endpt, ctypes.byref(register), text("sip:sip.test"), whom, whom, None, text("by-hand"), 1, None,
            ctypes.byref(request))
        pool = ctypes.c_void_p.from_address(request.value + 16)
        message = ctypes.c_void_p.from_address(request.value + 392)
        name = "Authorization" if answer.startswith("Digest") else "X-Kind"
        header = pjsip.pjsip_generic_string_hdr_create(pool, text(name), text(answer))
        pjsip.pj_list_insert_before(ctypes.c_void_p(message.value + 40), ctypes.c_void_p(header))
        assert not pjsip.pjsip_endpt_send_request(endpt, request, -1, None, None)

    class Call(pj.Call):
        def onCallState(self, prm):
            info = self.getInfo()
            emit(state=info.stateText, code=info.lastStatusCode)

    transport, authority, *servers = sys.argv[1:]
    table = {"sip.test": [(server, number, 0) for number, server in enumerate(servers)]}
    uri = "sip:sip.test" + ("" if transport == "udp" else f";transport={transport}")
    calls, moves = [], []

    def on_event(event):
        if isinstance(event, pjfail.events.AccountMoved):
            moves.append(event.server.address if event.server else "")

    with Endpoint(transports=("udp", "tcp", "tls"), ca=authority or None) as endpoint:
        retry = pjfail.RetryPolicy()
        # Accounts are followed where a test says so: servers that they would go back to are probed while they are down.
        failover = pjfail.attach(
            lookup=pjfail.StaticLookup(table), retry=retry, listeners=[on_event], follow=False
        )
        for codec in endpoint.pj.codecEnum2():  # an INVITE with credentials stays small enough for UDP
            endpoint.pj.codecSetPriority(codec.codecId, 255 * codec.codecId.startswith("PCMU"))
        account = Account(endpoint, password="secret", retries=False)
        account.open("sip:alice@sip.test", uri)
        while word := heard():
            if word == "call":
                calls.append(Call(account))
                audio = pj.CallOpParam(True)
                audio.opt.videoCount = audio.opt.textCount = 0
                calls[-1].makeCall(uri.replace("sip:", "sip:bob@"), audio)
            elif word == "hang up":
                calls[-1].hangup(pj.CallOpParam())
            elif word == "follow":
                failover.follow(account, failback=None)
            elif word == "moves":
                emit(moves=moves)
            elif word == "counters":
                emit(hedged=failover.counters().hedged)
            elif word.startswith("by hand: "):
                by_hand(word.removeprefix("by hand: "))
            elif word == "REGISTER":
                emit(**account.reregister()._asdict())
            else:
                emit(**account.request(word, uri)._asdict())
        calls.clear()
"""


class FailingChallenger(Registrar):
    """Challenges each request, and fails on those with the right credentials as *fault* says."""

    def _handle(self, request: Request, peer: Peer, fault: Fault) -> None:
        known = f'nonce="{self.nonce}"' in request.header("authorization")
        super()._handle(request, peer, fault if known or request.method == "CANCEL" else WELL)


@contextmanager
def pair(
    folder: Path,
    transport: Transport = "udp",
    kind: type[Registrar] = Registrar,
    retry: str = "",
    realm: str | None = None,
) -> Iterator[tuple[Registrar, Registrar, App]]:
    authority = Authority(folder)
    tls = authority.issue("sip.test").context() if transport == "tls" else None
    port = 5061 if transport == "tls" else 5060
    code = APP.replace("RetryPolicy()", f"RetryPolicy({retry})")
    with ExitStack() as stack:
        first = stack.enter_context(kind(FIRST, tls=tls, realm=realm))
        second = stack.enter_context(Registrar(SECOND, tls=tls, realm=realm))
        path = str(authority.path) if tls else ""
        yield first, second, stack.enter_context(App(code, transport, path, f"{FIRST}:{port}", f"{SECOND}:{port}"))


def until(app: App, state: str) -> int:
    """The code with which the call comes into *state*, which it must reach before it ends."""
    while (line := app.next(40))["state"] != state:
        assert line["state"] != "DISCONNECTED", line
    return int(line["code"])


def count(registrar: Registrar, method: str) -> int:
    return sum(request.method == method for request in registrar.requests)


OVER = pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])

# --- a 100 binds nobody -----------------------------------------------------------------------------------------------


@OVER
def test_a_503_after_a_bare_100_sends_the_call_on(transport: Transport, tmp_path: Path) -> None:
    with pair(tmp_path, transport) as (first, second, app):
        first.fault = Fault(code=503, provisional=(100,), delay=0.1, methods=("INVITE",))
        app.tell("call")
        assert until(app, "CONFIRMED") == 200
        first.wait_for("ACK")
        second.wait_for("ACK")
        app.tell("hang up")
        second.wait_for("BYE")


def test_a_503_after_a_183_is_the_calls_answer(tmp_path: Path) -> None:
    with pair(tmp_path) as (first, second, app):
        first.fault = Fault(code=503, provisional=(100, 183), delay=0.1, methods=("INVITE",))
        app.tell("call")
        assert until(app, "DISCONNECTED") == 503
        assert not second.requests


def test_a_100_makes_the_call_wait(tmp_path: Path) -> None:
    """Longer than the time of silence after which the next server is tried: 1.5 s."""
    with pair(tmp_path) as (first, second, app):
        first.fault = Fault(provisional=(100,), delay=3, methods=("INVITE",))
        app.tell("call")
        assert until(app, "CONFIRMED") == 200
        assert not second.requests


def test_a_register_goes_on_after_a_100_too(tmp_path: Path) -> None:
    with pair(tmp_path, retry='codes=("5xx",)') as (first, _, app):
        first.fault = Fault(code=500, provisional=(100,), delay=0.1)
        answer = app.ask("REGISTER")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")


def test_the_call_is_repeated_at_the_next_server_though_pjsip_has_had_a_100(tmp_path: Path) -> None:
    """pjsip repeats an INVITE no more after a 100, and a datagram may be lost."""
    with pair(tmp_path, retry='timeouts={"INVITE": 30.0}') as (first, second, app):
        first.fault, second.fault = Fault(code=503, provisional=(100,), methods=("INVITE",)), SILENT
        app.tell("call")
        second.wait_for("INVITE", 2)
        second.fault = WELL
        assert until(app, "CONFIRMED") == 200


# --- challenges -------------------------------------------------------------------------------------------------------


@OVER
@pytest.mark.parametrize("failing", ["503", "silent", "lost"])
@pytest.mark.parametrize("method", ["REGISTER", "INVITE"])
def test_when_the_challenger_fails_the_next_server_challenges_anew(
    transport: Transport, failing: str, method: str, tmp_path: Path
) -> None:
    with pair(tmp_path, transport, FailingChallenger, realm="sip.test") as (first, second, app):
        first.fault = {"503": Fault(code=503), "silent": SILENT, "lost": RESETTING}[failing]
        if method == "REGISTER":
            answer = app.ask("REGISTER", 40)
            port = 5061 if transport == "tls" else 5060
            assert (answer["code"], answer["server"]) == (200, f"{SECOND}:{port}")
        else:
            app.tell("call")
            assert until(app, "CONFIRMED") == 200
            app.tell("hang up")
            second.wait_for("BYE")
        answers = {each.branch for each in first.requests if each.header("authorization")}
        assert len(answers) == 1, "the second server's challenge was answered to the first one"
        assert f'nonce="{second.nonce}"' in second.wait_for(method, 2)[1].header("authorization")


def test_the_answer_to_a_challenge_is_not_hedged(tmp_path: Path) -> None:
    with pair(tmp_path, kind=FailingChallenger, realm="sip.test") as (first, second, app):
        for _ in range(12):
            assert app.ask("REGISTER")["code"] == 200
        first.nonce = "another"
        first.fault = Fault(delay=0.35)
        assert app.ask("REGISTER")["server"] == f"{FIRST}:5060"
        assert not second.requests


def test_an_answer_to_a_challenge_that_the_program_writes_itself_is_not_hedged(tmp_path: Path) -> None:
    """Its header is a text to pjsip, which knows neither its kind nor what it answers."""
    with pair(tmp_path, kind=FailingChallenger, realm="sip.test") as (first, second, app):
        for _ in range(12):
            assert app.ask("REGISTER")["code"] == 200
        app.tell("by hand: no answer yet")
        assert first.wait_for("REGISTER", 25)[-1].header("x-kind") == "no answer yet"
        assert app.ask("REGISTER")["code"] == 200  # so pjsip has the challenge, too, which came before
        first.fault = Fault(delay=0.35)
        app.tell(f'by hand: Digest nonce="{first.nonce}"')
        first.wait_for("REGISTER", 28)
        time.sleep(0.5)
        assert not second.requests


# --- hang-up ----------------------------------------------------------------------------------------------------------


@OVER
@pytest.mark.parametrize("failing", ["503", "silent", "lost"])
def test_a_call_that_was_hung_up_rings_nowhere_else(transport: Transport, failing: str, tmp_path: Path) -> None:
    if failing == "lost" and transport == "udp":
        failing = "closed port"
    with pair(tmp_path, transport) as (first, second, app):
        faults = {"503": Fault(code=503, latency=1), "lost": Fault(resets=True, latency=1)}
        first.fault = faults.get(failing, SILENT)
        app.tell("call")
        assert until(app, "CALLING") == 0
        first.wait_for("INVITE")
        app.tell("hang up")
        if failing == "closed port":
            first.fault = Fault(listens=False)
        time.sleep(3.5)  # twice the time of silence after which the next server would be tried
        assert not count(second, "INVITE")


# --- hedging ----------------------------------------------------------------------------------------------------------


def test_no_hedge_goes_to_a_server_that_is_down(tmp_path: Path) -> None:
    with pair(tmp_path) as (first, second, app):
        second.fault = SILENT
        for _ in range(12):
            assert app.ask("OPTIONS")["code"] == 200
        first.fault = Fault(code=503)
        app.tell("OPTIONS")  # the second server is silent, and goes down for it
        app.next(40)
        first.fault, second.fault = WELL, WELL
        hedged = app.ask("counters")["hedged"]
        for _ in range(12):
            assert app.ask("OPTIONS")["code"] == 200
        seen = count(second, "OPTIONS")
        first.fault = Fault(delay=0.35)
        assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"
        assert app.ask("counters")["hedged"] == hedged
        assert count(second, "OPTIONS") == seen


def test_a_hedge_moves_no_account(tmp_path: Path) -> None:
    with pair(tmp_path) as (first, _, app):
        app.tell("follow")
        for _ in range(12):
            assert app.ask("REGISTER")["code"] == 200
        first.fault = Fault(delay=0.35, methods=("REGISTER",))
        answer = app.ask("REGISTER")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060"), "no hedge: this test has shown nothing"
        time.sleep(0.5)
        first.fault = WELL
        assert app.ask("moves")["moves"] == [FIRST]
        assert app.ask("REGISTER")["server"] == f"{FIRST}:5060"
