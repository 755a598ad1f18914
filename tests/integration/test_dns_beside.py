"""Addresses that a name server sends beside SRV records: what they are used for, and what not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig.dns_server import DnsServer

from pjfail.lookup import DnsLookup
from pjfail.model import Candidate, Target

ZONE = [
    "_sip._udp.voip.test. 600 IN SRV 0 0 5060 a.voip.test.",
    "_sip._udp.voip.test. 600 IN SRV 1 0 5060 b.voip.test.",
    "_sip._udp.other.test. 600 IN SRV 0 0 5060 a.voip.test.",
    "_sip._udp.alias.test. 600 IN CNAME _sip._udp.voip.test.",
    "a.voip.test. 60 IN A 192.0.2.1",
    "a.voip.test. 60 IN AAAA 2001:db8::1",
    "b.voip.test. 300 IN A 192.0.2.2",
]
BOTH = ["udp:192.0.2.1:5060", "udp:192.0.2.2:5060"]


def look_up(lookup: DnsLookup, host: str, port: int = 0) -> list[Candidate]:
    return asyncio.run(lookup.lookup(Target(host, port, "udp")))


def servers(found: list[Candidate]) -> list[str]:
    return [str(candidate.server) for candidate in found]


def lookup_of(server: DnsServer, **options: Any) -> DnsLookup:
    return DnsLookup([str(server)], **{"hosts": None, "families": ("ipv4",), "has_route": lambda _: True} | options)


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(ZONE, beside=("A",)) as running:
        yield running


@pytest.mark.parametrize("host", ["voip.test", "VOIP.test", "alias.test"])
def test_one_question_leads_to_the_servers(server: DnsServer, host: str) -> None:
    found = look_up(lookup_of(server), host)
    assert servers(found) == BOTH
    assert [each.name for each in found] == ["a.voip.test", "b.voip.test"]
    assert server.asked() == [f"_sip._udp.{host.lower()}"]


def test_the_answer_lasts_as_long_as_the_first_of_its_parts(server: DnsServer) -> None:
    now = 1000.0
    lookup = lookup_of(server, clock=lambda: now)
    assert {each.ttl for each in look_up(lookup, "voip.test")} == {60.0}
    now += 30
    assert {each.ttl for each in look_up(lookup, "voip.test")} == {30.0}
    now += 31
    assert servers(look_up(lookup, "voip.test")) == BOTH
    assert server.asked("SRV") == ["_sip._udp.voip.test"] * 2
    assert server.asked("A") == []


def test_a_server_in_another_domain_is_asked_for(server: DnsServer) -> None:
    assert servers(look_up(lookup_of(server), "other.test")) == ["udp:192.0.2.1:5060"]
    assert server.asked("A") == ["a.voip.test"]


def test_no_other_question_is_answered_by_them(server: DnsServer) -> None:
    """Who may spoof an answer to a question for SRV records may not spoof that to another question with it."""
    lookup = lookup_of(server)
    assert servers(look_up(lookup, "voip.test")) == BOTH
    assert servers(look_up(lookup, "a.voip.test", 5060)) == ["udp:192.0.2.1:5060"]
    assert server.asked("A") == ["a.voip.test"]


def test_the_kind_that_is_not_there_is_asked_for(server: DnsServer) -> None:
    found = look_up(lookup_of(server, families=("ipv6", "ipv4")), "voip.test")
    assert servers(found) == ["udp:[2001:db8::1]:5060", *BOTH]
    assert (server.asked("A"), sorted(server.asked("AAAA"))) == ([], ["a.voip.test", "b.voip.test"])


def test_the_kind_that_is_not_there_is_not_waited_for_for_long(server: DnsServer) -> None:
    server.fault("silent", "AAAA")
    assert servers(look_up(lookup_of(server, families=("ipv6", "ipv4"), timeout=1.5), "voip.test")) == BOTH


def test_the_hosts_file_comes_first(server: DnsServer, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("192.0.2.9 a.voip.test\n")
    found = look_up(lookup_of(server, hosts=tmp_path / "hosts", families=("ipv4", "ipv6")), "voip.test")
    assert servers(found) == ["udp:192.0.2.9:5060", "udp:192.0.2.2:5060"]


def test_they_outlive_the_process_in_the_cache_file(server: DnsServer, tmp_path: Path) -> None:
    assert servers(look_up(lookup_of(server, cache_file=tmp_path / "cache"), "voip.test")) == BOTH
    server.fault("silent")
    assert servers(look_up(lookup_of(server, cache_file=tmp_path / "cache", timeout=1.5), "voip.test")) == BOTH
