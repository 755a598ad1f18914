"""A request finds its server by a connection of its own listener, by TCP for its size, or over another family."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from rig.app import App
from rig.certificates import Authority
from rig.network import unanswered_connects

from pjfail.testing import RESETTING, SILENT, UNAVAILABLE, WELL, Fault, Registrar
from pjfail.testing.sip import Request

FIRST, SECOND = "127.0.93.1", "127.0.93.2"

# Sends each method that it is told to, and prints the answer; an INVITE's call goes on until "hang up".
APP = """
    import json
    import sys
    import pjfail
    import pjsua2 as pj
    from rig.prelude import LARGE, Account, Call, Endpoint, emit, heard

    options = json.loads(sys.argv[1])
    uri = "sip:bob@sip.test" + options["parameters"]
    headers = LARGE if options["large"] else {}
    calls = []
    with Endpoint(transports=options["transports"], ca=options["authority"]) as endpoint:
        lookup = pjfail.StaticLookup({"sip.test": options["servers"]})
        failover = pjfail.attach(lookup=lookup, retry=pjfail.RetryPolicy(**options["retry"]))
        chosen = {name: options[name] for name in ("bound", "ipv6_use")}
        account = Account(endpoint, password="secret", retries=False, **chosen)
        account.open("sip:alice@sip.test", "sip:sip.test" + options["parameters"])
        while word := heard():
            if word == "servers":
                emit(**{str(server): health.state.value for server, health in failover.servers().items()})
            elif word.startswith("mark down "):
                failover.mark_down(word.removeprefix("mark down "), 60)
                emit()
            elif word == "REGISTER":
                emit(**account.reregister()._asdict())
            elif word == "call":
                calls.append(account.call(uri, **headers))
            elif word == "INVITE":
                calls.append(account.call(uri, **headers))
                emit(**account.answer()._asdict())
            elif word == "hang up":
                calls[-1].hangup(pj.CallOpParam())
                emit(**account.answer()._asdict())
            else:
                emit(**account.request(word, uri, **headers)._asdict())
        calls.clear()
"""


@contextmanager
def app(
    *servers: str,
    transports: tuple[str, ...] = ("udp", "tcp"),
    parameters: str = "",
    authority: str | None = None,
    bound: str | None = None,
    ipv6_use: int | None = None,
    large: bool = False,
    **retry: Any,
) -> Iterator[App]:
    options = {
        "servers": servers, "transports": transports, "parameters": parameters, "authority": authority, "bound": bound,
        "ipv6_use": ipv6_use, "large": large, "retry": retry,
    }  # fmt: skip
    with App(APP, json.dumps(options)) as running:
        yield running


@pytest.fixture
def first() -> Iterator[Registrar]:
    with Registrar(FIRST) as registrar:
        yield registrar


@pytest.fixture
def second() -> Iterator[Registrar]:
    with Registrar(SECOND) as registrar:
        yield registrar


def everywhere(*transports: str) -> list[str]:
    """Both servers over the first transport, then over the next, and so on."""
    return [
        f"{transport}:{address}:{5061 if transport == 'tls' else 5060}"
        for transport in transports
        for address in (FIRST, SECOND)
    ]


def seen(registrar: Registrar) -> list[str]:
    return [f"{request.method}/{request.transport}" for request in registrar.requests]


def via_of(request: Request) -> str:
    """The topmost Via without what a response adds to it."""
    return request.header("via").replace(";rport", "")


# --- accounts bound to a listener ------------------------------------------------------------------------------------


@contextmanager
def certified(authority: Authority, address: str) -> Iterator[Registrar]:
    with Registrar(address, tls=authority.issue("sip.test").context()) as registrar:
        yield registrar


@pytest.mark.parametrize("method", ["REGISTER", "INVITE"])
@pytest.mark.parametrize("fault", [SILENT, UNAVAILABLE, RESETTING], ids=["silent", "503", "resets"])
def test_an_account_bound_to_a_tcp_listener_fails_over(
    first: Registrar, second: Registrar, fault: Fault, method: str
) -> None:
    first.fault = fault
    with app(f"{FIRST}:5060", f"{SECOND}:5060", parameters=";transport=tcp", bound="tcp") as running:
        answer = running.ask(method)
        assert answer["code"] == 200, answer
        assert answer["seconds"] < 10
        assert seen(first)[0] == f"{method}/tcp"
        if method == "INVITE":
            second.wait_for("ACK")
            assert running.ask("hang up")["code"] == 200
            second.wait_for("BYE")
        assert {request.transport for request in second.requests} == {"tcp"}


def test_an_account_bound_to_a_listener_does_not_wait_for_a_connect(second: Registrar) -> None:
    with (
        unanswered_connects(FIRST, 5060),
        app(f"{FIRST}:5060", f"{SECOND}:5060", parameters=";transport=tcp", bound="tcp") as running,
    ):
        answer = running.ask("REGISTER")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert answer["seconds"] < 1.0


@pytest.mark.parametrize("fault", [SILENT, UNAVAILABLE], ids=["silent", "503"])
def test_an_account_bound_to_a_tls_listener_fails_over_within_tls(tmp_path: Path, fault: Fault) -> None:
    authority = Authority(tmp_path)
    with ExitStack() as stack:
        first, second = (stack.enter_context(certified(authority, address)) for address in (FIRST, SECOND))
        first.fault = fault
        running = stack.enter_context(
            app(
                *everywhere("tls", "tcp", "udp"),
                transports=("udp", "tcp", "tls"),
                parameters=";transport=tls",
                authority=str(authority.path),
                bound="tls",
            )
        )
        answer = running.ask("REGISTER")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5061")
        assert answer["seconds"] < 1.5
        assert {request.transport for server in (first, second) for request in server.requests} == {"tls"}


# --- requests too large for UDP --------------------------------------------------------------------------------------


def until_down(running: App, server: str) -> None:
    until = time.monotonic() + 60
    while running.ask("servers").get(server) != "down":
        assert time.monotonic() < until, "it is held against nobody"
        time.sleep(0.1)


@contextmanager
def dead_host(address: str) -> Iterator[Registrar]:
    """Nothing answers there, over UDP or TCP, and no ICMP tells."""
    with Registrar(address, transports=("udp",)) as registrar, unanswered_connects(address, 5060):
        registrar.fault = SILENT
        yield registrar


@pytest.mark.parametrize(("method", "within"), [("OPTIONS", 1.0), ("INVITE", 2.0)])
def test_a_large_request_does_not_wait_for_a_dead_host(method: str, within: float) -> None:
    with ExitStack() as stack:
        stack.enter_context(dead_host(FIRST))
        # pjsua answers no challenge to an OPTIONS
        second = stack.enter_context(Registrar(SECOND, realm="sip.test" if method == "INVITE" else None))
        running = stack.enter_context(app(f"{FIRST}:5060", f"{SECOND}:5060", large=True))
        answer = running.ask(method)
        assert answer["code"] == 200
        assert answer["seconds"] < within
        assert seen(second)[0] == f"{method}/tcp"
        if method == "INVITE":
            second.wait_for("ACK", 2)  # of the 401, and of the 200
            assert running.ask("hang up")["code"] == 200
        following = running.ask(method)
        assert following["code"] == 200
        assert following["seconds"] < 0.3
        until_down(running, f"udp:{FIRST}:5060")


@pytest.mark.parametrize("fault", [SILENT, UNAVAILABLE, RESETTING], ids=["silent", "503", "resets"])
@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
def test_a_large_request_that_fails_over_tcp_fails_the_server(
    first: Registrar, second: Registrar, method: str, fault: Fault
) -> None:
    first.fault = fault
    with app(f"{FIRST}:5060", f"{SECOND}:5060", large=True) as running:
        answer = running.ask(method)
        assert answer["code"] == 200
        assert answer["seconds"] < 10
        assert seen(first)[0] == f"{method}/tcp"
        assert f"{method}/udp" not in seen(first), "the same server was asked twice"
        assert seen(second)[0] == f"{method}/tcp"
        if method == "INVITE":
            second.wait_for("ACK")
            assert running.ask("hang up")["code"] == 200
        following = running.ask(method)
        assert (following["code"], following["seconds"] < 0.3) == (200, True)
        until_down(running, f"udp:{FIRST}:5060")


@pytest.mark.parametrize("method", ["OPTIONS", "INVITE"])
def test_a_large_request_goes_over_udp_where_tcp_is_refused(method: str) -> None:
    with Registrar(FIRST, transports=("udp",)) as first, app(f"{FIRST}:5060", large=True) as running:
        for _ in range(2):
            answer = running.ask(method)
            assert answer["code"] == 200
            assert answer["seconds"] < 0.5
            if method == "INVITE":
                assert running.ask("hang up")["code"] == 200
        assert set(running.ask("servers").values()) == {"up"}
        assert {request.transport for request in first.requests} == {"udp"}


def test_a_large_request_goes_over_udp_where_tcp_does_not_connect() -> None:
    """A firewall drops its SYN: its server is none the worse for it."""
    with Registrar(FIRST, transports=("udp",), realm="sip.test") as first, unanswered_connects(FIRST, 5060):
        with app(f"{FIRST}:5060", large=True) as running:
            answer = running.ask("INVITE")
            assert answer["code"] == 200
            assert 0.9 < answer["seconds"] < 2.0
            first.wait_for("ACK", 2)
            assert running.ask("hang up")["code"] == 200
            assert running.ask("servers") == {f"udp:{FIRST}:5060": "up"}


def test_large_requests_stop_waiting_for_tcp_that_never_connects() -> None:
    """A connect is given up after five seconds; from then on calls go over UDP at once, answers to challenges too."""
    with Registrar(FIRST, transports=("udp",), realm="sip.test") as first, unanswered_connects(FIRST, 5060):
        with app(f"{FIRST}:5060", large=True) as running:
            until, seconds = time.monotonic() + 60, 20.0
            while seconds > 0.5:
                assert time.monotonic() < until, "each one waits"
                answer = running.ask("INVITE")
                assert answer["code"] == 200
                seconds = answer["seconds"]
                assert running.ask("hang up")["code"] == 200
            first.wait_for("ACK", 4)  # of each call's 401, and of its 200
            assert {request.transport for request in first.requests} == {"udp"}
            assert running.ask("servers") == {f"udp:{FIRST}:5060": "up"}


def test_a_server_that_takes_no_tcp_but_well_is_probed_and_stays_up(second: Registrar) -> None:
    with Registrar(FIRST, transports=("udp",)) as first, unanswered_connects(FIRST, 5060):
        with app(f"{FIRST}:5060", f"{SECOND}:5060", large=True) as running:
            assert running.ask("MESSAGE")["server"] == f"{SECOND}:5060"
            first.wait_for("OPTIONS")
            until = time.monotonic() + 60
            while running.ask("servers")[f"udp:{FIRST}:5060"] != "up":
                assert time.monotonic() < until
                time.sleep(0.1)


# --- accounts that prefer one address family -------------------------------------------------------------------------

# pjsua_ipv6_use
PREFER_IPV4, PREFER_IPV6 = 2, 3


@pytest.mark.parametrize(
    ("ipv6_use", "preferred", "other"),
    [
        (PREFER_IPV6, "udp:[::1]:5060", f"udp:{SECOND}:5060"),
        (PREFER_IPV4, f"udp:{SECOND}:5060", "udp:[::1]:5060"),
    ],
    ids=["IPv6", "IPv4"],
)
def test_a_preferred_family_that_is_dead_is_not_asked_first(
    second: Registrar, ipv6_use: int, preferred: str, other: str
) -> None:
    with Registrar("::1") as sixth:
        dead, alive = (sixth, second) if ipv6_use == PREFER_IPV6 else (second, sixth)
        dead.fault = SILENT
        # nor over TCP, which the plan has behind the other family
        servers = preferred, other, preferred.replace("udp", "tcp")
        with app(*servers, transports=("udp", "udp6", "tcp", "tcp6"), ipv6_use=ipv6_use) as running:
            running.ask(f"mark down {preferred}")
            for method in ("REGISTER", "SUBSCRIBE"):
                answer = running.ask(method)
                assert answer["code"] == 200
                assert answer["seconds"] < 0.4
            assert seen(alive) == ["REGISTER/udp", "SUBSCRIBE/udp"]


def test_a_preferred_family_that_does_not_connect_is_left_out(second: Registrar) -> None:
    """pjsip would put it in front of the one that has won the race, and wait for it."""
    with unanswered_connects("::1", 5060):
        servers = "tcp:[::1]:5060", f"tcp:{SECOND}:5060"
        with app(*servers, transports=("tcp", "tcp6"), parameters=";transport=tcp", ipv6_use=PREFER_IPV6) as running:
            answer = running.ask("REGISTER")
            assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
            assert answer["seconds"] < 0.45


def test_with_all_servers_down_the_preferred_family_is_asked(second: Registrar) -> None:
    with Registrar("::1") as sixth:
        servers = "udp:[::1]:5060", f"udp:{SECOND}:5060"
        with app(*servers, transports=("udp", "udp6"), ipv6_use=PREFER_IPV6) as running:
            for server in servers:
                running.ask(f"mark down {server}")
            assert running.ask("REGISTER")["code"] == 200
            assert seen(sixth) == ["REGISTER/udp"]
            assert seen(second) == []


# --- another transport, another family -------------------------------------------------------------------------------


# Where a request goes, one line each: the server that fails, over what, the other one, and the Via that it is shown.
CROSSINGS = {
    "UDP to TCP": (FIRST, "udp", SECOND, "tcp", r"SIP/2\.0/TCP 127\.0\.0\.1:\d+;branch=z9hG4bK\S+;alias"),
    "TCP to UDP": (FIRST, "tcp", SECOND, "udp", r"SIP/2\.0/UDP 127\.0\.0\.1:\d+;branch=z9hG4bK[^;]+"),
    "IPv6 to IPv4": ("::1", "udp", SECOND, "udp", r"SIP/2\.0/UDP 127\.0\.0\.1:\d+;branch=z9hG4bK[^;]+"),
    "IPv4 to IPv6": (FIRST, "udp", "::1", "udp", r"SIP/2\.0/UDP \[::1\]:\d+;branch=z9hG4bK[^;]+"),
    "IPv6 to IPv4, TCP": ("::1", "tcp", SECOND, "tcp", r"SIP/2\.0/TCP 127\.0\.0\.1:\d+;branch=z9hG4bK\S+;alias"),
    "UDP to TCP over IPv6": (FIRST, "udp", "::1", "tcp", r"SIP/2\.0/TCP \[::1\]:\d+;branch=z9hG4bK\S+;alias"),
}


def named(transport: str, address: str) -> str:
    return f"{transport}:[{address}]:5060" if ":" in address else f"{transport}:{address}:5060"


@contextmanager
def crossing(name: str, fault: Fault, realm: str | None = None) -> Iterator[tuple[Registrar, Registrar, App, str]]:
    """The first server, which fails, the second one, a program, and the Via that the second shall see."""
    one, one_transport, other, other_transport, via = CROSSINGS[name]
    with (
        Registrar(one, transports=(one_transport,)) as first,
        Registrar(other, transports=(other_transport,), realm=realm) as second,
        app(
            named(one_transport, one),
            named(other_transport, other),
            transports=("udp", "tcp", "udp6", "tcp6") if "::1" in (one, other) else ("udp", "tcp"),
        ) as running,
    ):
        first.fault = fault
        yield first, second, running, via


@pytest.mark.parametrize("fault", [SILENT, UNAVAILABLE], ids=["silent", "503"])
@pytest.mark.parametrize("name", CROSSINGS)
def test_a_request_goes_on_over_whatever_is_left(name: str, fault: Fault) -> None:
    with crossing(name, fault, realm="sip.test") as (first, second, running, via):
        answer = running.ask("REGISTER")
        assert answer["code"] == 200, answer
        assert answer["seconds"] < 1.0
        challenged, authorized = second.requests
        assert challenged.branch == first.requests[0].branch, "not the same transaction"
        assert re.fullmatch(via, via_of(challenged)), via_of(challenged)
        assert re.fullmatch(via, via_of(authorized)), via_of(authorized)
        assert challenged.header("contact") == first.requests[0].header("contact")
        following = running.ask("REGISTER")
        assert (following["code"], following["seconds"] < 0.2) == (200, True)


@pytest.mark.parametrize("fault", [SILENT, UNAVAILABLE], ids=["silent", "503"])
@pytest.mark.parametrize("name", CROSSINGS)
def test_a_call_goes_on_over_whatever_is_left(name: str, fault: Fault) -> None:
    with crossing(name, fault) as (first, second, running, via):
        second.realm = "sip.test"
        answer = running.ask("INVITE")
        assert answer["code"] == 200, answer
        assert answer["seconds"] < 10
        acks = second.wait_for("ACK", 2)
        invites = [request for request in second.requests if request.method == "INVITE"]
        assert [bool(invite.header("authorization")) for invite in invites] == [False, True], "it was sent twice"
        assert acks[0].header("via") == invites[0].header("via"), "the ACK to the 401 belongs to no INVITE"
        for request in (*invites, *acks):
            assert re.fullmatch(via, via_of(request)), via_of(request)
        if fault is UNAVAILABLE:
            first.wait_for("ACK")
        if second.address != "::1":  # the program's media are over IPv4
            assert running.ask("hang up")["code"] == 200
            second.wait_for("BYE")


@pytest.mark.parametrize("name", CROSSINGS)
def test_a_call_that_went_on_is_cancelled_where_it_rings(name: str) -> None:
    with crossing(name, SILENT) as (_, second, running, via):
        second.fault = Fault(provisional=(180,), delay=20)
        running.tell("call")
        [invite] = second.wait_for("INVITE")
        time.sleep(0.2)  # for the 180
        assert running.ask("hang up")["code"] == 487
        [cancel] = second.wait_for("CANCEL")
        assert cancel.header("via") == invite.header("via")
        assert re.fullmatch(via, via_of(cancel)), via_of(cancel)
        [ack] = second.wait_for("ACK")
        assert ack.header("via") == invite.header("via")


def test_a_server_that_has_the_call_by_another_way_has_not_refused_it() -> None:
    """A slow server gets the INVITE over TCP, too, and says 482 to that, as RFC 3261 section 8.2.2.2 has it."""
    with Registrar(FIRST, transports=("udp",)) as slow, Registrar(FIRST, transports=("tcp",)) as merging:
        slow.fault = Fault(latency=2.5)
        merging.fault = Fault(code=482)
        with app(f"udp:{FIRST}:5060", f"tcp:{FIRST}:5060") as running:
            assert running.ask("INVITE")["code"] == 200
            assert seen(merging)[:2] == ["INVITE/tcp", "ACK/tcp"]


def test_a_request_that_went_on_over_tcp_is_not_repeated_there() -> None:
    with crossing("UDP to TCP", UNAVAILABLE) as (_, second, running, _via):
        second.fault = Fault(delay=2.5)
        assert running.ask("REGISTER")["code"] == 200
        assert seen(second) == ["REGISTER/tcp"]


@pytest.mark.parametrize("fault", [SILENT, UNAVAILABLE], ids=["silent", "503"])
@pytest.mark.parametrize("method", ["REGISTER", "INVITE"])
def test_a_request_that_went_on_over_udp_is_repeated(method: str, fault: Fault) -> None:
    with crossing("TCP to UDP", fault) as (_, second, running, via):
        second.fault = SILENT
        running.tell(method)
        requests = second.wait_for(method, 3, timeout=15)
        second.fault = WELL
        assert running.next()["code"] == 200
        assert requests[2].at - requests[0].at == pytest.approx(1.5, abs=0.5)
        assert {request.header("via") for request in requests} == {requests[0].header("via")}
        assert re.fullmatch(via, via_of(requests[0])), via_of(requests[0])


def test_a_late_failure_over_udp_is_acknowledged_each_time() -> None:
    """Its transaction was one over TCP, and is over with its first copy; who else acknowledges the next?."""
    with crossing("TCP to UDP", UNAVAILABLE) as (_, second, running, _via):
        second.fault = Fault(provisional=(486,), delay=0.5, code=486)  # a 486, and another
        assert running.ask("INVITE")["code"] == 486
        first_ack, second_ack = second.wait_for("ACK", 2)
        assert first_ack.header("via") == second_ack.header("via")


@pytest.mark.parametrize("fault", [SILENT, UNAVAILABLE, RESETTING], ids=["silent", "503", "resets"])
@pytest.mark.parametrize("method", ["REGISTER", "INVITE"])
def test_no_request_leaves_tls(tmp_path: Path, method: str, fault: Fault) -> None:
    authority = Authority(tmp_path)
    with certified(authority, FIRST) as first, Registrar(SECOND) as second:
        first.fault = fault
        with app(
            f"tls:{FIRST}:5061",
            f"tcp:{FIRST}:5060",
            f"udp:{FIRST}:5060",
            *(f"{transport}:{SECOND}:5060" for transport in ("udp", "tcp")),
            transports=("udp", "tcp", "tls"),
            authority=str(authority.path),
        ) as running:
            running.tell(method)
            first.wait_for(method)
            time.sleep(4)
            assert {request.transport for request in first.requests if request.method == method} == {"tls"}
            assert method not in [request.method for request in second.requests]
