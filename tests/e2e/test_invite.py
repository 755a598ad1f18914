"""Calls while their first server fails, with SIPp as the callee: who gets which INVITE, ACK, CANCEL and BYE.

A SIPp scenario succeeds only when every message that it waits for has come, in that order, and no other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rig.app import App, Line
from rig.sipp import Sipp

from pjfail.testing import SILENT, Registrar

PROGRAM = Path(__file__).with_name("calling_app.py")
FIRST, SECOND = "127.0.82.1", "127.0.82.2"
RETRIED_WITHIN = 4.0  # 1.5 s, on a busy machine


def caller(transport: str) -> App:
    return App(PROGRAM, transport, f"{FIRST}:5060", f"{SECOND}:5060")


@contextmanager
def two_callees(first: str, second: str, transport: str) -> Iterator[tuple[Sipp, Sipp]]:
    with Sipp(FIRST, first, transport) as one, Sipp(SECOND, second, transport) as other:
        yield one, other


def states(app: App, last: str, timeout: float = 20) -> list[Line]:
    """The states of the call up to *last*."""
    lines = [app.next(timeout)]
    while lines[-1].get("state") != last:
        lines.append(app.next(timeout))
    return lines


def call(app: App, until: str) -> list[Line]:
    app.tell("call")
    return states(app, until)


def hang_up(app: App) -> Line:
    app.tell("hang up")
    return states(app, "DISCONNECTED")[-1]


def took(lines: list[Line]) -> float:
    [called_at] = [line["called"] for line in lines if "called" in line]
    seconds: float = lines[-1]["at"] - called_at
    return seconds


def nothing_more(app: App) -> None:
    """The application is told of no call's state again."""
    assert [line for line in app.finish().lines if line.get("state") == "DISCONNECTED"][1:] == []


@pytest.fixture(params=["udp", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def silent_first() -> Iterator[Registrar]:
    with Registrar(FIRST) as first:
        first.fault = SILENT
        yield first


def test_a_call_is_set_up_through_the_second_server(silent_first: Registrar, transport: str) -> None:
    with Sipp(SECOND, "answers", transport) as second, caller(transport) as app:
        lines = call(app, "CONFIRMED")
        assert took(lines) < RETRIED_WITHIN
        app.tell("listen")
        media = app.next()
        assert media["codec"] == "PCMU"
        assert media["received"] > 30
        assert hang_up(app)["code"] == 200
        second.finish()
        nothing_more(app)
        assert {request.method for request in silent_first.requests} == {"INVITE"}


def test_a_503_is_acknowledged_and_the_call_goes_on(transport: str) -> None:
    with two_callees("unavailable", "answers", transport) as (first, second), caller(transport) as app:
        assert took(call(app, "CONFIRMED")) < 1
        first.finish()
        hang_up(app)
        second.finish()
        nothing_more(app)


def test_a_late_answer_of_the_first_server_is_acknowledged_and_released(transport: str) -> None:
    with two_callees("answers_late", "answers", transport) as (first, second), caller(transport) as app:
        lines = call(app, "CONFIRMED")
        assert took(lines) < 2.4, "the late answer came first, so this test has shown nothing"
        first.finish()
        app.tell("listen")
        assert app.next()["received"] > 30, "the call with the second server has suffered"
        hang_up(app)
        second.finish()
        nothing_more(app)


def test_a_call_cancelled_in_the_middle_of_a_failover_rings_nowhere(transport: str) -> None:
    """The first one, silent so far, answers after the CANCEL: it must not be left with a call."""
    with two_callees("answers_late", "rings", transport) as (first, second), caller(transport) as app:
        lines = call(app, "EARLY")
        assert took(lines) < 2.4, "the late answer came first, so this test has shown nothing"
        assert hang_up(app)["code"] == 487
        second.finish()
        first.finish()
        nothing_more(app)


def test_a_call_given_up_before_a_failover_rings_nowhere(transport: str) -> None:
    """No provisional answer, so there is nothing to cancel yet; who answers later must be told that it is over."""
    with Sipp(FIRST, "answers_late", transport) as first, Registrar(SECOND) as second, caller(transport) as app:
        app.tell("call")
        states(app, "CALLING")
        app.tell("hang up")
        first.finish()
        states(app, "DISCONNECTED")
        methods = [request.method for request in second.requests]
        assert methods.count("INVITE") == 0 or {"BYE", "CANCEL"} & set(methods), methods
        nothing_more(app)


def test_a_challenge_of_the_second_server_is_answered_there(silent_first: Registrar, transport: str) -> None:
    with Sipp(SECOND, "challenges", transport) as second, caller(transport) as app:
        assert took(call(app, "CONFIRMED")) < RETRIED_WITHIN
        hang_up(app)
        second.finish()
        nothing_more(app)
        assert not any(request.header("authorization") for request in silent_first.requests)


def test_one_of_two_forked_answers_is_released(silent_first: Registrar, transport: str) -> None:
    """That is stock pjsip's work; pjfail must not do it a second time, nor to the one that the call is with."""
    with Sipp(SECOND, "forks", transport) as second, caller(transport) as app:
        assert took(call(app, "CONFIRMED")) < RETRIED_WITHIN
        app.tell("listen")
        assert app.next()["received"] > 30
        hang_up(app)
        second.finish()
        nothing_more(app)


def test_early_media_and_then_nothing_is_no_reason_to_go_elsewhere(transport: str) -> None:
    with Sipp(FIRST, "early_media", transport) as first, Registrar(SECOND) as second, caller(transport) as app:
        call(app, "EARLY")
        with pytest.raises(TimeoutError):
            second.wait_for("INVITE", timeout=4)
        assert hang_up(app)["code"] == 487
        first.finish()
        nothing_more(app)
