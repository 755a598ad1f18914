"""A thousand clients with one memory, in virtual time, beside as many without (docs/shared.svg shows ten thousand)."""

from __future__ import annotations

import pytest
from rig.fleet import Load, shared_scenarios, simulate

pytestmark = pytest.mark.slow

EQUALS, SHARED_EQUALS, PRIMARY, SHARED_PRIMARY, POISONED, STORE_OUT = shared_scenarios()
WIDTH = 10


@pytest.fixture(scope="module")
def loads() -> dict[str, Load]:
    return {title: simulate(fleet) for title, fleet in shared_scenarios().items()}


def probes(load: Load) -> int:
    return sum(load.probes[0])


def peak(load: Load) -> float:
    """Of the server that was out, once it is back, beside its steady load."""
    return load.peak(0, 180, 419, WIDTH) / load.mean(0, 10, 60)


def test_nothing_is_lost_whatever_happens_to_whom(loads: dict[str, Load]) -> None:
    assert all(load.answered == load.sent for load in loads.values())


@pytest.mark.parametrize(("alone", "shared"), [(EQUALS, SHARED_EQUALS), (PRIMARY, SHARED_PRIMARY)])
def test_a_fleet_pays_for_an_outage_once_and_not_each_client(loads: dict[str, Load], alone: str, shared: str) -> None:
    assert loads[shared].late < 0.25 * loads[alone].late
    assert probes(loads[shared]) < 0.02 * probes(loads[alone])
    assert probes(loads[shared]) >= 2


@pytest.mark.parametrize("shared", [SHARED_EQUALS, SHARED_PRIMARY])
def test_all_come_back_and_not_at_once(loads: dict[str, Load], shared: str) -> None:
    load = loads[shared]
    assert peak(load) < 1.2
    assert load.mean(0, 360, 419) == pytest.approx(load.mean(0, 10, 60), rel=0.15)


def test_one_client_that_is_wrong_is_contradicted(loads: dict[str, Load]) -> None:
    load = loads[POISONED]
    steady = load.mean(0, 10, 60)
    assert min(load.mean(0, begin, begin + WIDTH) for begin in range(0, 410, WIDTH)) > 0.75 * steady
    assert load.told < 200  # and that is no storm


def test_without_the_store_each_is_on_its_own(loads: dict[str, Load]) -> None:
    assert loads[STORE_OUT].late < 1.1 * loads[EQUALS].late
    assert peak(loads[STORE_OUT]) < 1.5
