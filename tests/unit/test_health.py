"""The table of health, and what the passing of time makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail import health as module
from pjfail.health import HealthTable, at
from pjfail.model import Health, Server, State

ONE, OTHER = Server("192.0.2.1", 5060), Server("192.0.2.2", 5060)
DOWN = Health(State.DOWN, 3, 100.0, 130.0, "answered 503 to REGISTER", held=True, rtt=0.02, last_answer=90.0)


def test_a_hold_down_lasts_until_its_end() -> None:
    assert at(DOWN, 129.9) is DOWN


@pytest.mark.parametrize("now", [130.0, 1000.0])
def test_a_hold_down_that_has_ended_leaves_the_server_half_open_since_then(now: float) -> None:
    after = at(DOWN, now)
    assert after == Health(State.HALF_OPEN, 3, 130.0, None, "answered 503 to REGISTER", held=False)
    assert (after.rtt, after.last_answer) == (0.02, 90.0)


def test_a_hold_down_without_an_end_does_not_end() -> None:
    marked = Health(State.DOWN, since=100.0, until=None, held=True)
    assert at(marked, 1e9) is marked


@pytest.mark.parametrize("state", [state for state in State if state is not State.DOWN])
def test_time_alone_changes_no_other_state(state: State) -> None:
    health = Health(state, since=100.0, until=130.0)
    assert at(health, 1000.0) is health


healths = st.builds(
    Health,
    state=st.sampled_from(State),
    failures=st.integers(0, 9),
    since=st.floats(0, 100),
    until=st.one_of(st.none(), st.floats(0, 200)),
    held=st.booleans(),
)


@given(healths, st.floats(0, 200), st.floats(0, 200))
def test_looking_in_between_makes_no_difference(health: Health, one: float, other: float) -> None:
    sooner, later = sorted((one, other))
    assert at(at(health, sooner), later) == at(health, later)


def test_a_server_never_heard_of_is_up() -> None:
    assert HealthTable().get(ONE, 100.0) == Health()


def test_asking_for_a_server_does_not_enter_it() -> None:
    table = HealthTable()
    table.get(ONE, 100.0)
    assert table.snapshot(100.0) == {}


def test_the_table_gives_what_was_put_as_it_is_now() -> None:
    table = HealthTable()
    table.put(ONE, DOWN)
    assert table.get(ONE, 110.0) == DOWN
    assert table.get(ONE, 140.0).state is State.HALF_OPEN
    assert table.get(OTHER, 110.0) == Health()


def test_a_dropped_server_is_up_again() -> None:
    table = HealthTable()
    table.put(ONE, DOWN)
    table.drop(ONE)
    table.drop(ONE)  # no harm
    assert table.get(ONE, 110.0) == Health()


def test_a_snapshot_is_as_of_its_time() -> None:
    table = HealthTable()
    table.put(ONE, DOWN)
    table.put(OTHER, Health(State.DOWN, 1, 100.0, 500.0))
    states = {server: health.state for server, health in table.snapshot(200.0).items()}
    assert states == {ONE: State.HALF_OPEN, OTHER: State.DOWN}


def test_a_snapshot_stays_as_it_was_and_cannot_be_written() -> None:
    table = HealthTable()
    table.put(ONE, DOWN)
    snapshot = table.snapshot(110.0)
    table.put(OTHER, DOWN)
    table.drop(ONE)
    assert snapshot == {ONE: DOWN}
    with pytest.raises(TypeError):
        snapshot[ONE] = Health()  # type: ignore[index]


def test_a_snapshot_can_be_taken_while_the_worker_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any thread may take one, and the worker's turn may come in the midst of it."""
    table = HealthTable()
    table.put(ONE, DOWN)

    def interrupted(health: Health, now: float) -> Health:
        table.put(OTHER, DOWN)
        return at(health, now)

    monkeypatch.setattr(module, "at", interrupted)
    assert table.snapshot(110.0)[ONE] == DOWN
