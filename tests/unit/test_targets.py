"""How many targets, candidates and healths are kept, whoever asks for whatever: the C core's plans, without pjsip."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pjfail import targets as module
from pjfail.bridge import plans
from pjfail.health import HealthTable
from pjfail.model import Candidate, Health, Server, State, Target
from pjfail.policy import Policy
from pjfail.targets import Targets

DOWN = Health(State.DOWN, 1, 100.0, None, "silent to OPTIONS")


def server(number: int) -> Server:
    return Server(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 5060)


def target(number: int) -> Target:
    return Target(f"n{number}.example", 5060)


class Kept:
    """The targets and what is told of them."""

    def __init__(self) -> None:
        self.health = HealthTable(most=100)
        self.gone: list[Server] = []
        self.targets = Targets(Policy(), self.health, lambda _: None, self.gone.append, lambda *_: None)

    def learn(self, number: int, *servers: int) -> None:
        candidates = tuple(Candidate(server(each), f"n{number}.example", ttl=60.0) for each in servers)
        self.targets.learn(target(number), candidates)


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    for each, _ in list(kept.targets):
        plans.forget(each)


def test_the_target_that_was_asked_for_longest_ago_goes(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TARGETS", 3)
    for number in (0, 1, 2, 0, 3):
        kept.learn(number, number)
    assert [each for each, _ in kept.targets] == [target(2), target(0), target(3)]
    assert kept.gone == [server(1)]


def test_all_targets_together_have_so_many_candidates(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CANDIDATES", 10)
    for number in range(5):
        kept.learn(number, *range(10 * number, 10 * number + 4))
    assert [each for each, _ in kept.targets] == [target(3), target(4)]
    kept.learn(4, 40)
    kept.learn(5, *range(50, 55))
    assert [each for each, _ in kept.targets] == [target(3), target(4), target(5)]
    kept.learn(6, *range(60, 72))  # more than all may have: it is kept all the same, alone
    assert [each for each, _ in kept.targets] == [target(6)]
    assert sorted(kept.targets.servers()) == [server(number) for number in range(60, 72)]


def test_a_thousand_targets_whose_servers_died_leave_a_hundred_healths(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_TARGETS", 10)
    for number in range(1000):
        kept.learn(number, number)
        kept.health.put(server(number), DOWN)
    known = kept.health.snapshot(200.0)
    assert len(known) == 100
    assert set(known) == {server(number) for number in range(900, 1000)}
    kept.learn(0, 900)  # one that is remembered, and that a plan has again
    for number in range(1000, 1200):
        kept.health.put(server(number), DOWN)
    assert kept.health.get(server(900), 200.0) == DOWN
    assert kept.health.get(server(980), 200.0) == Health()
