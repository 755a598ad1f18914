"""A server that several records lead to stands in its first place only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from rig.resolver import TableResolver

from pjfail.lookup.rfc3263 import Client, locate
from pjfail.model import TRANSPORTS, Candidate, Target

CLIENT = Client(TRANSPORTS, ("ipv4", "ipv6"), "on", 0.02, lambda _address: True)
ONE_ADDRESS = ["a.example. 60 IN A 192.0.2.1", "b.example. 60 IN A 192.0.2.1", "b.example. 60 IN A 192.0.2.2"]


def find(uri: str, records: Iterable[str]) -> list[Candidate]:
    return asyncio.run(locate(Target.parse(uri), TableResolver(records), CLIENT))


def places(found: list[Candidate]) -> list[tuple[str, str, int]]:
    return [(str(each.server), each.name, each.priority) for each in found]


def test_of_two_records_that_lead_to_one_server_the_first_counts() -> None:
    records = [
        "_sip._udp.example.com. 60 IN SRV 20 0 5060 a.example.",
        "_sip._udp.example.com. 60 IN SRV 10 0 5060 b.example.",
    ]
    assert places(find("sip:example.com", records + ONE_ADDRESS)) == [
        ("udp:192.0.2.1:5060", "b.example", 10),
        ("udp:192.0.2.2:5060", "b.example", 10),
    ]


def test_within_a_priority_the_heavier_record_counts() -> None:
    records = [
        "_sip._udp.example.com. 60 IN SRV 10 1 5060 b.example.",
        "_sip._udp.example.com. 60 IN SRV 10 9 5060 a.example.",
    ]
    found = find("sip:example.com", records + ONE_ADDRESS)
    assert [(str(each.server), each.weight) for each in found] == [("udp:192.0.2.1:5060", 9), ("udp:192.0.2.2:5060", 1)]


def test_another_port_or_transport_is_another_server() -> None:
    records = [
        "_sip._udp.example.com. 60 IN SRV 10 0 5060 a.example.",
        "_sip._udp.example.com. 60 IN SRV 20 0 5070 a.example.",
        "_sip._tcp.example.com. 60 IN SRV 10 0 5060 a.example.",
    ]
    assert [server for server, _, _ in places(find("sip:example.com", records + ONE_ADDRESS))] == [
        "udp:192.0.2.1:5060",
        "udp:192.0.2.1:5070",
        "tcp:192.0.2.1:5060",
    ]


def test_two_naptr_records_that_lead_to_one_server() -> None:
    records = [
        'example.com. 60 IN NAPTR 10 10 "s" "SIP+D2U" "" _sip._udp.one.example.',
        'example.com. 60 IN NAPTR 10 20 "s" "SIP+D2U" "" _sip._udp.two.example.',
        "_sip._udp.one.example. 60 IN SRV 0 0 5060 a.example.",
        "_sip._udp.two.example. 60 IN SRV 0 0 5060 b.example.",
    ]
    assert places(find("sip:example.com", records + ONE_ADDRESS)) == [
        ("udp:192.0.2.1:5060", "a.example", 0),
        ("udp:192.0.2.2:5060", "b.example", 1),
    ]
