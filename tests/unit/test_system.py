"""The system's own resolver, seen through getaddrinfo."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from pjfail.errors import LookupFailed
from pjfail.lookup import SystemLookup
from pjfail.model import Candidate, Server, Target


def look_up(target: Target, ttl: float = 30.0) -> list[Candidate]:
    return asyncio.run(SystemLookup(ttl=ttl).lookup(target))


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets getaddrinfo give *addresses* in this order, or raise *error*."""

    def say(*addresses: str, error: Exception | None = None) -> None:
        def getaddrinfo(
            _host: str, port: int, family: int = 0, type: int = 0, _proto: int = 0, _flags: int = 0
        ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
            if error is not None:
                raise error
            kinds = [(socket.AF_INET6 if ":" in each else socket.AF_INET, each) for each in addresses]
            return [(kind, type, 17, "", (each, port)) for kind, each in kinds if family in (socket.AF_UNSPEC, kind)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return say


@pytest.mark.parametrize(
    ("target", "server"),
    [
        (Target("localhost", ipv6=False), Server("127.0.0.1", 5060, "udp")),
        (Target("127.0.0.1"), Server("127.0.0.1", 5060, "udp")),
        (Target("127.0.0.1", 5070), Server("127.0.0.1", 5070, "udp")),
        (Target("127.0.0.1", 0, "tcp"), Server("127.0.0.1", 5060, "tcp")),
        (Target("127.0.0.1", secure=True), Server("127.0.0.1", 5061, "tls")),
        (Target("127.0.0.1", 5070, "tls", secure=True), Server("127.0.0.1", 5070, "tls")),
    ],
)
def test_port_and_transport_are_pjsips_defaults(target: Target, server: Server) -> None:
    assert server in [candidate.server for candidate in look_up(target)]


def test_the_systems_order_is_kept(system: Callable[..., None]) -> None:
    system("2001:db8::2", "192.0.2.1", "2001:db8::1", "192.0.2.1")
    found = look_up(Target("example.com"), ttl=7)
    assert [each.server.address for each in found] == ["2001:db8::2", "192.0.2.1", "2001:db8::1"]
    assert {(each.name, each.ttl, each.priority) for each in found} == {("example.com", 7, 0)}


def test_ipv6_alone_where_the_target_asks_so(system: Callable[..., None]) -> None:
    system("192.0.2.1", "2001:db8::1")
    assert [each.server.address for each in look_up(Target("example.com", ipv6=True))] == ["2001:db8::1"]


@pytest.mark.parametrize(
    ("code", "temporary"), [(socket.EAI_NONAME, False), (socket.EAI_NODATA, False), (socket.EAI_AGAIN, True)]
)
def test_no_such_name_is_not_no_answer(system: Callable[..., None], code: int, temporary: bool) -> None:
    system(error=socket.gaierror(code, "the reason"))
    with pytest.raises(LookupFailed, match=r"example\.com.*the reason") as caught:
        look_up(Target("example.com"))
    assert caught.value.temporary is temporary


def test_a_name_that_is_none_is_a_failed_lookup() -> None:
    with pytest.raises(LookupFailed):
        look_up(Target("a" * 64 + ".example"))
