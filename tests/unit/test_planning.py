"""From candidates to a plan, with policies that are right and policies that are wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail.model import Candidate, Health, Plan, Server, State, Target
from pjfail.planning import make_plan, reason
from pjfail.policy import by_priority

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
    assert [place.tier for place in plan.places] == [n for n, tier in enumerate(tiers) for _ in tier]
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


# --- policies that are wrong ------------------------------------------------------------------------------------------


def raising(_candidates: Sequence[Candidate], _health: Mapping[Server, Health]) -> Sequence[Candidate]:
    raise KeyError("no such server")


def changing_its_mind(_candidates: Sequence[Candidate], _health: Mapping[Server, Health]) -> Any:
    yield A
    raise KeyError("no such server")


@pytest.mark.parametrize(
    ("order", "problem", "error"),
    [
        (raising, "raised KeyError", KeyError),
        (changing_its_mind, "raised KeyError", KeyError),
        (lambda: ALL, "raised TypeError", TypeError),
        (returning(None), "returned no sequence", TypeError),
        (returning(3), "returned no sequence", TypeError),
        (returning([A, None]), "returned no sequence", TypeError),
        (returning([A.server]), "returned no sequence", TypeError),
        (returning([[A.server]]), "none of the candidates", None),
        (returning("AB"), "none of the candidates", None),
        (returning([[{}]]), "returned no sequence", TypeError),
        (returning([A, STRANGER]), "none of the candidates", None),
        (returning([[A, B], [STRANGER]]), "none of the candidates", None),
        (returning([A, B, A]), "a candidate twice", None),
        (returning([[A, B], [A]]), "a candidate twice", None),
        (returning([]), "left out every candidate", None),
        (returning([[], []]), "left out every candidate", None),
    ],
)
def test_a_wrong_policy_is_complained_of_and_the_default_order_used(
    order: AnyOrder, problem: str, error: type[Exception] | None
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


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (Health(), "up, priority 0, weight 60"),
        (
            Health(State.DOWN, 2, 990.0, 1025.0, "silent to REGISTER"),
            "down for 25 s more: silent to REGISTER, failure 2",
        ),
        (Health(State.DOWN, 1, 990.0, 999.0, "silent to REGISTER"), "down for 0 s more: silent to REGISTER, failure 1"),
        (
            Health(State.HALF_OPEN, 1, 990.0, None, "silent to REGISTER"),
            "half-open, being probed: was silent to REGISTER, failure 1",
        ),
        (
            Health(State.DRAINING, 0, 990.0, None, "drained by the application"),
            "draining: drained by the application",
        ),
        (Health(State.SUSPECT, 0, 990.0, None, "one retransmission"), "suspect: one retransmission"),
    ],
)
def test_the_reason_of_a_place_in_words(health: Health, words: str) -> None:
    assert reason(A, health, NOW) == words


def test_a_hold_down_without_an_end_names_none() -> None:
    marked = Health(State.DOWN, 0, 990.0, None, "marked down by the application")
    assert reason(A, marked, NOW).startswith("down: marked down by the application")


def test_each_place_has_the_reason_of_its_own_server() -> None:
    plan, _ = planned(by_priority, health={A.server: Health(State.DOWN, 1, 990.0, 1030.0, "refused the connection")})
    assert {place.server: place.reason for place in plan.places} == {
        A.server: "down for 30 s more: refused the connection, failure 1",
        B.server: "up, priority 0, weight 20",
        C.server: "up, priority 1, weight 0",
    }


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
    assert sorted({place.tier for place in plan.places}) == list(range(len(plan.tiers)))
    if complaints:
        assert plan.tiers == ((A, B), (C,))
