"""When an account whose connection has ended registers again."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail.reconnection import BACKOFF, JITTER, MAX_BACKOFF, STEADY, TOGETHER, Closings, Queue, Reconnections

WAITS = [
    pytest.param([0.0], [0.0], id="at-once"),
    pytest.param([0.0, STEADY + 1], [0.0, 0.0], id="the-connection-lasted"),
    pytest.param([0.0, 0.2, 0.2, 0.2, 0.2], [0.0, 0.5, 1.0, 2.0, 4.0], id="it-keeps-closing"),
    pytest.param([0.0] * 9, [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, MAX_BACKOFF, MAX_BACKOFF], id="bounded"),
    pytest.param([0.0, 0.2, STEADY + 1, 0.2], [0.0, 0.5, 0.0, 0.5], id="and-lasted-again"),
]


@pytest.mark.parametrize(("lasted", "waits"), WAITS)
def test_each_connection_that_ends_soon_doubles_the_wait(lasted: list[float], waits: list[float]) -> None:
    """*lasted* is how long after its REGISTER was due each connection ended."""
    random, closings, now = Random(1), Closings(), 1000.0
    for seconds, wait in zip(lasted, waits, strict=True):
        now += seconds
        closings = closings.after(now, random)
        assert wait <= closings.at - now <= wait + JITTER
        now = closings.at


@given(
    spread=st.sampled_from([0.0, 0.2, 2.0, 30.0]),
    gaps=st.lists(st.floats(0, 3 * STEADY), max_size=40),
    accounts=st.integers(1, 50),
    seed=st.integers(),
)
def test_an_account_registers_within_its_backoff_and_spread(
    spread: float, gaps: list[float], accounts: int, seed: int
) -> None:
    reconnections, now = Reconnections(Random(seed)), 1000.0
    for number, gap in enumerate(gaps):
        now += gap
        due = reconnections.due(number % accounts, spread, now)
        assert now <= due <= now + MAX_BACKOFF + JITTER + spread


def test_accounts_that_lose_their_connections_together_come_one_after_the_other() -> None:
    reconnections = Reconnections(Random(1))
    dues = sorted(reconnections.due(account, 2.0, 1000.0) - 1000.0 for account in range(200))
    assert dues[0] <= JITTER
    assert 1.8 < dues[-1] < 2.0 + JITTER
    assert max(sum(start <= each < start + 0.1 for each in dues) for start in dues) <= 30
    assert reconnections.due(200, 2.0, 1000.0 + TOGETHER) <= 1000.0 + TOGETHER + JITTER


def test_without_a_spread_none_waits_for_another() -> None:
    queue = Queue()
    for _ in range(5):
        queue = queue.after(1000.0)
        assert queue.wait(0.0) == 0.0


def test_a_forgotten_account_begins_anew() -> None:
    reconnections = Reconnections(Random(1))
    reconnections.due(1, 0.0, 1000.0)
    assert reconnections.due(1, 0.0, 1001.0) >= 1001.0 + BACKOFF
    reconnections.forget(1)
    assert reconnections.due(1, 0.0, 1002.5) <= 1002.5 + JITTER
