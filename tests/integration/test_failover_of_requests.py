"""The request under way survives: an unmodified pjsua2 program, registrars that fail, one transaction."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from rig.app import App, run_app
from rig.certificates import Authority
from rig.network import unanswered_connects

from pjfail.testing import REFUSING, RESETTING, SILENT, STALLING, UNAVAILABLE, WELL, Fault, Registrar
from pjfail.testing.sip import parse_request

FIRST, SECOND, THIRD = "127.0.30.1", "127.0.30.2", "127.0.30.3"

# Sends each method that it is told to, and prints the answer; "told" prints what listeners were told of failovers,
# "servers" what pjfail knows, "counters" what it has counted, "refused" how many connects pjsip had refused, "rush"
# when, in a second.
APP = """
    import errno
    import sys
    import time
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    RETRY = pjfail.RetryPolicy()
    REFUSED = 120000 + errno.ECONNREFUSED  # PJ_ERRNO_START_SYS

    class Listening(pj.Endpoint):
        def onTransportState(self, prm):
            if prm.state == pj.PJSIP_TP_STATE_DISCONNECTED and prm.lastError == REFUSED:
                refused.append(time.monotonic())

    transport, authority, *servers = sys.argv[1:]
    table = {"sip.test": [(server, number, 0) for number, server in enumerate(servers)]}
    uri = "sip:sip.test" + ("" if transport == "udp" else f";transport={transport}")
    transports = ("udp", "tcp", "tls") if authority else ("udp", "tcp")
    told, refused = [], []
    with Endpoint(transports=transports, ca=authority or None, kind=Listening) as endpoint:
        failover = pjfail.attach(lookup=pjfail.StaticLookup(table), retry=RETRY, follow=False, listeners=[told.append])
        account = Account(endpoint)
        account.open("sip:alice@sip.test", uri)
        while word := heard():
            if word == "told":
                emit(told=[
                    [event.method, event.left.address, event.taken.address, event.why.name, event.code, event.after]
                    for event in told if isinstance(event, pjfail.events.FailedOver)
                ])
            elif word == "servers":
                emit(**{server.address: health.state.value for server, health in failover.servers().items()})
            elif word == "why":
                emit(**{server.address: health.reason for server, health in failover.servers().items()})
            elif word == "counters":
                counters = failover.counters()
                emit(**{name: getattr(counters, name) for name in counters.__dataclass_fields__})
            elif word == "refused":
                emit(connects=len(refused))
            elif word == "burst":
                for _ in range(30):
                    account.send("OPTIONS", uri)
                emit(codes=[account.answer().code for _ in range(30)])
            elif word == "send a message":
                account.send("MESSAGE", uri)
            elif word == "stream":
                for _ in range(30):
                    account.send("OPTIONS", uri)
                    time.sleep(0.01)
                emit(codes=[account.answer().code for _ in range(30)])
            elif word == "rush":
                for _ in range(30):
                    account.send("OPTIONS", uri)
                    time.sleep(0.01)
                time.sleep(0.8)
                emit(refused=refused)
            elif word == "REGISTER":
                emit(**account.reregister()._asdict())
            else:
                emit(**account.request(word, uri)._asdict())
"""

# Calls, hangs up after so many seconds (0: once told), and prints the states that the call went through.
CALL = """
    import sys
    import threading
    import time
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    class Call(pj.Call):
        def onCallState(self, prm):
            info = self.getInfo()
            emit(state=info.stateText, code=info.lastStatusCode, seconds=time.monotonic() - began)

        def onCallMediaState(self, prm):
            info = self.getInfo()
            media.append(info.media[0].status)

    transport, *servers = sys.argv[1:]
    table = {"sip.test": [(server, number, 0) for number, server in enumerate(servers)]}
    media = []
    with Endpoint() as endpoint:
        pjfail.attach(lookup=pjfail.StaticLookup(table))
        account = Account(endpoint, password="secret")
        account.open("sip:alice@sip.test")
        call = Call(account)
        began = time.monotonic()
        uri = "sip:bob@sip.test" + ("" if transport == "udp" else f";transport={transport}")
        call.makeCall(uri, pj.CallOpParam(True))
        while word := heard():
            if word == "hang up" and call.isActive():
                call.hangup(pj.CallOpParam())
            elif word == "media":
                emit(media=media)
        del call
"""


def app_on(transport: str, *servers: str, retry: str = "", authority: str = "") -> App:
    code = APP.replace("pjfail.RetryPolicy()", f"pjfail.RetryPolicy({retry})")
    port = 5061 if transport == "tls" else 5060
    return App(code, transport, authority, *(f"{server}:{port}" for server in servers or (FIRST, SECOND)))


def failovers(app: App) -> list[list[str | int | float]]:
    """What listeners were told of failovers, once they were told of any: they hear of it when the worker gets to it."""
    until = time.monotonic() + 60
    while not (seen := app.ask("told")["told"]):
        assert time.monotonic() < until, "nobody was told"
    return list(seen)


def until_down(app: App) -> None:
    """Until what the first server did is held against it, and pjsip has let its connection go."""
    until = time.monotonic() + 60
    while app.ask("servers").get(FIRST) != "down":
        assert time.monotonic() < until, "it is held against nobody"
        time.sleep(0.2)
    time.sleep(0.3)


def methods(registrar: Registrar) -> list[str]:
    return [request.method for request in registrar.requests]


# --- silence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("method", ["REGISTER", "SUBSCRIBE"])
def test_the_first_request_to_a_silent_server_succeeds_on_the_next(
    first: Registrar, second: Registrar, transport: str, method: str
) -> None:
    first.fault = SILENT
    with app_on(transport) as app:
        answer = app.ask(method)
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert 0.4 < answer["seconds"] < 0.9
        assert {first.requests[0].branch} == {request.branch for request in second.requests}, "not the same transaction"
        following = app.ask(method)
        assert (following["code"], following["server"]) == (200, f"{SECOND}:5060")
        assert following["seconds"] < 0.45  # it waits for nobody
        assert len({request.branch for request in first.requests}) == 1, "the next request was lost on it again"
        [[*event, after]] = failovers(app)
        assert event == [method, FIRST, SECOND, "SILENT", 0]
        assert after == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_no_more_servers_are_asked_than_attempts_are_allowed(attempts: int) -> None:
    addresses = [f"127.0.30.{number}" for number in range(1, 6)]
    with ExitStack() as stack:
        servers = [stack.enter_context(Registrar(address)) for address in addresses]
        for server in servers:
            server.fault = SILENT
        app = stack.enter_context(app_on("udp", *addresses, retry=f"attempts={attempts}"))
        app.tell("REGISTER")
        servers[attempts - 1].wait_for("REGISTER")
        time.sleep(2.5)  # five times what the next one waits for
        assert [bool(server.requests) for server in servers] == [number < attempts for number in range(5)]


def test_the_request_goes_on_to_the_third_and_two_silent_servers_are_taken_down(
    first: Registrar, second: Registrar
) -> None:
    first.fault = second.fault = SILENT
    with Registrar(THIRD), app_on("udp", FIRST, SECOND, THIRD) as app:
        answer = app.ask("REGISTER")
        assert (answer["code"], answer["server"]) == (200, f"{THIRD}:5060")
        assert answer["seconds"] < 1.5
        first.wait_for("REGISTER", count=2)
        second.wait_for("REGISTER", count=2)
        servers = {}
        for _ in range(30):
            servers = app.ask("servers")
            if list(servers.values()).count("down") == 2:
                break
            time.sleep(0.1)
        assert servers == {FIRST: "down", SECOND: "down", THIRD: "up"}


def test_one_lost_packet_takes_no_server_down(first: Registrar, second: Registrar) -> None:
    """The first server misses one packet, answers the second one, and stays the first."""
    first.fault = SILENT
    with app_on("udp") as app:
        app.tell("OPTIONS")
        first.wait_for("OPTIONS")
        first.fault = WELL
        answer = app.next()
        assert answer["code"] == 200
        assert answer["seconds"] < 0.9
        first.wait_for("OPTIONS", count=2)
        time.sleep(0.1)
        assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"
        assert app.ask("servers").get(FIRST, "up") == "up"


@pytest.mark.parametrize("number", [0, 1])
def test_with_all_silent_a_server_that_returns_is_still_asked(first: Registrar, second: Registrar, number: int) -> None:
    """Nobody is worse off than with stock pjsip, whose retransmissions find a server that was away for two seconds."""
    first.fault = second.fault = SILENT
    returning = (first, second)[number]
    with app_on("udp") as app:
        app.tell("REGISTER")
        returning.wait_for("REGISTER", count=3)
        returning.fault = WELL
        answer = app.next()
        assert (answer["code"], answer["server"]) == (200, f"{returning.address}:5060")
        assert answer["seconds"] < 5


def test_a_message_waits_for_its_server_unless_the_user_says_otherwise(first: Registrar, second: Registrar) -> None:
    first.fault = Fault(delay=1.2)
    with app_on("udp") as app:
        assert app.ask("MESSAGE")["server"] == f"{FIRST}:5060"
        assert not second.requests
    with app_on("udp", retry='timeouts={**pjfail.retry.TIMEOUTS, "MESSAGE": 0.5}') as app:
        assert app.ask("MESSAGE")["server"] == f"{SECOND}:5060"


def test_a_slow_server_is_given_up_sooner_by_its_own_measure(first: Registrar, second: Registrar) -> None:
    with app_on("udp") as app:
        for _ in range(12):
            assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"
        first.fault = Fault(delay=0.4)
        answer = app.ask("OPTIONS")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert 0.09 <= answer["seconds"] < 0.3
        assert app.ask("counters")["hedged"] == 1


def test_a_slow_network_does_not_double_its_own_load(first: Registrar, second: Registrar) -> None:
    """Of 30 requests at once, only what the budget holds goes to the second server too: a tenth, and what was saved."""
    with app_on("udp", retry="hedge_budget=0.1") as app:
        for _ in range(12):
            assert app.ask("OPTIONS")["code"] == 200
        first.fault = Fault(delay=0.4)
        assert set(app.ask("burst")["codes"]) == {200}
        assert 1 <= app.ask("counters")["hedged"] <= 6
        assert len(second.requests) <= 6


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_once_the_next_server_was_quicker_the_next_request_goes_there(
    first: Registrar, second: Registrar, transport: str
) -> None:
    with app_on(transport) as app:
        for _ in range(12):
            assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"
        first.fault = SILENT
        answer = app.ask("OPTIONS")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert answer["seconds"] < 0.3, "it was not sent on sooner, so this test has shown nothing"
        answer = app.ask("OPTIONS")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert answer["seconds"] < 0.09, "it met the silent server first"


def test_a_server_that_was_slow_once_is_the_first_again(first: Registrar, second: Registrar) -> None:
    with app_on("tcp") as app:
        for _ in range(12):
            assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"
        first.fault = Fault(delay=0.4)
        assert app.ask("OPTIONS")["server"] == f"{SECOND}:5060"
        first.fault = WELL
        time.sleep(0.6)
        assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"


def test_a_challenge_is_answered_where_it_came_from_after_a_failover(first: Registrar) -> None:
    first.fault = SILENT
    app = APP.replace("Account(endpoint)", 'Account(endpoint, password="secret")')
    with Registrar(SECOND, realm="test") as second, App(app, "udp", "", f"{FIRST}:5060", f"{SECOND}:5060") as running:
        answer = running.ask("REGISTER")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert answer["seconds"] < 0.9
        assert methods(second) == ["REGISTER", "REGISTER"]
        assert not [request for request in first.requests if request.header("authorization")]


# --- a closed port ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["REGISTER", "MESSAGE"])
def test_a_closed_port_is_noticed_at_once(first: Registrar, second: Registrar, method: str) -> None:
    first.fault = REFUSING
    with app_on("udp") as app:
        answer = app.ask(method)
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert answer["seconds"] < 0.3
        until_down(app)
        assert app.ask("why")[FIRST] == "refused the connection (port unreachable)"
        assert failovers(app)[0][3] == "REFUSED"


def test_a_port_that_closes_is_noticed_once_the_answer_is_overdue(first: Registrar, second: Registrar) -> None:
    with app_on("udp", retry="hedge_budget=0") as app:
        for _ in range(12):
            assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"
        time.sleep(1)  # a port is looked at once in that time
        first.fault = REFUSING
        answer = app.ask("OPTIONS")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert answer["seconds"] < 0.3


def test_a_port_that_closes_just_after_it_was_looked_at_is_looked_at_again(first: Registrar, second: Registrar) -> None:
    """The OPTIONS has the port looked at, which is done once in a second. The MESSAGE then waited for 32 s, in vain."""
    with app_on("udp") as app:
        assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"
        first.fault = REFUSING
        answer = app.ask("MESSAGE")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert answer["seconds"] < 1.4, "before it is taken for silent"
        until_down(app)
        assert app.ask("why")[FIRST] == "refused the connection (port unreachable)"


@pytest.mark.parametrize("answers", [0, 1], ids=["new", "known"])
def test_the_only_servers_closed_port_is_named(answers: int) -> None:
    """Its request can go nowhere else, but whoever reads that the server is silent looks for a broken network."""
    [line] = run_app(
        """
        import contextlib, sys
        import pjfail
        from pjfail.testing import REFUSING, Registrar
        from rig.prelude import Endpoint, emit

        with Registrar(sys.argv[1]) as registrar, Endpoint():
            failover = pjfail.attach(servers={"sip.test": [registrar.endpoint]})
            for _ in range(int(sys.argv[2])):
                failover.request("OPTIONS", "sip:sip.test")
            registrar.fault = REFUSING
            with contextlib.suppress(pjfail.RequestTimeout):
                failover.request("OPTIONS", "sip:sip.test", timeout=3)
            [health] = failover.servers().values()
            emit(state=health.state.value, reason=health.reason)
        """,
        FIRST,
        str(answers),
    ).lines
    assert line == {"state": "down", "reason": "refused the connection (port unreachable)"}


def test_with_every_port_closed_a_server_that_returns_is_still_asked(first: Registrar, second: Registrar) -> None:
    first.fault = second.fault = REFUSING
    with app_on("udp") as app:
        app.tell("REGISTER")
        time.sleep(1)
        second.fault = WELL
        answer = app.next()
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")


@contextmanager
def pings_to(address: str) -> Iterator[list[bytes]]:
    """A server for UDP that answers OPTIONS, and what else it has got."""
    pings: list[bytes] = []
    stop = threading.Event()

    def serve(bound: socket.socket) -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                raw, source = bound.recvfrom(65535)
                request = parse_request(raw, time.monotonic(), "udp", source)
                if request is None:
                    pings.append(raw)
                else:
                    bound.sendto(request.response(200, tag="1"), source)

    with socket.socket(type=socket.SOCK_DGRAM) as bound:
        bound.bind((address, 5060))
        bound.settimeout(0.1)
        thread = threading.Thread(target=serve, args=(bound,))
        thread.start()
        try:
            yield pings
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize(
    ("retry", "expected"),
    [("", [b"\r\n"]), ("port_check=False", []), ("enabled=False", [])],
    ids=["on", "no-port-check", "off"],
)
def test_a_server_that_answers_is_left_alone(second: Registrar, retry: str, expected: list[bytes]) -> None:
    """It gets the empty line with its first request, and no other."""
    with pings_to(FIRST) as pings, app_on("udp", retry=retry) as app:
        for _ in range(5):
            assert app.ask("stream")["codes"] == [200] * 30
        assert pings == expected
        assert not second.requests


# --- 503 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_503_sends_this_very_request_elsewhere(first: Registrar, second: Registrar, transport: str) -> None:
    first.fault = Fault(code=503, retry_after=7)
    with app_on(transport) as app:
        answer = app.ask("REGISTER")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert answer["seconds"] < 0.4
        assert app.ask("MESSAGE")["server"] == f"{SECOND}:5060"
        assert methods(first) == ["REGISTER"]
        [[*event, _]] = failovers(app)
        assert event == ["REGISTER", FIRST, SECOND, "CODE", 503]
        until_down(app)


def test_a_server_that_rests_is_asked_after_one_that_was_only_overtaken(first: Registrar, second: Registrar) -> None:
    """The second is suspect for a request that the third has answered first; the first has asked to be left alone."""
    first.fault = Fault(code=503, retry_after=60)
    retry = 'timeouts={"REGISTER": 5, "OPTIONS": 5}'  # a third that is slow to answer convicts no second
    with Registrar(THIRD) as third, app_on("tcp", FIRST, SECOND, THIRD, retry=retry) as app:
        assert app.ask("REGISTER")["server"] == f"{SECOND}:5060"
        second.fault = SILENT
        assert app.ask("OPTIONS")["server"] == f"{THIRD}:5060"
        second.fault, third.fault = WELL, UNAVAILABLE
        assert app.ask("OPTIONS")["server"] == f"{SECOND}:5060"
        assert methods(first) == ["REGISTER"]


def test_no_hedge_goes_to_a_server_that_was_judged_once_the_request_had_left(
    first: Registrar, second: Registrar
) -> None:
    """The core then suspects the server no more, and the request has a plan that was made before."""
    first.fault = Fault(code=503, retry_after=60)
    slowly = "pjfail.Policy(detect=lambda *_: time.sleep(0.06) or True)"  # a hedge comes after 0.1 s
    code = APP.replace("RetryPolicy()", 'RetryPolicy(timeouts={"OPTIONS": 5})').replace(
        "listeners", f"policy={slowly}, listeners"
    )
    with Registrar(THIRD), App(code, "tcp", "", *(f"{each}:5060" for each in (FIRST, SECOND, THIRD))) as app:
        assert app.ask("REGISTER")["server"] == f"{SECOND}:5060"
        second.fault = SILENT
        assert app.ask("OPTIONS")["server"] == f"{THIRD}:5060"
        assert methods(first) == ["REGISTER"]


def test_the_application_sees_the_503_of_the_last_server_and_other_errors_of_the_first(
    first: Registrar, second: Registrar
) -> None:
    with app_on("udp") as app:
        first.fault = second.fault = UNAVAILABLE
        assert app.ask("OPTIONS")["code"] == 503
        assert methods(first) == methods(second) == ["OPTIONS"]
        second.fault = Fault(code=404)
        first.fault = Fault(code=503, provisional=(100,))
        assert {app.ask("OPTIONS")["code"] for _ in range(2)} == {404}
        # Both are down, so that either may be asked first; what the first answers is never seen.
        assert app.ask("counters")["suppressed"] == methods(first).count("OPTIONS")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_503_is_the_last_word_when_all_others_are_silent(first: Registrar, second: Registrar, transport: str) -> None:
    first.fault, second.fault = Fault(code=503, retry_after=9), SILENT
    with app_on(transport) as app:
        answer = app.ask("REGISTER")
        assert (answer["code"], answer["server"]) == (503, f"{FIRST}:5060")
        assert answer["seconds"] < 6


# --- connections ------------------------------------------------------------------------------------------------------


def test_a_connection_reset_under_the_request_moves_it(first: Registrar, second: Registrar) -> None:
    first.fault = RESETTING
    with app_on("tcp") as app:
        answer = app.ask("REGISTER")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert answer["seconds"] < 0.4
        assert failovers(app)[0][3] == "LOST"


def test_a_connection_on_which_a_message_waits_is_not_used_again(first: Registrar, second: Registrar) -> None:
    """Though a MESSAGE itself waits for its server."""
    with app_on("tcp") as app:
        assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"
        first.fault = SILENT
        app.tell("send a message")
        until_down(app)
        first.fault, second.fault = WELL, SILENT
        assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"
        assert first.requests[-1].source != first.requests[0].source


def test_a_connection_that_stays_silent_is_not_used_again(first: Registrar, second: Registrar) -> None:
    with app_on("tcp") as app:
        assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"
        first.fault = SILENT
        assert app.ask("OPTIONS")["server"] == f"{SECOND}:5060"
        connection = first.requests[0].source
        until_down(app)
        first.fault, second.fault = WELL, SILENT
        assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"
        assert first.requests[-1].source != connection


def test_a_server_that_refuses_is_not_asked_by_each_request_anew(first: Registrar, second: Registrar) -> None:
    """Each connect takes a key of pjsip's ioqueue for half a second; there are 64, and without one it aborts."""
    with Registrar(THIRD), app_on("tcp", FIRST, SECOND, THIRD, retry="hedge_budget=0") as app:
        assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"
        first.fault, second.fault = SILENT, REFUSING
        assert set(app.ask("stream")["codes"]) == {200}
        assert 1 <= app.ask("refused")["connects"] <= 10


def test_a_server_that_has_just_refused_is_not_asked_at_once_but_is_asked(first: Registrar, second: Registrar) -> None:
    """When it is the last one left, the request waits the tenth of a second for which it is taken at its word."""
    first.fault, second.fault = RESETTING, REFUSING
    with app_on("tcp") as app:
        assert app.ask("OPTIONS")["code"] == 503
        second.fault = WELL
        answer = app.ask("OPTIONS")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")


def test_many_servers_that_refuse_are_not_all_asked_at_once(first: Registrar) -> None:
    nobody = [f"127.0.30.{number}" for number in range(11, 41)]
    with app_on("tcp", FIRST, *nobody, retry="hedge_budget=0") as app:
        assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"
        first.fault = SILENT
        refused = app.ask("rush")["refused"]
        assert 2 <= max(sum(0 <= other - each < 0.5 for other in refused) for each in refused) <= 20


def test_with_every_connection_reset_the_request_fails_at_once(first: Registrar, second: Registrar) -> None:
    first.fault = second.fault = RESETTING
    with app_on("tcp") as app:
        answer = app.ask("OPTIONS")
        assert answer["code"] == 503
        assert answer["seconds"] < 2
        assert methods(first) == methods(second) == ["OPTIONS"]


def test_a_connect_that_nobody_answers_is_raced(second: Registrar) -> None:
    with unanswered_connects(FIRST, 5060), app_on("tcp") as app:
        answer = app.ask("REGISTER")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert answer["seconds"] < 0.6
        assert app.ask("REGISTER")["seconds"] < 0.2
        assert methods(second) == ["REGISTER", "REGISTER"]
        assert failovers(app)[0][3] == "RACE"


def test_a_connect_that_fails_at_once_is_raced_too(second: Registrar) -> None:
    """There is no route to the first server: pjsip tells of the end of the connection while it is asked for it."""
    with app_on("tcp", "192.0.2.1", SECOND) as app:
        answer = app.ask("REGISTER")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert answer["seconds"] < 0.6


def test_a_tls_handshake_that_stalls_is_raced_and_the_name_stays(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    key, chain = authority.issue("sip.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    names = []
    context.sni_callback = lambda _, name, __: names.append(name)
    with Registrar(FIRST, tls=context) as first, Registrar(SECOND, tls=context) as second:
        first.fault = STALLING
        with app_on("tls", authority=str(authority.path)) as app:
            answer = app.ask("REGISTER")
            assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5061")
            assert answer["seconds"] < 0.7
            until_down(app)
            second.fault = SILENT
            first.fault = WELL
            answer = app.ask("REGISTER")  # over a new connection: nobody waits for the old one
            assert (answer["code"], answer["server"]) == (200, f"{FIRST}:5061")
            assert answer["seconds"] < 1
            assert set(names) == {"sip.test"}


def test_a_server_that_is_well_is_not_raced_against(first: Registrar, second: Registrar) -> None:
    with app_on("tcp") as app:
        for _ in range(3):
            assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"
        assert app.ask("counters")["raced"] == 1
        assert not second.requests


def test_a_detach_in_the_middle_of_everything_leaves_every_request_answered(first: Registrar) -> None:
    """A race and a retried request are under way; both end as stock pjsip ends them, and so does the endpoint."""
    code = """
        import time
        import pjfail
        from rig.prelude import Account, Endpoint, emit
        with Endpoint() as endpoint:
            table = {"race.test": [("127.0.30.9:5060", 1, 0), ("127.0.30.10:5060", 2, 0)],
                     "sip.test": [("127.0.30.1:5060", 1, 0), ("127.0.30.2:5060", 2, 0)]}
            retry = pjfail.RetryPolicy(connection_attempt_delay=3)
            failover = pjfail.attach(lookup=pjfail.StaticLookup(table), retry=retry)
            account = Account(endpoint)
            account.open("sip:alice@sip.test", "sip:sip.test")
            account.send("OPTIONS", "sip:race.test;transport=tcp")
            account.send("SUBSCRIBE", "sip:sip.test")
            time.sleep(0.7)
            emit(waiting=failover.counters().waiting, retried=failover.counters().retried)
            failover.detach()
            emit(detached=True)
            for _ in range(2):
                emit(**account.answer(40)._asdict())
    """
    first.fault = SILENT
    with unanswered_connects("127.0.30.9", 5060), Registrar(SECOND, transports=("tcp",)):
        with App(code) as app:
            assert app.next() == {"waiting": 1, "retried": 1}
            app.next()
            first.fault = WELL
            answers = {line["method"]: line for line in (app.next(), app.next())}
            assert answers["OPTIONS"]["code"] == 502, "without pjfail nobody knows race.test"
            assert (answers["SUBSCRIBE"]["code"], answers["SUBSCRIBE"]["server"]) == (200, f"{FIRST}:5060")
            assert app.finish().returncode == 0


# --- calls ------------------------------------------------------------------------------------------------------------


def states(app: App, last: str) -> list[tuple[str, int]]:
    """The states of the call up to *last*."""
    seen: list[tuple[str, int]] = []
    while not seen or seen[-1][0] != last:
        line = app.next(20)
        assert line["seconds"] < 10
        seen.append((line["state"], line["code"]))
    return seen


def call_on(transport: str, attach: str = "") -> App:
    code = CALL.replace("StaticLookup(table))", f"StaticLookup(table), {attach})")
    return App(code, transport, f"{FIRST}:5060", f"{SECOND}:5060")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_call_is_set_up_through_the_second_server(first: Registrar, second: Registrar, transport: str) -> None:
    first.fault = SILENT
    with call_on(transport) as app:
        assert states(app, "CONFIRMED")[-1] == ("CONFIRMED", 200)
        second.wait_for("ACK")
        assert 1.2 < second.requests[0].at - first.requests[0].at < 10
        assert app.ask("media")["media"] == [1], "no media was negotiated"
        app.tell("hang up")
        second.wait_for("BYE")
        assert set(methods(first)) == {"INVITE"}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_503_to_a_call_is_acknowledged_and_the_call_goes_on(
    first: Registrar, second: Registrar, transport: str
) -> None:
    first.fault = UNAVAILABLE
    with call_on(transport) as app:
        assert [code for _, code in states(app, "CONFIRMED")] == [0, 180, 200, 200]
        [ack] = first.wait_for("ACK")
        assert ack.branch == first.requests[0].branch
        assert ";tag=" in ack.to
        assert second.requests[0].at - first.requests[0].at < 0.4


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_busy_here_of_the_second_server_is_acknowledged_there(
    first: Registrar, second: Registrar, transport: str
) -> None:
    first.fault, second.busy = SILENT, True
    with call_on(transport) as app:
        assert states(app, "DISCONNECTED")[-1] == ("DISCONNECTED", 486)
        [ack] = second.wait_for("ACK")
        assert ack.branch == second.requests[0].branch
        assert "ACK" not in methods(first)


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "taken"])
def test_a_call_is_answered_elsewhere_while_its_own_connect_is_pending(second: Registrar, busy: bool) -> None:
    """The transaction has no connection then, over which it could acknowledge."""
    second.busy = busy
    with (
        unanswered_connects(FIRST, 5060),
        call_on("tcp", "retry=pjfail.RetryPolicy(connection_attempt_delay=None)") as app,
    ):
        state = ("DISCONNECTED", 486) if busy else ("CONFIRMED", 200)
        assert states(app, state[0])[-1] == state
        [ack] = second.wait_for("ACK")
        assert (ack.branch == second.requests[0].branch) is busy, "RFC 3261 section 17.1.1.3, 13.2.2.4"
        assert ";tag=" in ack.to
        time.sleep(1)
        assert methods(second) == ["INVITE", "ACK"]
        if not busy:
            app.tell("hang up")
            second.wait_for("BYE")
            assert states(app, "DISCONNECTED")


def test_an_answer_from_elsewhere_does_not_wait_for_the_connect_that_is_pending(second: Registrar) -> None:
    """pjsip counts its request as being sent for as long, and the thread that polls has others to look after."""
    with unanswered_connects(FIRST, 5060), app_on("tcp", retry="connection_attempt_delay=None") as app:
        answer = app.ask("REGISTER")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert 0.4 < answer["seconds"] < 1.2, "it waits half a second for the first server, and no longer"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_cancel_follows_the_call(first: Registrar, second: Registrar, transport: str) -> None:
    first.fault, second.fault = SILENT, Fault(delay=9, provisional=(180,))
    with call_on(transport) as app:
        states(app, "EARLY")
        app.tell("hang up")
        assert states(app, "DISCONNECTED")[-1] == ("DISCONNECTED", 487)
        second.wait_for("CANCEL")
        second.wait_for("ACK")
        assert set(methods(first)) == {"INVITE"}


def test_a_large_answer_to_a_challenge_goes_to_who_challenged() -> None:
    """pjsip puts TCP copies of all its addresses in front of a request that has grown too large for UDP."""
    with (
        Registrar(FIRST, realm="test", transports=("udp",)) as first,
        Registrar(SECOND, realm="test") as second,
        call_on("udp") as app,
    ):
        assert states(app, "CONFIRMED")[-1][1] == 200
        [invite] = [request for request in first.requests if request.header("authorization")][:1]
        assert len(invite.raw) >= 1300, "it was not large, so this test has shown nothing"
        assert not second.requests


def test_a_call_taken_by_the_server_that_was_left_is_acknowledged_and_released(
    first: Registrar, second: Registrar
) -> None:
    first.fault = Fault(latency=6)
    with call_on("tcp") as app:
        assert states(app, "CONFIRMED")[-1][1] == 200
        [ack] = first.wait_for("ACK")
        [bye] = first.wait_for("BYE")
        assert ack.call_id == bye.call_id == second.requests[0].call_id
        assert (ack.cseq, bye.cseq) == (first.requests[0].cseq, first.requests[0].cseq + 1)
        assert "BYE" not in methods(second), "the call itself was ended"


def test_the_first_server_to_take_the_call_gets_it_and_the_other_is_cancelled(
    first: Registrar, second: Registrar
) -> None:
    first.fault, second.fault = Fault(latency=2.2), Fault(delay=9, provisional=(180,))
    with call_on("udp") as app:
        seen = states(app, "CONFIRMED")
        assert [code for state, code in seen if state == "CONFIRMED"] == [200]
        second.wait_for("CANCEL")
        second.wait_for("ACK")
        first.wait_for("ACK")


def test_a_refusal_of_the_server_that_was_left_does_not_end_a_call_that_rings(
    first: Registrar, second: Registrar
) -> None:
    first.fault, second.fault = Fault(code=486, latency=2.2), Fault(delay=2, provisional=(180,))
    with call_on("udp") as app:
        assert states(app, "CONFIRMED")[-1][1] == 200
        first.wait_for("ACK")


def test_a_call_with_a_provisional_answer_is_never_failed_over(first: Registrar, second: Registrar) -> None:
    first.fault = Fault(delay=3, provisional=(100,))
    with call_on("udp") as app:
        assert states(app, "CONFIRMED")[-1][1] == 200
        assert not second.requests


# --- programs that poll -----------------------------------------------------------------------------------------------


def test_a_program_that_polls_survives_as_well(first: Registrar, second: Registrar) -> None:
    app = """
        import pjfail
        from rig.prelude import Account, Endpoint, emit
        with Endpoint(threads=0) as endpoint:
            table = {"sip.test": [("127.0.30.1:5060", 1, 0), ("127.0.30.2:5060", 2, 0)],
                     "race.test": [("127.0.30.9:5060", 1, 0), ("127.0.30.2:5060", 2, 0)]}
            pjfail.attach(lookup=pjfail.StaticLookup(table))
            account = Account(endpoint)
            account.open("sip:alice@sip.test", "sip:sip.test")
            emit(**account.reregister()._asdict())
            emit(**account.options("sip:race.test;transport=tcp")._asdict())
    """
    first.fault = SILENT
    with unanswered_connects("127.0.30.9", 5060):
        answers = run_app(app).lines
    assert [(answer["code"], answer["server"]) for answer in answers] == [(200, f"{SECOND}:5060")] * 2
    assert all(answer["seconds"] < 3 for answer in answers)


# --- off --------------------------------------------------------------------------------------------------------------


def test_off_means_off(first: Registrar, second: Registrar) -> None:
    """The wire of pjfail with RetryPolicy.off() is that of stock pjsip: the same bytes at the same times."""
    app = """
        import sys
        import pjfail
        import pjsua2 as pj
        from rig.prelude import Account, Endpoint, emit
        with Endpoint() as endpoint:
            if sys.argv[1] == "pjfail":
                table = {"127.0.30.1.sip.test": ["127.0.30.1:5060", "127.0.30.2:5060"]}
                pjfail.attach(lookup=pjfail.StaticLookup(table), retry=pjfail.RetryPolicy.off())
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            uri = "sip:127.0.30.1.sip.test" if sys.argv[1] == "pjfail" else "sip:127.0.30.1"
            emit(**account.request("OPTIONS", uri)._asdict())
    """
    for who in ("pjfail", "stock"):
        first.fault = Fault(code=503, latency=2)
        before = len(first.requests)
        [line] = run_app(app, who).lines
        assert line["code"] == 503
        sent = first.requests[before:]
        assert len({request.raw for request in sent}) == 1
        assert 2 <= len(sent) <= 3, "pjsip repeats it after 0.5 s and after 1.5 s"
    assert not second.requests


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "taken"])
def test_with_retries_off_a_call_goes_where_pjsip_itself_takes_it(second: Registrar, busy: bool) -> None:
    """As where the first server has no route: a datagram to the broadcast address cannot be sent."""
    second.busy = busy
    code = CALL.replace("StaticLookup(table))", "StaticLookup(table), retry=pjfail.RetryPolicy.off())")
    with App(code, "udp", "255.255.255.255:5060", f"{SECOND}:5060") as app:
        state = ("DISCONNECTED", 486) if busy else ("CONFIRMED", 200)
        assert states(app, state[0])[-1] == state
        second.wait_for("ACK")
        assert methods(second) == ["INVITE", "ACK"]
        assert app.finish().returncode == 0


@pytest.mark.parametrize("attempts", [1, 2])
def test_the_server_that_pjsip_itself_went_on_to_has_the_account(second: Registrar, attempts: int) -> None:
    """The first two cannot be sent to, and one of them was taken for the one that answered."""
    [line] = run_app(f"""
        import time
        import pjfail
        from rig.prelude import Account, Endpoint, emit
        with Endpoint() as endpoint:
            servers = {{"sip.test": ["255.255.255.255:5060", "255.255.255.255:5070", "{SECOND}:5060"]}}
            failover = pjfail.attach(servers=servers, retry=pjfail.RetryPolicy(attempts={attempts}))
            account = Account(endpoint)
            code = account.register("sip:alice@sip.test", "sip:sip.test").code
            until = time.monotonic() + 20
            while not (followed := failover.accounts()) and time.monotonic() < until:
                time.sleep(0.05)
            emit(code=code, servers=[server.address for server in followed.values()])
    """).lines
    assert line == {"code": 200, "servers": [SECOND]}
