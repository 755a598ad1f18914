"""RFC 3263 section 4 against a table of records; no wire, no cache."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig.resolver import TableResolver

from pjfail.errors import LookupFailed
from pjfail.lookup.rfc3263 import (
    MAX_CANDIDATES,
    MAX_SERVICES,
    MAX_SRV_HOSTS,
    MAX_SRV_RECORDS,
    SILENCE_TTL,
    Client,
    Family,
    UseOfNaptr,
    locate,
)
from pjfail.model import TRANSPORTS, Candidate, Target, Transport

TWO_TRANSPORTS = [
    "_sip._udp.example.com. 60 IN SRV 10 0 5060 u.example.com.",
    "_sip._tcp.example.com. 60 IN SRV 0 0 5060 t.example.com.",
    "u.example.com. 60 IN A 192.0.2.1",
    "t.example.com. 60 IN A 192.0.2.2",
    "example.com. 60 IN A 192.0.2.9",
]


def client(
    transports: Sequence[Transport] = TRANSPORTS,
    families: Sequence[Family] = ("ipv4", "ipv6"),
    naptr: UseOfNaptr = "on",
    unreachable: Iterable[str] = (),
) -> Client:
    return Client(tuple(transports), tuple(families), naptr, 0.02, lambda address: address not in tuple(unreachable))


def find(uri: str, resolver: TableResolver, able: Client | None = None) -> list[Candidate]:
    return asyncio.run(asyncio.wait_for(locate(Target.parse(uri), resolver, able or client()), 5))


def servers(found: Iterable[Candidate]) -> list[str]:
    return [str(candidate.server) for candidate in found]


def refused(uri: str, resolver: TableResolver, able: Client | None = None) -> LookupFailed:
    with pytest.raises(LookupFailed) as caught:
        find(uri, resolver, able)
    return caught.value


@pytest.mark.parametrize("uri", ["sip:192.0.2.1", "sip:[2001:db8::1]:5070", "sip:example.com;maddr=192.0.2.1"])
def test_a_numeric_host_asks_nothing(uri: str) -> None:
    resolver = TableResolver()
    assert len(find(uri, resolver)) == 1
    assert resolver.asked == []


def test_a_port_asks_for_addresses_alone() -> None:
    resolver = TableResolver(TWO_TRANSPORTS)
    assert servers(find("sip:example.com:5060", resolver)) == ["udp:192.0.2.9:5060"]
    assert {kind for _, kind in resolver.asked} == {"A", "AAAA"}


def test_a_transport_asks_for_its_srv_records_alone() -> None:
    resolver = TableResolver(TWO_TRANSPORTS)
    assert servers(find("sip:example.com;transport=tcp", resolver)) == ["tcp:192.0.2.2:5060"]
    assert [asked for asked in resolver.asked if asked[1] in ("NAPTR", "SRV")] == [("_sip._tcp.example.com", "SRV")]


def test_naptr_can_be_left_out() -> None:
    resolver = TableResolver(TWO_TRANSPORTS)
    find("sip:example.com", resolver, client(naptr="off"))
    assert "NAPTR" not in {kind for _, kind in resolver.asked}


def test_naptr_can_be_asked_for_a_transport_too() -> None:
    records = ['example.com. 60 IN NAPTR 1 1 "s" "SIP+D2T" "" _sip._tcp.hosting.example.']
    records += ["_sip._tcp.hosting.example. 60 IN SRV 0 0 5060 h.example.", "h.example. 60 IN A 192.0.2.8"]
    resolver = TableResolver([*TWO_TRANSPORTS, *records])
    always = client(naptr="always")
    assert servers(find("sip:example.com;transport=tcp", resolver, always)) == ["tcp:192.0.2.8:5060"]
    assert servers(find("sip:example.com;transport=udp", resolver, always)) == ["udp:192.0.2.1:5060"]


def test_transports_are_tried_in_the_clients_order_and_not_merged() -> None:
    found = find("sip:example.com", TableResolver(TWO_TRANSPORTS))
    assert servers(found) == ["udp:192.0.2.1:5060", "tcp:192.0.2.2:5060"]
    assert [each.priority for each in found] == [10, 11]  # TCP's 0 is raised above UDP's 10
    found = find("sip:example.com", TableResolver(TWO_TRANSPORTS), client(transports=("tcp", "udp")))
    assert [(str(each.server), each.priority) for each in found] == [
        ("tcp:192.0.2.2:5060", 0),
        ("udp:192.0.2.1:5060", 10),
    ]


def test_a_transport_the_client_lacks_is_never_asked_for() -> None:
    resolver = TableResolver(TWO_TRANSPORTS)
    assert servers(find("sip:example.com", resolver, client(transports=("tcp",)))) == ["tcp:192.0.2.2:5060"]
    assert "_sip._udp.example.com" not in {name for name, _ in resolver.asked}
    assert "tls" in str(refused("sips:example.com", resolver, client(transports=("udp", "tcp"))))
    assert "udp" in str(refused("sip:example.com;transport=udp", resolver, client(transports=("tcp",))))


@pytest.mark.parametrize(
    ("uri", "server"),
    [
        ("sip:plain.example", "udp:192.0.2.7:5060"),
        ("sip:plain.example;transport=tcp", "tcp:192.0.2.7:5060"),
        ("sips:plain.example", "tls:192.0.2.7:5061"),
        ("sips:plain.example:5070", "tls:192.0.2.7:5070"),
    ],
)
def test_without_srv_records_the_host_itself_serves(uri: str, server: str) -> None:
    found = find(uri, TableResolver(["plain.example. 30 IN A 192.0.2.7"]))
    assert servers(found) == [server]
    assert (found[0].name, found[0].ttl) == ("plain.example", 30)


def test_a_client_without_udp_falls_back_to_what_it_has() -> None:
    resolver = TableResolver(["plain.example. 30 IN A 192.0.2.7"])
    assert servers(find("sip:plain.example", resolver, client(transports=("tcp", "tls")))) == ["tcp:192.0.2.7:5060"]


@pytest.mark.parametrize("port", [0, 5060])
def test_srv_dot_means_not_available(port: int) -> None:
    resolver = TableResolver([f"_sip._udp.example.com. 60 IN SRV 0 0 {port} .", "example.com. 60 IN A 192.0.2.9"])
    failure = refused("sip:example.com;transport=udp", resolver)
    assert "not available" in str(failure)
    assert not failure.temporary
    assert ("example.com", "A") not in resolver.asked


def test_srv_records_that_lead_nowhere_do_not_fall_back_to_the_host() -> None:
    records = ["_sip._udp.example.com. 60 IN SRV 0 0 5060 gone.example.", "example.com. 60 IN A 192.0.2.9"]
    failure = refused("sip:example.com", TableResolver(records))
    assert "gone.example" in str(failure)
    assert not failure.temporary


def test_one_srv_target_that_does_not_resolve_leaves_the_others() -> None:
    records = [f"_sip._udp.example.com. 60 IN SRV {n} 0 5060 s{n}.example." for n in range(3)]
    resolver = TableResolver([*records, "s2.example. 60 IN A 192.0.2.3", "s0.example. 60 IN A 192.0.2.1"])
    assert servers(find("sip:example.com", resolver)) == ["udp:192.0.2.1:5060", "udp:192.0.2.3:5060"]
    resolver.failing = {("s0.example", "A"), ("s0.example", "AAAA")}
    assert servers(find("sip:example.com", resolver)) == ["udp:192.0.2.3:5060"]
    resolver.silent = {("s1.example", "A"), ("s1.example", "AAAA")}
    assert servers(find("sip:example.com", resolver)) == ["udp:192.0.2.3:5060"]


@pytest.mark.parametrize("uri", ["sip:example.com", "sip:example.com;transport=udp", "sip:example.com;transport=tcp"])
def test_a_failing_srv_question_is_no_reason_for_the_host(uri: str) -> None:
    resolver = TableResolver(["example.com. 60 IN A 192.0.2.9"])
    resolver.failing = {("_sip._udp.example.com", "SRV"), ("_sip._tcp.example.com", "SRV")}
    assert refused(uri, resolver).temporary
    assert ("example.com", "A") not in resolver.asked


@pytest.mark.parametrize("trouble", ["silent", "given_up"])
@pytest.mark.parametrize(("uri", "server"), [
    ("sip:example.com", "udp:192.0.2.9:5060"),
    ("sip:example.com;transport=tcp", "tcp:192.0.2.9:5060"),
    ("sips:example.com", "tls:192.0.2.9:5061"),
])  # fmt: skip
def test_where_srv_questions_meet_silence_the_host_serves_for_a_while(trouble: str, uri: str, server: str) -> None:
    resolver = TableResolver(TWO_TRANSPORTS)
    services = ("_sip._udp", "_sip._tcp", "_sips._tcp")
    setattr(resolver, trouble, {("example.com", "NAPTR"), *((f"{each}.example.com", "SRV") for each in services)})
    told: list[str] = []
    found = asyncio.run(asyncio.wait_for(locate(Target.parse(uri), resolver, client(), told.append), 5))
    assert servers(found) == [server]
    assert [each.ttl for each in found] == [SILENCE_TTL]
    assert len(told) == 1


def test_silence_beside_a_failure_is_no_reason_for_the_host() -> None:
    resolver = TableResolver(TWO_TRANSPORTS)
    resolver.failing = {("_sip._udp.example.com", "SRV")}
    resolver.given_up = {("_sip._tcp.example.com", "SRV"), ("_sips._tcp.example.com", "SRV")}
    assert refused("sip:example.com", resolver).temporary


def test_silence_to_the_addresses_of_srv_records_is_no_reason_for_the_host() -> None:
    resolver = TableResolver(TWO_TRANSPORTS)
    resolver.given_up = {(f"{host}.example.com", kind) for host in ("u", "t") for kind in ("A", "AAAA")}  # type: ignore[misc]
    assert refused("sip:example.com", resolver).temporary
    assert ("example.com", "A") not in resolver.asked


def test_silence_about_a_host_without_addresses_is_a_failure_for_the_time_being() -> None:
    resolver = TableResolver()
    resolver.given_up = {("_sip._udp.example.com", "SRV")}
    assert refused("sip:example.com;transport=udp", resolver).temporary


def test_srv_records_of_another_transport_serve_while_one_fails() -> None:
    resolver = TableResolver(TWO_TRANSPORTS)
    resolver.failing = {("_sip._udp.example.com", "SRV")}
    assert servers(find("sip:example.com", resolver)) == ["tcp:192.0.2.2:5060"]
    resolver.failing, resolver.silent = set(), {("_sip._udp.example.com", "SRV")}
    assert servers(find("sip:example.com", resolver)) == ["tcp:192.0.2.2:5060"]


@pytest.mark.parametrize("trouble", ["failing", "silent"])
def test_a_lost_aaaa_does_not_lose_the_a(trouble: str) -> None:
    resolver = TableResolver(TWO_TRANSPORTS)
    setattr(resolver, trouble, {("u.example.com", "AAAA"), ("t.example.com", "AAAA"), ("example.com", "AAAA")})
    assert servers(find("sip:example.com", resolver)) == ["udp:192.0.2.1:5060", "tcp:192.0.2.2:5060"]
    assert servers(find("sip:example.com:5060", resolver)) == ["udp:192.0.2.9:5060"]


def test_no_a_and_a_lost_aaaa_is_a_failure_for_the_time_being() -> None:
    resolver = TableResolver()
    resolver.failing = {("example.com", "AAAA")}
    assert refused("sip:example.com:5060", resolver).temporary
    assert not refused("sip:example.org:5060", resolver).temporary


@pytest.mark.parametrize("trouble", ["failing", "silent"])
def test_a_swallowed_naptr_question_counts_as_no_record(trouble: str) -> None:
    resolver = TableResolver(TWO_TRANSPORTS)
    setattr(resolver, trouble, {("example.com", "NAPTR")})
    assert servers(find("sip:example.com", resolver)) == ["udp:192.0.2.1:5060", "tcp:192.0.2.2:5060"]


FAMILIES = ["h.example. 60 IN A 192.0.2.1", "h.example. 60 IN AAAA 2001:db8::1"]


@pytest.mark.parametrize(
    ("families", "unreachable", "addresses"),
    [
        (("ipv4", "ipv6"), (), ["192.0.2.1", "2001:db8::1"]),
        (("ipv6", "ipv4"), (), ["2001:db8::1", "192.0.2.1"]),
        (("ipv6", "ipv4"), ("2001:db8::1",), ["192.0.2.1", "2001:db8::1"]),
        (("ipv4",), (), ["192.0.2.1"]),
        (("ipv6",), ("2001:db8::1",), ["2001:db8::1"]),
    ],
)
def test_addresses_stand_by_route_and_family(
    families: Sequence[Family], unreachable: Sequence[str], addresses: list[str]
) -> None:
    able = client(families=families, unreachable=unreachable)
    found = find("sip:h.example:5060", TableResolver(FAMILIES), able)
    assert [candidate.server.address for candidate in found] == addresses


def test_ipv6_alone_where_the_target_asks_so() -> None:
    target = Target("h.example", ipv6=True)
    found = asyncio.run(locate(target, TableResolver(FAMILIES), client()))
    assert servers(found) == ["udp:[2001:db8::1]:5060"]


def test_the_addresses_of_one_srv_record_are_adjacent() -> None:
    records = [f"_sip._udp.example.com. 60 IN SRV 1 {w} 5060 {h}.example." for h, w in (("a", 10), ("b", 20))]
    records += ["a.example. 60 IN A 192.0.2.1", "a.example. 60 IN AAAA 2001:db8::1"]
    records += ["b.example. 30 IN A 192.0.2.2", "b.example. 90 IN AAAA 2001:db8::2"]
    found = find("sip:example.com", TableResolver(records))
    assert [(each.name, each.weight, each.server.address, each.ttl) for each in found] == [
        ("b.example", 20, "192.0.2.2", 30),
        ("b.example", 20, "2001:db8::2", 60),
        ("a.example", 10, "192.0.2.1", 60),
        ("a.example", 10, "2001:db8::1", 60),
    ]


def test_a_set_of_four_thousand_is_cut_after_sorting() -> None:
    records = [f"_sip._udp.example.com. 60 IN SRV {4000 - n} 0 {n + 1} host.example." for n in range(4000)]
    found = find("sip:example.com;transport=udp", TableResolver([*records, "host.example. 60 IN A 192.0.2.1"]))
    assert [each.priority for each in found] == list(range(1, MAX_SRV_RECORDS + 1))


def test_a_hostile_zone_is_cut_too_whatever_its_records_lead_to() -> None:
    """64 kB hold so many records that each of them alone would be a storm of questions, or a plan of a million."""
    hosts = [f"_sip._udp.{n}.example. 60 IN SRV 1 0 5060 h{h}.{n}.example." for n in range(20) for h in range(60)]
    services = [naptr(1, n, "SIP+D2U", f"_sip._udp.{n}.example.") for n in range(20)]
    behind = TableResolver([*hosts, *services])
    with pytest.raises(LookupFailed, match="has no address"):
        find("sip:example.com", behind)
    assert sum(kind == "SRV" for _, kind in behind.asked) == MAX_SERVICES
    assert len({name for name, kind in behind.asked if kind == "A"}) == MAX_SRV_HOSTS
    addresses = [f"h.example. 60 IN A 10.0.{n >> 8}.{n & 255}" for n in range(4000)]
    assert len(find("sip:h.example:5060", TableResolver(addresses))) == MAX_CANDIDATES
    records = [f"_sip._udp.example.com. 60 IN SRV 1 0 {port} h.example." for port in range(5000, 5100)]
    found = find("sip:example.com;transport=udp", TableResolver([*records, *addresses]))
    assert len(found) == MAX_CANDIDATES


def naptr(order: int, preference: int, service: str, name: str, flags: str = "s", regexp: str = "") -> str:
    return f'example.com. 60 IN NAPTR {order} {preference} "{flags}" "{service}" "{regexp}" {name}'


SRV = [
    "_sip._udp.example.com. 60 IN SRV 0 0 5060 u.example.",
    "_sip._tcp.example.com. 60 IN SRV 0 0 5060 t.example.",
    "_sips._tcp.example.com. 60 IN SRV 0 0 5061 s.example.",
    "u.example. 60 IN A 192.0.2.1",
    "t.example. 60 IN A 192.0.2.2",
    "s.example. 60 IN A 192.0.2.3",
    "example.com. 60 IN A 192.0.2.9",
]
UDP = naptr(10, 10, "SIP+D2U", "_sip._udp.example.com.")
TCP = naptr(10, 20, "SIP+D2T", "_sip._tcp.example.com.")
TLS = naptr(10, 30, "SIPS+D2T", "_sips._tcp.example.com.")


def test_naptr_order_comes_before_preference() -> None:
    records = [naptr(20, 1, "SIP+D2U", "_sip._udp.example.com."), naptr(10, 99, "SIP+D2T", "_sip._tcp.example.com.")]
    assert servers(find("sip:example.com", TableResolver(SRV + records))) == ["tcp:192.0.2.2:5060"]


def test_naptr_records_of_one_order_follow_each_other() -> None:
    found = find("sip:example.com", TableResolver([*SRV, TLS, TCP, UDP]))
    assert servers(found) == ["udp:192.0.2.1:5060", "tcp:192.0.2.2:5060", "tls:192.0.2.3:5061"]
    assert [each.priority for each in found] == [0, 1, 2]


def test_a_dead_naptr_leads_to_the_next_of_its_order() -> None:
    dead = naptr(10, 1, "SIP+D2T", "_sip._tcp.gone.example.")
    assert servers(find("sip:example.com", TableResolver([*SRV, dead, UDP]))) == ["udp:192.0.2.1:5060"]


def test_a_failing_tls_never_becomes_tcp_of_another_order() -> None:
    records = [naptr(10, 1, "SIPS+D2T", "_sips._tcp.example.com."), naptr(20, 1, "SIP+D2T", "_sip._tcp.example.com.")]
    resolver = TableResolver(SRV + records)
    resolver.failing = {("_sips._tcp.example.com", "SRV")}
    assert refused("sip:example.com", resolver).temporary


def test_naptr_without_srv_falls_back_to_the_host_over_its_transport() -> None:
    resolver = TableResolver([naptr(1, 1, "SIP+D2T", "_sip._tcp.gone.example."), "example.com. 60 IN A 192.0.2.9"])
    assert servers(find("sip:example.com", resolver)) == ["tcp:192.0.2.9:5060"]


@pytest.mark.parametrize(
    "record",
    [
        naptr(1, 1, "E2U+sip", ".", "u", "!^.*$!sip:info@example.com!"),
        naptr(1, 1, "ZIP+D2U", "_sip._udp.elsewhere.example."),
        naptr(1, 1, "SIP+D2U", ".", "s", "!^.*$!_sip._udp.elsewhere.example!"),
        naptr(1, 1, "SIP+D2U", "."),
        naptr(1, 1, "SIP+D2U", "elsewhere.example.", "a"),
    ],
)
def test_foreign_and_odd_naptr_records_do_not_count(record: str) -> None:
    assert servers(find("sip:example.com", TableResolver([*SRV, record]))) == [
        "udp:192.0.2.1:5060",
        "tcp:192.0.2.2:5060",
        "tls:192.0.2.3:5061",
    ]
    assert servers(find("sip:example.com", TableResolver([*SRV, record, TCP]))) == ["tcp:192.0.2.2:5060"]


@pytest.mark.parametrize("service", ["SIP+D2S", "SIPS+D2W"])
def test_sip_over_what_the_client_does_not_speak_is_ignored_beside_others(service: str) -> None:
    sctp = naptr(1, 1, service, "_sip._sctp.example.com.")
    beside = naptr(1, 2, "SIP+D2T", "_sip._tcp.example.com.")
    assert servers(find("sip:example.com", TableResolver([*SRV, beside, sctp]))) == ["tcp:192.0.2.2:5060"]
    failure = refused("sip:example.com", TableResolver([*SRV, sctp]))
    assert service in str(failure)
    assert not failure.temporary


def test_services_and_flags_compare_without_case() -> None:
    record = naptr(1, 1, "sip+d2t", "_SIP._TCP.Example.COM.", "S")
    assert servers(find("sip:example.com", TableResolver([*SRV, record]))) == ["tcp:192.0.2.2:5060"]


def test_sips_takes_sips_services_alone() -> None:
    assert servers(find("sips:example.com", TableResolver([*SRV, UDP, TCP, TLS]))) == ["tls:192.0.2.3:5061"]
    assert "SIP+D2U" in str(refused("sips:example.com", TableResolver([*SRV, UDP])))


def test_sips_does_not_follow_a_naptr_out_of_its_domain() -> None:
    away = naptr(1, 1, "SIPS+D2T", "_sips._tcp.elsewhere.example.")
    elsewhere = ["_sips._tcp.elsewhere.example. 60 IN SRV 0 0 5061 e.example.", "e.example. 60 IN A 192.0.2.66"]
    resolver = TableResolver([*SRV, away, *elsewhere])
    assert servers(find("sips:example.com", resolver)) == ["tls:192.0.2.3:5061"]
    assert servers(find("sip:example.com", resolver)) == ["tls:192.0.2.66:5061"]


def test_sips_follows_a_naptr_into_the_domain_that_its_own_is_an_alias_of() -> None:
    """As in kamailio issue 4911."""
    records = [
        "cluster.example. 60 IN CNAME hub.example.",
        'hub.example. 60 IN NAPTR 20 100 "S" "SIPS+D2T" "" _sips._tcp.hub.example.',
        "_sips._tcp.hub.example. 60 IN SRV 1 25 5061 edge.example.",
        "edge.example. 60 IN A 192.0.2.4",
    ]
    assert servers(find("sips:cluster.example", TableResolver(records))) == ["tls:192.0.2.4:5061"]


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "xn--" + "y" * 64, ".".join(["abcdefghij"] * 23)])
def test_a_host_that_is_no_name_is_a_failed_lookup(host: str) -> None:
    assert not refused(f"sip:{host}", TableResolver()).temporary


def test_a_trailing_dot_and_capitals_are_no_other_name() -> None:
    found = find("sip:Example.COM.", TableResolver(TWO_TRANSPORTS))
    assert servers(found) == ["udp:192.0.2.1:5060", "tcp:192.0.2.2:5060"]


def test_an_international_name_is_asked_in_ascii() -> None:
    found = find("sip:bücher.example", TableResolver(["xn--bcher-kva.example. 60 IN A 192.0.2.1"]))
    assert found[0].name == "xn--bcher-kva.example"


def test_patience_bounds_the_wait() -> None:
    resolver = TableResolver(TWO_TRANSPORTS)
    resolver.silent = {("example.com", "NAPTR"), ("_sips._tcp.example.com", "SRV"), ("u.example.com", "AAAA")}
    start = time.monotonic()
    assert len(find("sip:example.com", resolver)) == 2
    assert time.monotonic() - start < 0.5


@given(
    st.lists(
        st.one_of(
            st.builds(
                "_sip._{}.example.com. 60 IN SRV {} {} {} {}".format,
                st.sampled_from(["udp", "tcp"]),
                st.integers(0, 3),
                st.integers(0, 3),
                st.sampled_from([0, 5060]),
                st.sampled_from([".", "a.example.", "b.example."]),
            ),
            st.builds(
                naptr,
                st.integers(0, 2),
                st.integers(0, 2),
                st.sampled_from(["SIP+D2U", "SIP+D2T", "SIPS+D2T", "SIP+D2S", "x", ""]),
                st.sampled_from([".", "_sip._udp.example.com.", "_sip._tcp.example.com.", "a.example."]),
                st.sampled_from(["s", "a", "u", ""]),
            ),
            st.sampled_from(["a.example. 60 IN A 192.0.2.1", "a.example. 60 IN AAAA 2001:db8::1"]),
            st.just("example.com. 60 IN A 192.0.2.9"),
        ),
        max_size=12,
    ),
    st.sampled_from(["sip:example.com", "sips:example.com", "sip:example.com;transport=tcp", "sip:example.com:5060"]),
)
def test_any_zone_gives_candidates_by_priority_or_a_failed_lookup(records: list[str], uri: str) -> None:
    try:
        found = find(uri, TableResolver(records))
    except LookupFailed:
        return
    assert found
    assert [each.priority for each in found] == sorted(each.priority for each in found)
    assert all(each.server.transport == "tls" for each in found) or not uri.startswith("sips")


def test_an_error_says_over_which_transports_there_is_no_srv_record() -> None:
    """The domain has SRV records, for TCP."""
    records = ["_sip._tcp.example.com. 60 IN SRV 1 0 5060 a.example.com."]
    with pytest.raises(LookupFailed, match=r"example\.com has no SRV record over udp and no address"):
        find("sip:example.com;transport=udp", TableResolver(records))
    with pytest.raises(LookupFailed, match=r"example\.com has no SRV record and no address"):
        find("sip:example.com", TableResolver([]))
