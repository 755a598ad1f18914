"""Which server is taken down, for what, and after how many failures."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail.detection import Consecutive, FailureRate, any_of, counts
from pjfail.model import Health, Outcome, OutcomeKind, Server, State
from pjfail.window import Window

NOW = 1000.0
SERVER = Server("192.0.2.1", 5060)
TROUBLE = [OutcomeKind.SILENT, OutcomeKind.REFUSED, OutcomeKind.DISCONNECTED, OutcomeKind.UNAVAILABLE]


def outcome(seen: OutcomeKind, **details: Any) -> Outcome:
    return Outcome(SERVER, seen, NOW, "OPTIONS", **details)


@pytest.mark.parametrize("seen", OutcomeKind)
@pytest.mark.parametrize("after_provisional", [False, True])
def test_only_what_is_the_servers_own_doing_counts(seen: OutcomeKind, after_provisional: bool) -> None:
    own = seen not in (OutcomeKind.ANSWERED, OutcomeKind.CERTIFICATE) and not after_provisional
    assert counts(outcome(seen, after_provisional=after_provisional)) is own


@pytest.mark.parametrize("seen", TROUBLE)
@pytest.mark.parametrize(
    ("streak", "verdict"), [(0, State.SUSPECT), (1, State.SUSPECT), (2, State.DOWN), (9, State.DOWN)]
)
def test_the_nth_failure_in_a_row_takes_the_server_down(seen: OutcomeKind, streak: int, verdict: State) -> None:
    assert Consecutive(failures=3)(Health(streak=streak), outcome(seen)) is verdict


@pytest.mark.parametrize(("errors", "verdict"), [(0, False), (3, False), (4, True)])
def test_the_nth_error_in_a_row_takes_the_server_down_and_none_before_it_makes_suspect(
    errors: int, verdict: bool
) -> None:
    assert Consecutive()(Health(errors=errors), outcome(OutcomeKind.SERVER_ERROR)) is verdict


def test_probes_have_a_count_of_their_own() -> None:
    detect = Consecutive(failures=1, fall=3)
    assert detect(Health(streak=1), outcome(OutcomeKind.SILENT, probe=True)) is State.SUSPECT
    assert detect(Health(streak=2), outcome(OutcomeKind.SILENT, probe=True)) is State.DOWN
    assert detect(Health(), outcome(OutcomeKind.SILENT)) is State.DOWN


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"errors": 0}, {"fall": -1}])
def test_counts_below_one_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="from 1 on"):
        Consecutive(**wrong)


def window(answers: int, failures: int) -> Health:
    return Health(window=Window().note(NOW - 50).note(NOW, answers, failures))


@pytest.mark.parametrize(
    ("answers", "failures", "down"),
    [
        (0, 18, False),  # 19 with this one: too few to tell
        (0, 19, True),
        (9, 10, True),  # 11 of 20
        (10, 9, False),  # 10 of 20: not more than half
        (1000, 19, False),
    ],
)
def test_a_failure_rate_takes_the_server_down_where_there_are_samples_enough(
    answers: int, failures: int, down: bool
) -> None:
    rate = FailureRate(above=0.5, samples=20)
    assert rate(window(answers, failures), outcome(OutcomeKind.SERVER_ERROR)) is down


def test_the_answers_that_came_with_the_outcome_are_samples_too() -> None:
    rate = FailureRate(above=0.5, samples=20)
    assert rate(window(0, 19), outcome(OutcomeKind.SILENT))
    assert not rate(window(0, 19), outcome(OutcomeKind.SILENT, answers=1000))


def test_any_of_takes_the_server_down_when_one_does() -> None:
    both = any_of(Consecutive(failures=3), FailureRate(samples=20))
    assert both(Health(), outcome(OutcomeKind.SILENT)) is State.SUSPECT
    assert both(window(0, 30), outcome(OutcomeKind.SILENT)) is State.DOWN
    assert both(Health(streak=2), outcome(OutcomeKind.SILENT)) is State.DOWN
    assert both(Health(), outcome(OutcomeKind.CERTIFICATE)) is False


@pytest.mark.parametrize("wrong", [{"above": 1.0}, {"above": 50}, {"above": -0.1}, {"samples": 0}])
def test_a_rate_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give a share below 1"):
        FailureRate(**wrong)


healths = st.builds(Health, streak=st.integers(0, 9), errors=st.integers(0, 9))
outcomes = st.builds(outcome, st.sampled_from(OutcomeKind), after_provisional=st.booleans(), probe=st.booleans())


@given(healths, outcomes, st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_more_patience_never_takes_it_down_sooner(
    health: Health, seen: Outcome, failures: int, errors: int, fall: int
) -> None:
    severity = {False: 0, State.SUSPECT: 1, True: 2, State.DOWN: 2}
    patient = Consecutive(failures + 1, errors + 1, fall + 1)(health, seen)
    assert severity[patient] <= severity[Consecutive(failures, errors, fall)(health, seen)]
