"""The application's own table."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pjfail.errors import BadServer, LookupFailed, UnknownTarget
from pjfail.lookup import Lookup, StaticLookup
from pjfail.lookup.static import Listed
from pjfail.model import Candidate, Server, Target


def servers(lookup: StaticLookup, target: Target) -> list[str]:
    return [str(candidate.server) for candidate in asyncio.run(lookup.lookup(target))]


def test_it_is_a_lookup() -> None:
    assert isinstance(StaticLookup({}), Lookup)


def test_servers_are_tried_in_the_order_listed() -> None:
    lookup = StaticLookup({"example.com": ["192.0.2.9:5060", "192.0.2.1:5070", Server("192.0.2.5", 5060)]})
    found = asyncio.run(lookup.lookup(Target("example.com")))
    assert [candidate.server.endpoint for candidate in found] == ["192.0.2.9:5060", "192.0.2.1:5070", "192.0.2.5:5060"]
    assert [candidate.priority for candidate in found] == [0, 1, 2]
    assert {candidate.name for candidate in found} == {"example.com"}
    assert {candidate.ttl for candidate in found} == {30.0}


def test_priority_and_weight_are_rfc_2782s() -> None:
    listed = [("192.0.2.1:5060", 20, 1), ("192.0.2.2:5060", 10, 5), ("192.0.2.3:5060", 10, 5)]
    lookup = StaticLookup({"a.example": listed})
    found = asyncio.run(lookup.lookup(Target("a.example")))
    assert [(each.server.address, each.priority, each.weight) for each in found] == [
        ("192.0.2.2", 10, 5),
        ("192.0.2.3", 10, 5),
        ("192.0.2.1", 20, 1),
    ]
    assert len({each.name for each in found}) == 3  # each a record of its own in the draw of weights


def test_a_candidate_stands_as_it_is() -> None:
    candidate = Candidate(Server("192.0.2.1", 5060, "tcp"), "edge.example", 3, 4, 5)
    assert asyncio.run(StaticLookup({"a.example": [candidate]}).lookup(Target("a.example"))) == [candidate]


def test_the_ttl_is_given_where_a_candidate_has_none() -> None:
    lookup = StaticLookup({"a.example": [Candidate(Server("192.0.2.1", 5060), "edge.example")]}, ttl=5)
    assert [each.ttl for each in asyncio.run(lookup.lookup(Target("a.example")))] == [5]


def test_a_text_without_a_transport_takes_the_targets() -> None:
    lookup = StaticLookup({"example.com": ["192.0.2.1:5060"]})
    assert servers(lookup, Target("example.com")) == ["udp:192.0.2.1:5060"]
    assert servers(lookup, Target("example.com", 0, "tcp")) == ["tcp:192.0.2.1:5060"]
    assert servers(lookup, Target("example.com", secure=True)) == ["tls:192.0.2.1:5060"]


def test_a_target_gets_its_transport_alone() -> None:
    listed: list[Listed] = ["udp:192.0.2.1:5060", "tls:192.0.2.2:5061", Server("192.0.2.3", 5060, "tcp")]
    lookup = StaticLookup({"example.com": listed})
    assert servers(lookup, Target("example.com", 0, "tcp")) == ["tcp:192.0.2.3:5060"]
    assert servers(lookup, Target("example.com", secure=True)) == ["tls:192.0.2.2:5061"]
    assert len(servers(lookup, Target("example.com"))) == 3


def test_a_secure_target_gets_tls_or_nothing() -> None:
    lookup = StaticLookup({"example.com": ["udp:192.0.2.1:5060", "tcp:192.0.2.1:5060"]})
    with pytest.raises(LookupFailed, match="no server over tls") as caught:
        servers(lookup, Target("example.com", secure=True))
    assert not isinstance(caught.value, UnknownTarget)


def test_ipv6_alone_where_the_target_asks_so() -> None:
    lookup = StaticLookup({"example.com": ["192.0.2.1:5060", "[2001:db8::1]:5060"]})
    assert servers(lookup, Target("example.com", ipv6=True)) == ["udp:[2001:db8::1]:5060"]


@pytest.mark.parametrize("host", ["Example.COM", "example.com."])
def test_hosts_compare_as_dns_names(host: str) -> None:
    assert servers(StaticLookup({host: ["192.0.2.1:5060"]}), Target("example.com"))
    assert servers(StaticLookup({"example.com": ["192.0.2.1:5060"]}), Target(host))


def test_an_unknown_host_is_for_another_lookup() -> None:
    with pytest.raises(UnknownTarget, match="is not in the table"):
        servers(StaticLookup({"example.com": ["192.0.2.1:5060"]}), Target("other.example"))


def test_an_update_replaces_the_table() -> None:
    lookup = StaticLookup({"old.example": ["192.0.2.1:5060"]})
    lookup.update({"new.example": ["192.0.2.2:5060"]})
    assert servers(lookup, Target("new.example")) == ["udp:192.0.2.2:5060"]
    with pytest.raises(UnknownTarget):
        servers(lookup, Target("old.example"))


def test_a_wrong_update_leaves_the_old_table() -> None:
    lookup = StaticLookup({"example.com": ["192.0.2.1:5060"]})
    with pytest.raises(BadServer):
        lookup.update({"example.com": ["192.0.2.2:5060", "non sense"]})
    assert servers(lookup, Target("example.com")) == ["udp:192.0.2.1:5060"]


@pytest.mark.parametrize(
    "listed",
    [
        "192.0.2.1:5060",
        [],
        ["192.0.2.1", "udp:192.0.2.1:5060"],
        ["sip2.example", "SIP2.example.:5060"],
        ["192.0.2.300"],
        ["sip:192.0.2.1"],
        ["sctp:192.0.2.1"],
        ["edge.example:70000"],
        [("192.0.2.1:5060", -1, 0)],
        [("192.0.2.1:5060", 0, 65536)],
        [("192.0.2.1:5060", 1)],
        [5060],
        [None],
    ],
)
def test_a_wrong_table_is_refused_by_the_name_of_its_host(listed: list[Listed]) -> None:
    with pytest.raises(BadServer, match=r"^example\.com: "):
        StaticLookup({"example.com": listed})


@pytest.mark.parametrize(
    "host", ["sip:example.com", "tcp:example.com", "alice@example.com", "example.com;lr", "192.0.2", "", 5]
)
def test_a_key_that_no_target_has_is_refused(host: Any) -> None:
    with pytest.raises(BadServer, match=r"is not a valid host .*; write the host of the URI alone, or host:port"):
        StaticLookup({host: ["192.0.2.1:5060"]})


@pytest.mark.parametrize("host", ["Example.COM.", "pbx", "192.0.2.9", "2001:db8::9", "[2001:db8::9]"])
def test_a_name_or_an_address_is_a_key(host: str) -> None:
    table = StaticLookup({host: ["192.0.2.1:5060"]})
    assert servers(table, Target(host)) == ["udp:192.0.2.1:5060"]


def test_what_is_no_table_is_a_type_error() -> None:
    table: Any = ["192.0.2.1:5060"]
    with pytest.raises(TypeError, match="is not a valid table of servers"):
        StaticLookup(table)
