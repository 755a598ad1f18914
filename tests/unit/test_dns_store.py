"""The room for answers, in octets: what an answer takes, and which one has to go."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import dns.message
import dns.name
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail.errors import LookupFailed
from pjfail.lookup.cache import ROOM, _Entry
from pjfail.lookup.resolver import Answer, Asked, Kind
from pjfail.lookup.store import LARGE, LARGE_SHARE, Store, octets_of


def from_wire(name: str, kind: Kind, records: list[str]) -> Answer:
    """The answer as it comes from a name server."""
    response = dns.message.make_response(dns.message.make_query(name, kind))
    if records:
        response.answer.append(dns.rrset.from_text(name, 60, "IN", kind, *records))
    read = dns.message.from_wire(response.to_wire(max_size=65535))
    assert isinstance(read, dns.message.QueryMessage)
    chain = read.resolve_chaining()
    return Answer(chain.canonical_name, tuple(chain.answer or ()), 60.0)


LONG = "aa." * 70
ANSWERS: dict[str, tuple[Kind, int, Callable[[int], str]]] = {
    "none": ("A", 0, str),
    "an address": ("A", 1, lambda _: "192.0.2.1"),
    "four thousand addresses": ("A", 4000, lambda n: f"10.0.{n // 250}.{n % 250}"),
    "two thousand of IPv6": ("AAAA", 2000, lambda n: f"2001:db8:1111:2222:3333:4444:5555:{n:x}"),
    "a server": ("SRV", 1, lambda _: "1 1 5060 host.some.example.org."),
    "a thousand servers": ("SRV", 1000, lambda n: f"1 1 5060 h{n}.some.example.org."),
    "names of many labels": ("SRV", 200, lambda n: f"1 1 5060 {LONG}h{n}.org."),
    "a service": ("NAPTR", 1, lambda _: '10 10 "s" "SIP+D2U" "" _sip._udp.example.org.'),
    "five hundred services": ("NAPTR", 500, lambda n: f'10 10 "s" "SIP+D2U" "" _sip{n}._udp.example.org.'),
    "long texts": ("NAPTR", 100, lambda n: f'10 10 "s" "SIP+D2U" "{n}{"x" * 240}" _sip{n}._udp.example.org.'),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_what_an_answer_takes_is_told_to_a_third(case: str) -> None:
    kind, count, record = ANSWERS[case]
    number = 1 if count > 1 else 200

    def one(n: int) -> Answer:
        return from_wire(f"name{n}.some.example.org.", kind, [record(each) for each in range(count)])

    one(0)
    gc.collect()
    tracemalloc.start()
    store: Store[Asked, _Entry] = Store(ROOM)
    for n in range(number):
        answer = one(n)
        store.put(Asked(dns.name.from_text(f"name{n}.some.example.org."), kind), _Entry(answer, 1.5 * n, 2.5 * n), 1)
    told = number * octets_of(answer)
    del answer
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert told == pytest.approx(taken, rel=0.34)


def test_a_failure_takes_room_too() -> None:
    assert octets_of(LookupFailed("x" * 500)) - octets_of(LookupFailed("")) == 500


sizes = st.one_of(st.integers(1, 40), st.integers(60, 400), st.integers(15_000, 20_000))


@given(st.lists(st.tuples(st.integers(0, 30), sizes), max_size=150))
def test_it_never_takes_more_than_its_room_and_a_large_one_pushes_out_no_small_one(put: list[tuple[int, int]]) -> None:
    room = 50_000
    store: Store[int, int] = Store(room)
    for key, octets in put:
        before = dict(store.items())
        store.put(key, octets, octets)
        after = dict(store.items())
        assert store.octets == sum(after.values()) <= room
        large = octets > room * LARGE
        gone = [each for each in before if each not in after and each != key]
        assert all((before[each] > room * LARGE) is large for each in gone)
        assert (store.get(key) == octets) is (not large or octets <= room * LARGE_SHARE)
        assert gone == [each for each in before if each in gone]
        kept = [each for each in before if each in after and each != key and (before[each] > room * LARGE) is large]
        order = list(before)
        assert all(order.index(one) < order.index(other) for one in gone for other in kept)


def test_a_flood_of_huge_answers_leaves_the_others_alone() -> None:
    """One of 62 kB on the wire takes 0.6 MB of memory."""
    store: Store[str, Answer] = Store(ROOM)
    small = from_wire("h.example.", "A", ["192.0.2.1"])
    huge = from_wire("huge.example.", "A", [f"10.0.{n // 250}.{n % 250}" for n in range(3900)])
    for name, answer in (("small", small), ("huge", huge)):
        octets = octets_of(answer)
        for number in range(10_000):
            store.put(f"{name} {number}", answer, octets)
    kept = [key for key, _ in store.items()]
    assert sum(key.startswith("small") for key in kept) == 10_000
    assert 5 < sum(key.startswith("huge") for key in kept) < 20
    assert store.octets <= ROOM
