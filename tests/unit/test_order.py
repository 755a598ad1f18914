"""The orders to choose from, alone and one within the other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail.model import Candidate, Health, Request, Server, State, Target
from pjfail.order import (
    MaxExcluded,
    Order,
    Panic,
    PreferFastest,
    Sticky,
    ask,
    asks_for_request,
    by_priority,
    spread,
    tiers_of,
)

NOW = 1000.0
DOWN = Health(State.DOWN, 1, until=NOW + 30)
ASKED_TO_REST = Health(State.DOWN, 1, until=NOW + 30, held=True)
DRAINING = Health(State.DRAINING, held=True)


def candidate(host: int, priority: int = 0, weight: int = 0) -> Candidate:
    return Candidate(Server(f"192.0.2.{host}", 5060), f"sip{host}.example.com", priority, weight)


A, B, C, D = candidate(1), candidate(2), candidate(3), candidate(4)
BACKUP = candidate(9, 1)


def known(**health: Health) -> Mapping[Server, Health]:
    named = {"a": A, "b": B, "c": C, "d": D, "backup": BACKUP}
    return {named[name].server: each for name, each in health.items()}


def rtt(seconds: float, last_answer: float = NOW) -> Health:
    return Health(rtt=seconds, last_answer=last_answer)


def ordered(order: Order, candidates: Sequence[Candidate], health: Mapping[Server, Health], **request: str) -> Any:
    return tiers_of(ask(order, candidates, health, Request(Target("example.com"), **request)))


# --- PreferFastest ----------------------------------------------------------------------------------------------------


def test_the_fastest_of_a_tier_comes_first_and_equals_stay_equal() -> None:
    health = known(a=rtt(0.120), b=rtt(0.015), c=rtt(0.030), d=rtt(0.130))
    assert ordered(PreferFastest(), [A, B, C, D], health) == [[B, C], [A, D]]


def test_a_fast_server_does_not_leave_its_tier() -> None:
    assert ordered(PreferFastest(), [A, BACKUP], known(a=rtt(0.5), backup=rtt(0.01))) == [[A], [BACKUP]]


def test_a_fast_server_that_is_down_stays_behind() -> None:
    health = known(a=Health(State.DOWN, rtt=0.001, last_answer=NOW), b=rtt(0.5))
    assert ordered(PreferFastest(), [A, B], health) == [[B], [A]]


def test_one_never_measured_is_with_the_fastest_so_that_it_gets_measured() -> None:
    assert ordered(PreferFastest(), [A, B, C], known(a=rtt(0.2), b=rtt(0.01))) == [[C, B], [A]]


def test_a_round_trip_that_others_have_long_outlived_is_forgotten() -> None:
    fresh, stale = rtt(0.01, NOW), rtt(0.5, NOW - 61)
    assert ordered(PreferFastest(), [A, B], known(a=fresh, b=stale)) == [[B, A]]
    assert ordered(PreferFastest(forget=90), [A, B], known(a=fresh, b=stale)) == [[A], [B]]


def test_the_band_is_measured_from_the_fastest_of_each_group() -> None:
    health = known(a=rtt(0.01), b=rtt(0.025), c=rtt(0.04), d=rtt(0.05))
    assert ordered(PreferFastest(band=0.02), [A, B, C, D], health) == [[A, B], [C, D]]


# --- Sticky -----------------------------------------------------------------------------------------------------------


def test_an_account_stays_where_it_is_and_a_fleet_spreads() -> None:
    firsts = Counter(ordered(Sticky(), [A, B, C], {}, account=f"sip:{n}@x")[0][0] for n in range(3000))
    assert all(abs(firsts[each] - 1000) < 130 for each in (A, B, C))  # five standard deviations
    assert ordered(Sticky(), [C, A, B], {}, account="sip:7@x") == ordered(Sticky(), [A, B, C], {}, account="sip:7@x")


def test_a_fleet_spreads_by_weight() -> None:
    heavy, light = candidate(1, weight=3), candidate(2, weight=1)
    firsts = Counter(ordered(Sticky(), [heavy, light], {}, account=f"sip:{n}@x")[0][0] for n in range(4000))
    assert abs(firsts[heavy] - 3000) < 140


def test_a_server_that_goes_down_moves_nobody_but_its_own() -> None:
    for number in range(300):
        account = f"sip:{number}@x"
        [before], *_ = ordered(Sticky(), [A, B, C], {}, account=account)
        [after], *_ = ordered(Sticky(), [A, B, C], known(b=DOWN), account=account)
        assert (after == before) is (before != B)


def test_tiers_hold_for_an_account_too() -> None:
    assert all(ordered(Sticky(), [BACKUP, A], {}, account=f"sip:{n}@x") == [[A], [BACKUP]] for n in range(50))


def test_a_dialog_can_stay_by_its_call_id() -> None:
    by_call = Sticky(key="call_id")
    orders = {
        tuple(each for [each] in ordered(by_call, [A, B, C], {}, account="sip:a@x", call_id=f"{n}@h"))
        for n in range(100)
    }
    assert len(orders) == 6


def test_a_key_that_no_request_has_is_refused() -> None:
    key: Any = "from"
    with pytest.raises(ValueError, match='give "account" or "call_id"'):
        Sticky(key=key)


def test_without_an_account_the_weights_decide() -> None:
    assert ordered(Sticky(), [A, B, BACKUP], {}) == [[A, B], [BACKUP]]


def test_the_hash_is_the_same_in_every_process() -> None:
    """Python's own is not. A fleet on two versions of pjfail must agree."""
    assert [each for [each] in ordered(Sticky(), [A, B, C, D], {}, account="sip:alice@example.com")] == [C, A, B, D]


# --- spread -----------------------------------------------------------------------------------------------------------


def test_all_that_are_well_take_part_whatever_their_priority() -> None:
    assert ordered(spread, [A, BACKUP, B], known(b=DOWN)) == [[A, BACKUP], [B]]


# --- panic, and at most so many excluded ------------------------------------------------------------------------------


def test_health_is_ignored_in_a_tier_of_which_too_little_is_left() -> None:
    assert ordered(Panic(), [A, B, C, D], known(a=DOWN, b=DOWN)) == [[C, D], [A, B]]  # half is left
    assert ordered(Panic(), [A, B, C, D], known(a=DOWN, b=DOWN, c=DOWN)) == [[A, B, C, D]]
    assert ordered(Panic(below=0.2), [A, B, C, D], known(a=DOWN, b=DOWN, c=DOWN)) == [[D], [A, B, C]]


def test_a_tier_that_is_down_as_a_whole_stays_behind() -> None:
    assert ordered(Panic(), [A, B, BACKUP], known(a=DOWN, b=DOWN)) == [[BACKUP], [A, B]]


@pytest.mark.parametrize("said", [DRAINING, ASKED_TO_REST])
def test_panic_does_not_ignore_what_was_asked_for(said: Health) -> None:
    assert ordered(Panic(), [A, B, C, D], known(a=said, b=DOWN, c=DOWN)) == [[B, C, D], [A]]


def test_at_most_a_share_of_a_tier_is_excluded_the_worst() -> None:
    twice, later = Health(State.DOWN, 2, until=NOW + 1), Health(State.DOWN, 1, until=NOW + 60)
    health = known(a=DOWN, b=twice, c=later)
    assert ordered(MaxExcluded(share=0.5), [A, B, C, D], health) == [[A, D], [B, C]]
    assert ordered(MaxExcluded(share=0.0), [A, B, C, D], health) == [[A, C, D], [B]]  # one in any case
    assert ordered(MaxExcluded(share=1.0), [A, B, C, D], health) == [[D], [A, B, C]]


# --- how an order asks for the request --------------------------------------------------------------------------------


def asking(candidates: Sequence[Candidate], _health: Mapping[Server, Health], *, request: Request) -> Any:
    return candidates if request.method == "REGISTER" else list(reversed(candidates))


def not_asking(candidates: Sequence[Candidate], _health: Mapping[Server, Health], request: object = None) -> Any:
    assert request is None, "only a keyword-only parameter asks"
    return candidates


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, candidates: Sequence[Candidate], _health: Mapping[Server, Health], *, request: Request) -> Any:
        assert request.method
        return candidates


@pytest.mark.parametrize(
    ("order", "asks"),
    [
        (by_priority, False),
        (spread, False),
        (not_asking, False),
        (asking, True),
        (partial(asking), True),
        (Unhashable(), True),
        (Sticky(), True),
        (PreferFastest(), False),
        (PreferFastest(Sticky()), True),
        (Panic(MaxExcluded(PreferFastest(asking))), True),
        (sorted, False),
    ],
)
def test_an_order_asks_by_a_keyword_only_parameter(order: Order, asks: bool) -> None:
    assert asks_for_request(order) is asks


def test_an_order_that_does_not_ask_is_given_nothing() -> None:
    assert ordered(not_asking, [A, B], {}, method="REGISTER") == [[A], [B]]


@pytest.mark.parametrize("within", [asking, Unhashable()])
@pytest.mark.parametrize("wrap", [lambda order: order, PreferFastest, Panic, lambda order: Panic(MaxExcluded(order))])
def test_an_order_within_others_sees_the_request(wrap: Any, within: Any) -> None:
    assert [each for tier in ordered(wrap(within), [A, B], {}, method="REGISTER") for each in tier] == [A, B]


def test_orders_refine_one_another() -> None:
    """The fast ones of those that are well first, each account with a server of its own among them."""
    everything = Panic(Sticky(PreferFastest()))
    health = known(a=DOWN, b=rtt(0.3), c=rtt(0.01), d=rtt(0.012))
    firsts = {ordered(everything, [A, B, C, D, BACKUP], health, account=f"sip:{n}@x")[0][0] for n in range(50)}
    assert firsts == {C, D}


# --- laws -------------------------------------------------------------------------------------------------------------

ORDERS: list[Order] = [
    by_priority,
    spread,
    PreferFastest(),
    Sticky(),
    Sticky(key="call_id"),
    Panic(),
    MaxExcluded(),
    Panic(MaxExcluded(Sticky(PreferFastest(spread)))),
]


def label(order: Order) -> str:
    """The same in every process, which the address of a function is not."""
    return re.sub(r"<function (\w+) at \w+>", r"\1", str(order))


healths = st.builds(
    Health,
    state=st.sampled_from(State),
    failures=st.integers(0, 5),
    until=st.one_of(st.none(), st.floats(0, 2000)),
    held=st.booleans(),
    rtt=st.one_of(st.none(), st.floats(0, 5)),
    last_answer=st.one_of(st.none(), st.floats(0, NOW)),
    returning=st.booleans(),
)
fleets = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([0, 1, 10, 65535]), st.one_of(st.none(), healths)), max_size=8
)


def listed(fleet: Sequence[tuple[int, int, Health | None]]) -> tuple[list[Candidate], dict[Server, Health]]:
    candidates = [candidate(host, priority, weight) for host, (priority, weight, _) in enumerate(fleet, 1)]
    health = {each.server: one for each, (_, _, one) in zip(candidates, fleet, strict=True) if one is not None}
    return candidates, health


@pytest.mark.parametrize("order", ORDERS, ids=label)
@given(fleet=fleets, account=st.text(max_size=5))
def test_every_order_is_a_permutation_and_says_the_same_when_asked_twice(
    order: Order, fleet: list[tuple[int, int, Health | None]], account: str
) -> None:
    candidates, health = listed(fleet)
    before = dict(health)
    once, again = (ordered(order, candidates, health, account=account, call_id=account) for _ in range(2))
    assert once == again
    assert health == before
    assert sorted(each.server for tier in once for each in tier) == sorted(each.server for each in candidates)
    assert all(once)


@pytest.mark.parametrize("order", [each for each in ORDERS if each is not spread][:-1], ids=label)
@given(fleet=fleets, health=healths, account=st.text(max_size=5))
def test_equal_health_keeps_priority_order(
    order: Order, fleet: list[tuple[int, int, Health | None]], health: Health, account: str
) -> None:
    candidates, _ = listed(fleet)
    alike = {each.server: health for each in candidates}
    priorities = [each.priority for tier in ordered(order, candidates, alike, account=account) for each in tier]
    if not isinstance(order, MaxExcluded) or health.usable:  # which spares some on purpose
        assert priorities == sorted(priorities)


@pytest.mark.parametrize("order", ORDERS, ids=label)
@given(fleet=fleets.filter(bool))
def test_all_down_still_answers_with_all(order: Order, fleet: list[tuple[int, int, Health | None]]) -> None:
    candidates, _ = listed(fleet)
    down = {each.server: DOWN for each in candidates}
    assert len([each for tier in ordered(order, candidates, down) for each in tier]) == len(candidates)
