"""Name servers that go away and come back: answers that outlast their TTL, and a process that starts without them."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig.dns_server import DnsServer

from pjfail.errors import LookupFailed
from pjfail.lookup import ChainLookup, DnsLookup
from pjfail.lookup.cache import RETRY, STALE_TTL
from pjfail.model import Candidate, Target

ZONE = [
    'example.com. 60 IN NAPTR 10 10 "s" "SIP+D2U" "" _sip._udp.example.com.',
    "_sip._udp.example.com. 60 IN SRV 0 0 5060 u.example.com.",
    "u.example.com. 60 IN A 192.0.2.1",
    "plain.example.com. 60 IN A 192.0.2.2",
]
URIS = ["sip:example.com", "sip:plain.example.com"]


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as running:
        yield running


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lookup_of(server: DnsServer, **options: Any) -> DnsLookup:
    return DnsLookup([str(server)], **{"hosts": None, "timeout": 2.0} | options)


def look_up(lookup: DnsLookup | ChainLookup, uri: str) -> list[Candidate]:
    return list(asyncio.run(lookup.lookup(Target.parse(uri))))


def servers(found: list[Candidate]) -> list[str]:
    return [str(candidate.server) for candidate in found]


@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize("fault", ["silent", "servfail", "refused", "garbage", "half", "wrong id", "pointer loop"])
def test_the_last_good_answers_serve_in_an_outage(server: DnsServer, clock: Clock, fault: str, uri: str) -> None:
    lookup = lookup_of(server, clock=clock, timeout=2.0)
    before = look_up(lookup, uri)
    assert [each.ttl for each in before] == [60]
    server.fault(fault)
    clock.now += 3600
    start = time.monotonic()
    found = look_up(lookup, uri)
    assert time.monotonic() - start < 1.9
    assert servers(found) == servers(before)
    assert [each.ttl for each in found] == [STALE_TTL]


def test_an_outage_before_any_answer_is_a_failure_for_the_time_being(server: DnsServer) -> None:
    server.fault("servfail")
    with pytest.raises(LookupFailed, match="SERVFAIL") as caught:
        look_up(lookup_of(server), URIS[0])
    assert caught.value.temporary


@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize(("max_stale", "served"), [(7200.0, 7200.0), (0.0, 0.0)])
def test_old_answers_serve_for_a_bounded_time(
    server: DnsServer, clock: Clock, uri: str, max_stale: float, served: float
) -> None:
    lookup = lookup_of(server, clock=clock, max_stale=max_stale)
    look_up(lookup, uri)
    server.fault("servfail")
    clock.now += 59 + served
    assert look_up(lookup, uri)
    clock.now += 2
    with pytest.raises(LookupFailed, match="SERVFAIL") as caught:
        look_up(lookup, uri)
    assert caught.value.temporary


def test_an_outage_and_its_end_are_said_once(server: DnsServer, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pjfail")
    told: list[Target] = []
    lookup = lookup_of(server, clock=clock)
    ChainLookup(lookup).on_stale(lambda target, _reason: told.append(target))
    look_up(lookup, URIS[0])
    server.fault("servfail")
    for _ in range(20):
        clock.now += STALE_TTL
        look_up(lookup, URIS[0])
    assert told == [Target("example.com")]
    [said] = caplog.messages
    assert f"{server} says SERVFAIL" in said
    server.mend()
    clock.now += RETRY
    assert [each.ttl for each in look_up(lookup, URIS[0])] == [60]
    assert len(caplog.records) == 2
    assert "new answers again" in caplog.messages[1]


def test_a_name_server_in_trouble_is_left_alone_for_a_while(server: DnsServer, clock: Clock) -> None:
    lookup = lookup_of(server, clock=clock)
    look_up(lookup, URIS[0])
    server.fault("servfail")
    clock.now += 3600
    look_up(lookup, URIS[0])
    asked = len(server.queries)
    clock.now += RETRY - 1
    look_up(lookup, URIS[0])
    assert len(server.queries) == asked
    clock.now += 2
    look_up(lookup, URIS[0])
    assert len(server.queries) > asked


@pytest.mark.parametrize("uri", URIS)
def test_no_such_name_ends_the_old_answers(server: DnsServer, clock: Clock, uri: str) -> None:
    lookup = lookup_of(server, clock=clock)
    look_up(lookup, uri)
    server.fault("servfail")
    clock.now += 3600
    assert look_up(lookup, uri)
    server.mend()
    server.records([])
    clock.now += RETRY
    with pytest.raises(LookupFailed) as caught:
        look_up(lookup, uri)
    assert not caught.value.temporary


def test_an_old_there_is_none_is_not_the_last_word(server: DnsServer, clock: Clock) -> None:
    lookup = lookup_of(server, clock=clock)
    with pytest.raises(LookupFailed) as caught:
        look_up(lookup, "sip:gone.example.com")
    assert not caught.value.temporary
    server.fault("servfail")
    clock.now += 3600
    with pytest.raises(LookupFailed) as caught:
        look_up(lookup, "sip:gone.example.com")
    assert caught.value.temporary


def test_a_slow_name_servers_new_answer_is_there_for_the_next_lookup(server: DnsServer, clock: Clock) -> None:
    lookup = lookup_of(server, clock=clock, timeout=1.0, families=("ipv4",))

    async def slow() -> list[list[str]]:
        target = Target("plain.example.com", 5060)
        found = [await lookup.lookup(target)]
        server.records(["plain.example.com. 60 IN A 192.0.2.9"])
        server.delay(0.35)
        clock.now += 3600
        found.append(await lookup.lookup(target))
        await asyncio.sleep(0.4)
        found.append(await lookup.lookup(target))
        return [servers(each) for each in found]

    old, stale, new = asyncio.run(slow())
    assert old == stale == ["udp:192.0.2.2:5060"]
    assert new == ["udp:192.0.2.9:5060"]


def test_a_refresh_in_time_asks_the_wire_and_an_early_one_does_not(server: DnsServer, clock: Clock) -> None:
    lookup = lookup_of(server, clock=clock)
    look_up(lookup, URIS[1])
    asked = list(server.queries)
    clock.now += 0.79 * 60
    look_up(lookup, URIS[1])
    assert server.queries == asked
    clock.now += 0.02 * 60
    [found] = look_up(lookup, URIS[1])
    assert found.ttl == 60
    assert set(server.queries[len(asked) :]) == set(asked)  # one that is answered late is sent twice


def test_without_a_soa_record_that_there_is_none_is_not_kept(clock: Clock) -> None:
    with DnsServer([], negative_ttl=None) as server:
        lookup = lookup_of(server, clock=clock)
        with pytest.raises(LookupFailed):
            look_up(lookup, URIS[1])
        server.records(ZONE)
        clock.now += 1
        assert look_up(lookup, URIS[1])


def test_a_ttl_of_zero_holds_for_the_floor(server: DnsServer, clock: Clock) -> None:
    server.records(["plain.example.com. 0 IN A 192.0.2.2"])
    lookup = lookup_of(server, clock=clock, ttl_floor=5.0, families=("ipv4",))
    assert [each.ttl for each in look_up(lookup, "sip:plain.example.com:5060")] == [5]
    asked = len(server.queries)
    clock.now += 3.9
    look_up(lookup, "sip:plain.example.com:5060")
    assert len(server.queries) == asked
    clock.now += 0.2
    look_up(lookup, "sip:plain.example.com:5060")
    assert len(server.queries) == asked + 1


@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize("fault", ["silent", "servfail"])
def test_a_restart_in_an_outage_finds_the_servers_in_the_cache_file(
    server: DnsServer, tmp_path: Path, fault: str, uri: str
) -> None:
    path = tmp_path / "answers.json"
    before = look_up(lookup_of(server, cache_file=path), uri)
    content = json.loads(path.read_text())
    for row in content["answers"]:
        row["expires"] -= 3600
    path.write_text(json.dumps(content))
    server.fault(fault)
    told: list[Target] = []
    restarted = lookup_of(server, cache_file=str(path))
    restarted.on_stale(lambda target, _reason: told.append(target))
    found = look_up(restarted, uri)
    assert servers(found) == servers(before)
    assert [each.ttl for each in found] == [STALE_TTL]
    assert told == [Target.parse(uri)]


def test_a_restart_asks_the_name_servers_all_the_same(server: DnsServer, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    look_up(lookup_of(server, cache_file=path), URIS[1])
    server.records(["plain.example.com. 60 IN A 192.0.2.9"])
    assert servers(look_up(lookup_of(server, cache_file=path), URIS[1])) == ["udp:192.0.2.9:5060"]


def test_a_restart_too_late_finds_nothing_in_the_cache_file(server: DnsServer, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    look_up(lookup_of(server, cache_file=path), URIS[1])
    content = json.loads(path.read_text())
    for row in content["answers"]:
        row["expires"] -= 90_000
    path.write_text(json.dumps(content))
    server.fault("servfail")
    with pytest.raises(LookupFailed, match="SERVFAIL"):
        look_up(lookup_of(server, cache_file=path), URIS[1])
