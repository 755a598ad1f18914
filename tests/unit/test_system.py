"""The system's own resolver, seen through getaddrinfo."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable

import pytest

from pjfail.errors import LookupFailed
from pjfail.lookup import SystemLookup
from pjfail.lookup.system import MAX_CALLS, MAX_WAITING
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


def test_so_many_calls_are_under_way_so_many_lookups_wait_and_one_more_fails_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call that hangs keeps its thread, though its lookup is given up; a lookup that waits makes room."""
    asked, answer = [], threading.Semaphore(0)

    def getaddrinfo(host: str, *_rest: int) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        asked.append(host)
        answer.acquire()
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("192.0.2.1", 5060))]

    async def until_asked(count: int) -> None:
        while len(asked) < count:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert len(asked) == count

    async def program() -> None:
        lookup = SystemLookup()
        names = [Target(f"sip{number}.example") for number in range(MAX_CALLS + MAX_WAITING + 1)]
        lookups = [asyncio.create_task(lookup.lookup(name)) for name in names[:-1]]
        await until_asked(MAX_CALLS)
        lookups[0].cancel()
        await until_asked(MAX_CALLS)
        with pytest.raises(LookupFailed, match=r"sip1016\.example was not looked up.*16.*1000") as caught:
            await lookup.lookup(names[-1])
        assert caught.value.temporary
        lookups[MAX_CALLS].cancel()
        await asyncio.sleep(0)
        lookups.append(asyncio.create_task(lookup.lookup(names[-1])))
        await until_asked(MAX_CALLS)
        answer.release()
        await until_asked(MAX_CALLS + 1)
        answer.release(len(names))
        found = await asyncio.gather(*lookups, return_exceptions=True)
        assert [number for number, each in enumerate(found) if not isinstance(each, list)] == [0, MAX_CALLS]
        assert asked.count(names[MAX_CALLS].host) == 0

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        asyncio.run(asyncio.wait_for(program(), 20))
    finally:
        answer.release(2 * len(asked) + MAX_WAITING)  # no thread is left behind
