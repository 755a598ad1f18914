"""What DnsLookup takes and what it refuses; nothing is asked."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from pjfail.errors import BadServer, LookupFailed
from pjfail.lookup import DnsLookup, Lookup, PjsipDnsLookup, SystemLookup
from pjfail.lookup.nameservers import NameServer
from pjfail.model import TRANSPORTS, Family, Target, Transport


@pytest.mark.parametrize(
    ("text", "server", "printed"),
    [
        ("192.0.2.53", NameServer("192.0.2.53", 53), "192.0.2.53:53"),
        ("192.0.2.54:5353", NameServer("192.0.2.54", 5353), "192.0.2.54:5353"),
        ("[::1]:5353", NameServer("::1", 5353), "[::1]:5353"),
        ("[2001:db8::53]", NameServer("2001:db8::53", 53), "[2001:db8::53]:53"),
        ("2001:db8::53", NameServer("2001:db8::53", 53), "[2001:db8::53]:53"),
    ],
)
def test_a_name_server_is_an_address_and_maybe_a_port(text: str, server: NameServer, printed: str) -> None:
    assert NameServer.parse(text) == server
    assert str(server) == printed


@pytest.mark.parametrize("text", ["", "dns.example", "192.0.2.53:", "192.0.2.53:0", "192.0.2.53:65536", "192.0.2.300"])
def test_what_is_no_name_server_is_refused(text: str) -> None:
    with pytest.raises(BadServer, match="is not a valid name server; write"):
        DnsLookup([text])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"transports": ()}, "transports"),
        ({"transports": ("udp", "sctp")}, "udp, tcp, tls"),
        ({"transports": "udp"}, "transports is one string"),
        ({"transports": ("udp", "udp")}, "once"),
        ({"transports": 5}, "transports is 5; choose among udp, tcp, tls"),
        ({"transports": 0}, "transports is 0"),
        ({"transports": [["udp"]]}, "transports is"),
        ({"families": b"ipv4"}, "families is"),
        ({"naptr": False}, "naptr is False; give one of on, off, always"),
        ({"ttl_floor": -5}, "ttl_floor is -5; give seconds"),
        ({"ttl_ceiling": "x"}, "ttl_ceiling is 'x'; give seconds"),
        ({"ttl_floor": 60, "ttl_ceiling": 30}, "ttl_floor is 60; give at most ttl_ceiling, 30"),
        ({"cname_limit": "x"}, "cname_limit is 'x'; give a whole number from 0 to 16"),
        ({"cname_limit": 17}, "cname_limit is 17"),
        ({"families": ("ipv5",)}, "ipv4, ipv6"),
        ({"naptr": "maybe"}, "on, off, always"),
        ({"timeout": 0}, "timeout"),
        ({"max_stale": -1}, "max_stale"),
        ({"cache_room": 1000}, "cache_room is 1000; give octets"),
        ({"cache_room": "32 MB"}, "cache_room"),
        ({"nameservers": []}, "nameservers"),
        ({"nameservers": "192.0.2.53"}, r"is one string; give a list of them: \['192\.0\.2\.53'\]"),
    ],
)
def test_a_wrong_argument_is_refused(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        DnsLookup(**{"nameservers": ["127.0.0.1"]} | arguments)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"trace": 5}, r"^trace is 5; give a function \(line\) -> None"),
        ({"trace": lambda: None}, "^trace is .*takes other arguments"),
        ({"clock": 5}, "^clock is 5; give a function"),
        ({"has_route": "yes"}, r"^has_route is 'yes'; give a function \(address\) -> bool"),
        ({"hosts": 5}, "^hosts is 5; give a path"),
        ({"resolv_conf": None}, "^resolv_conf is None; give a path"),
        ({"cache_file": True}, "^cache_file is True; give a path"),
    ],
)
def test_what_is_not_a_function_or_a_path_is_refused(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        DnsLookup(**{"nameservers": ["127.0.0.1"]} | arguments)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"transports": "udp"}, "transports is one string; give a list of them"),
        ({"transports": ["sctp"]}, r"transports is .*'sctp'.*; choose among udp, tcp, tls"),
        ({"families": ["ipv5"]}, "choose among ipv4, ipv6"),
        ({"timeout": -1}, "timeout is -1"),
        ({"timeout": math.nan}, "timeout is nan"),
        ({"timeout": "3"}, "timeout is '3'"),
        ({"nameservers": []}, "nameservers is empty; give at least one, or None for pjsua's"),
    ],
)
def test_the_lookup_by_pjsip_refuses_the_same(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        PjsipDnsLookup(**arguments)


@pytest.mark.parametrize("ttl", [-1, "x", None, math.nan, True])
def test_the_lookup_by_the_system_takes_seconds(ttl: Any) -> None:
    with pytest.raises(ValueError, match=r"^ttl is .*; give seconds"):
        SystemLookup(ttl=ttl)


def test_it_is_a_lookup() -> None:
    assert isinstance(DnsLookup(["127.0.0.1"]), Lookup)


def test_a_numeric_host_needs_no_name_server() -> None:
    [found] = asyncio.run(DnsLookup(["127.0.0.1:9"]).lookup(Target("192.0.2.1", secure=True)))
    assert str(found.server) == "tls:192.0.2.1:5061"
    assert found.ttl > 0


ALL: list[Family] = ["ipv4", "ipv6"]


def transports(lookup: DnsLookup) -> list[Transport]:
    """Those that a lookup uses for a numeric host, each in turn; the one for a plain URI first."""
    used: list[Transport] = []
    for wanted in (None, *TRANSPORTS):
        try:
            [found] = asyncio.run(lookup.lookup(Target("192.0.2.1", transport=wanted)))
        except LookupFailed:
            continue
        used.append(found.server.transport)
    return used


@pytest.mark.parametrize(
    ("preferred", "had", "used"),
    [
        (None, ["tcp", "tls"], ["tcp", "tcp", "tls"]),
        (None, ["tls", "udp"], ["udp", "udp", "tls"]),
        (None, [], ["udp", "udp", "tcp", "tls"]),
        (["tls", "tcp"], ["udp", "tcp", "tls"], ["tls", "tcp", "tls"]),
        (["tcp", "udp"], ["udp"], ["udp", "udp"]),
        (["tls"], ["udp"], []),
        (["tls"], [], ["tls", "tls"]),
    ],
)
def test_what_the_endpoint_has_bounds_what_is_used_and_the_users_order_stays(
    preferred: list[Transport] | None, had: list[Transport], used: list[Transport]
) -> None:
    lookup = DnsLookup(["127.0.0.1"], transports=preferred)
    lookup.adapt(had, ALL)
    assert transports(lookup) == used


def test_before_it_is_attached_it_uses_all() -> None:
    assert transports(DnsLookup(["127.0.0.1"])) == ["udp", *TRANSPORTS]
    assert transports(DnsLookup(["127.0.0.1"], transports=("tcp",))) == ["tcp", "tcp"]


def test_what_the_endpoint_gains_is_used_too() -> None:
    lookup = DnsLookup(["127.0.0.1"])
    lookup.adapt(["udp"], ALL)
    assert transports(lookup) == ["udp", "udp"]
    lookup.adapt(["udp", "tls"], ALL)
    assert transports(lookup) == ["udp", "udp", "tls"]


def test_nothing_in_common_is_told() -> None:
    lookup = DnsLookup(["127.0.0.1"], families=("ipv6",))
    lookup.adapt(["udp"], ["ipv4"])
    with pytest.raises(LookupFailed, match="no kind of address, that the endpoint has") as caught:
        asyncio.run(lookup.lookup(Target("192.0.2.1")))
    assert not caught.value.temporary
