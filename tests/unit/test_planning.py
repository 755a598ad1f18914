"""From candidates to a plan, with policies that are right and policies that are wrong."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail.model import Candidate, Health, Plan, PlanEntry, Request, Server, State, Target
from pjfail.order import Sticky, by_priority
from pjfail.planning import make_plan, reason, review_at, weighted
from pjfail.policy import Policy

NOW = 1000.0
TARGET = Target("example.com", 0, "tls", secure=True)


def candidate(host: int, priority: int = 0, weight: int = 0) -> Candidate:
    return Candidate(Server(f"192.0.2.{host}", 5061, "tls"), f"sip{host}.example.com", priority, weight, 60.0)


A, B, C = candidate(1, 0, 60), candidate(2, 0, 20), candidate(3, 1)
ALL = (A, B, C)
STRANGER = candidate(9)

AnyOrder = Callable[[Sequence[Candidate], Mapping[Server, Health]], Any]
Complaint = tuple[str, Exception | None]


def planned(
    order: AnyOrder, candidates: Sequence[Candidate] = ALL, health: Mapping[Server, Health] | None = None
) -> tuple[Plan, list[Complaint]]:
    """The plan by *order*, and the complaints about it."""
    complaints: list[Complaint] = []

    def complain(problem: str, error: Exception | None) -> None:
        complaints.append((problem, error))

    return make_plan(TARGET, candidates, health or {}, order, NOW + 60, NOW, complain), complaints


def returning(result: Any) -> AnyOrder:
    return lambda _candidates, _health: result


# --- policies that are right ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "tiers"),
    [
        ([C, A, B], ((C,), (A,), (B,))),
        ([[C], [A, B]], ((C,), (A, B))),
        ([[B, A], C], ((B, A), (C,))),
        (((C,), (B, A)), ((C,), (B, A))),
        ((each for each in (B, C, A)), ((B,), (C,), (A,))),
        ([[], [A, B], [], [C], []], ((A, B), (C,))),
    ],
    ids=["flat", "tiers", "both", "tuples", "generator", "empty tiers"],
)
def test_the_plan_is_as_the_policy_says(result: Any, tiers: tuple[tuple[Candidate, ...], ...]) -> None:
    plan, complaints = planned(returning(result))
    assert plan.tiers == tiers
    assert [place.tier for place in plan.entries] == [n for n, tier in enumerate(tiers) for _ in tier]
    assert complaints == []


def test_a_policy_may_leave_servers_out_on_purpose() -> None:
    plan, complaints = planned(returning([C]))
    assert plan.servers == (C.server,)
    assert complaints == []


def test_a_policy_is_given_the_candidates_and_their_health() -> None:
    health = {A.server: Health(State.DOWN)}
    told: list[tuple[Sequence[Candidate], Mapping[Server, Health]]] = []

    def order(candidates: Sequence[Candidate], known: Mapping[Server, Health]) -> Sequence[Candidate]:
        told.append((tuple(candidates), known))
        return candidates

    planned(order, health=health)
    assert told == [(ALL, health)]


def test_a_plan_has_its_target_and_its_end() -> None:
    plan, _ = planned(by_priority)
    assert (plan.target, plan.valid_until) == (TARGET, NOW + 60)


# --- last resorts -----------------------------------------------------------------------------------------------------

DOWN, HALF_OPEN, SUSPECT = Health(State.DOWN), Health(State.HALF_OPEN), Health(State.SUSPECT)


def last_resorts(order: AnyOrder, *health: Health) -> list[bool]:
    plan, _ = planned(order, health=dict(zip((A.server, B.server, C.server), health, strict=False)))
    return [place.last_resort for place in plan.entries]


def test_the_tiers_at_the_end_without_a_usable_server_are_last_resorts() -> None:
    assert last_resorts(by_priority) == [False, False, False]
    assert last_resorts(by_priority, DOWN, SUSPECT) == [False, False, True]  # C, B, A
    assert last_resorts(by_priority, DOWN, HALF_OPEN) == [False, True, True]
    assert last_resorts(by_priority, DOWN, HALF_OPEN, DOWN) == [True, True, True]


def test_whom_the_policy_has_before_a_usable_server_or_beside_it_is_none() -> None:
    assert last_resorts(returning([A, B, C]), DOWN, Health(), DOWN) == [False, False, True]
    assert last_resorts(returning([C, [A, B]]), DOWN, Health(), DOWN) == [False, False, False]


def test_it_is_a_last_resort_for_the_method_that_it_is_down_for() -> None:
    health = {C.server: Health(methods={"MESSAGE": DOWN})}
    for method, last in (("MESSAGE", True), ("REGISTER", False)):
        request = Request(TARGET, method)
        plan = make_plan(TARGET, ALL, health, by_priority, NOW + 60, NOW, pytest.fail, request=request)
        assert [place.last_resort for place in plan.entries] == [False, False, last]


# --- policies that are wrong ------------------------------------------------------------------------------------------


def raising(_candidates: Sequence[Candidate], _health: Mapping[Server, Health]) -> Sequence[Candidate]:
    raise KeyError("no such server")


def exiting(_candidates: Sequence[Candidate], _health: Mapping[Server, Health]) -> Sequence[Candidate]:
    sys.exit(1)


def changing_its_mind(_candidates: Sequence[Candidate], _health: Mapping[Server, Health]) -> Any:
    yield A
    raise KeyError("no such server")


@pytest.mark.parametrize(
    ("order", "problem", "error"),
    [
        (raising, "raised KeyError", KeyError),
        (exiting, "raised SystemExit", SystemExit),
        (changing_its_mind, "raised KeyError", KeyError),
        (lambda: ALL, "raised TypeError", TypeError),
        (returning(None), "not an order of the candidates (NoneType)", TypeError),
        (returning(3), "not an order of the candidates (int)", TypeError),
        (returning([A, None]), "not an order of the candidates (list)", TypeError),
        (returning([A.server]), "not an order of the candidates (list)", TypeError),
        (returning([[A.server]]), "none of the candidates", None),
        (returning("AB"), "none of the candidates", None),
        (returning([[{}]]), "not an order of the candidates (list)", TypeError),
        (returning([A, STRANGER]), "none of the candidates", None),
        (returning([[A, B], [STRANGER]]), "none of the candidates", None),
        (returning([A, B, A]), "a candidate twice", None),
        (returning([[A, B], [A]]), "a candidate twice", None),
        (returning([]), "left out every candidate", None),
        (returning([[], []]), "left out every candidate", None),
    ],
)
def test_a_wrong_policy_is_complained_of_and_the_default_order_used(
    order: AnyOrder, problem: str, error: type[BaseException] | None
) -> None:
    plan, complaints = planned(order, health={A.server: Health(State.DOWN)})
    assert plan.tiers == ((B,), (C,), (A,))
    [(words, raised)] = complaints
    assert problem in words
    assert (raised is None) if error is None else isinstance(raised, error)


def test_a_complaint_names_the_stranger() -> None:
    _, [(words, _)] = planned(returning([STRANGER]))
    assert STRANGER.server.address in words


def test_a_policy_cannot_stop_the_process_from_ending() -> None:
    def interrupted(_candidates: Sequence[Candidate], _health: Mapping[Server, Health]) -> Sequence[Candidate]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        planned(interrupted)


def test_what_a_lookup_found_twice_is_not_the_policys_fault() -> None:
    plan, complaints = planned(by_priority, candidates=(A, A, C))
    assert set(plan.servers) == {A.server, C.server}
    assert complaints == []


# --- reasons ----------------------------------------------------------------------------------------------------------


SILENT_TWICE = Health(State.DOWN, 2, 990.0, 1012.0, "silent to REGISTER", failed_at=990.0)


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (Health(), "up, priority 0, weight 60"),
        (SILENT_TWICE, "down, next tried within 12 s, silent to REGISTER, failure 2"),
        (replace(SILENT_TWICE, until=999.0), "down, next tried within 0 s, silent to REGISTER, failure 2"),
        (
            Health(State.HALF_OPEN, 1, 990.0, None, "silent to REGISTER"),
            "half-open, being probed, was silent to REGISTER, failure 1",
        ),
        (
            Health(State.DRAINING, 0, 990.0, None, "drained by the application"),
            "draining, drained by the application",
        ),
        (Health(State.SUSPECT, 0, 990.0, None, "silent to OPTIONS"), "suspect, silent to OPTIONS"),
        (Health(State.DOWN, 0, 990.0, None, "marked down by the application"), "down, marked down by the application"),
        (
            Health(returning=True, returns_at=1007.0),
            "up, priority 0, weight 60, back in its tier in 7 s",
        ),
    ],
)
def test_the_reason_of_a_place_in_words(health: Health, words: str) -> None:
    assert reason(A, health, NOW) == words


def test_with_the_wall_clock_at_hand_the_reason_says_when(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        wall = 10 * 3600 + 31 * 60 + 2 - 990.0  # 990.0 was 10:31:02
        words = "down, next tried within 12 s, silent to REGISTER at 10:31:02, failure 2"
        assert reason(A, SILENT_TWICE, NOW, wall) == words
        suspect = Health(State.SUSPECT, reason="silent to OPTIONS", failed_at=991.0)
        assert reason(A, suspect, NOW, wall) == "suspect, silent to OPTIONS at 10:31:03"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_plan_in_words_says_who_is_first_second_and_third() -> None:
    plan, _ = planned(returning([[A], [B], [C]]), health={C.server: SILENT_TWICE})
    assert str(plan) == (
        "first: tls:192.0.2.1:5061 (sip1.example.com) up, priority 0, weight 60; "
        "second: tls:192.0.2.2:5061 (sip2.example.com) up, priority 0, weight 20; "
        "third: tls:192.0.2.3:5061 (sip3.example.com) down, next tried within 12 s, silent to REGISTER, failure 2"
    )


def test_each_place_has_the_reason_of_its_own_server() -> None:
    plan, _ = planned(by_priority, health={A.server: Health(State.DOWN, 1, 990.0, 1030.0, "refused the connection")})
    assert {place.server: place.reason for place in plan.entries} == {
        A.server: "down, next tried within 30 s, refused the connection, failure 1",
        B.server: "up, priority 0, weight 20",
        C.server: "up, priority 1, weight 0",
    }


# --- the request ------------------------------------------------------------------------------------------------------


def test_an_order_that_asks_is_given_the_request() -> None:
    told: list[Request] = []

    def order(candidates: Sequence[Candidate], _health: Mapping[Server, Health], *, request: Request) -> Any:
        told.append(request)
        return candidates

    register = Request(TARGET, "REGISTER", "sip:alice@example.com", "id@host")
    make_plan(TARGET, ALL, {}, order, NOW + 60, NOW, pytest.fail, request=register)
    make_plan(TARGET, ALL, {}, order, NOW + 60, NOW, pytest.fail)
    assert told == [register, Request(TARGET)]


def test_a_server_down_for_one_method_is_behind_for_that_method_only() -> None:
    silent = {A.server: Health(methods={"SUBSCRIBE": Health(State.DOWN, 1, 990.0, 1030.0, "silent to SUBSCRIBE")})}

    def first(method: str) -> Candidate:
        request = Request(TARGET, method)
        plan = make_plan(TARGET, [A, C], silent, by_priority, NOW + 60, NOW, pytest.fail, request=request)
        return plan.tiers[0][0]

    assert [first(method) for method in ("REGISTER", "SUBSCRIBE", "")] == [A, C, A]


# --- slow start -------------------------------------------------------------------------------------------------------


def recovering(share: float) -> Health:
    """Up again, *share* of a slow start of 30 s ago."""
    return Health(since=NOW - 30 * share, returns_at=NOW - 30 * share)


def slowly(candidates: Sequence[Candidate], health: Mapping[Server, Health]) -> Plan:
    return make_plan(TARGET, candidates, health, by_priority, NOW + 60, NOW, pytest.fail, slow_start=30.0)


@pytest.mark.parametrize(("grown", "share"), [(0.0, 0.1), (0.1, 0.1), (0.5, 0.5), (1.0, 1.0), (2.0, 1.0)])
def test_after_a_recovery_the_share_of_the_weight_grows(grown: float, share: float) -> None:
    plan = slowly([A, B], {A.server: recovering(grown)})
    assert [place.share for place in plan.entries] == pytest.approx([share, 1.0])
    assert ("after a recovery" in plan.entries[0].reason) is (share < 1)


def test_a_server_alone_in_its_tier_has_nobody_to_leave_the_rest_to() -> None:
    plan = slowly([A, C], {A.server: recovering(0.0)})
    assert [place.share for place in plan.entries] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("found", "weights"),
    [
        ((60, 20), [3000, 2000]),
        ((0, 0), [50, 100]),  # equals count as equals
        ((0, 20), [0, 2000]),  # RFC 2782's "next to never" stays that
        ((65535, 65535), [32768, 65535]),
        ((1, 65535), [1, 65535]),
    ],
)
def test_the_weights_of_a_slow_start_are_shares_of_those_found(found: tuple[int, int], weights: list[int]) -> None:
    places = [
        PlanEntry(candidate(1, 0, found[0]), 0, "", share=0.5),
        PlanEntry(candidate(2, 0, found[1]), 0, ""),
        PlanEntry(candidate(3, 1, 7), 1, ""),
    ]
    assert weighted(places) == [*weights, 7]


def test_without_a_slow_start_the_weights_are_those_found() -> None:
    assert weighted(slowly(ALL, {}).entries) == [60, 20, 0]


# --- when to look again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("health", "policy", "due"),
    [
        (Health(), Policy(), NOW + 60),
        (Health(), Policy(replan=10.0), NOW + 10),
        (recovering(0.5), Policy(), NOW + 1.5),
        (Health(returning=True, returns_at=NOW + 7), Policy(), NOW + 7),
    ],
    ids=["nothing to come", "replan", "slow start", "failback"],
)
def test_a_plan_is_looked_at_again_when_time_alone_changes_it(health: Health, policy: Policy, due: float) -> None:
    known = {A.server: health}
    assert review_at(slowly([A, B], known), known, NOW, policy) == due


# --- laws -------------------------------------------------------------------------------------------------------------

candidates_of = st.lists(
    st.builds(candidate, host=st.integers(1, 200), priority=st.integers(0, 3), weight=st.integers(0, 9)),
    min_size=1,
    max_size=10,
    unique_by=lambda each: each.server,
)
anything = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=3), st.just(STRANGER), st.sampled_from(ALL)),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@given(candidates_of, st.dictionaries(st.integers(1, 200), st.sampled_from(State)))
def test_the_default_plan_is_a_permutation(candidates: list[Candidate], states: dict[int, State]) -> None:
    health = {candidate(host).server: Health(state) for host, state in states.items()}
    plan, complaints = planned(by_priority, candidates, health)
    assert sorted(plan.servers) == sorted(each.server for each in candidates)
    assert complaints == []


@given(candidates_of, st.data())
def test_any_order_of_any_of_the_candidates_is_followed(candidates: list[Candidate], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(candidates))
    kept = shuffled[: data.draw(st.integers(1, len(shuffled)))]
    plan, complaints = planned(returning(kept), candidates)
    assert plan.servers == tuple(each.server for each in kept)
    assert complaints == []


@given(anything)
def test_whatever_a_policy_returns_there_is_a_plan(result: Any) -> None:
    plan, complaints = planned(returning(result))
    servers = plan.servers
    assert servers
    assert len(set(servers)) == len(servers)
    assert set(servers) <= {each.server for each in ALL}
    assert sorted({place.tier for place in plan.entries}) == list(range(len(plan.tiers)))
    if complaints:
        assert plan.tiers == ((A, B), (C,))


healths_of = st.builds(
    Health,
    state=st.sampled_from(State),
    failures=st.integers(0, 5),
    until=st.one_of(st.none(), st.floats(NOW, NOW + 300)),
    rtt=st.one_of(st.none(), st.floats(0.001, 2)),
    returning=st.booleans(),
    returns_at=st.one_of(st.none(), st.floats(NOW - 60, NOW + 60)),
)
orders_of = st.sampled_from([by_priority, Sticky(), Sticky(key="call_id")])


@given(candidates_of, st.lists(healths_of, min_size=10, max_size=10), orders_of, st.text(max_size=9))
def test_a_plan_made_twice_is_the_same_and_has_a_weight_for_each(
    candidates: list[Candidate], known: list[Health], order: AnyOrder, account: str
) -> None:
    health = {each.server: one for each, one in zip(candidates, known, strict=False)}
    request = Request(TARGET, "REGISTER", account, account)
    one, other = (
        make_plan(TARGET, candidates, health, order, NOW + 60, NOW, pytest.fail, request, 30.0, 0.0) for _ in range(2)
    )
    assert one == other
    assert all(0 <= weight < 65536 for weight in weighted(one.entries))
    assert len(weighted(one.entries)) == len(one.entries)
    assert NOW <= review_at(one, health, NOW, Policy()) <= one.valid_until
