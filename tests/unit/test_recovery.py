"""Hold-downs that end early, and those of a server that flaps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pjfail.model import Health, Outcome, OutcomeKind, Server, State
from pjfail.recovery import STEADY, Recoveries

SERVER = Server("192.0.2.1", 5060)
DOWN = Health(State.DOWN, failures=1, since=1000.0, until=1030.0, reason="silent to OPTIONS", hold=30.0)
SILENCE = Outcome(SERVER, OutcomeKind.SILENT, 1000.0, method="OPTIONS")


def probe(at: float, seen: OutcomeKind = OutcomeKind.ANSWERED) -> Outcome:
    return Outcome(SERVER, seen, at, method="OPTIONS (probe)", probe=True)


def down(failure: Outcome = SILENCE, health: Health = DOWN, rise: int = 1) -> Recoveries:
    recoveries = Recoveries(rise)
    recoveries.went_down(SERVER, health, failure)
    return recoveries


@pytest.mark.parametrize(("rise", "needed"), [(1, 2), (2, 2), (3, 3)])
def test_a_server_that_answers_so_many_probes_in_a_row_is_half_open_from_the_first_answer_on(
    rise: int, needed: int
) -> None:
    recoveries = down(rise=rise)
    answers = [recoveries.probed(SERVER, DOWN, probe(1003.0 + number)) for number in range(needed)]
    assert answers[:-1] == [None] * (needed - 1)
    recovering = answers[-1]
    assert recovering is not None
    assert (recovering.state, recovering.since, recovering.until) == (State.HALF_OPEN, 1003.0, None)
    assert recovering.successes == needed - 1, "so that one more answer makes it up"


def test_a_probe_that_fails_between_begins_the_count_anew() -> None:
    recoveries = down()
    for at, seen in ((1003.0, OutcomeKind.ANSWERED), (1004.0, OutcomeKind.SILENT), (1005.0, OutcomeKind.ANSWERED)):
        assert recoveries.probed(SERVER, DOWN, probe(at, seen)) is None
    recovering = recoveries.probed(SERVER, DOWN, probe(1006.0))
    assert recovering is not None
    assert recovering.since == 1005.0


ENDS = [
    pytest.param(SILENCE, DOWN, True, id="silence"),
    pytest.param(replace(SILENCE, seen=OutcomeKind.UNAVAILABLE, code=503), replace(DOWN, held=True), True, id="503"),
    pytest.param(
        replace(SILENCE, seen=OutcomeKind.UNAVAILABLE, code=503, retry_after=30.0),
        replace(DOWN, held=True),
        False,
        id="503-with-retry-after",
    ),
    pytest.param(SILENCE, replace(DOWN, failures=4), True, id="silence-all-along"),
]


@pytest.mark.parametrize(("failure", "health", "may_end"), ENDS)
def test_a_hold_down_may_end_early(failure: Outcome, health: Health, may_end: bool) -> None:
    assert down(failure, health).may_end_early(SERVER) == may_end


def test_a_server_that_is_not_down_for_a_failure_has_no_early_end() -> None:
    recoveries = down()
    assert not Recoveries(1).may_end_early(SERVER)
    recoveries.forget(SERVER)  # the application has marked it down
    assert not recoveries.may_end_early(SERVER)


@pytest.mark.parametrize(("after", "failures"), [(10.0, 1), (STEADY - 1, 1), (STEADY + 1, 0)])
def test_a_server_that_was_spared_is_remembered_for_a_while(after: float, failures: int) -> None:
    recoveries = down()
    recoveries.probed(SERVER, DOWN, probe(1003.0))
    recoveries.probed(SERVER, DOWN, probe(1004.0))
    recoveries.came_back(SERVER, 1004.0)
    remembered = recoveries.remembered(SERVER, Health(since=1003.0), 1004.0 + after)
    assert remembered.failures == failures
    assert remembered.hold == (30.0 if failures else 0.0)


def test_a_long_outage_counts_for_one_hold_down() -> None:
    recoveries = down()
    for failures in (2, 3, 4):
        recoveries.went_down(SERVER, replace(DOWN, failures=failures, hold=30.0 * failures), SILENCE)
    recoveries.probed(SERVER, DOWN, probe(1303.0))
    recoveries.probed(SERVER, DOWN, probe(1304.0))
    recoveries.came_back(SERVER, 1304.0)
    remembered = recoveries.remembered(SERVER, Health(since=1303.0), 1310.0)
    assert (remembered.failures, remembered.hold) == (1, 30.0)


def test_a_server_that_flaps_is_remembered_from_its_last_return_on() -> None:
    recoveries = down()
    recoveries.probed(SERVER, DOWN, probe(1003.0))
    recoveries.probed(SERVER, DOWN, probe(1004.0))
    recoveries.came_back(SERVER, 1004.0)
    recoveries.went_down(SERVER, replace(DOWN, failures=2, hold=60.0), SILENCE)
    assert not recoveries.may_end_early(SERVER)
    recoveries.came_back(SERVER, 1100.0)
    assert recoveries.remembered(SERVER, Health(), 1200.0).failures == 2
    assert recoveries.remembered(SERVER, Health(), 1100.0 + STEADY).failures == 0
