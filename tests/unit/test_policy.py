"""The default policy, and what makes health of an outcome."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail.detection import Consecutive
from pjfail.health import at
from pjfail.model import Candidate, CertificateProblem, Health, Outcome, OutcomeKind, Server, State
from pjfail.order import Sticky, by_priority, standing
from pjfail.policy import ExponentialBackoff, Policy, describe, judge, share

NOW = 1000.0
SERVER = Server("192.0.2.1", 5060)
STEADY = Policy(backoff=ExponentialBackoff(jitter=0))  # 30, 60, 120, 240, 300, 300, ... seconds

UP = Health(since=1.0, rtt=0.02, last_answer=900.0)
DOWN = Health(State.DOWN, 1, 990.0, 1020.0, "silent to OPTIONS", rtt=0.02, last_answer=900.0)
RESTING = Health(State.DOWN, 1, 990.0, 1020.0, "answered 503 to OPTIONS", held=True)
MARKED_DOWN = Health(State.DOWN, 0, 990.0, None, "marked down by the application", held=True)
HALF_OPEN = Health(State.HALF_OPEN, 1, 990.0, None, "silent to OPTIONS")
DRAINING = Health(State.DRAINING, 0, 990.0, None, "drained by the application", held=True)
SUSPECT = Health(State.SUSPECT, 0, 990.0)

TROUBLE = (OutcomeKind.SILENT, OutcomeKind.REFUSED, OutcomeKind.DISCONNECTED, OutcomeKind.UNAVAILABLE)
HARMLESS = (
    {"seen": OutcomeKind.CERTIFICATE},
    {"seen": OutcomeKind.UNAVAILABLE, "after_provisional": True, "retry_after": 60.0},
)


def outcome(seen: OutcomeKind, **details: Any) -> Outcome:
    code = {OutcomeKind.ANSWERED: 200, OutcomeKind.UNAVAILABLE: 503, OutcomeKind.SERVER_ERROR: 500}.get(seen, 0)
    return Outcome(SERVER, seen, details.pop("at", NOW), "OPTIONS", code, **details)


def judged(before: Health, seen: OutcomeKind, *, policy: Policy = STEADY, now: float = NOW, **details: Any) -> Health:
    return judge(before, outcome(seen, at=now, **details), policy, now, Random(3261))


def candidate(host: int, priority: int = 0) -> Candidate:
    return Candidate(Server(f"192.0.2.{host}", 5060), f"sip{host}.example.com", priority)


# --- the order --------------------------------------------------------------------------------------------------------


def test_the_lower_priority_comes_first_and_equal_ones_share_a_tier() -> None:
    first, second, third = candidate(1, 20), candidate(2, 10), candidate(3, 20)
    assert by_priority([first, second, third], {}) == [[second], [first, third]]


@pytest.mark.parametrize("state", [State.DOWN, State.HALF_OPEN, State.DRAINING])
def test_a_server_that_is_not_usable_stands_behind_all_that_are(state: State) -> None:
    first, second, third = candidate(1, 0), candidate(2, 1), candidate(3, 2)
    assert by_priority([first, second, third], {first.server: Health(state)}) == [[second], [third], [first]]


def test_a_server_that_is_up_keeps_its_place() -> None:
    first, second = candidate(1, 0), candidate(2, 1)
    assert by_priority([first, second], {first.server: Health()}) == [[first], [second]]


@pytest.mark.parametrize("doubtful", [Health(State.SUSPECT), Health(returning=True, returns_at=NOW + 60)])
def test_a_server_in_doubt_stands_behind_those_that_are_well_and_before_those_that_are_down(doubtful: Health) -> None:
    first, second, third = candidate(1, 0), candidate(2, 1), candidate(3, 2)
    health = {first.server: Health(State.DOWN), second.server: doubtful}
    assert by_priority([first, second, third], health) == [[third], [second], [first]]


def test_servers_all_down_keep_their_order_by_priority() -> None:
    first, second = candidate(1, 1), candidate(2, 0)
    down = {each.server: Health(State.DOWN) for each in (first, second)}
    assert by_priority([first, second], down) == [[second], [first]]


numbered = st.dictionaries(st.integers(1, 20), st.tuples(st.integers(0, 3), st.sampled_from([None, *State])))


@given(numbered)
def test_the_default_order_is_a_permutation_sorted_by_standing_and_priority(
    listed: dict[int, tuple[int, State | None]],
) -> None:
    candidates = [candidate(host, priority) for host, (priority, _) in listed.items()]
    health = {candidate(host).server: Health(state) for host, (_, state) in listed.items() if state is not None}
    tiers = by_priority(candidates, health)
    ranks = [{(standing(health.get(each.server, Health())), each.priority) for each in tier} for tier in tiers]
    assert sorted(each.server for tier in tiers for each in tier) == sorted(each.server for each in candidates)
    assert all(len(rank) == 1 for rank in ranks)
    flat = [next(iter(rank)) for rank in ranks]
    assert flat == sorted(set(flat))
    assert all(tier == [each for each in candidates if each in tier] for tier in tiers)  # as the lookup had them


# --- which server is taken down ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "after_provisional", "down"),
    [
        (OutcomeKind.ANSWERED, False, False),
        (OutcomeKind.SILENT, False, True),
        (OutcomeKind.REFUSED, False, True),
        (OutcomeKind.DISCONNECTED, False, True),
        (OutcomeKind.UNAVAILABLE, False, True),
        (OutcomeKind.UNAVAILABLE, True, False),
        (OutcomeKind.CERTIFICATE, False, False),
    ],
)
def test_one_failure_of_the_servers_own_takes_it_down(seen: OutcomeKind, after_provisional: bool, down: bool) -> None:
    verdict = Consecutive()(Health(), outcome(seen, after_provisional=after_provisional))
    assert (verdict is State.DOWN) is down


def test_a_half_open_server_that_shows_a_bad_certificate_is_there_again() -> None:
    """Not so one that passes on a 503 from downstream: that may be the trouble it was taken down for."""
    assert judged(HALF_OPEN, OutcomeKind.CERTIFICATE) == Health(State.UP, since=NOW)
    assert judged(HALF_OPEN, OutcomeKind.UNAVAILABLE, after_provisional=True) is HALF_OPEN


# --- for how long -----------------------------------------------------------------------------------------------------


def test_the_backoff_doubles_up_to_its_ceiling() -> None:
    steady = ExponentialBackoff(base=30, ceiling=300, jitter=0)
    assert [steady(failures, Random(1)) for failures in (1, 2, 3, 4, 5, 6)] == [30, 60, 120, 240, 300, 300]


def test_a_million_failures_are_no_overflow() -> None:
    assert ExponentialBackoff(jitter=0)(1_000_000, Random(1)) == 300


@given(st.integers(1, 10_000), st.floats(0, 1), st.integers())
def test_the_jitter_is_a_share_either_way(failures: int, jitter: float, seed: int) -> None:
    steady = ExponentialBackoff(jitter=0)(failures, Random(0))
    hold = ExponentialBackoff(jitter=jitter)(failures, Random(seed))
    assert steady * (1 - jitter) - 1e-9 <= hold <= steady * (1 + jitter) + 1e-9


def test_the_jitter_spreads_over_its_whole_range() -> None:
    random = Random(1)
    holds = [ExponentialBackoff(base=100, jitter=0.2)(1, random) for _ in range(500)]
    assert min(holds) < 82
    assert max(holds) > 118


# --- from up to down --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "held", "reason"),
    [
        (OutcomeKind.SILENT, False, "silent to OPTIONS"),
        (OutcomeKind.REFUSED, False, "refused the connection"),
        (OutcomeKind.DISCONNECTED, False, "closed the connection with a request unanswered"),
        (OutcomeKind.UNAVAILABLE, True, "answered 503 to OPTIONS"),
    ],
)
@pytest.mark.parametrize("before", [UP, SUSPECT], ids=["up", "suspect"])
def test_trouble_takes_a_server_down_for_the_backoff(
    before: Health, seen: OutcomeKind, held: bool, reason: str
) -> None:
    assert judged(before, seen) == Health(State.DOWN, 1, NOW, NOW + 30, reason, held)


def test_going_down_keeps_what_was_measured() -> None:
    after = judged(UP, OutcomeKind.SILENT)
    assert (after.rtt, after.last_answer) == (UP.rtt, UP.last_answer)


def test_a_503_that_asks_for_time_gets_that_and_no_backoff() -> None:
    reason = "answered 503 to OPTIONS, Retry-After 7 s"
    assert judged(UP, OutcomeKind.UNAVAILABLE, retry_after=7.0) == Health(
        State.DOWN, 1, NOW, NOW + 7, reason, held=True
    )


@pytest.mark.parametrize(
    ("asked", "ceiling", "granted"), [(0.0, 300, 1), (1.0, 300, 1), (300.0, 300, 300), (1e9, 300, 300), (90.0, 60, 60)]
)
def test_retry_after_is_bounded_at_both_ends(asked: float, ceiling: float, granted: float) -> None:
    after = judged(UP, OutcomeKind.UNAVAILABLE, policy=Policy(retry_after_ceiling=ceiling), retry_after=asked)
    assert after.until == NOW + granted


def test_only_a_503_may_ask_for_time() -> None:
    assert judged(UP, OutcomeKind.SILENT, retry_after=7.0).until == NOW + 30


@pytest.mark.parametrize("details", HARMLESS, ids=["certificate", "503 from downstream"])
@pytest.mark.parametrize("before", [UP, SUSPECT, DOWN, RESTING, MARKED_DOWN, DRAINING])
def test_what_tells_nothing_of_the_server_changes_nothing(before: Health, details: dict[str, Any]) -> None:
    assert judged(before, **details) is before


# --- while down -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", TROUBLE)
@pytest.mark.parametrize("before", [DOWN, RESTING, MARKED_DOWN], ids=["silent", "503", "marked down"])
def test_the_same_trouble_told_twice_does_not_count_twice(before: Health, seen: OutcomeKind) -> None:
    assert judged(before, seen) is before


def test_a_burst_of_503_with_retry_after_is_one_failure() -> None:
    health = UP
    for _ in range(5):
        health = judged(health, OutcomeKind.UNAVAILABLE, retry_after=7.0)
    assert health.failures == 1


def test_a_later_retry_after_extends_the_hold_down() -> None:
    after = judged(RESTING, OutcomeKind.UNAVAILABLE, retry_after=60.0)
    assert (after.state, after.until, after.held) == (State.DOWN, NOW + 60, True)


def test_a_shorter_retry_after_does_not_shorten_the_hold_down() -> None:
    assert judged(RESTING, OutcomeKind.UNAVAILABLE, retry_after=2.0).until == RESTING.until


def test_after_silence_a_retry_after_holds_the_server_down_whatever_it_answers() -> None:
    resting = judged(DOWN, OutcomeKind.UNAVAILABLE, retry_after=60.0)
    assert judged(resting, OutcomeKind.ANSWERED).state is State.DOWN


def test_a_retry_after_does_not_end_what_the_application_gave_no_end() -> None:
    after = judged(MARKED_DOWN, OutcomeKind.UNAVAILABLE, retry_after=7.0)
    assert (after.state, after.until) == (State.DOWN, None)


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [DOWN, HALF_OPEN, SUSPECT], ids=["down", "half-open", "suspect"])
def test_an_answer_lifts_trouble_and_forgets_the_failures(before: Health) -> None:
    after = judged(before, OutcomeKind.ANSWERED, rtt=0.05)
    assert after == Health(since=NOW)
    assert (after.rtt, after.last_answer) == (0.05, NOW)


def test_an_answer_does_not_lift_the_servers_own_503() -> None:
    after = judged(RESTING, OutcomeKind.ANSWERED, rtt=0.05)
    assert after == RESTING
    assert (after.rtt, after.last_answer) == (0.05, NOW)


def test_an_answer_lifts_a_503_whose_time_is_over() -> None:
    later = 1020.0
    assert judged(at(RESTING, later), OutcomeKind.ANSWERED, now=later) == Health(since=later)


@pytest.mark.parametrize(
    "until",
    [
        pytest.param(1020.0, id="for a while"),
        pytest.param(
            None,
            id="until restored",
        ),
    ],
)
def test_an_answer_does_not_lift_what_the_application_marked_down(until: float | None) -> None:
    marked = Health(State.DOWN, 0, 990.0, until, "marked down by the application", held=True)
    assert judged(marked, OutcomeKind.ANSWERED) == marked


def test_an_answer_of_a_server_that_is_up_is_only_noted() -> None:
    after = judged(UP, OutcomeKind.ANSWERED, rtt=0.05)
    assert after == UP
    assert (after.rtt, after.last_answer) == (0.05, NOW)


def test_an_answer_without_a_measure_keeps_the_old_one() -> None:
    for before in (UP, DOWN):
        assert judged(before, OutcomeKind.ANSWERED).rtt == before.rtt


# --- half-open and draining -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", TROUBLE)
def test_trouble_when_half_open_counts_on_and_doubles_the_backoff(seen: OutcomeKind) -> None:
    after = judged(HALF_OPEN, seen)
    assert (after.state, after.failures, after.until) == (State.DOWN, 2, NOW + 60)


def test_a_server_that_never_comes_back_is_asked_more_and_more_rarely() -> None:
    health, now, holds = Health(), NOW, []
    for _ in range(6):
        health = judged(at(health, now), OutcomeKind.SILENT, now=now)
        assert health.until is not None
        holds.append(health.until - now)
        now = health.until
    assert holds == [30, 60, 120, 240, 300, 300]


def test_after_an_answer_the_backoff_begins_anew() -> None:
    recovered = judged(Health(State.HALF_OPEN, failures=5), OutcomeKind.ANSWERED)
    assert judged(recovered, OutcomeKind.SILENT).until == NOW + 30


@pytest.mark.parametrize("seen", TROUBLE)
def test_trouble_does_not_end_draining(seen: OutcomeKind) -> None:
    assert judged(DRAINING, seen, retry_after=7.0) is DRAINING


def test_an_answer_does_not_end_draining_but_is_noted() -> None:
    after = judged(DRAINING, OutcomeKind.ANSWERED, rtt=0.05)
    assert after == DRAINING
    assert (after.rtt, after.last_answer) == (0.05, NOW)


# --- server errors ----------------------------------------------------------------------------------------------------


def test_five_server_errors_in_a_row_take_a_server_down_and_four_do_not() -> None:
    health, states = UP, []
    for _ in range(5):
        health = judged(health, OutcomeKind.SERVER_ERROR)
        states.append(health.state)
    assert states == [State.UP] * 4 + [State.DOWN]
    assert health == Health(State.DOWN, 1, NOW, NOW + 30, "answered 500 to OPTIONS")


def test_an_answer_between_server_errors_begins_the_count_anew() -> None:
    health = UP
    for seen in [*[OutcomeKind.SERVER_ERROR] * 4, OutcomeKind.ANSWERED, *[OutcomeKind.SERVER_ERROR] * 4]:
        health = judged(health, seen)
    assert (health.state, health.errors) == (State.UP, 4)


def test_a_provisional_answer_shows_life_and_no_more() -> None:
    four = UP
    for _ in range(4):
        four = judged(four, OutcomeKind.SERVER_ERROR)
    trying = Outcome(SERVER, OutcomeKind.ANSWERED, NOW, "INVITE", 100)
    assert judge(four, trying, STEADY, NOW, Random(1)).errors == 4
    assert judge(DOWN, trying, STEADY, NOW, Random(1)).state is State.UP


@pytest.mark.parametrize("before", [DOWN, HALF_OPEN, SUSPECT], ids=["down", "half-open", "suspect"])
def test_a_server_error_is_an_answer_to_who_was_silent(before: Health) -> None:
    after = judged(before, OutcomeKind.SERVER_ERROR)
    assert (after.state, after.failures, after.errors, after.last_answer) == (State.UP, 0, 1, NOW)


def test_a_server_down_for_its_errors_is_down_again_for_one_more_when_half_open() -> None:
    health = UP
    for _ in range(5):
        health = judged(health, OutcomeKind.SERVER_ERROR)
    assert health.until is not None
    again = judged(at(health, health.until), OutcomeKind.SERVER_ERROR, now=health.until)
    assert (again.state, again.failures, again.until) == (State.DOWN, 2, health.until + 60)


def test_an_error_of_somebody_further_downstream_is_not_counted() -> None:
    assert judged(UP, OutcomeKind.SERVER_ERROR, after_provisional=True) is UP


# --- several failures in a row ----------------------------------------------------------------------------------------

PATIENT = Policy(detect=Consecutive(failures=3, fall=2), backoff=ExponentialBackoff(jitter=0), rise=2)


def test_with_patience_a_server_is_suspect_before_it_is_down() -> None:
    health, seen = UP, []
    for _ in range(3):
        health = judged(health, OutcomeKind.SILENT, policy=PATIENT)
        seen.append((health.state, health.streak, health.failures))
    assert seen == [(State.SUSPECT, 1, 0), (State.SUSPECT, 2, 0), (State.DOWN, 3, 1)]
    assert health.until == NOW + 30  # the first time is the first time


def test_an_answer_clears_a_suspect_at_once_and_wholly() -> None:
    suspect = judged(UP, OutcomeKind.SILENT, policy=PATIENT)
    cleared = judged(suspect, OutcomeKind.ANSWERED, policy=PATIENT)
    assert (cleared, cleared.streak) == (Health(since=NOW), 0)
    assert share(cleared, NOW, 30.0) == 1.0


def test_an_answer_begins_the_count_of_failures_anew_though_nobody_was_suspected() -> None:
    third = Policy(detect=lambda health, seen: seen.seen is OutcomeKind.SILENT and health.streak >= 2)
    health = UP
    for seen in (OutcomeKind.SILENT, OutcomeKind.SILENT, OutcomeKind.ANSWERED, OutcomeKind.SILENT, OutcomeKind.SILENT):
        health = judged(health, seen, policy=third)
    assert (health.state, health.streak) == (State.UP, 2)
    assert judged(health, OutcomeKind.SILENT, policy=third).state is State.DOWN


def test_two_failed_probes_take_it_down() -> None:
    once = judged(UP, OutcomeKind.SILENT, policy=PATIENT, probe=True)
    assert once.state is State.SUSPECT
    assert judged(once, OutcomeKind.SILENT, policy=PATIENT, probe=True).state is State.DOWN


def test_when_half_open_suspicion_is_enough() -> None:
    half_open = Health(State.HALF_OPEN, 1, 990.0, None, "silent to OPTIONS")
    assert judged(half_open, OutcomeKind.SILENT, policy=PATIENT).state is State.DOWN


# --- rise -------------------------------------------------------------------------------------------------------------


def test_a_server_rises_after_as_many_answered_probes_as_asked_for() -> None:
    once = judged(HALF_OPEN, OutcomeKind.ANSWERED, policy=PATIENT, probe=True)
    assert (once.state, once.successes) == (State.HALF_OPEN, 1)
    assert (
        judged(once, OutcomeKind.ANSWERED, policy=PATIENT).state is State.HALF_OPEN
    )  # no probe: it is the same answer
    assert judged(once, OutcomeKind.ANSWERED, policy=PATIENT, probe=True) == Health(since=NOW)


def test_an_answer_while_down_has_it_probed_where_more_than_one_is_asked_for() -> None:
    after = judged(DOWN, OutcomeKind.ANSWERED, policy=PATIENT)
    assert (after.state, after.successes, after.until) == (State.HALF_OPEN, 0, None)


def test_a_failed_probe_in_between_begins_the_count_anew() -> None:
    once = judged(HALF_OPEN, OutcomeKind.ANSWERED, policy=PATIENT, probe=True)
    down = judged(once, OutcomeKind.SILENT, policy=PATIENT, probe=True)
    assert down.until is not None
    again = judged(at(down, down.until), OutcomeKind.ANSWERED, policy=PATIENT, now=down.until, probe=True)
    assert (again.state, again.successes) == (State.HALF_OPEN, 1)


# --- failback and slow start ------------------------------------------------------------------------------------------


def test_a_server_has_its_tier_back_at_once_where_nothing_else_is_asked_for() -> None:
    after = judged(HALF_OPEN, OutcomeKind.ANSWERED)
    assert (after.returning, after.returns_at) == (False, NOW)


def test_a_server_has_its_tier_back_after_the_failback_time_spread_by_chance() -> None:
    policy = Policy(failback=60.0)
    random = Random(3261)
    backs = []
    for _ in range(500):
        after = judge(HALF_OPEN, outcome(OutcomeKind.ANSWERED), policy, NOW, random)
        assert after.returning
        assert after.returns_at is not None
        backs.append(after.returns_at - NOW)
        assert at(after, after.returns_at - 0.1).returning
        assert not at(after, after.returns_at).returning
    assert 60 <= min(backs) < 62
    assert 88 < max(backs) <= 90


@pytest.mark.parametrize(("after", "grown"), [(0, 0.1), (2.9, 0.1), (15, 0.5), (30, 1), (1e9, 1)])
def test_the_share_grows_from_when_it_has_its_tier_back(after: float, grown: float) -> None:
    recovered = Health(since=NOW, returns_at=NOW + 60)
    assert share(recovered, NOW + 60 + after, 30.0) == pytest.approx(grown)


def test_without_a_slow_start_and_without_a_recovery_the_share_is_the_whole() -> None:
    assert share(Health(since=NOW, returns_at=NOW), NOW, 0.0) == 1
    assert share(Health(), NOW, 30.0) == 1


# --- older generations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", OutcomeKind)
@pytest.mark.parametrize("before", [UP, DOWN, RESTING, MARKED_DOWN, HALF_OPEN, DRAINING, SUSPECT])
def test_what_began_before_the_present_state_changes_nothing(before: Health, seen: OutcomeKind) -> None:
    assert judged(before, seen, began=before.since - 0.1, retry_after=60.0) is before


def test_a_silence_whose_request_was_sent_before_the_server_was_restored_is_no_news() -> None:
    restored = Health(since=999.0, reason="restored")
    assert judged(restored, OutcomeKind.SILENT, began=998.5) is restored
    assert judged(restored, OutcomeKind.SILENT, began=999.5).state is State.DOWN


def test_a_state_begins_with_the_outcome_and_not_with_its_judgement() -> None:
    late = judge(UP, outcome(OutcomeKind.SILENT, at=NOW - 5), STEADY, NOW, Random(1))
    assert (late.since, late.until) == (NOW - 5, NOW + 30)
    longer = judge(late, outcome(OutcomeKind.UNAVAILABLE, at=NOW - 4, retry_after=60.0), STEADY, NOW, Random(1))
    assert (longer.since, longer.until, longer.generation) == (NOW - 5, NOW + 60, late.generation)


def test_each_change_of_state_is_a_generation() -> None:
    seen = []
    health, now = Health(), NOW
    for each in (
        OutcomeKind.ANSWERED,
        OutcomeKind.SILENT,
        OutcomeKind.SILENT,
        OutcomeKind.ANSWERED,
        OutcomeKind.ANSWERED,
        OutcomeKind.UNAVAILABLE,
    ):
        health = judged(health, each, now=now)
        seen.append(health.generation)
        now += 1
    assert seen == [0, 1, 1, 2, 2, 3]
    assert at(health, now + 300).generation == 4


# --- one method alone -------------------------------------------------------------------------------------------------

APART = Policy(backoff=ExponentialBackoff(jitter=0), per_method=True)


def by_method(before: Health, seen: OutcomeKind, method: str, now: float, policy: Policy = APART) -> Health:
    return judge(at(before, now), Outcome(SERVER, seen, now, method), policy, now, Random(1))


def silent_to_subscribe_alone() -> Health:
    health = by_method(Health(), OutcomeKind.SILENT, "SUBSCRIBE", 1000.0)
    assert health.state is State.DOWN  # nobody can know better yet
    return by_method(health, OutcomeKind.ANSWERED, "OPTIONS", 1030.0)


def test_a_method_that_fails_again_while_others_are_answered_is_down_alone() -> None:
    health = by_method(silent_to_subscribe_alone(), OutcomeKind.SILENT, "SUBSCRIBE", 1040.0)
    assert health.state is State.UP
    assert health.to("REGISTER") is health
    alone = health.to("SUBSCRIBE")
    assert (alone.state, alone.failures, alone.until) == (State.DOWN, 2, 1100.0)
    assert alone.reason == "silent to SUBSCRIBE"


def test_that_method_is_tried_again_when_its_hold_down_ends_and_an_answer_ends_it_for_good() -> None:
    health = by_method(silent_to_subscribe_alone(), OutcomeKind.SILENT, "SUBSCRIBE", 1040.0)
    assert at(health, 1099.0).to("SUBSCRIBE").state is State.DOWN
    assert at(health, 1100.0).to("SUBSCRIBE").state is State.UP
    assert by_method(health, OutcomeKind.ANSWERED, "SUBSCRIBE", 1101.0).methods == {}


def test_a_server_that_is_half_open_is_down_again_whichever_method_fails() -> None:
    health = by_method(silent_to_subscribe_alone(), OutcomeKind.SILENT, "REGISTER", 1040.0)
    assert health.until is not None
    again = by_method(health, OutcomeKind.SILENT, "SUBSCRIBE", health.until + 1)
    assert (again.state, again.failures) == (State.DOWN, 2)


def test_another_method_that_fails_takes_the_whole_server_down() -> None:
    health = by_method(silent_to_subscribe_alone(), OutcomeKind.SILENT, "REGISTER", 1040.0)
    assert health.state is State.DOWN
    assert health.to("SUBSCRIBE").state is State.DOWN


def test_a_method_that_has_been_answered_since_is_not_alone() -> None:
    health = by_method(silent_to_subscribe_alone(), OutcomeKind.ANSWERED, "SUBSCRIBE", 1035.0)
    assert by_method(health, OutcomeKind.SILENT, "SUBSCRIBE", 1040.0).state is State.DOWN


@pytest.mark.parametrize("failed", ["OPTIONS", ""], ids=["the same method", "a connection"])
def test_a_server_that_answers_what_it_failed_on_has_no_method_alone(failed: str) -> None:
    health = by_method(Health(), OutcomeKind.SILENT, failed, 1000.0)
    assert by_method(health, OutcomeKind.ANSWERED, "OPTIONS", 1030.0).methods == {}


def test_a_server_that_comes_back_by_the_method_that_was_down_alone_has_none_alone() -> None:
    health = by_method(silent_to_subscribe_alone(), OutcomeKind.SILENT, "SUBSCRIBE", 1040.0)
    health = by_method(health, OutcomeKind.SILENT, "SUBSCRIBE", 1041.0)
    health = by_method(health, OutcomeKind.REFUSED, "", 1042.0)
    assert (health.state, list(health.methods)) == (State.DOWN, ["SUBSCRIBE"])
    assert by_method(health, OutcomeKind.ANSWERED, "SUBSCRIBE", 1043.0).methods == {}


def test_where_one_plan_serves_all_methods_a_failure_is_held_against_all() -> None:
    plain = Policy(backoff=ExponentialBackoff(jitter=0))
    health = by_method(Health(), OutcomeKind.SILENT, "SUBSCRIBE", 1000.0, plain)
    health = by_method(health, OutcomeKind.ANSWERED, "OPTIONS", 1030.0, plain)
    assert by_method(health, OutcomeKind.SILENT, "SUBSCRIBE", 1040.0, plain).state is State.DOWN


# --- a policy's numbers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"rise": 0},
        {"failback": -1.0},
        {"failback": float("inf")},
        {"slow_start": float("nan")},
        {"window": 0.0},
        {"replan": 0.5},
        {"retry_after_floor": -1.0},
        {"retry_after_floor": 10.0, "retry_after_ceiling": 1.0},
        {"per_method": "no"},
    ],
)
def test_numbers_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"rise|seconds|window|replan|retry_after_floor|give True or False"):
        Policy(**wrong)


@pytest.mark.parametrize("wrong", [{"order": "fastest"}, {"detect": Consecutive}, {"backoff": 30}])
def test_parts_that_are_no_functions_are_refused(wrong: dict[str, Any]) -> None:
    [name] = wrong
    with pytest.raises(TypeError, match=f"^{name} is .*; give a function"):
        Policy(**wrong)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"order": Consecutive(failures=3)},
            r"^order is Consecutive\(.*, a function \(health, outcome\); give",
        ),
        (
            {"detect": by_priority},
            r"^detect is .*, a function \(candidates, health\); give",
        ),
        (
            {"detect": ExponentialBackoff()},
            r"a function \(failures, random\); give a function \(health, out",
        ),
        (
            {"backoff": Consecutive()},
            r"a function \(health, outcome\); give a function \(failures, random\)",
        ),
        ({"backoff": Sticky()}, "takes other arguments"),
    ],
)
def test_a_ready_part_in_the_place_of_another_is_refused(wrong: dict[str, Any], words: str) -> None:
    """All of them take two arguments, and would be found out at the first outcome."""
    with pytest.raises(TypeError, match=words):
        Policy(**wrong)


def test_a_plan_is_per_request_where_the_order_asks_or_methods_are_told_apart() -> None:
    assert not Policy().per_request
    assert Policy(per_method=True).per_request
    assert Policy(order=Sticky()).per_request


# --- policies of the application's own --------------------------------------------------------------------------------


def test_a_failure_detector_of_ones_own_sees_the_health_before_and_the_outcome() -> None:
    told: list[tuple[Health, Outcome]] = []

    def detect(health: Health, seen: Outcome) -> bool:
        told.append((health, seen))
        return seen.seen is OutcomeKind.CERTIFICATE

    assert judged(UP, OutcomeKind.SILENT, policy=Policy(detect=detect)) == UP
    assert judged(UP, OutcomeKind.CERTIFICATE, policy=Policy(detect=detect)).state is State.DOWN
    assert told == [(UP, outcome(OutcomeKind.SILENT)), (UP, outcome(OutcomeKind.CERTIFICATE))]


def test_a_backoff_of_ones_own_is_told_how_often_and_given_the_randomness() -> None:
    random, told = Random(1), []

    def backoff(failures: int, given: Random) -> float:
        told.append((failures, given))
        return 5.0

    after = judge(HALF_OPEN, outcome(OutcomeKind.SILENT), Policy(backoff=backoff), NOW, random)
    assert after.until == NOW + 5
    assert told == [(2, random)]


# --- in words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (outcome(OutcomeKind.ANSWERED), "answered 200 to OPTIONS"),
        (outcome(OutcomeKind.SILENT), "silent to OPTIONS"),
        (outcome(OutcomeKind.UNAVAILABLE), "answered 503 to OPTIONS"),
        (outcome(OutcomeKind.UNAVAILABLE, retry_after=7.0), "answered 503 to OPTIONS, Retry-After 7 s"),
        (outcome(OutcomeKind.UNAVAILABLE, retry_after=0.0), "answered 503 to OPTIONS, Retry-After 0 s"),
        (outcome(OutcomeKind.REFUSED, detail="Connection refused"), "refused the connection (Connection refused)"),
        (outcome(OutcomeKind.CERTIFICATE), "showed a certificate that was not accepted"),
        (
            outcome(OutcomeKind.CERTIFICATE, certificate=CertificateProblem.UNKNOWN),
            "showed a certificate that was not accepted",
        ),
        (
            outcome(
                OutcomeKind.CERTIFICATE, certificate=CertificateProblem.WRONG_NAME | CertificateProblem.OUT_OF_DATE
            ),
            "showed a certificate that is for another name and has expired or is not valid yet",
        ),
        (outcome(OutcomeKind.SERVER_ERROR), "answered 500 to OPTIONS"),
    ],
)
def test_an_outcome_in_words(seen: Outcome, words: str) -> None:
    assert describe(seen) == words


# --- laws -------------------------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.floats(0, 400),  # seconds since the step before
        st.sampled_from(OutcomeKind),
        st.one_of(st.none(), st.floats(0, 1e6)),
        st.booleans(),
    ),
    max_size=20,
)


def history(told: list[tuple[float, OutcomeKind, float | None, bool]], each: Callable[[Health, float], None]) -> Health:
    """The health after *told*, from a server that is up; *each* looks at it after every step."""
    health, now, random = Health(), NOW, Random(3261)
    for pause, seen, retry_after, after_provisional in told:
        now += pause
        details = {"retry_after": retry_after, "after_provisional": after_provisional}
        health = judge(at(health, now), outcome(seen, at=now, **details), Policy(), now, random)
        each(health, now)
    return health


@given(steps)
def test_a_server_that_is_down_comes_back_in_bounded_time(
    told: list[tuple[float, OutcomeKind, float | None, bool]],
) -> None:
    def check(health: Health, now: float) -> None:
        if health.state is State.DOWN:
            assert health.until is not None
            assert now < health.until <= now + 300  # the ceiling
            assert health.failures >= 1
            assert health.reason
        else:
            assert health.until is None
            assert not health.held

    history(told, check)


@given(steps)
def test_only_a_server_that_is_up_has_no_failures(told: list[tuple[float, OutcomeKind, float | None, bool]]) -> None:
    def check(health: Health, _: float) -> None:
        assert (health.state is State.UP) == (health.failures == 0)

    history(told, check)


@given(steps)
def test_silence_and_an_answer_long_after_leave_no_trace(
    told: list[tuple[float, OutcomeKind, float | None, bool]],
) -> None:
    after = history(
        [*told, (400, OutcomeKind.SILENT, None, False), (400, OutcomeKind.ANSWERED, None, False)], lambda *_: None
    )
    assert (after.state, after.failures, after.until, after.reason) == (State.UP, 0, None, "")


@given(steps, st.integers())
def test_judging_twice_says_the_same(told: list[tuple[float, OutcomeKind, float | None, bool]], seed: int) -> None:
    health, now = Health(), NOW
    for pause, seen, retry_after, after_provisional in told:
        now += pause
        one = outcome(seen, at=now, retry_after=retry_after, after_provisional=after_provisional)
        first, second = (judge(at(health, now), one, Policy(), now, Random(seed)) for _ in range(2))
        assert first == second
        assert first.window == second.window
        health = first


@given(steps)
def test_until_never_precedes_the_outcome_and_generations_never_fall(
    told: list[tuple[float, OutcomeKind, float | None, bool]],
) -> None:
    generations = [0]

    def check(health: Health, now: float) -> None:
        assert health.until is None or health.until >= now
        assert health.since <= now
        assert health.generation >= generations[-1]
        generations.append(health.generation)

    history(told, check)


@given(st.integers(), st.floats(0, 1), st.integers(2, 12))
def test_a_hold_down_never_shrinks_on_repeated_failure_nor_exceeds_the_ceiling(
    seed: int, jitter: float, times: int
) -> None:
    health, now, random, before = Health(), NOW, Random(seed), 0.0
    policy = Policy(backoff=ExponentialBackoff(jitter=jitter))
    for _ in range(times):
        health = judge(at(health, now), outcome(OutcomeKind.SILENT, at=now), policy, now, random)
        assert health.until is not None
        hold = health.until - now
        assert before - 1e-6 <= hold <= 300 + 1e-6
        before, now = hold, health.until


@given(steps, steps)
def test_stale_outcomes_among_fresh_ones_change_nothing(
    told: list[tuple[float, OutcomeKind, float | None, bool]],
    stale: list[tuple[float, OutcomeKind, float | None, bool]],
) -> None:
    def check(health: Health, now: float) -> None:
        for _, seen, retry_after, after_provisional in stale:
            one = outcome(
                seen,
                at=now,
                began=health.since - 0.001,
                retry_after=retry_after,
                after_provisional=after_provisional,
            )
            assert judge(health, one, Policy(), now, Random(1)) is health

    history(told, check)
