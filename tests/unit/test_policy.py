"""The default policy, and what makes health of an outcome."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail.health import at
from pjfail.model import Candidate, CertificateProblem, Health, Outcome, Seen, Server, State
from pjfail.policy import ExponentialBackoff, Policy, by_priority, describe, judge, on_first_failure

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

TROUBLE = (Seen.SILENT, Seen.REFUSED, Seen.DISCONNECTED, Seen.UNAVAILABLE)
HARMLESS = ({"seen": Seen.CERTIFICATE}, {"seen": Seen.UNAVAILABLE, "after_provisional": True, "retry_after": 60.0})


def outcome(seen: Seen, **details: Any) -> Outcome:
    code = {Seen.ANSWERED: 200, Seen.UNAVAILABLE: 503}.get(seen, 0)
    return Outcome(SERVER, seen, details.pop("at", NOW), "OPTIONS", code, **details)


def judged(before: Health, seen: Seen, *, policy: Policy = STEADY, now: float = NOW, **details: Any) -> Health:
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


@pytest.mark.parametrize("state", [State.UP, State.SUSPECT])
def test_a_usable_server_keeps_its_place(state: State) -> None:
    first, second = candidate(1, 0), candidate(2, 1)
    assert by_priority([first, second], {first.server: Health(state)}) == [[first], [second]]


def test_servers_all_down_keep_their_order_by_priority() -> None:
    first, second = candidate(1, 1), candidate(2, 0)
    down = {each.server: Health(State.DOWN) for each in (first, second)}
    assert by_priority([first, second], down) == [[second], [first]]


numbered = st.dictionaries(st.integers(1, 20), st.tuples(st.integers(0, 3), st.sampled_from([None, *State])))


@given(numbered)
def test_the_default_order_is_a_permutation_sorted_by_usable_and_priority(
    listed: dict[int, tuple[int, State | None]],
) -> None:
    candidates = [candidate(host, priority) for host, (priority, _) in listed.items()]
    health = {candidate(host).server: Health(state) for host, (_, state) in listed.items() if state is not None}
    tiers = by_priority(candidates, health)
    ranks = [{(not health.get(each.server, Health()).usable, each.priority) for each in tier} for tier in tiers]
    assert sorted(each.server for tier in tiers for each in tier) == sorted(each.server for each in candidates)
    assert all(len(rank) == 1 for rank in ranks)
    flat = [next(iter(rank)) for rank in ranks]
    assert flat == sorted(set(flat))
    assert all(tier == [each for each in candidates if each in tier] for tier in tiers)  # as the lookup had them


# --- who is convicted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "after_provisional", "convicted"),
    [
        (Seen.ANSWERED, False, False),
        (Seen.SILENT, False, True),
        (Seen.REFUSED, False, True),
        (Seen.DISCONNECTED, False, True),
        (Seen.UNAVAILABLE, False, True),
        (Seen.UNAVAILABLE, True, False),
        (Seen.CERTIFICATE, False, False),
    ],
)
def test_one_failure_of_the_servers_own_convicts(seen: Seen, after_provisional: bool, convicted: bool) -> None:
    assert on_first_failure(Health(), outcome(seen, after_provisional=after_provisional)) is convicted


def test_a_half_open_server_that_shows_a_bad_certificate_is_there_again() -> None:
    """Not so one that passes on a 503 from downstream: that may be the trouble it was convicted of."""
    assert judged(HALF_OPEN, Seen.CERTIFICATE) == Health(State.UP, since=NOW)
    assert judged(HALF_OPEN, Seen.UNAVAILABLE, after_provisional=True) is HALF_OPEN


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
        (Seen.SILENT, False, "silent to OPTIONS"),
        (Seen.REFUSED, False, "refused the connection"),
        (Seen.DISCONNECTED, False, "closed the connection with a request unanswered"),
        (Seen.UNAVAILABLE, True, "answered 503 to OPTIONS"),
    ],
)
@pytest.mark.parametrize("before", [UP, SUSPECT], ids=["up", "suspect"])
def test_trouble_takes_a_server_down_for_the_backoff(before: Health, seen: Seen, held: bool, reason: str) -> None:
    assert judged(before, seen) == Health(State.DOWN, 1, NOW, NOW + 30, reason, held)


def test_going_down_keeps_what_was_measured() -> None:
    after = judged(UP, Seen.SILENT)
    assert (after.rtt, after.last_answer) == (UP.rtt, UP.last_answer)


def test_a_503_that_asks_for_time_gets_that_and_no_backoff() -> None:
    reason = "answered 503 to OPTIONS, Retry-After 7 s"
    assert judged(UP, Seen.UNAVAILABLE, retry_after=7.0) == Health(State.DOWN, 1, NOW, NOW + 7, reason, held=True)


@pytest.mark.parametrize(
    ("asked", "ceiling", "granted"), [(0.0, 300, 1), (1.0, 300, 1), (300.0, 300, 300), (1e9, 300, 300), (90.0, 60, 60)]
)
def test_retry_after_is_bounded_at_both_ends(asked: float, ceiling: float, granted: float) -> None:
    after = judged(UP, Seen.UNAVAILABLE, policy=Policy(retry_after_ceiling=ceiling), retry_after=asked)
    assert after.until == NOW + granted


def test_only_a_503_may_ask_for_time() -> None:
    assert judged(UP, Seen.SILENT, retry_after=7.0).until == NOW + 30


@pytest.mark.parametrize("details", HARMLESS, ids=["certificate", "503 from downstream"])
@pytest.mark.parametrize("before", [UP, SUSPECT, DOWN, RESTING, MARKED_DOWN, DRAINING])
def test_what_tells_nothing_of_the_server_changes_nothing(before: Health, details: dict[str, Any]) -> None:
    assert judged(before, **details) is before


# --- while down -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", TROUBLE)
@pytest.mark.parametrize("before", [DOWN, RESTING, MARKED_DOWN], ids=["silent", "503", "marked down"])
def test_the_same_trouble_told_twice_does_not_count_twice(before: Health, seen: Seen) -> None:
    assert judged(before, seen) is before


def test_a_burst_of_503_with_retry_after_is_one_failure() -> None:
    health = UP
    for _ in range(5):
        health = judged(health, Seen.UNAVAILABLE, retry_after=7.0)
    assert health.failures == 1


def test_a_later_retry_after_extends_the_hold_down() -> None:
    after = judged(RESTING, Seen.UNAVAILABLE, retry_after=60.0)
    assert (after.state, after.until, after.held) == (State.DOWN, NOW + 60, True)


def test_a_shorter_retry_after_does_not_shorten_the_hold_down() -> None:
    assert judged(RESTING, Seen.UNAVAILABLE, retry_after=2.0).until == RESTING.until


def test_after_silence_a_retry_after_holds_the_server_down_whatever_it_answers() -> None:
    resting = judged(DOWN, Seen.UNAVAILABLE, retry_after=60.0)
    assert judged(resting, Seen.ANSWERED).state is State.DOWN


def test_a_retry_after_does_not_end_what_the_application_gave_no_end() -> None:
    after = judged(MARKED_DOWN, Seen.UNAVAILABLE, retry_after=7.0)
    assert (after.state, after.until) == (State.DOWN, None)


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [DOWN, HALF_OPEN, SUSPECT], ids=["down", "half-open", "suspect"])
def test_an_answer_lifts_trouble_and_forgets_the_failures(before: Health) -> None:
    after = judged(before, Seen.ANSWERED, rtt=0.05)
    assert after == Health(since=NOW)
    assert (after.rtt, after.last_answer) == (0.05, NOW)


def test_an_answer_does_not_lift_the_servers_own_503() -> None:
    after = judged(RESTING, Seen.ANSWERED, rtt=0.05)
    assert after == RESTING
    assert (after.rtt, after.last_answer) == (0.05, NOW)


def test_an_answer_lifts_a_503_whose_time_is_over() -> None:
    later = 1020.0
    assert judged(at(RESTING, later), Seen.ANSWERED, now=later) == Health(since=later)


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
    assert judged(marked, Seen.ANSWERED) == marked


def test_an_answer_of_a_server_that_is_up_is_only_noted() -> None:
    after = judged(UP, Seen.ANSWERED, rtt=0.05)
    assert after == UP
    assert (after.rtt, after.last_answer) == (0.05, NOW)


def test_an_answer_without_a_measure_keeps_the_old_one() -> None:
    for before in (UP, DOWN):
        assert judged(before, Seen.ANSWERED).rtt == before.rtt


# --- half-open and draining -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", TROUBLE)
def test_trouble_when_half_open_counts_on_and_doubles_the_backoff(seen: Seen) -> None:
    after = judged(HALF_OPEN, seen)
    assert (after.state, after.failures, after.until) == (State.DOWN, 2, NOW + 60)


def test_a_server_that_never_comes_back_is_asked_more_and_more_rarely() -> None:
    health, now, holds = Health(), NOW, []
    for _ in range(6):
        health = judged(at(health, now), Seen.SILENT, now=now)
        assert health.until is not None
        holds.append(health.until - now)
        now = health.until
    assert holds == [30, 60, 120, 240, 300, 300]


def test_after_an_answer_the_backoff_begins_anew() -> None:
    recovered = judged(Health(State.HALF_OPEN, failures=5), Seen.ANSWERED)
    assert judged(recovered, Seen.SILENT).until == NOW + 30


@pytest.mark.parametrize("seen", TROUBLE)
def test_trouble_does_not_end_draining(seen: Seen) -> None:
    assert judged(DRAINING, seen, retry_after=7.0) is DRAINING


def test_an_answer_does_not_end_draining_but_is_noted() -> None:
    after = judged(DRAINING, Seen.ANSWERED, rtt=0.05)
    assert after == DRAINING
    assert (after.rtt, after.last_answer) == (0.05, NOW)


# --- policies of the application's own --------------------------------------------------------------------------------


def test_a_conviction_of_ones_own_sees_the_health_before_and_the_outcome() -> None:
    told: list[tuple[Health, Outcome]] = []

    def convict(health: Health, seen: Outcome) -> bool:
        told.append((health, seen))
        return seen.seen is Seen.CERTIFICATE

    assert judged(UP, Seen.SILENT, policy=Policy(convict=convict)) is UP
    assert judged(UP, Seen.CERTIFICATE, policy=Policy(convict=convict)).state is State.DOWN
    assert told == [(UP, outcome(Seen.SILENT)), (UP, outcome(Seen.CERTIFICATE))]


def test_a_backoff_of_ones_own_is_told_how_often_and_given_the_randomness() -> None:
    random, told = Random(1), []

    def backoff(failures: int, given: Random) -> float:
        told.append((failures, given))
        return 5.0

    after = judge(HALF_OPEN, outcome(Seen.SILENT), Policy(backoff=backoff), NOW, random)
    assert after.until == NOW + 5
    assert told == [(2, random)]


# --- in words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (outcome(Seen.ANSWERED), "answered 200 to OPTIONS"),
        (outcome(Seen.SILENT), "silent to OPTIONS"),
        (outcome(Seen.UNAVAILABLE), "answered 503 to OPTIONS"),
        (outcome(Seen.UNAVAILABLE, retry_after=7.0), "answered 503 to OPTIONS, Retry-After 7 s"),
        (outcome(Seen.UNAVAILABLE, retry_after=0.0), "answered 503 to OPTIONS, Retry-After 0 s"),
        (outcome(Seen.REFUSED, detail="Connection refused"), "refused the connection (Connection refused)"),
        (outcome(Seen.CERTIFICATE), "showed a certificate that was not accepted"),
        (
            outcome(Seen.CERTIFICATE, certificate=CertificateProblem.UNKNOWN),
            "showed a certificate that was not accepted",
        ),
        (
            outcome(Seen.CERTIFICATE, certificate=CertificateProblem.WRONG_NAME | CertificateProblem.OUT_OF_DATE),
            "showed a certificate that is for another name and has expired or is not valid yet",
        ),
    ],
)
def test_an_outcome_in_words(seen: Outcome, words: str) -> None:
    assert describe(seen) == words


# --- laws -------------------------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.floats(0, 400),  # seconds since the step before
        st.sampled_from(Seen),
        st.one_of(st.none(), st.floats(0, 1e6)),
        st.booleans(),
    ),
    max_size=20,
)


def history(told: list[tuple[float, Seen, float | None, bool]], each: Callable[[Health, float], None]) -> Health:
    """The health after *told*, from a server that is up; *each* looks at it after every step."""
    health, now, random = Health(), NOW, Random(3261)
    for pause, seen, retry_after, after_provisional in told:
        now += pause
        details = {"retry_after": retry_after, "after_provisional": after_provisional}
        health = judge(at(health, now), outcome(seen, at=now, **details), Policy(), now, random)
        each(health, now)
    return health


@given(steps)
def test_a_server_that_is_down_comes_back_in_bounded_time(told: list[tuple[float, Seen, float | None, bool]]) -> None:
    def check(health: Health, now: float) -> None:
        if health.state is State.DOWN:
            assert health.until is not None
            assert now < health.until <= now + 330  # the ceiling and its jitter
            assert health.failures >= 1
            assert health.reason
        else:
            assert health.until is None
            assert not health.held

    history(told, check)


@given(steps)
def test_only_a_server_that_is_up_has_no_failures(told: list[tuple[float, Seen, float | None, bool]]) -> None:
    def check(health: Health, _: float) -> None:
        assert (health.state is State.UP) == (health.failures == 0)

    history(told, check)


@given(steps)
def test_silence_and_an_answer_long_after_leave_no_trace(told: list[tuple[float, Seen, float | None, bool]]) -> None:
    after = history([*told, (400, Seen.SILENT, None, False), (400, Seen.ANSWERED, None, False)], lambda *_: None)
    assert (after.state, after.failures, after.until, after.reason) == (State.UP, 0, None, "")
