"""The fixtures of pjfail.testing: servers at places of their own, which fail, and are gone after the test."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator

import pytest

import pjfail
from pjfail.testing import DYING, REFUSING, SILENT, UNAVAILABLE, WELL, NameServer, Registrar

pytest_plugins = ["pjfail.testing.fixtures"]

ZONE = "@ 1 SOA ns admin 1 60 60 60 60\n@ 1 NS ns\n@ 1 A 192.0.2.1\n"
TARGET = pjfail.Target("sip.test", 5060, "udp")


@pytest.fixture
def gone_afterwards() -> Iterator[list[Registrar]]:
    """Registrars that must be gone once the fixtures have ended that were asked for after this one."""
    started: list[Registrar] = []
    yield started
    for one in started:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((one.address, one.port), 5)


def test_each_server_has_a_place_of_its_own_and_is_gone_after_the_test(
    gone_afterwards: list[Registrar], failing_server: Callable[..., Registrar]
) -> None:
    seen = gone_afterwards
    seen.extend([failing_server(), failing_server(realm="sip.test"), failing_server("127.0.19.77")])
    assert [one.address for one in seen] == ["127.0.19.1", "127.0.19.2", "127.0.19.77"]
    assert seen[1].realm == "sip.test"
    for one in seen:
        address, port = one.endpoint.split(":")
        with socket.create_connection((address, int(port)), 5):
            pass


def asked(dns: NameServer) -> list[str]:
    lookup = pjfail.DnsLookup([dns.endpoint], timeout=0.5)
    return [str(each.server) for each in asyncio.run(lookup.lookup(TARGET))]


def test_a_name_server_fails_on_command(failing_dns: Callable[..., NameServer]) -> None:
    dns = failing_dns(ZONE, "sip.test")
    assert asked(dns) == ["udp:192.0.2.1:5060"]
    dns.fault = UNAVAILABLE
    began = time.monotonic()
    with pytest.raises(pjfail.LookupFailed) as failed:
        asked(dns)
    assert failed.value.temporary
    assert time.monotonic() - began < 5
    dns.fault = SILENT
    with pytest.raises(pjfail.LookupFailed):
        asked(dns)
    dns.fault = WELL
    assert asked(dns) == ["udp:192.0.2.1:5060"]
    dns.fault = REFUSING
    with pytest.raises(pjfail.LookupFailed, match="refuses the connection"):
        asked(dns)
    with pytest.raises(ValueError, match="give WELL, SILENT, REFUSING or UNAVAILABLE"):
        dns.fault = DYING


def test_two_of_them_do_not_disturb_each_other(failing_dns: Callable[..., NameServer]) -> None:
    one, other = failing_dns(ZONE, "sip.test"), failing_dns(ZONE, "sip.test")
    one.fault = UNAVAILABLE
    assert asked(other) == ["udp:192.0.2.1:5060"]
    assert one.port != other.port
