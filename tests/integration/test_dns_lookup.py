"""DnsLookup over the wire: the shared cases, and name servers with every fault."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rig.dns_server import FAULTS, DnsServer
from rig.resolve_cases import CASES, OURS, ZONES, check

from pjfail.errors import LookupFailed
from pjfail.lookup import DnsLookup
from pjfail.lookup.rfc3263 import MAX_CANDIDATES, SILENCE_TTL
from pjfail.model import Candidate, Target


def look_up(lookup: DnsLookup, uri: str) -> list[Candidate]:
    return asyncio.run(lookup.lookup(Target.parse(uri)))


def refused(lookup: DnsLookup, uri: str) -> LookupFailed:
    with pytest.raises(LookupFailed) as caught:
        look_up(lookup, uri)
    return caught.value


def servers(found: list[Candidate]) -> list[str]:
    return [str(candidate.server) for candidate in found]


def lookup_of(*name_servers: DnsServer, **options: Any) -> DnsLookup:
    return DnsLookup([str(each) for each in name_servers], **{"hosts": None} | options)


@contextmanager
def seconds(at_least: float = 0.0, at_most: float = 60.0) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert at_least <= time.monotonic() - start <= at_most


@pytest.fixture(scope="module")
def zones() -> Iterator[dict[str, DnsServer]]:
    """A name server for each zone of zones.yaml."""
    running = {name: DnsServer(zone["records"]) for name, zone in ZONES.items()}
    for server in running.values():
        server.__enter__()
    yield running
    for server in running.values():
        server.__exit__(None, None, None)


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_shared_case(case: dict[str, Any], zones: dict[str, DnsServer]) -> None:
    check(case, str(zones[case["zone"]]))


@pytest.mark.parametrize("kinds", [("A", "AAAA"), ("A",)], ids=["both", "A alone"])
@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_shared_case_with_addresses_beside_the_srv_records(case: dict[str, Any], kinds: tuple[str, ...]) -> None:
    with DnsServer(ZONES[case["zone"]]["records"], beside=kinds) as server:
        check(case, str(server))


def test_every_must_is_held_to_the_letter() -> None:
    assert {case["verdict"] for name, case in CASES.items() if name in OURS} <= {"policy", "differs"}
    assert len(CASES) == 121


ZONE = [
    "_sip._udp.example.com. 60 IN SRV 0 0 5060 u.example.com.",
    "_sip._tcp.example.com. 60 IN SRV 0 0 5060 t.example.com.",
    "u.example.com. 60 IN A 192.0.2.1",
    "u.example.com. 60 IN AAAA 2001:db8::1",
    "t.example.com. 60 IN A 192.0.2.2",
    "example.com. 60 IN A 192.0.2.9",
]


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as running:
        yield running


@pytest.mark.parametrize("over", ["udp", "tcp"])
def test_the_rig_answers_as_it_says(server: DnsServer, over: str) -> None:
    import dns.message
    import dns.query
    import dns.rcode

    def answer(name: str, kind: str) -> dns.message.Message:
        ask = dns.query.udp if over == "udp" else dns.query.tcp
        return ask(dns.message.make_query(name, kind), server.address, 2, server.port)

    server.records([*ZONE, "*.w.example. 60 IN A 192.0.2.5", "a.b.w.example. 60 IN A 192.0.2.6"])
    assert len(answer("u.example.com", "A").answer) == 1
    assert answer("u.example.com", "SRV").rcode() == dns.rcode.NOERROR
    assert answer("_udp.example.com", "SRV").rcode() == dns.rcode.NOERROR  # there are names below
    assert answer("gone.example.com", "A").rcode() == dns.rcode.NXDOMAIN
    assert len(answer("any.w.example", "A").answer) == 1
    assert answer("b.w.example", "A").rcode() == dns.rcode.NOERROR
    assert answer("b.w.example", "A").answer == []
    assert answer("x.b.w.example", "A").rcode() == dns.rcode.NXDOMAIN


def test_an_answer_is_kept_for_its_ttl_and_then_asked_for_again(server: DnsServer) -> None:
    now = [1000.0]
    lookup = lookup_of(server, clock=lambda: now[0])
    first = look_up(lookup, "sip:example.com;transport=tcp")
    assert [each.ttl for each in first] == [60]
    asked = len(server.queries)
    server.records(["_sip._tcp.example.com. 60 IN SRV 0 0 5070 u.example.com.", "u.example.com. 60 IN A 192.0.2.7"])
    now[0] += 47
    again = look_up(lookup, "sip:example.com;transport=tcp")
    assert servers(again) == servers(first)
    assert [each.ttl for each in again] == [13]
    assert len(server.queries) == asked
    now[0] += 1
    assert servers(look_up(lookup, "sip:example.com;transport=tcp")) == ["tcp:192.0.2.7:5070"]


def test_many_lookups_of_one_target_ask_once(server: DnsServer) -> None:
    lookup = lookup_of(server)

    async def many() -> None:
        await asyncio.gather(*(lookup.lookup(Target("example.com", 5060)) for _ in range(100)))

    asyncio.run(many())
    assert sorted(query.kind for query in server.queries) == ["A", "AAAA"]


def test_a_thousand_targets_at_once_are_all_found(server: DnsServer) -> None:
    server.records([f"h{number}.example. 60 IN A 192.0.2.1" for number in range(1000)])
    lookup = lookup_of(server, timeout=30, naptr="off", transports=("udp",), families=("ipv4",))

    async def many() -> list[list[Candidate]]:
        return await asyncio.gather(*(lookup.lookup(Target(f"h{number}.example", 5060)) for number in range(1000)))

    assert len(asyncio.run(many())) == 1000


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"forged first"}))
def test_a_name_server_with_a_fault_is_a_failure_for_the_time_being(server: DnsServer, fault: str) -> None:
    server.fault(fault)
    with seconds(at_most=2.0):
        failure = refused(lookup_of(server, timeout=0.4), "sip:example.com")
    assert failure.temporary


@pytest.mark.parametrize("fault", ["servfail", "refused"])
def test_a_failing_srv_question_never_falls_back_to_the_host(server: DnsServer, fault: str) -> None:
    server.fault(fault, "SRV")
    with seconds(at_most=2.0):
        assert refused(lookup_of(server, timeout=0.4), "sip:example.com").temporary
    assert "example.com" not in server.asked("A")


@pytest.mark.parametrize("kinds", [("SRV",), ("NAPTR", "SRV")])
@pytest.mark.parametrize("fault", ["silent", "garbage", "wrong id"])
def test_a_name_server_silent_to_all_but_addresses_leads_to_the_host(
    server: DnsServer, fault: str, kinds: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pjfail")
    server.fault(fault, *kinds)
    lookup = lookup_of(server, timeout=4.0)
    with seconds(at_most=4.0):
        found = look_up(lookup, "sip:example.com")
    assert servers(found) == ["udp:192.0.2.9:5060"]
    assert [each.ttl for each in found] == [SILENCE_TTL]
    with seconds(at_most=2.0):  # by now it is known
        assert servers(look_up(lookup, "sip:example.com")) == ["udp:192.0.2.9:5060"]
    [said] = caplog.messages
    assert "SRV _sip._udp.example.com" in said
    server.mend()
    time.sleep(1.1)  # a failure is kept for a second
    assert servers(look_up(lookup, "sip:example.com"))[:1] == ["udp:192.0.2.1:5060"]
    assert "answer" in caplog.messages[-1]


def test_silence_leads_no_secure_uri_out_of_tls(server: DnsServer) -> None:
    server.fault("silent", "NAPTR", "SRV")
    assert servers(look_up(lookup_of(server), "sips:example.com")) == ["tls:192.0.2.9:5061"]


def test_slow_srv_answers_are_waited_for(server: DnsServer) -> None:
    server.delay(1.3, "SRV")
    assert servers(look_up(lookup_of(server), "sip:example.com"))[:1] == ["udp:192.0.2.1:5060"]


@pytest.mark.parametrize("kinds", [("AAAA",), ("NAPTR",), ("NAPTR", "AAAA")])
@pytest.mark.parametrize("fault", ["servfail", "silent", "half"])
def test_what_is_swallowed_beside_does_not_matter(server: DnsServer, fault: str, kinds: tuple[str, ...]) -> None:
    server.fault(fault, *kinds)
    with seconds(at_most=6.0):
        found = look_up(lookup_of(server, timeout=6.0, families=("ipv4", "ipv6")), "sip:example.com")
    addresses = [each.server.address for each in found]
    assert addresses[:1] == ["192.0.2.1"]
    assert "192.0.2.2" in addresses


def test_the_failure_names_the_question_and_what_each_name_server_did(server: DnsServer) -> None:
    with DnsServer(ZONE, "127.0.0.2") as other, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.3", 0))
        nobody = f"127.0.0.3:{closed.getsockname()[1]}"
        closed.close()
        server.fault("silent")
        other.fault("servfail")
        lookup = DnsLookup([str(server), str(other), nobody], timeout=0.5)
        failure = str(refused(lookup, "sip:example.com:5060"))
    assert "example.com" in failure
    assert f"{server} is silent" in failure
    assert f"{other} says SERVFAIL" in failure
    assert f"{nobody} refuses the connection" in failure


def test_a_dead_name_server_costs_one_short_wait_once(server: DnsServer) -> None:
    with DnsServer(ZONE, "127.0.0.2") as dead:
        dead.fault("silent")
        lookup = lookup_of(dead, server, timeout=3.0, naptr="off", transports=("udp",))
        with seconds(at_least=0.2, at_most=2.0):
            look_up(lookup, "sip:example.com")
        asked = len(dead.queries)
        look_up(lookup, "sip:t.example.com")
        assert len(dead.queries) == asked


def test_a_name_server_that_came_back_is_asked_again(server: DnsServer) -> None:
    now = [1000.0]
    with DnsServer(ZONE, "127.0.0.2") as first:
        lookup = lookup_of(first, server, timeout=1.0, clock=lambda: now[0])
        first.fault("silent")
        look_up(lookup, "sip:example.com:5060")
        first.mend()
        now[0] += 3600
        asked = len(server.queries)
        look_up(lookup, "sip:example.com:5060")
        assert len(server.queries) == asked


def test_a_slow_name_server_is_heard_all_the_same(server: DnsServer) -> None:
    server.delay(0.6)
    with seconds(at_least=0.6, at_most=2.5):
        assert look_up(lookup_of(server, timeout=3.0), "sip:example.com:5060")


@pytest.mark.parametrize("fault", ["servfail", "refused", "notimp", "silent", "garbage", "half", "wrong question"])
def test_the_next_name_server_answers_for_a_faulty_one(server: DnsServer, fault: str) -> None:
    with DnsServer([], "127.0.0.2") as faulty:
        faulty.fault(fault)
        found = look_up(lookup_of(faulty, server, timeout=1.0), "sip:example.com:5060")
    assert servers(found) == ["udp:192.0.2.9:5060"]


def test_no_such_name_is_final_and_not_asked_of_the_next(server: DnsServer) -> None:
    with DnsServer([], "127.0.0.2") as first:
        assert not refused(lookup_of(first, server), "sip:example.com").temporary
    assert server.queries == []


def test_a_large_answer_comes_over_tcp(server: DnsServer) -> None:
    records = [f"_sip._udp.example.com. 60 IN SRV {n} 0 5060 a-rather-long-name-{n}.example.com." for n in range(100)]
    records += [f"a-rather-long-name-{n}.example.com. 60 IN A 192.0.2.{n}" for n in range(100)]
    server.records(records)
    found = look_up(lookup_of(server, naptr="off", families=("ipv4",)), "sip:example.com;transport=udp")
    assert [each.server.address for each in found] == [f"192.0.2.{n}" for n in range(100)]
    assert [query.over for query in server.queries if query.kind == "SRV"] == ["udp", "tcp"]


def test_four_thousand_records_are_no_trouble(server: DnsServer) -> None:
    server.records([f"example.com. 60 IN A 10.0.{n // 250}.{n % 250}" for n in range(4000)])
    assert len(look_up(lookup_of(server, timeout=10.0), "sip:example.com:5060")) == MAX_CANDIDATES


def test_a_truncated_answer_is_asked_for_over_tcp(server: DnsServer) -> None:
    server.fault("truncate", over=["udp"])
    assert servers(look_up(lookup_of(server), "sip:example.com;transport=tcp")) == ["tcp:192.0.2.2:5060"]


@pytest.mark.parametrize("fault", ["silent", "half", "garbage", "wrong id", "truncate"])
def test_a_truncated_answer_that_tcp_does_not_complete_is_a_failure(server: DnsServer, fault: str) -> None:
    server.fault("truncate", over=["udp"])
    server.fault(fault, over=["tcp"])
    assert refused(lookup_of(server, timeout=0.4), "sip:example.com:5060").temporary


def test_a_forged_answer_does_not_keep_the_true_one_out(server: DnsServer) -> None:
    server.fault("forged first")
    assert servers(look_up(lookup_of(server), "sip:example.com:5060")) == ["udp:192.0.2.9:5060"]


def test_a_silent_name_server_is_not_flooded(server: DnsServer) -> None:
    server.fault("silent")
    refused(lookup_of(server, timeout=1.0, families=("ipv4",)), "sip:example.com:5060")
    assert 2 <= len(server.queries) <= 5


def test_a_name_server_heard_late_is_not_put_last(server: DnsServer) -> None:
    with DnsServer([], "127.0.0.2") as second:
        lookup = lookup_of(server, second, timeout=2.0, families=("ipv4",))
        server.delay(0.27)  # the second is asked after 0.18 s, and counted as silent after 0.54
        second.fault("silent")
        look_up(lookup, "sip:example.com:5060")
        server.mend()
        asked = len(second.queries)
        look_up(lookup, "sip:t.example.com:5060")
        assert len(second.queries) == asked


def test_a_name_server_without_edns_is_asked_without() -> None:
    with DnsServer(ZONE, edns=False) as server:
        assert look_up(lookup_of(server), "sip:example.com:5060")


def test_a_name_server_over_ipv6() -> None:
    with DnsServer(ZONE, "::1") as server:
        assert look_up(DnsLookup([f"[::1]:{server.port}"]), "sip:example.com:5060")


@pytest.mark.parametrize("lone", [False, True])
def test_cnames_are_followed_up_to_the_limit(lone: bool) -> None:
    links = [f"c{n}.example. 60 IN CNAME c{n - 1}.example." for n in range(1, 12)]
    with DnsServer([*links, "c0.example. 60 IN A 192.0.2.1"], lone_cnames=lone) as server:
        lookup = lookup_of(server, cname_limit=10)
        [found] = look_up(lookup, "sip:c10.example:5060")
        assert (str(found.server), round(found.ttl)) == ("udp:192.0.2.1:5060", 60)
        failure = refused(lookup, "sip:c11.example:5060")
    assert "CNAME" in str(failure)
    assert not failure.temporary


@pytest.mark.parametrize("lone", [False, True])
def test_a_circle_of_cnames_ends(lone: bool) -> None:
    circle = [f"{a}.example. 60 IN CNAME {b}.example." for a, b in ("ab", "ba", "cc")]
    with DnsServer(circle, lone_cnames=lone) as server, seconds(at_most=2.9):
        for uri in ("sip:a.example", "sip:b.example:5060", "sip:c.example"):
            assert "CNAME" in str(refused(lookup_of(server), uri))


def test_a_new_name_is_found_after_the_negative_ttl() -> None:
    now = [1000.0]
    with DnsServer([], negative_ttl=20) as server:
        lookup = lookup_of(server, clock=lambda: now[0])
        refused(lookup, "sip:example.com:5060")
        server.records(ZONE)
        now[0] += 15.9
        refused(lookup, "sip:example.com:5060")
        now[0] += 4.1
        assert look_up(lookup, "sip:example.com:5060")


def test_an_answer_after_the_budget_harms_nobody(server: DnsServer) -> None:
    lookup = lookup_of(server, timeout=0.2, ttl_floor=0.0)

    async def late() -> list[Candidate]:
        server.delay(0.3)
        with pytest.raises(LookupFailed):
            await lookup.lookup(Target("example.com", 5060))
        server.mend()
        await asyncio.sleep(0.2)
        return await lookup.lookup(Target("example.com", 5060))

    assert asyncio.run(late())


@settings(max_examples=150)
@given(st.binary(max_size=80), st.sampled_from([0, 2, 6, 12]), st.integers(0, 60))
def test_garbage_is_a_failed_lookup_and_nothing_else(garbage: bytes, keep: int, cut: int) -> None:
    """Bytes put over a good answer from some place on; from 2 on they are an answer to the question that was asked."""

    def spoil(_query: object, answer: bytes) -> list[bytes]:
        return [(answer[:keep] + garbage + answer[keep + len(garbage) :])[: max(keep, len(answer) - cut)]]

    FAULTS["spoilt"] = spoil
    try:
        SPOILING.fault("spoilt")
        try:
            found = look_up(lookup_of(SPOILING, timeout=0.05), "sip:example.com")
        except LookupFailed:
            return
        assert all(isinstance(each, Candidate) for each in found)
    finally:
        del FAULTS["spoilt"]


SPOILING = DnsServer(ZONE)


@pytest.fixture(scope="module", autouse=True)
def spoiling() -> Iterator[None]:
    with SPOILING:
        yield


def test_two_thousand_questions_that_nobody_answers_do_not_pile_up() -> None:
    """A hundred are on the wire at once: one after the other, they would all be asked 18 s later."""
    with DnsServer() as server:
        server.fault("silent")
        lookup = lookup_of(server, timeout=1.0, families=("ipv4",))

        async def many() -> None:
            targets = [Target(f"h{number}.example", 5060) for number in range(2000)]
            failures = await asyncio.gather(*map(lookup.lookup, targets), return_exceptions=True)
            assert {type(failure) for failure in failures} == {LookupFailed}
            async with asyncio.timeout(8):
                while len(asyncio.all_tasks()) > 1:
                    await asyncio.sleep(0.1)

        asyncio.run(many())


def test_the_srv_records_are_asked_for_beside_the_naptr_records() -> None:
    """So that a domain without NAPTR records is found by two round trips, not by three; each question goes out once."""
    with DnsServer(ZONE) as server:
        server.delay(0.5)
        lookup = lookup_of(server, transports=("udp", "tcp"), families=("ipv4",), timeout=6.0)
        with seconds(at_least=1.0, at_most=1.45):
            found = look_up(lookup, "sip:example.com")
        assert servers(found) == ["udp:192.0.2.1:5060", "tcp:192.0.2.2:5060"]
        assert sorted(server.asked("SRV")) == ["_sip._tcp.example.com", "_sip._udp.example.com"]
        assert server.asked("NAPTR") == ["example.com"]


def test_naptr_records_are_the_last_word_whatever_was_asked_beside() -> None:
    naptr = ['example.com. 60 IN NAPTR 0 0 "s" "SIP+D2T" "" _sip._tcp.example.com.', *ZONE]
    with DnsServer(naptr) as server:
        server.delay(0.4, "NAPTR")
        found = look_up(lookup_of(server, transports=("udp", "tcp"), families=("ipv4",)), "sip:example.com")
        assert servers(found) == ["tcp:192.0.2.2:5060"]
