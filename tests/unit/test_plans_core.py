"""The C core's table of plans, published and drawn from as the worker does, with no pjsip in the process."""

from __future__ import annotations

import itertools
import json
import math
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail._native import ffi, lib
from pjfail.bridge import counts, plans
from pjfail.bridge.counts import Stats
from pjfail.bridge.plans import MAX_SERVERS
from pjfail.bridge.values import MAX_HOST, c_address
from pjfail.errors import BadURI
from pjfail.model import TRANSPORTS, Candidate, Plan, PlanEntry, Server, Target, Transport

TARGET = Target("plans-core.example")
LATER = 1e12
published: set[Target] = set()
_random = Random(2782)
SEEDS = [_random.getrandbits(64) for _ in range(6000)]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """The table is one for the process; each test leaves it as it was."""
    before = counts.counters()
    yield
    while published:
        plans.forget(published.pop())
    after = counts.counters()
    assert (after.plans, after.servers) == (before.plans, before.servers)


def candidate(
    host: int, name: str | None = None, weight: int = 0, port: int = 5060, transport: Transport = "udp"
) -> Candidate:
    address = f"192.0.{2 + host // 250}.{1 + host % 250}"
    return Candidate(Server(address, port, transport), name or f"sip{host}.example", 0, weight, 60.0)


def publish(
    *tiers: Sequence[Candidate], target: Target = TARGET, last_resorts: Sequence[Candidate] = ()
) -> list[Server]:
    """Makes *tiers* the plan of *target*, with *last_resorts* behind, each a tier; gives its servers."""
    places = [PlanEntry(each, number, "") for number, tier in enumerate(tiers) for each in tier]
    places += [PlanEntry(each, number, "", last_resort=True) for number, each in enumerate(last_resorts, len(tiers))]
    published.add(target)
    plans.publish(Plan(target, tuple(places), LATER), LATER)
    return [place.server for place in places]


def weighted(*weights: int) -> list[Candidate]:
    return [candidate(host, weight=weight) for host, weight in enumerate(weights)]


def near(count: int, expected: float) -> bool:
    """Within five standard deviations of a binomial over all seeds."""
    share = expected / len(SEEDS)
    return abs(count - expected) < 5 * math.sqrt(expected * (1 - share))


def first_counts(tier: Sequence[Candidate]) -> list[int]:
    """How often each of *tier* is drawn first."""
    servers = publish(tier)
    counted = Counter(plans.draw(TARGET, seed)[0] for seed in SEEDS)
    return [counted[server] for server in servers]


# --- the order of one use ---------------------------------------------------------------------------------------------


def test_a_target_without_a_plan_draws_nothing() -> None:
    assert plans.draw(TARGET, 1) == []


def test_tiers_never_mix() -> None:
    tiers = [[candidate(10 * tier + host, weight=tier * host) for host in range(4)] for tier in range(3)]
    publish(*tiers)
    for seed in SEEDS[:500]:
        drawn = plans.draw(TARGET, seed)
        for number, tier in enumerate(tiers):
            assert set(drawn[4 * number : 4 * number + 4]) == {each.server for each in tier}


@pytest.mark.parametrize("weights", [(1, 3), (1, 1), (1, 2, 3, 4), (60, 20, 10, 10), (65535,) * 3, (1, 65535)])
def test_the_first_is_drawn_by_weight(weights: tuple[int, ...]) -> None:
    counts = first_counts(weighted(*weights))
    for count, weight in zip(counts, weights, strict=True):
        assert near(count, len(SEEDS) * weight / sum(weights))


def test_all_weights_0_share_evenly() -> None:
    assert all(near(count, len(SEEDS) / 4) for count in first_counts(weighted(0, 0, 0, 0)))


@pytest.mark.parametrize("weights", [(0, 10), (10, 0), (0, 0, 10), (6, 0, 4, 0)])
def test_weight_0_gets_a_small_chance_and_not_none(weights: tuple[int, ...]) -> None:
    """The draw says 0 once in a sum of weights and one, and then one of those with weight 0 is taken."""
    total, idle = sum(weights), weights.count(0)
    for count, weight in zip(first_counts(weighted(*weights)), weights, strict=True):
        assert near(count, len(SEEDS) * (weight if weight else 1 / idle) / (total + 1))


def test_the_weights_hold_for_those_behind_too() -> None:
    """Chi-square of all six orders of three; 30 is beyond once in 50 000 for five degrees of freedom."""
    weights = (1, 2, 3)
    servers = publish(weighted(*weights))
    counted = Counter(tuple(servers.index(each) for each in plans.draw(TARGET, seed)) for seed in SEEDS)
    square = 0.0
    for order in itertools.permutations(range(3)):
        first, second, third = (weights[index] for index in order)
        expected = len(SEEDS) * first / 6 * second / (second + third)
        square += (counted[order] - expected) ** 2 / expected
    assert square < 30


def test_addresses_of_one_record_stay_adjacent_and_in_order() -> None:
    records = [
        [candidate(3, "a", 10), candidate(1, "a", 10), candidate(2, "a", 10)],
        [candidate(5, "b", 10), candidate(4, "b", 10)],
        [candidate(6, "c", 10)],
    ]
    publish([each for record in records for each in record])
    orders = set()
    for seed in SEEDS[:500]:
        drawn = plans.draw(TARGET, seed)
        places = [[drawn.index(each.server) for each in record] for record in records]
        assert places == [list(range(place[0], place[0] + len(place))) for place in places]
        orders.add(tuple(place[0] for place in places))
    assert len(orders) == 6  # and yet the records change places


def test_a_record_counts_once_however_many_addresses_it_has() -> None:
    counts = first_counts([candidate(1, "a", 10), candidate(2, "a", 10), candidate(3, "a", 10), candidate(4, "b", 10)])
    assert counts[1] == counts[2] == 0
    assert near(counts[0], len(SEEDS) / 2)


@pytest.mark.parametrize(
    "other",
    [candidate(2, "b", 10), candidate(2, "a", 11), candidate(2, "a", 10, 5070), candidate(2, "a", 10, 5060, "tcp")],
    ids=["name", "weight", "port", "transport"],
)
def test_neighbours_that_differ_are_two_records(other: Candidate) -> None:
    counts = first_counts([candidate(1, "a", 10), other])
    assert min(counts) > len(SEEDS) / 3


def test_a_record_does_not_reach_into_the_next_tier() -> None:
    servers = publish([candidate(1, "a", 10), candidate(2, "b", 10)], [candidate(3, "b", 10), candidate(4, "c", 10)])
    drawn = [plans.draw(TARGET, seed) for seed in SEEDS[:200]]
    assert all(set(each[:2]) == set(servers[:2]) for each in drawn)
    assert {tuple(each[2:]) for each in drawn} == {(servers[2], servers[3]), (servers[3], servers[2])}


def test_the_same_seed_draws_the_same_order() -> None:
    publish(weighted(1, 2, 3, 0))
    for seed in (0, 1, 2**63, 2**64 - 1):
        assert plans.draw(TARGET, seed) == plans.draw(TARGET, seed)
        assert len(plans.draw(TARGET, seed)) == 4


records = st.lists(st.tuples(st.sampled_from([0, 1, 10, 65535]), st.integers(1, 4)), min_size=1, max_size=5)


@given(st.lists(records, min_size=1, max_size=5), st.integers(0, 2**64 - 1))
def test_a_draw_is_a_permutation_that_respects_tiers_and_records(shape: list[list[tuple[int, int]]], seed: int) -> None:
    """*shape*: tiers of records, each a weight and how many addresses."""
    hosts = itertools.count()
    tiers = [
        [[candidate(next(hosts), f"r{number}", weight) for _ in range(size)] for number, (weight, size) in enumerate(t)]
        for t in shape
    ]
    servers = publish(*([each for record in tier for each in record] for tier in tiers))
    drawn = plans.draw(TARGET, seed)
    assert Counter(drawn) == Counter(servers)
    at = 0
    for tier in tiers:
        size = sum(map(len, tier))
        here = drawn[at : at + size]
        assert set(here) == {each.server for record in tier for each in record}
        for record in tier:
            place = here.index(record[0].server)
            assert here[place : place + len(record)] == [each.server for each in record]
        at += size


def suspect(server: Server) -> None:
    """As the core itself does it, when another server has answered first."""
    lib.pf_suspect(c_address(server))


def test_whom_the_core_suspects_comes_behind_those_that_are_well_and_before_the_last_resorts() -> None:
    servers = publish([candidate(0)], [candidate(1)], [candidate(2)], last_resorts=[candidate(3), candidate(4)])
    first, second, third, *last = servers
    suspect(second)
    assert plans.draw(TARGET, 1) == [first, third, second, *last]
    suspect(first)
    assert plans.draw(TARGET, 1) == [third, first, second, *last]
    suspect(third)
    assert plans.draw(TARGET, 1) == servers


def test_a_last_resort_that_has_just_failed_again_is_the_very_last() -> None:
    servers = publish(last_resorts=weighted(1, 2, 3))
    suspect(servers[0])
    assert plans.draw(TARGET, 1) == [*servers[1:], servers[0]]


def test_whom_the_core_suspects_is_forgiven_once_python_has_judged() -> None:
    servers = publish(*([each] for each in weighted(1, 2)))
    suspect(servers[0])
    lib.pf_clear_suspect(c_address(servers[0]), 0)
    assert plans.draw(TARGET, 1) == [servers[1], servers[0]], "what is new has not been judged"
    lib.pf_clear_suspect(c_address(servers[0]), 1)
    assert plans.draw(TARGET, 1) == servers


# --- sizes and kinds of servers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tiers", [1, 2, 256], ids=["one tier", "two tiers", "a tier each"])
def test_a_plan_may_have_256_servers(tiers: int) -> None:
    assert MAX_SERVERS == 256
    candidates = weighted(*range(256))
    servers = publish(*(candidates[at : at + 256 // tiers] for at in range(0, 256, 256 // tiers)))
    drawn = plans.draw(TARGET, 7)
    assert sorted(drawn) == sorted(servers)
    assert (drawn == servers) is (tiers == 256)


def test_of_more_than_256_servers_the_first_256_are_kept() -> None:
    servers = publish(*([each] for each in weighted(*[0] * 300)))
    assert plans.draw(TARGET, 7) == servers[:256]
    assert counts.stats(servers[255]) is not None
    assert counts.stats(servers[256]) is None


@pytest.mark.parametrize(
    "address", ["192.0.2.1", "2001:db8::1", "::1", "::ffff:192.0.2.1", "fe80::1", "fe80::1%1", "fe80::1%4294967295"]
)
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("port", [1, 5061, 65535])
def test_a_server_comes_back_as_it_went_in(address: str, transport: Transport, port: int) -> None:
    server = Server(address, port, transport)
    publish([Candidate(server, "sip.example")])
    assert plans.draw(TARGET, 1) == [server]
    assert counts.stats(server) is not None


def test_a_scope_given_as_the_name_of_an_interface_is_the_same_server() -> None:
    _, name = socket.if_nameindex()[0]
    server = Server(f"fe80::1%{name}", 5060)
    publish([Candidate(server, "sip.example")])
    assert plans.draw(TARGET, 1) == [server]


def test_servers_that_differ_in_anything_are_kept_apart() -> None:
    different = [
        Server("fe80::1", 5060),
        Server("fe80::1%1", 5060),
        Server("fe80::1%2", 5060),
        Server("192.0.2.1", 5060),
        Server("192.0.2.1", 5061),
        Server("192.0.2.1", 5060, "tcp"),
        Server("192.0.2.1", 5060, "tls"),
    ]
    before = counts.counters().servers
    publish(*([Candidate(server, "sip.example")] for server in different))
    assert plans.draw(TARGET, 1) == different
    assert counts.counters().servers == before + len(different)


# --- the table --------------------------------------------------------------------------------------------------------


def test_targets_that_differ_in_anything_have_plans_of_their_own() -> None:
    targets = [
        Target("a.example"),
        Target("b.example"),
        Target("a.example", 5060),
        Target("a.example", 0, "udp"),
        Target("a.example", 0, "tcp"),
        Target("a.example", 0, "tls"),
        Target("a.example", 0, "tls", secure=True),
        Target("a.example", secure=True),
        Target("a.example", ipv6=True),
    ]
    for host, target in enumerate(targets):
        publish([candidate(host)], target=target)
    assert [plans.draw(target, 1) for target in targets] == [[candidate(host).server] for host in range(len(targets))]
    for target in targets:
        plans.forget(target)
        assert plans.draw(target, 1) == []


@pytest.mark.parametrize("host", ["a", "a" * MAX_HOST, "münchen.example", "2001:db8::1"])
def test_any_host_that_fits_has_a_plan(host: str) -> None:
    target = Target(host)
    servers = publish([candidate(1)], target=target)
    assert plans.draw(target, 1) == servers


def test_a_host_that_does_not_fit_is_refused() -> None:
    place = PlanEntry(candidate(1), 0, "")
    with pytest.raises(BadURI, match="longer than 255 octets"):
        plans.publish(Plan(Target("ü" * 128), (place,), LATER), LATER)


def test_publishing_again_replaces_the_plan() -> None:
    old = publish([candidate(1), candidate(2)])
    new = publish([candidate(2)], [candidate(3)])
    assert plans.draw(TARGET, 1) == new
    assert counts.stats(old[0]) is None
    assert all(counts.stats(server) is not None for server in new)


def test_publishing_again_and_again_holds_nothing_more() -> None:
    publish([candidate(1)])
    before = counts.counters()
    for host in range(500):
        publish([candidate(host), candidate(host + 1)])
    publish([candidate(1)])
    after = counts.counters()
    assert (after.plans, after.servers) == (before.plans, before.servers)


def test_a_forgotten_plan_is_gone_with_its_servers() -> None:
    servers = publish([candidate(1)])
    plans.forget(TARGET)
    assert plans.draw(TARGET, 1) == []
    assert counts.stats(servers[0]) is None
    plans.forget(TARGET)  # again, no harm


def test_a_server_of_two_plans_stays_until_the_last_is_forgotten() -> None:
    other = Target("other.example")
    [server] = publish([candidate(1)])
    publish([candidate(1)], target=other)
    plans.forget(TARGET)
    assert counts.stats(server) is not None
    plans.forget(other)
    assert counts.stats(server) is None


def test_a_server_listed_twice_in_a_plan_is_counted_and_forgotten_once() -> None:
    [server, again] = publish([candidate(1, "a")], [candidate(1, "b")])
    assert server == again
    assert plans.draw(TARGET, 1) == [server, server]
    plans.forget(TARGET)
    assert counts.stats(server) is None


def test_a_server_in_no_plan_has_no_stats() -> None:
    publish([candidate(1)])
    assert counts.stats(candidate(2).server) is None


def test_a_server_that_was_never_used_has_empty_stats() -> None:
    [server] = publish([candidate(1)])
    assert counts.stats(server) == Stats(None, None, None, None, 0.0, 0, 0, 0, 0, suspect=False)


def test_a_draw_while_plans_change_sees_one_plan_whole() -> None:
    """Straight into the core: the bridge's Python would keep the threads out of it at the same time."""
    target = ffi.new("pf_target *", {"host": TARGET.host.encode()})
    published.add(TARGET)
    both = []
    for mark in (1, 2):
        entries = ffi.new("pf_entry[]", MAX_SERVERS)
        for number, entry in enumerate(entries):
            entry.group = number
            entry.server = {"ip": [mark, number], "family": 4, "transport": lib.PF_UDP, "port": 5060}
        both.append(entries)
    end = threading.Event()

    def change() -> None:
        while not end.is_set():
            for entries in both:
                lib.pf_publish(target, entries, len(entries), len(entries), LATER, LATER)

    lib.pf_publish(target, both[0], MAX_SERVERS, MAX_SERVERS, LATER, LATER)
    changing = [threading.Thread(target=change) for _ in range(2)]
    for thread in changing:
        thread.start()
    drawn = ffi.new("pf_address[]", MAX_SERVERS)
    mixed = seen = 0
    try:
        for seed in SEEDS[:1000]:
            if lib.pf_draw(target, seed, drawn, len(drawn)):
                seen += 1
                octets = bytes(ffi.buffer(drawn))
                marks = set(octets[:: ffi.sizeof("pf_address")])
                hosts = set(octets[1 :: ffi.sizeof("pf_address")])
                mixed += len(marks) != 1 or len(hosts) != MAX_SERVERS
    finally:
        end.set()
        for thread in changing:
            thread.join()
    assert seen > 500
    assert mixed == 0


# --- 10 000 targets, 100 000 servers ----------------------------------------------------------------------------------

CROWD = """
import gc, json, os, time
from pjfail.bridge import counts, plans
from pjfail.model import Candidate, PlanEntry, Plan, Server, Target

def resident():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def publish(number):
    servers = [Server(f"10.{number >> 8}.{number & 255}.{host}", 5060) for host in range(1, 11)]
    places = tuple(PlanEntry(Candidate(server, "sip.example", 0, 1), 0, "") for server in servers)
    plans.publish(Plan(Target(f"customer-{number}.example"), places, 1e12), 1e12)

def cost():
    "Of one lookup among those of the first 100 plans, in seconds: the best of some rounds."
    servers = [Server(f"10.0.{number}.1", 5060) for number in range(100)]
    best = 1.0
    for _ in range(20):
        began = time.perf_counter()
        for server in servers:
            counts.stats(server)
        best = min(best, (time.perf_counter() - began) / len(servers))
    return best

for number in range(100):
    publish(number)
few = cost()
before, held = resident(), counts.counters().servers
for number in range(100, 10_000):
    publish(number)
after, counters = resident(), counts.counters()
many = cost()
drawn = len(plans.draw(Target("customer-9999.example"), 1))
for number in range(10_000):
    plans.forget(Target(f"customer-{number}.example"))
print(json.dumps({
    "plans": counters.plans, "servers": counters.servers, "bytes": (after - before) / (counters.servers - held),
    "few": few, "many": many, "drawn": drawn, "left": counts.counters().servers,
}))
"""


@pytest.mark.slow
def test_a_hundred_thousand_servers_take_less_than_300_bytes_each_and_are_found_as_fast() -> None:
    """As docs/when-not.md says; the time is only a sanity bound, for a table that has turned into a list."""
    ended = subprocess.run([sys.executable, "-c", CROWD], capture_output=True, text=True, check=True, timeout=60)
    measured = json.loads(ended.stdout)
    assert (measured["plans"], measured["servers"], measured["drawn"]) == (10_000, 100_000, 10)
    assert 50 < measured["bytes"] < 300
    assert measured["many"] < 10 * measured["few"]
    assert measured["left"] == 0
