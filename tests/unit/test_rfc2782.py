"""The draw of RFC 2782's weights."""

from __future__ import annotations

import math
import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pjfail.lookup.rfc2782 import draw
from pjfail.model import Candidate, Server

TRIALS = 20_000


def candidate(name: str, priority: int, weight: int, host: int = 1) -> Candidate:
    return Candidate(Server(f"192.0.2.{host}", 5060, "tcp"), name, priority, weight, 60)


candidates = st.lists(
    st.builds(
        candidate,
        name=st.sampled_from(["a", "b", "c", "d"]),
        priority=st.integers(0, 3),
        weight=st.sampled_from([0, 1, 2, 100, 65535]),
        host=st.integers(1, 4),
    ),
    max_size=12,
)


def shares(listed: list[Candidate], place: int = 0) -> dict[str, float]:
    """How often each name stood at *place*."""
    rng = random.Random(2782)
    counted = Counter(draw(listed, rng)[place].name for _ in range(TRIALS))
    return {name: count / TRIALS for name, count in counted.items()}


def near(share: float, expected: float) -> bool:
    """Within five standard deviations of a binomial."""
    return abs(share - expected) < 5 * math.sqrt(expected * (1 - expected) / TRIALS)


@given(candidates, st.randoms(use_true_random=False))
def test_a_draw_is_a_permutation_by_priority(listed: list[Candidate], rng: random.Random) -> None:
    drawn = draw(listed, rng)
    assert Counter(drawn) == Counter(listed)
    assert [each.priority for each in drawn] == sorted(each.priority for each in listed)


@given(candidates, st.randoms(use_true_random=False))
def test_addresses_of_one_record_stay_together_in_their_order(listed: list[Candidate], rng: random.Random) -> None:
    def record(each: Candidate) -> tuple[int, int, str]:
        return each.priority, each.weight, each.name

    drawn = draw(listed, rng)
    for wanted in {record(each) for each in listed}:
        places = [index for index, each in enumerate(drawn) if record(each) == wanted]
        assert places == list(range(places[0], places[0] + len(places)))
        assert [drawn[place] for place in places] == [each for each in listed if record(each) == wanted]


def test_the_example_of_the_rfc() -> None:
    """Section "example": three quarters of the connections go to the fast box."""
    listed = [
        candidate("old-slow-box", 0, 1),
        candidate("new-fast-box", 0, 3),
        candidate("sysadmins-box", 1, 0),
        candidate("server", 1, 0),
    ]
    first = shares(listed)
    assert near(first["new-fast-box"], 3 / 4)
    assert near(first["old-slow-box"], 1 / 4)
    assert near(shares(listed, place=2)["server"], 0.5)


def test_large_weights_are_shares() -> None:
    first = shares([candidate("a", 0, 6000), candidate("b", 0, 3000), candidate("c", 0, 1000)])
    assert near(first["a"], 0.6)
    assert near(first["b"], 0.3)
    assert near(first["c"], 0.1)


def test_a_record_with_two_addresses_counts_once() -> None:
    first = shares([candidate("a", 0, 1000, 1), candidate("a", 0, 1000, 2), candidate("b", 0, 1000, 3)])
    assert near(first["a"], 0.5)


def test_weight_0_has_a_small_chance_and_not_none() -> None:
    """The draw says 0 once in eleven, and then the record that was put first wins."""
    first = shares([candidate("heavy", 0, 10), candidate("light", 0, 0)])
    assert near(first["light"], 1 / 11)


def test_weights_0_alone_share_evenly() -> None:
    first = shares([candidate("a", 0, 0), candidate("b", 0, 0), candidate("c", 0, 0), candidate("d", 0, 0)])
    assert all(near(first[name], 0.25) for name in "abcd")
