"""The Steering value: what it takes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import pjfail
from pjfail._native import lib
from pjfail.steering import MAX_ATTEMPTS, SILENCE


def test_the_defaults() -> None:
    steering = pjfail.Steering()
    assert steering.enabled
    assert steering.silence == {"REGISTER": 0.5, "OPTIONS": 0.5, "SUBSCRIBE": 0.5, "PUBLISH": 0.5, "INVITE": 1.5}
    assert steering.codes == (503,)
    assert steering.port_check
    assert steering.attempts == 8
    assert not pjfail.Steering.off().enabled


def test_a_method_more_leaves_the_defaults_alone() -> None:
    steering = pjfail.Steering(silence={**SILENCE, "MESSAGE": 1.0})
    assert steering.silence["MESSAGE"] == 1.0
    assert "MESSAGE" not in pjfail.Steering().silence


def test_it_does_not_change_with_the_mapping_that_it_was_made_of() -> None:
    silence = {"MESSAGE": 1.0}
    steering = pjfail.Steering(silence=silence)
    silence["OPTIONS"] = 1.0
    assert dict(steering.silence) == {"MESSAGE": 1.0}


@pytest.mark.parametrize(
    "make",
    [
        lambda: pjfail.Steering(silence={"ACK": 1.0}),
        lambda: pjfail.Steering(silence={"CANCEL": 1.0}),
        lambda: pjfail.Steering(silence={"register": 1.0}),
        lambda: pjfail.Steering(silence={"": 1.0}),
        lambda: pjfail.Steering(silence={"A" * 16: 1.0}),
        lambda: pjfail.Steering(silence={"OPTIONS": 0.0}),
        lambda: pjfail.Steering(silence={"OPTIONS": float("nan")}),
        lambda: pjfail.Steering(silence={"OPTIONS": 33.0}),
        lambda: pjfail.Steering(silence={f"METHOD{'ABCDEFGHIJKLMNOPQ'[n]}": 1.0 for n in range(17)}),
        lambda: pjfail.Steering(codes=(200,)),
        lambda: pjfail.Steering(codes=(401,)),
        lambda: pjfail.Steering(codes=(700,)),
        lambda: pjfail.Steering(race_gap=0.0),
        lambda: pjfail.Steering(budget=1.5),
        lambda: pjfail.Steering(budget=float("nan")),
        lambda: pjfail.Steering(attempts=0),
        lambda: pjfail.Steering(attempts=9),
        lambda: pjfail.Steering(attempts=2.0),  # type: ignore[arg-type]
        lambda: pjfail.Steering(attempts=True),
    ],
)
def test_what_is_no_time_code_or_share_is_refused(make: Callable[[], pjfail.Steering]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        make()


def test_something_else_than_a_steering_is_refused() -> None:
    with pytest.raises(TypeError, match="Steering"):
        pjfail.attach(steering="off")  # type: ignore[arg-type]


def test_the_core_has_room_for_as_many_attempts_as_can_be_asked_for() -> None:
    assert MAX_ATTEMPTS == lib.PF_MAX_ATTEMPTS
