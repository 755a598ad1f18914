"""The sliding window over answers and failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail.window import BUCKETS, Window

MINUTE = Window(60.0)


def test_an_empty_window_has_no_rate() -> None:
    assert (MINUTE.samples, MINUTE.rate) == (0, 0)


def test_failures_and_answers_make_the_rate() -> None:
    window = MINUTE.note(1000.0).note(1010.0, answers=3, failures=1)
    assert (window.answers, window.failures, window.rate) == (pytest.approx(3), 1, pytest.approx(0.25))


def test_what_is_older_than_the_window_is_forgotten() -> None:
    window = MINUTE.note(1000.0, failures=5)
    assert window.note(1050.0).failures == 5
    assert window.note(1061.0).failures == 0


def test_answers_are_spread_over_the_time_in_which_they_came() -> None:
    """A thousand in the last thousand seconds are 60 in the last minute, and no reason to overlook trouble of now."""
    window = MINUTE.note(0.0).note(1000.0, answers=1000)
    assert 54 <= window.answers <= 60


def test_the_first_note_has_no_time_to_spread_over() -> None:
    assert MINUTE.note(1000.0, answers=4).answers == 4


def test_time_that_goes_back_is_taken_for_now() -> None:
    assert MINUTE.note(1000.0).note(990.0, failures=1).noted_at == 1000.0


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_what_is_no_time_is_no_window(seconds: float) -> None:
    with pytest.raises(ValueError, match="not a valid window"):
        Window(seconds)


notes = st.lists(st.tuples(st.floats(0, 200), st.integers(0, 10_000), st.integers(0, 3)), max_size=40)


@given(notes, st.floats(1, 600))
def test_a_window_is_bounded_and_never_counts_more_than_there_was(
    told: list[tuple[float, int, int]], seconds: float
) -> None:
    window, now, answers, failures = Window(seconds), 1000.0, 0, 0
    for pause, good, bad in told:
        now += pause
        before = window
        window = window.note(now, good, bad)
        answers, failures = answers + good, failures + bad
        assert len(window.buckets) <= BUCKETS
        assert -1e-6 <= window.answers <= answers + 1e-6
        assert 0 <= window.failures <= failures
        assert window.failures >= bad
        assert 0 <= window.rate <= 1
        assert before == before.note(before.noted_at or 0.0) or before.noted_at is None  # a value, never changed


@given(st.integers(1, 1000), st.floats(0.1, 50))
def test_within_the_window_no_answer_is_lost(count: int, pause: float) -> None:
    window = MINUTE.note(1000.0).note(1000.0 + pause, answers=count)
    assert window.answers == pytest.approx(count)
