"""What the words of other processes weigh: laws over all interleavings, and the cases by name."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail.model import Server
from pjfail.shared import Shared
from pjfail.shared.board import CEILING_S, MAX_ENTRIES, MAX_ORDER_S, WINDOW_S, Board, missing
from pjfail.shared.entries import MAX_OCTETS, Entry, decode, dumps, encode

ONE, OTHER = Server("192.0.2.1", 5060), Server("192.0.2.2", 5060)
numbers = itertools.count(1)


def entry(writer: str = "a", kind: Any = "down", server: Server = ONE, **fields: Any) -> Entry:
    return Entry(server, writer, kind, **{"sequence": next(numbers), "left": 30.0, "host": writer} | fields)


def board(*entries: Entry, now: float = 100.0, trust: int | None = 1) -> Board:
    made = Board("me", trust)
    for each in entries:
        made.hear(each, now)
    return made


def is_down(made: Board, now: float = 100.0, last_answer: float | None = None, *, doubted: bool = False) -> bool:
    return made.weigh(ONE, now, last_answer, doubted=doubted).down is not None


def test_who_told_and_what_is_in_the_reason() -> None:
    made = board(entry("host-7", reason="silent to INVITE", age=2.0), entry("host-8", age=1.0))
    belief = made.weigh(ONE, 100.0, None, doubted=False).down
    assert belief is not None
    assert belief.reason == "silent to INVITE at host-7, told by 2"
    assert (belief.since, belief.until, belief.voices) == (98.0, 130.0, 2)


def test_so_many_must_agree_within_the_window() -> None:
    assert is_down(board(entry("a")))
    assert not is_down(board(entry("a"), trust=2))
    assert not is_down(board(entry("a"), entry("a"), trust=2))  # the same one twice
    assert is_down(board(entry("a"), entry("b"), trust=2))
    late = board(entry("a", left=300.0), trust=2)
    late.hear(entry("b"), 100.0 + WINDOW_S + 1)
    assert not is_down(late, 100.0 + WINDOW_S + 1)


def test_by_default_one_is_enough_on_redis_whose_own_other_servers_are_well() -> None:
    assert not is_down(board(entry("a"), trust=None))
    assert is_down(board(entry("a", sure=True), trust=None))
    assert not is_down(board(entry("a", sure=True), trust=3))  # who asks for three gets three
    assert is_down(board(entry("a"), entry("b"), trust=None))


def test_one_is_enough_for_who_has_it_down_already() -> None:
    assert is_down(board(entry("a"), trust=3), doubted=True)


def test_an_own_fresh_success_outranks_and_is_to_be_told() -> None:
    made = board(entry("a", age=2.0))
    assert made.weigh(ONE, 100.0, 98.5, doubted=False).contradicted
    assert not is_down(made, last_answer=98.5)
    assert is_down(made, last_answer=97.5)  # it may have died since


def test_a_success_of_another_ends_what_was_said_before_it_only() -> None:
    made = board(entry("a", age=5.0), entry("b", "up", age=3.0))
    verdict = made.weigh(ONE, 100.0, None, doubted=False)
    assert verdict.down is None
    assert verdict.recovered is not None
    assert not verdict.contradicted  # that has been said
    made.hear(entry("c", age=1.0), 100.0)
    assert is_down(made)


def test_what_is_late_or_doubled_or_our_own_or_expired_says_nothing() -> None:
    made = Board("me", 1)
    old, new = entry("a"), entry("a", "gone")
    assert made.hear(new, 100.0)
    assert not made.hear(old, 101.0)
    assert not made.hear(new, 101.0)
    assert not made.hear(entry("me"), 101.0)
    assert not made.hear(entry("b", left=0.0), 101.0)
    assert not is_down(made, 101.0)


def test_a_reading_forgets_what_is_gone_but_not_what_came_since() -> None:
    made = board(entry("a"), now=100.0)
    kept = entry("b", server=OTHER)
    made.hear(kept, 102.0)
    assert made.take([], began=101.0, now=103.0) == {ONE}
    assert made.servers() == [OTHER]


@pytest.mark.parametrize("kind", ["down", "drain"])
def test_no_word_holds_longer_than_its_ceiling(kind: Any) -> None:
    """Whatever it says: the clock of its writer may be an hour off."""
    made = board(entry(kind=kind, left=1e9))
    ceiling = CEILING_S if kind == "down" else MAX_ORDER_S
    assert made.expire(100.0 + ceiling - 1) == set()
    assert made.expire(100.0 + ceiling) == {ONE}
    assert len(made) == 0


def test_an_operators_order_is_no_vote() -> None:
    made = board(entry("fleet", "drain"))
    assert not is_down(made)
    assert made.order(ONE, 100.0) is not None
    assert made.order(ONE, 131.0) is None


def test_it_does_not_grow_for_ever() -> None:
    made = Board("me", 1)
    for number in range(MAX_ENTRIES + 10):
        made.hear(entry(f"writer{number}"), 100.0)
    assert len(made) == MAX_ENTRIES


def test_what_a_flushed_store_lacks_is_told_again() -> None:
    kept, lost = entry("me"), entry("me", server=OTHER)
    assert missing([kept, lost], [kept, entry("a", server=OTHER)]) == [lost]


# --- laws -------------------------------------------------------------------------------------------------------------

entries = st.builds(
    Entry,
    server=st.sampled_from([ONE, OTHER]),
    writer=st.sampled_from("abc"),
    kind=st.sampled_from(["down", "up", "gone"]),
    sequence=st.integers(1, 20),
    left=st.floats(-10, 1e6),
    age=st.floats(0, 100),
    sure=st.booleans(),
)


def unique(told: list[Entry]) -> list[Entry]:
    """A process numbers what it says: no number means two things."""
    return list({(each.writer, each.sequence): each for each in told}.values())


@given(st.lists(entries, max_size=12), st.randoms(), st.sampled_from([None, 1, 2, 3]))
def test_all_who_hear_the_same_in_any_order_and_any_number_of_times_agree(
    told: list[Entry], random: Any, trust: int | None
) -> None:
    told = unique(told)
    doubled = [*told, *random.sample(told, len(told) // 2)]
    random.shuffle(doubled)
    one, other = board(*told, trust=trust), board(*doubled, trust=trust)
    for server in (ONE, OTHER):
        for doubted in (False, True):
            ours, theirs = (each.weigh(server, 101.0, None, doubted=doubted) for each in (one, other))
            assert (ours.down is None) == (theirs.down is None)
            if ours.down is not None and theirs.down is not None:
                assert (ours.down.until, ours.down.voices) == (theirs.down.until, theirs.down.voices)


@given(st.lists(entries, max_size=12), st.randoms())
def test_who_lost_messages_agrees_with_who_heard_all_after_one_reading(told: list[Entry], random: Any) -> None:
    told = unique(told)
    heard, lossy = board(*told), board(*(each for each in told if random.random() < 0.5))
    newest = {(each.server, each.writer): each for each in sorted(told, key=lambda each: each.sequence)}
    aged = [replace(each, left=each.left - 1, age=each.age + 1) for each in newest.values() if each.left > 1]
    for each in (heard, lossy):
        each.take(aged, began=100.5, now=101.0)
    assert is_down(heard, 101.5) == is_down(lossy, 101.5)


@given(st.lists(entries, max_size=12), st.floats(0, 1e6))
def test_nobody_is_held_down_by_an_expired_word(told: list[Entry], later: float) -> None:
    made = board(*told)
    belief = made.weigh(ONE, 100.0 + later, None, doubted=True).down
    assert belief is None or 100.0 + later < belief.until <= 100.0 + CEILING_S


@given(st.lists(entries, max_size=12), st.booleans())
def test_an_own_success_after_all_words_wins(told: list[Entry], doubted: bool) -> None:
    assert not is_down(board(*told), last_answer=100.0, doubted=doubted)


# --- the text ---------------------------------------------------------------------------------------------------------


@given(entries)
def test_an_entry_is_read_as_it_was_written(told: Entry) -> None:
    read = decode(dumps(encode(told)))
    if told.left < -0.0005:  # it is rounded to a thousandth
        assert read is None
    else:
        assert read is not None
        assert encode(read) == encode(told)


def test_time_in_the_store_is_time_that_passes() -> None:
    read = decode(dumps({**encode(entry(age=2.0)), "t": 1000.0}), store_now=1010.0)
    assert read is not None
    assert (read.age, read.left) == (12.0, 20.0)
    ahead = decode(dumps({**encode(entry()), "t": 4600.0}), store_now=1000.0)  # its writer's clock was an hour ahead
    assert ahead is not None
    assert (ahead.age, ahead.left) == (0.0, 30.0)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2}, {"kind": "dead"}, {"server": "udp:sip.example:5060"}, {"server": 3}, {"left": "long"},
        {"left": 1e400}, {"writer": None}, {"reason": "a\x1b[31m"}, {"n": -1},
        {"host": "x" * MAX_OCTETS}, {"failures": True},
    ],
)  # fmt: skip
def test_what_no_pjfail_of_this_schema_wrote_is_left_alone(change: dict[str, Any]) -> None:
    assert decode(dumps({**encode(entry()), **change})) is None


@pytest.mark.parametrize("text", ["", "[]", "3", "{", b"\xff", "[" * MAX_OCTETS])
def test_what_is_no_entry_at_all_is_left_alone(text: str | bytes) -> None:
    assert decode(text) is None


def test_nothing_of_calls_or_accounts_is_in_an_entry() -> None:
    assert set(json.loads(dumps(encode(entry())))) == {
        "v", "server", "writer", "kind", "n", "left", "age", "host", "reason", "failures", "sure",
    }  # fmt: skip


def test_without_redis_py_it_is_said_what_to_install() -> None:
    program = """
import sys
sys.modules["redis"] = None
from pjfail.shared import Shared
from pjfail.shared.stores import store_of
try:
    store_of(Shared("redis://192.0.2.9"))
except Exception as error:
    print(type(error).__name__, error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == 'StoreFailed Redis as shared memory needs redis-py: pip install "pjfail[redis]"\n'


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("redis://alice:secret@[2001:db8::1]:6380/2?ssl_ca_certs=x", "redis://[2001:db8::1]:6380/2"),
        ("rediss://:secret@redis.example/0", "rediss://redis.example/0"),
        ("/var/lib/pjfail.db", "/var/lib/pjfail.db"),
    ],
)
def test_a_place_is_shown_without_its_password(url: str, label: str) -> None:
    assert Shared(url).label == label
    assert "secret" not in repr(Shared(url))
