"""The table of health, and what the passing of time makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail import health as module
from pjfail.health import HealthTable, at
from pjfail.model import Health, Server, State
from pjfail.targets import MOST_TARGETS

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


def server_at(number: int) -> Server:
    return Server(f"192.0.2.{number}", 5060)


# What is done to the table: which, and with which server.
steps = st.lists(st.tuples(st.sampled_from(["put", "hold", "release", "drop"]), st.integers(0, 9)), max_size=60)


@given(st.integers(1, 6), steps)
def test_it_has_never_more_than_its_bound_and_none_of_a_plan_makes_room_for_one_of_none(
    most: int, done: list[tuple[str, int]]
) -> None:
    table = HealthTable(most)
    planned: set[Server] = set()
    noted: list[Server] = []  # the one put, or that plans took or let go of, longest ago first
    for step, number in done:
        server, before = server_at(number), dict(table.snapshot(110.0))
        if step == "put":
            table.put(server, DOWN)
        else:
            getattr(table, step)(server)
        if step == "put" or (step == "hold" and server not in planned) or (step == "release" and server in planned):
            noted = [*(each for each in noted if each != server), server]
        planned = planned | {server} if step == "hold" else planned - {server} if step == "release" else planned
        after = dict(table.snapshot(110.0))
        assert len(after) <= most
        pushed_out = set(before) - set(after) - {server}
        assert len(pushed_out) <= (step == "put")
        for gone in pushed_out:
            if gone in planned:
                assert set(after) <= planned
            # Longest unheard of, among those of its kind.
            rivals = [kept for kept in after if (kept in planned) is (gone in planned)]
            assert all(noted.index(gone) < noted.index(kept) for kept in rivals)
        if step == "put":
            assert server in after or (server not in planned and set(after) <= planned)
        if step in ("hold", "release"):
            assert before == after


def test_the_table_has_room_for_as_many_servers_as_there_are_targets() -> None:
    table = HealthTable()
    for number in range(MOST_TARGETS + 5000):
        table.put(Server(f"10.0.{number >> 8}.{number & 255}", 5060), DOWN)
    assert len(table.snapshot(110.0)) == module.MAX_SERVERS == MOST_TARGETS
