"""What becomes of a followed account: the laws of decide() and registered()."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pjfail.bridge.pins import Registration
from pjfail.bridge.status import INVALID_OPERATION, REGISTERING
from pjfail.follow_settings import Follow
from pjfail.following import (
    FAILBACK_SPREAD,
    MAX_REFUSALS,
    MIN_REFUSED_HOLD,
    REFUSAL_HOLD,
    RETRY_AFTER_CEILING,
    RETRY_AFTER_FLOOR,
    RETRY_UNSENT,
    RETRY_WHEN_BUSY,
    FollowedAccount,
    Refusal,
    decide,
    registered,
    settled,
)
from pjfail.model import Candidate, Health, Plan, Server, State, Target
from pjfail.order import by_priority
from pjfail.planning import make_plan

NOW = 1000.0
FAILBACK, SPREAD = 60.0, 2.0
TARGET = Target("example.com")
FIRST, SECOND, THIRD = SERVERS = tuple(Server(f"192.0.2.{number}", 5060) for number in (1, 2, 3))
WELL = Health(since=100.0)
DOWN = Health(State.DOWN, 1, 990.0, 1020.0, "silent to OPTIONS")
USABLE = (State.UP, State.SUSPECT)

AccountsHealth = Mapping[Server, Health]

states = st.builds(
    Health,
    state=st.sampled_from(State),
    failures=st.integers(1, 3),
    since=st.floats(0, NOW),
    reason=st.just("silent to OPTIONS"),
)
healths = st.fixed_dictionaries(dict.fromkeys(SERVERS, states))
priorities = st.lists(st.integers(1, 3), min_size=3, max_size=3)
times = st.none() | st.floats(NOW - 100, NOW + 100)
refusals = st.lists(
    st.builds(Refusal, st.sampled_from(SERVERS), st.floats(NOW - 60, NOW + 60), st.just(480)), max_size=3
)
followings = st.builds(
    lambda server, trying, lost, register_at, return_at, failback, failed_at, refused: FollowedAccount(
        3,
        "alice@example.com",
        TARGET,
        Follow(failback=failback, spread=SPREAD),
        server,
        trying,
        lost and server is None,
        register_at,
        return_at,
        failed_at=failed_at,
        refused=tuple({refusal.server: refusal for refusal in refused}.values()),
    ),
    st.none() | st.sampled_from(SERVERS),
    st.none() | st.sampled_from(SERVERS),
    st.booleans(),
    times,
    times,
    st.none() | st.sampled_from([0.0, 1.0, FAILBACK]),
    st.none() | st.sampled_from(SERVERS),
    refusals,
)
codes = st.sampled_from([0, 200, 202, 302, 401, 403, 404, 407, 408, 423, 500, 503, 603])


def following_on(server: Server | None, failback: float | None = FAILBACK, spread: float = SPREAD) -> FollowedAccount:
    return FollowedAccount(3, "alice@example.com", TARGET, Follow(failback=failback, spread=spread), server)


def plan_of(order: Sequence[int], health: AccountsHealth, now: float = NOW) -> Plan:
    """The default policy's plan of the servers with these priorities."""
    candidates = [Candidate(server, "sip.example.com", number) for server, number in zip(SERVERS, order, strict=True)]
    return make_plan(TARGET, candidates, health, by_priority, now + 30, now, lambda problem, _: pytest.fail(problem))


def decided(
    following: FollowedAccount,
    health: AccountsHealth,
    order: Sequence[int] = (1, 2, 3),
    now: float = NOW,
    seed: int = 0,
) -> FollowedAccount:
    plan = plan_of(order, health, now)
    random = Random(seed)
    places = sorted(plan.entries, key=lambda place: (place.tier, random.random()))
    return decide(following, plan, [place.server for place in places], health, now, random)


def register(
    server: Server | None, code: int, *, status: int = 0, wait: float | None = None, removed: bool = False
) -> Registration:
    return Registration(3, "alice@example.com", server, code, status, wait, removed)


# --- who has the account ----------------------------------------------------------------------------------------------


@given(followings, healths, priorities, st.integers())
def test_no_pin_is_on_a_server_that_is_not_usable(
    following: FollowedAccount, health: AccountsHealth, order: list[int], seed: int
) -> None:
    after = decided(following, health, order, seed=seed)
    for server in (after.server, after.trying):
        assert server is None or health[server].usable


@given(followings, healths, priorities, st.integers())
def test_an_account_with_a_server_has_one_as_long_as_any_is_usable(
    following: FollowedAccount, health: AccountsHealth, order: list[int], seed: int
) -> None:
    assume(following.server is not None or following.lost)
    after = decided(following, health, order, seed=seed)
    if any(each.usable for each in health.values()):
        assert after.server is not None or after.trying is not None
    else:
        assert after.server is None
        assert after.lost


@given(followings, st.sampled_from(SERVERS), priorities, st.sampled_from(USABLE))
def test_with_one_usable_server_the_account_ends_there(
    following: FollowedAccount, only: Server, order: list[int], state: State
) -> None:
    assume(following.server is not None or following.lost)
    health = {server: Health(state) if server == only else DOWN for server in SERVERS}
    after = decided(following, health, order)
    if after.trying is not None:
        after = registered(after, register(after.trying, 200), NOW)
    assert after.server == only


@given(followings, healths, priorities, st.integers())
def test_who_is_moved_away_registers_within_the_spread(
    following: FollowedAccount, health: AccountsHealth, order: list[int], seed: int
) -> None:
    after = decided(following, health, order, seed=seed)
    if after.server is not None and after.server != following.server:
        assert after.register_at is not None
        assert NOW <= after.register_at <= NOW + SPREAD
        assert after.reason


def test_a_fleet_is_spread_evenly_in_time_and_over_equals() -> None:
    health = {FIRST: DOWN, SECOND: WELL, THIRD: WELL}
    after = [decided(following_on(FIRST), health, (1, 2, 2), seed=seed) for seed in range(400)]
    dues = [each.register_at for each in after]
    for quarter in range(4):
        share = sum(due is not None and quarter <= (due - NOW) / SPREAD * 4 < quarter + 1 for due in dues)
        assert 60 < share < 140
    assert 150 < sum(each.server == SECOND for each in after) < 250


@given(priorities, st.integers(), st.sampled_from(SERVERS))
def test_nothing_moves_while_all_is_well_and_nothing_is_better(order: list[int], seed: int, server: Server) -> None:
    assume(order[SERVERS.index(server)] == min(order))
    following = following_on(server)
    health = dict.fromkeys(SERVERS, WELL)
    assert decided(following, health, order, seed=seed) == following


@given(healths, priorities)
def test_an_account_that_never_had_a_server_is_left_to_its_plan(health: AccountsHealth, order: list[int]) -> None:
    assert decided(following_on(None), health, order) == following_on(None)


def test_with_no_server_well_nothing_is_sent_until_one_is() -> None:
    after = decided(following_on(FIRST), dict.fromkeys(SERVERS, DOWN))
    assert (after.server, after.register_at, after.lost) == (None, None, True)
    assert decided(after, dict.fromkeys(SERVERS, DOWN), now=NOW + 10) == after
    again = decided(after, {FIRST: DOWN, SECOND: WELL, THIRD: DOWN}, now=NOW + 20)
    assert (again.server, again.lost) == (SECOND, False)
    assert again.register_at is not None
    assert NOW + 20 <= again.register_at <= NOW + 20 + SPREAD


def test_a_first_register_that_fails_is_sent_again_where_a_server_is_well() -> None:
    sent = registered(following_on(None), register(FIRST, 0), NOW)
    assert (sent.server, sent.trying) == (None, FIRST)
    assert sent.pin.idle
    refused = registered(sent, register(FIRST, 503, wait=60), NOW)
    for failed in (sent, refused):
        after = decided(failed, {FIRST: DOWN, SECOND: WELL, THIRD: WELL})
        assert after.server in (SECOND, THIRD)
        assert after.register_at is not None
        assert NOW <= after.register_at <= NOW + SPREAD
    assert decided(sent, dict.fromkeys(SERVERS, DOWN)).register_at is None
    assert decided(refused, dict.fromkeys(SERVERS, DOWN)).register_at == NOW + 60
    assert decided(registered(sent, register(FIRST, 403), NOW), dict.fromkeys(SERVERS, WELL)).register_at is None


def test_a_lost_account_waits_for_a_register_that_is_on_its_way() -> None:
    lost = registered(replace(following_on(None), lost=True), register(FIRST, 0), NOW)
    assert decided(lost, dict.fromkeys(SERVERS, WELL)) == lost
    assert decided(lost, {FIRST: DOWN, SECOND: WELL, THIRD: DOWN}).server == SECOND


@given(followings, healths, priorities, st.integers(), codes, st.booleans())
def test_the_same_arguments_have_the_same_answer(
    following: FollowedAccount, health: AccountsHealth, order: list[int], seed: int, code: int, removed: bool
) -> None:
    assert decided(following, health, order, seed=seed) == decided(following, health, order, seed=seed)
    told = register(FIRST, code, removed=removed)
    assert registered(following, told, NOW) == registered(following, told, NOW)


@given(followings, healths, priorities, st.integers(), st.booleans())
def test_where_an_account_is_settled_there_is_nothing_to_decide(
    following: FollowedAccount, health: AccountsHealth, order: list[int], seed: int, quiet: bool
) -> None:
    if quiet:  # else few are
        following = replace(following, trying=None)
    plan = plan_of(order, health)
    tiers = {place.server: place.tier for place in plan.entries if health[place.server].usable}
    if settled(following, tiers, health, NOW):
        assert decided(following, health, order, seed=seed) == following


def test_an_account_that_has_its_best_server_or_waits_for_it_is_settled() -> None:
    health = dict.fromkeys(SERVERS, WELL)
    waiting = replace(following_on(SECOND), return_at=NOW + 1)
    assert settled(following_on(FIRST), {FIRST: 0, SECOND: 1}, health, NOW)
    assert settled(following_on(FIRST), {FIRST: 0, SECOND: 0}, health, NOW)
    assert settled(following_on(SECOND, failback=None), {FIRST: 0, SECOND: 1}, health, NOW)
    assert settled(waiting, {FIRST: 0, SECOND: 1}, health, NOW)
    assert not settled(waiting, {FIRST: 0, SECOND: 1}, health, NOW + 1)
    assert not settled(waiting, {FIRST: 0, SECOND: 1}, {**health, FIRST: Health(since=NOW - 1)}, NOW)
    assert not settled(following_on(SECOND), {FIRST: 0, SECOND: 1}, health, NOW)
    assert not settled(following_on(SECOND), {FIRST: 0}, health, NOW)


# --- going back -------------------------------------------------------------------------------------------------------


def went_back_at(following: FollowedAccount, health: AccountsHealth, seed: int, until: float) -> float | None:
    """When a better server is tried, with a look at the account every quarter of a second."""
    random = Random(seed)
    now = NOW
    while now < until:
        following = decide(following, plan_of((1, 2, 3), health, now), SERVERS, health, now, random)
        if following.trying is not None:
            return now
        now += 0.25
    return None


@given(st.floats(NOW - 500, NOW), st.sampled_from([1.0, 5.0, 20.0]), st.integers())
def test_going_back_takes_a_server_that_has_been_well_for_failback_and_half_as_long_at_the_most(
    since: float, failback: float, seed: int
) -> None:
    health = {FIRST: Health(since=since), SECOND: WELL, THIRD: WELL}
    at = went_back_at(following_on(SECOND, failback), health, seed, NOW + 2 * failback + 1)
    assert at is not None
    assert at >= since + failback
    assert at <= max(since + failback, NOW) + FAILBACK_SPREAD * failback + 0.25


@given(healths, priorities, st.integers())
def test_without_failback_no_account_goes_back(health: AccountsHealth, order: list[int], seed: int) -> None:
    health = {**health, SECOND: WELL}
    following = following_on(SECOND, failback=None)
    for now in (NOW, NOW + 1e3, NOW + 1e6):
        assert decided(following, health, order, now, seed) == following


@given(st.lists(st.floats(1, 100), min_size=1, max_size=8), st.integers())
def test_a_flapping_server_is_gone_back_to_only_after_failback_without_a_fault(ups: list[float], seed: int) -> None:
    """Up for so long, down for a second, and so on; the looks miss the short downs, and see but a later ``since``."""
    following, random, now, since = following_on(SECOND), Random(seed), NOW, NOW
    for up in ups:
        while now < since + up and following.trying is None:
            health = {FIRST: Health(since=since), SECOND: WELL, THIRD: DOWN}
            following = decide(following, plan_of((1, 2, 3), health, now), SERVERS, health, now, random)
            if following.trying is not None:
                assert now >= since + FAILBACK
            now += 0.5
        since = now = since + up + 1


def test_another_better_server_has_to_be_well_for_as_long() -> None:
    health = {FIRST: WELL, SECOND: DOWN, THIRD: WELL}
    following = replace(following_on(THIRD), return_at=NOW)
    assert decided(following, health).trying == FIRST
    health = {FIRST: DOWN, SECOND: Health(since=NOW - 1), THIRD: WELL}
    after = decided(following, health)
    assert after.trying is None
    assert after.return_at is not None
    assert NOW - 1 + FAILBACK <= after.return_at <= NOW - 1 + FAILBACK * (1 + FAILBACK_SPREAD)


def test_the_better_server_has_the_registers_first_and_the_rest_once_it_has_answered() -> None:
    trying = decided(replace(following_on(SECOND), return_at=NOW), dict.fromkeys(SERVERS, WELL))
    assert (trying.server, trying.trying, trying.register_at) == (SECOND, FIRST, NOW)
    assert (trying.pin.server, trying.pin.registrar) == (SECOND, FIRST)
    after = registered(trying, register(FIRST, 200), NOW + 1)
    assert (after.server, after.trying, after.register_at, after.return_at) == (FIRST, None, None, None)
    assert "healthy again" in after.reason


def test_one_that_was_never_down_is_not_called_healthy_again() -> None:
    trying = decided(replace(following_on(SECOND), return_at=NOW), {})
    assert (trying.trying, trying.reason) == (FIRST, f"{FIRST} comes before it in the plan")


def test_a_better_server_that_fails_meanwhile_is_given_up() -> None:
    trying = replace(following_on(SECOND), trying=FIRST)
    after = decided(trying, {FIRST: DOWN, SECOND: WELL, THIRD: WELL})
    assert (after.server, after.trying) == (SECOND, None)
    assert after.register_at is not None
    assert NOW <= after.register_at <= NOW + SPREAD


@given(st.sampled_from([302, 403, 404, 423, 500, 603]), st.sampled_from([0.0, 20.0, 60.0]), st.integers())
def test_one_that_will_not_have_the_account_is_left_at_once_and_not_tried_again_before_failback(
    code: int, failback: float, seed: int
) -> None:
    trying = replace(following_on(SECOND, failback), trying=FIRST)
    refused = registered(trying, register(FIRST, code), NOW)
    assert (refused.server, refused.trying, refused.register_at) == (SECOND, None, NOW)
    refused = registered(refused, register(SECOND, 200), NOW + 0.1)
    at = went_back_at(refused, dict.fromkeys(SERVERS, WELL), seed, NOW + 100)
    assert at is not None
    assert at >= NOW + max(failback, MIN_REFUSED_HOLD)


def test_a_plan_without_the_better_server_for_a_while_does_not_bring_it_forward() -> None:
    refused = registered(replace(following_on(SECOND), trying=FIRST), register(FIRST, 403), NOW)
    gone = decided(refused, {FIRST: DOWN, SECOND: WELL, THIRD: WELL}, now=NOW + 1)
    assert decided(gone, dict.fromkeys(SERVERS, WELL), now=NOW + 2).return_at == refused.return_at


def test_a_refresh_that_was_on_its_way_does_not_put_the_return_off() -> None:
    trying = replace(following_on(SECOND), trying=FIRST, register_at=NOW + 1)
    assert registered(trying, register(SECOND, 200), NOW) == trying


def test_a_refresh_does_not_put_the_return_off() -> None:
    following = replace(following_on(SECOND), return_at=NOW + 10)
    assert registered(following, register(SECOND, 200), NOW).return_at == NOW + 10


def test_one_that_cannot_be_sent_to_is_given_up() -> None:
    trying = replace(following_on(SECOND), trying=FIRST)
    after = registered(trying, register(None, 0, status=120111), NOW)
    assert (after.server, after.trying, after.register_at) == (SECOND, None, NOW + RETRY_UNSENT)


# --- what a REGISTER tells --------------------------------------------------------------------------------------------


@given(followings, st.sampled_from(SERVERS), st.sampled_from([200, 202]))
def test_an_account_is_where_it_registered(following: FollowedAccount, server: Server, code: int) -> None:
    after = registered(following, register(server, code), NOW)
    assert after.server == server
    if server != following.server or following.trying in (None, server):
        assert (after.trying, after.lost, after.register_at) == (None, False, None)


@pytest.mark.parametrize("code", [302, 401, 403, 404, 407, 408, 500, 603])
@given(followings, st.sampled_from(SERVERS))
def test_no_other_answer_moves_an_account(code: int, following: FollowedAccount, server: Server) -> None:
    after = registered(following, register(server, code), NOW)
    assert after.server == following.server
    if code in (401, 407):
        assert after == following


# --- a server that fails the account ----------------------------------------------------------------------------------

HEALTHY = dict.fromkeys(SERVERS, WELL)


def failed(following: FollowedAccount, *answers: tuple[Server, int], now: float = NOW) -> FollowedAccount:
    """After registrations that ended so."""
    for server, code in answers:
        following = registered(registered(following, register(server, 0), now), register(server, code), now)
    return following


@pytest.mark.parametrize("code", [302, 400, 408, 480, 500, 503])
@pytest.mark.parametrize("server", [FIRST, None])
def test_two_failed_registrations_in_a_row_move_the_account_on(server: Server | None, code: int) -> None:
    once = failed(following_on(server), (FIRST, code))
    assert decided(once, HEALTHY).server in (server, FIRST)
    twice = failed(once, (FIRST, 401), (FIRST, code))
    moved = decided(twice, HEALTHY)
    assert moved.server == SECOND
    assert moved.register_at is not None
    assert NOW <= moved.register_at <= NOW + SPREAD
    assert str(FIRST) in moved.reason
    assert str(code) in moved.reason
    assert failed(once, (FIRST, 200), (FIRST, code)).refused == ()
    assert failed(once, (FIRST, 403), (FIRST, code)).refused == ()
    assert failed(once, (FIRST, 423), (FIRST, code)).refused


@pytest.mark.parametrize("code", [401, 403, 404, 407, 423, 603])
def test_what_is_the_accounts_own_trouble_moves_nothing(code: int) -> None:
    for server in (FIRST, None):
        after = failed(following_on(server), *[(FIRST, code)] * 5)
        assert after.refused == ()
        assert decided(after, HEALTHY).server == server


def test_failures_elsewhere_are_not_held_against_the_server() -> None:
    assert failed(following_on(FIRST), *[(SECOND, 500)] * 3) == following_on(FIRST)
    assert failed(following_on(None), (FIRST, 500), (SECOND, 500), (FIRST, 500)).refused == ()


@given(st.sampled_from([0.0, 20.0, 60.0]), st.integers())
def test_a_server_that_failed_the_account_is_gone_back_to_after_failback(failback: float, seed: int) -> None:
    moved = decided(failed(following_on(FIRST, failback), (FIRST, 480), (FIRST, 480)), HEALTHY)
    moved = failed(moved, (SECOND, 200))
    at = went_back_at(moved, HEALTHY, seed, NOW + 150)
    hold = max(failback, MIN_REFUSED_HOLD)
    assert at is not None
    assert NOW + hold <= at <= NOW + hold + failback * FAILBACK_SPREAD + 0.5


def test_without_failback_a_server_that_failed_the_account_is_taken_again_when_there_is_need() -> None:
    moved = failed(decided(failed(following_on(FIRST, None), (FIRST, 480), (FIRST, 480)), HEALTHY), (SECOND, 200))
    down = {FIRST: WELL, SECOND: DOWN, THIRD: WELL}
    assert decided(moved, down).server == THIRD
    assert decided(moved, down, now=NOW + REFUSAL_HOLD + 1).server == FIRST
    assert decided(moved, {FIRST: WELL, SECOND: DOWN, THIRD: DOWN}).server == FIRST


def test_where_all_fail_the_account_it_goes_round_and_asks_no_faster() -> None:
    following, at = following_on(FIRST), []
    for number in range(12):
        at.append(following.server)
        assert following.server is not None
        following = decided(failed(following, (following.server, 480), now=NOW + number), HEALTHY, now=NOW + number)
        assert decided(following, HEALTHY, now=NOW + number) == following
    assert at == [FIRST, FIRST, SECOND, SECOND, THIRD, THIRD] * 2


def test_the_only_server_is_kept_whatever_it_says() -> None:
    only = {FIRST: WELL, SECOND: DOWN, THIRD: DOWN}
    for server in (FIRST, None):
        after = failed(following_on(server), *[(FIRST, 480)] * 5)
        assert decided(after, only) == after


def test_no_more_than_so_many_servers_are_kept_for_having_failed() -> None:
    following = following_on(None)
    for number in range(MAX_REFUSALS + 5):
        server = Server(f"192.0.2.{number + 10}", 5060)
        following = failed(following, (server, 500), (server, 500), now=NOW + number / 100)
    assert len(following.refused) == MAX_REFUSALS
    assert following.refused[-1].server == server


@given(st.floats(0, 10_000))
def test_retry_after_is_honoured_between_its_bounds(wait: float) -> None:
    """By the only server; 0 would have us ask as fast as it can refuse."""
    lost = decided(following_on(FIRST), dict.fromkeys(SERVERS, DOWN))
    for following in (following_on(FIRST), lost, following_on(None)):
        after = registered(following, register(FIRST, 503, wait=wait), NOW)
        assert after.register_at == NOW + min(max(wait, RETRY_AFTER_FLOOR), RETRY_AFTER_CEILING)
        assert after.server == following.server


def test_retry_after_of_the_server_that_was_left_is_not_heeded() -> None:
    """The outcome, which moves the account, is judged before or after."""
    health = {FIRST: DOWN, SECOND: WELL, THIRD: DOWN}
    busy = register(FIRST, 503, wait=30)
    moved = decided(following_on(FIRST), health)
    assert registered(moved, busy, NOW) == moved
    later = decided(registered(following_on(FIRST), busy, NOW), health)
    assert later.server == SECOND
    assert later.register_at is not None
    assert later.register_at <= NOW + SPREAD
    under_way = replace(moved, register_at=None)
    assert registered(under_way, busy, NOW) == under_way


def test_retry_after_of_one_server_does_not_put_off_what_is_due_at_another() -> None:
    """The first REGISTER of all fails; the account has no server yet, and another is well."""
    sent = registered(following_on(None), register(FIRST, 0), NOW)
    going_on = decided(sent, {FIRST: DOWN, SECOND: WELL, THIRD: DOWN})
    assert going_on.register_at is not None
    assert registered(going_on, register(FIRST, 503, wait=30), NOW) == going_on


@given(followings, healths, st.integers())
def test_an_order_with_servers_that_are_not_usable_first_is_none_to_follow(
    following: FollowedAccount, health: AccountsHealth, seed: int
) -> None:
    """A draw may be older than what is known of the servers."""
    after = decide(following, plan_of((1, 2, 3), {}), SERVERS, health, NOW, Random(seed))
    assert after.server is None or health[after.server].usable


@given(followings, healths, priorities, st.integers())
def test_a_late_answer_of_the_old_server_does_no_lasting_harm(
    following: FollowedAccount, health: AccountsHealth, order: list[int], seed: int
) -> None:
    assume(following.server is not None and any(each.usable for each in health.values()))
    moved = decided(following, health, order, seed=seed)
    for code in (200, 403, 500, 503):
        assert following.server is not None
        late = registered(moved, register(following.server, code, wait=30.0), NOW)
        after = decided(late, health, order, seed=seed)
        assert after.server is not None
        assert health[after.server].usable
        if after.server != late.server:  # it was believed for a moment
            assert after.register_at is not None
            assert after.register_at <= NOW + SPREAD


def test_an_account_that_was_registered_before_registers_to_tell_where_it_is() -> None:
    there = replace(register(None, 0), registered=True)
    assert registered(following_on(None), there, NOW).register_at == NOW
    assert registered(following_on(None), register(None, 0), NOW) == following_on(None)
    for known in (
        following_on(FIRST),
        replace(following_on(None), trying=FIRST),
        replace(following_on(None), lost=True),
    ):
        assert registered(known, there, NOW) == known


def test_a_register_that_pjsua_would_not_send_is_tried_again() -> None:
    following = following_on(FIRST)
    assert registered(following, register(None, 0, status=REGISTERING), NOW).register_at == NOW + RETRY_WHEN_BUSY
    assert registered(following, register(None, 0, status=120101), NOW).register_at == NOW + RETRY_UNSENT
    assert registered(following, register(None, 0, status=INVALID_OPERATION), NOW).register_at is None
    assert registered(following, register(None, 0), NOW) == following  # it is there


@given(followings, healths, priorities, st.integers())
def test_an_account_that_unregisters_is_not_registered_by_us(
    following: FollowedAccount, health: AccountsHealth, order: list[int], seed: int
) -> None:
    """Neither while the un-REGISTER is on its way, to a dead server perhaps, nor after it was answered."""
    after = following
    for code in (0, 200, 503):
        after = registered(after, register(FIRST, code, removed=True), NOW)
        for now in (NOW, NOW + 100):
            after = decided(after, health, order, now, seed)
            assert (after.server, after.trying, after.register_at) == (None, None, None)


def test_an_account_that_is_asked_after_while_it_unregisters_does_not_register() -> None:
    """pjsua calls it registered until the answer has come."""
    unregistering = registered(following_on(FIRST), register(FIRST, 0, removed=True), NOW)
    assert registered(unregistering, replace(register(None, 0), registered=True), NOW) == unregistering


def test_the_answer_to_an_unregister_takes_no_server_from_an_account_that_has_registered_since() -> None:
    """As one that has another registrar now; the last one may be dead, and its answer takes its time."""
    registered_since = registered(following_on(SECOND), register(SECOND, 200), NOW)
    for code in (200, 408, 503):
        assert registered(registered_since, register(FIRST, code, removed=True), NOW) == registered_since


# --- a REGISTER that another server has accepted ----------------------------------------------------------------------

BOUND = [
    pytest.param(SECOND, WELL, None, True, id="by-the-next-server"),
    pytest.param(THIRD, WELL, None, True, id="by-the-one-after-it"),
    pytest.param(SECOND, Health(since=NOW + 1), None, False, id="which-was-down-since"),
    pytest.param(SECOND, DOWN, None, False, id="which-is-down"),
    pytest.param(SECOND, WELL, 500, False, id="and-a-later-one-failed"),
    pytest.param(FIRST, WELL, None, False, id="by-the-server-itself"),
]


@pytest.mark.parametrize(("answered", "its_health", "later", "bound"), BOUND)
def test_an_account_that_leaves_a_server_registers_unless_it_has_a_binding_where_it_goes(
    answered: Server, its_health: Health, later: int | None, bound: bool
) -> None:
    following = registered(following_on(FIRST), replace(register(FIRST, 200), answered=answered), NOW)
    assert following.server == FIRST
    if later is not None:
        following = registered(following, register(FIRST, later), NOW)
    health = {SECOND: WELL, THIRD: WELL, answered: its_health, FIRST: DOWN}
    after = decided(following, health, now=NOW + 2)
    assert after.server == (answered if bound else THIRD if health[SECOND] is DOWN else SECOND)
    assert (after.register_at is None) == bound


def test_an_account_that_no_server_had_is_on_the_one_that_answered() -> None:
    lost = decided(following_on(FIRST), dict.fromkeys(SERVERS, DOWN))
    found = registered(lost, replace(register(FIRST, 200), answered=SECOND), NOW)
    assert (found.server, found.lost, found.reason) == (SECOND, False, f"it registered with {SECOND}")


@given(healths, st.permutations(SERVERS), st.integers(0, 2**32))
def test_an_account_that_registered_over_tls_is_not_taken_to_a_server_without(
    health: AccountsHealth, order: list[Server], seed: int
) -> None:
    """By pjfail: a REGISTER of the application's may go wherever its plan leads."""
    secure = replace(FIRST, transport="tls")
    order = [secure, *order[1:]]
    sent = Registration(3, "alice@example.com", secure, 200, 0, None, False)
    followed = registered(following_on(None), sent, NOW)
    for _ in range(3):
        candidates = [Candidate(server, "a", priority=place) for place, server in enumerate(order)]
        known = {**health, secure: health[FIRST]}
        plan = make_plan(TARGET, candidates, known, by_priority, NOW + 60, NOW, print)
        followed = decide(followed, plan, order, known, NOW, Random(seed))
        assert followed.server in (None, secure)
        assert followed.trying in (None, secure)
    lost = registered(followed, replace(sent, code=503), NOW)
    usable = {server: tier for tier, server in enumerate(order) if health[FIRST if server == secure else server].usable}
    if secure not in usable and lost.server is None:
        assert settled(lost, usable, health, NOW)
