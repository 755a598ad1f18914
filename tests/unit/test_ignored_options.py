"""Which servers ignore OPTIONS, told from what they answer and what they do not."""

from __future__ import annotations

from random import Random

import pytest

from pjfail.model import Health, Outcome, OutcomeKind, Server, State
from pjfail.policy import Policy, judge, left_to_traffic
from pjfail.probe import NEARBY, IgnoredOptions, OptionsVerdict

SERVER = Server("192.0.2.1", 5060)
FAILED, UNPROVEN = OptionsVerdict.FAILED, OptionsVerdict.UNPROVEN
FOUND_OUT, IGNORED = OptionsVerdict.FOUND_OUT, OptionsVerdict.IGNORED


@pytest.mark.parametrize("options", [None, 90.0])
def test_a_server_that_answers_nothing_else_fails_by_its_options(options: float | None) -> None:
    ignored = IgnoredOptions()
    for began in (100.0, 101.0, 200.0):
        assert ignored.note(SERVER, began, options, None) is FAILED
    assert SERVER not in ignored


def test_a_server_that_has_answered_an_options_before_fails_by_the_next() -> None:
    assert IgnoredOptions().note(SERVER, 100.0, 90.0, 95.0) is FAILED


def test_one_that_has_answered_other_requests_alone_is_to_be_asked_otherwise() -> None:
    ignored = IgnoredOptions()
    assert not ignored.is_suspect(SERVER)
    assert [ignored.note(SERVER, began, None, 95.0) for began in (100.0, 100.1, 105.0)] == [UNPROVEN] * 3
    assert SERVER not in ignored
    assert ignored.is_suspect(SERVER)


@pytest.mark.parametrize("options", [None, 90.0])
@pytest.mark.parametrize("began", [100.0, 105.0, 101.0 + NEARBY - 0.1])
def test_another_answer_between_two_unanswered_options_tells_or_one_meanwhile(
    options: float | None, began: float
) -> None:
    ignored = IgnoredOptions()
    ignored.note(SERVER, 100.0, options, 95.0)
    assert ignored.note(SERVER, began, options, 101.0) is FOUND_OUT
    assert ignored.note(SERVER, began + 1, options, 101.0) is IGNORED
    assert SERVER in ignored
    ignored.forget(SERVER)
    assert SERVER not in ignored


def test_an_answer_long_ago_tells_nothing_of_now() -> None:
    ignored = IgnoredOptions()
    ignored.note(SERVER, 100.0, None, 95.0)
    assert ignored.note(SERVER, 101.0 + NEARBY, None, 101.0) is UNPROVEN


def test_an_answered_options_begins_the_count_anew() -> None:
    ignored = IgnoredOptions()
    assert ignored.note(SERVER, 100.0, None, None) is FAILED
    assert ignored.note(SERVER, 105.0, 103.0, 102.0) is FAILED
    assert ignored.note(SERVER, 106.0, 103.0, 104.9) is FAILED
    assert ignored.note(SERVER, 107.0, 103.0, 106.5) is FOUND_OUT


def test_a_server_left_to_its_traffic_is_up_and_held_down_longer_until_it_answers() -> None:
    policy, random = Policy(), Random(1)
    half_open = Health(State.HALF_OPEN, failures=3, since=90.0, hold=120.0, reason="silent to OPTIONS")
    up = left_to_traffic(half_open, policy, 100.0, random)
    assert up.usable
    assert not up.returning
    assert up.generation == half_open.generation + 1
    failed = judge(up, Outcome(SERVER, OutcomeKind.SILENT, 101.0, "REGISTER"), policy, 101.0, random)
    assert (failed.state, failed.failures) == (State.DOWN, 4)
    assert failed.hold >= 120.0
    answered = judge(up, Outcome(SERVER, OutcomeKind.ANSWERED, 101.0, "REGISTER"), policy, 101.0, random)
    assert (answered.state, answered.failures, answered.hold, answered.reason) == (State.UP, 0, 0.0, "")


def test_a_server_left_to_its_traffic_has_its_tier_back_after_failback() -> None:
    up = left_to_traffic(Health(State.HALF_OPEN, since=90.0), Policy(failback=20.0), 100.0, Random(1))
    assert up.returning
    assert up.returns_at is not None
    assert 120.0 <= up.returns_at <= 130.0
