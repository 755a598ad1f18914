"""A thousand clients and five servers in virtual time: what load do the policies make? (docs/fleet.svg shows it.)"""

from __future__ import annotations

import pytest
from rig.fleet import WELL, Fleet, Load, outage, scenarios, simulate

from pjfail.policy import ExponentialBackoff, Policy

FLEETS = scenarios()
OUTAGE, PRIMARY, FLAPPING, SLOW = FLEETS
ALL = range(5)
WIDTH = 10  # seconds that a peak is averaged over; their noise is some seven percent


@pytest.fixture(scope="module", params=FLEETS)
def case(request: pytest.FixtureRequest) -> tuple[str, Load]:
    return request.param, simulate(FLEETS[request.param])


@pytest.mark.slow
def test_the_fleet(case: tuple[str, Load]) -> None:
    """Each scenario is run once, and all that is said of it checked."""
    name, load = case
    assert load.answered == load.sent  # whatever happened to whom
    {OUTAGE: _outage, PRIMARY: _primary, FLAPPING: _flapping, SLOW: _slow}[name](load)


def _outage(load: Load) -> None:
    steady = load.mean(0, 10, 60)
    assert steady == pytest.approx(20, rel=0.1)
    assert load.mean(0, 120, 150) < 0.8 * steady  # those who have not met it yet, between the probes
    for server in ALL[1:]:
        assert load.peak(server, 60, 419, WIDTH) < 1.6 * steady  # a quarter more each, and those who move
    assert load.peak(0, 60, 419, WIDTH) < 1.5 * steady
    assert load.mean(0, 340, 419) == pytest.approx(steady, rel=0.15)
    assert load.late < 1.1 * FLEETS[OUTAGE].clients  # hardly anybody meets it twice


def _primary(load: Load) -> None:
    steady = load.mean(0, 10, 60)
    assert steady == pytest.approx(100, rel=0.05)
    assert load.mean(0, 130, 140) < 0.1 * steady  # between the first probes and the second
    assert load.peak(0, 180, 419, WIDTH) < 1.5 * steady  # it is not overrun when it comes back
    assert load.mean(0, 360, 419) == pytest.approx(steady, rel=0.1)
    assert all(load.mean(server, 395, 419) == 0 for server in ALL[1:])
    assert load.moves == 2 * FLEETS[PRIMARY].clients  # there and back, once each


def _flapping(load: Load) -> None:
    steady = load.mean(0, 10, 60)
    for server in ALL:
        assert load.peak(server, 0, 419, WIDTH) < (1.5 if server else 1.75) * steady  # requests, and all the probes
    assert load.late < 0.05 * load.sent
    assert load.mean(0, 340, 419) == pytest.approx(steady, rel=0.15)


def _slow(load: Load) -> None:
    steady = load.mean(0, 10, 60)
    assert load.late == 0  # slow is not down
    assert load.mean(0, 110, 180) < 0.5 * steady
    assert load.mean(0, 340, 419) > 0.7 * steady  # nobody shuns it for ever
    assert all(load.peak(server, 0, 419, WIDTH) < 1.5 * steady for server in ALL)


def test_the_same_seed_makes_the_same_fleet() -> None:
    one, again, other = (
        simulate(Fleet([outage(20, 60), WELL], Policy(), (1, 1), clients=30, duration=120, seed=seed))
        for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other


@pytest.mark.slow
def test_without_jitter_and_failback_a_fleet_does_stampede() -> None:
    """That a peak shows at all, or the bounds above would say nothing."""
    policy = Policy(backoff=ExponentialBackoff(jitter=0))
    load = simulate(Fleet([outage(60, 180), *[WELL] * 4], policy, (1, 2, 2, 2, 2)))
    assert load.peak(0, 180, 419, WIDTH) > 1.5 * load.mean(0, 10, 60)
