"""The cache in front of a resolver, by a clock of the test's own."""

from __future__ import annotations

import asyncio

import dns.name
import pytest
from rig.resolver import TableResolver

from pjfail.errors import LookupFailed
from pjfail.lookup.cache import MAX_ENTRIES, NEGATIVE_CEILING, Cache
from pjfail.lookup.resolver import Answer, Kind

HOST = dns.name.from_text("h.example")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def resolver(ttl: int = 60, *, negative_ttl: float = 60.0) -> TableResolver:
    return TableResolver([f"h.example. {ttl} IN A 192.0.2.1"], negative_ttl=negative_ttl)


def cache(behind: TableResolver, clock: Clock, floor: float = 1.0, ceiling: float = 3600.0) -> Cache:
    return Cache(behind, floor=floor, ceiling=ceiling, clock=clock)


def ask(cached: Cache, name: dns.name.Name = HOST) -> Answer:
    return asyncio.run(cached.resolve(name, "A"))


def test_an_answer_is_kept_for_its_ttl() -> None:
    behind, clock = resolver(60), Clock()
    cached = cache(behind, clock)
    assert ask(cached).ttl == 60
    clock.now += 59
    assert ask(cached).ttl == pytest.approx(1)
    assert len(behind.asked) == 1
    clock.now += 1
    assert ask(cached).ttl == 60
    assert len(behind.asked) == 2


@pytest.mark.parametrize(("ttl", "kept"), [(0, 5), (60, 60), (86400, 3600)])
def test_a_ttl_has_a_floor_and_a_ceiling(ttl: int, kept: float) -> None:
    behind, clock = resolver(ttl), Clock()
    cached = cache(behind, clock, floor=5)
    assert ask(cached).ttl == kept
    clock.now += kept - 0.1
    ask(cached)
    assert len(behind.asked) == 1
    clock.now += 0.1
    ask(cached)
    assert len(behind.asked) == 2


@pytest.mark.parametrize(("ttl", "kept"), [(30, 30), (86400, NEGATIVE_CEILING)])
def test_that_there_is_none_is_kept_too(ttl: float, kept: float) -> None:
    behind, clock = TableResolver(negative_ttl=ttl), Clock()
    cached = cache(behind, clock)
    assert not ask(cached)
    clock.now += kept - 0.1
    assert not ask(cached)
    assert len(behind.asked) == 1
    behind.records(["h.example. 60 IN A 192.0.2.1"])
    clock.now += 0.1
    assert ask(cached)


def test_a_failure_is_kept_for_the_floor() -> None:
    behind, clock = resolver(), Clock()
    behind.failing = {("h.example", "A")}
    cached = cache(behind, clock)
    for _ in range(3):
        with pytest.raises(LookupFailed, match="SERVFAIL") as caught:
            ask(cached)
        assert caught.value.temporary
    assert len(behind.asked) == 1
    behind.failing = set()
    clock.now += 1
    assert ask(cached)


def test_a_question_under_way_is_asked_once() -> None:
    behind = resolver()
    cached = cache(behind, Clock())

    async def many() -> list[Answer]:
        return await asyncio.gather(*(cached.resolve(HOST, "A") for _ in range(50)))

    assert len(asyncio.run(many())) == 50
    assert len(behind.asked) == 1


def test_who_gives_up_does_not_end_the_question_of_others() -> None:
    class Slow(TableResolver):
        async def resolve(self, name: dns.name.Name, kind: Kind) -> Answer:
            await asyncio.sleep(0.02)
            return await super().resolve(name, kind)

    behind = Slow(["h.example. 60 IN A 192.0.2.1"])
    cached = cache(behind, Clock())

    async def one_gives_up() -> Answer:
        patient = asyncio.create_task(cached.resolve(HOST, "A"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cached.resolve(HOST, "A"), 0.005)
        return await patient

    assert asyncio.run(one_gives_up())
    assert len(behind.asked) == 1


def test_one_cache_serves_one_loop_after_another() -> None:
    behind = resolver()
    behind.silent = {("h.example", "A")}
    cached = cache(behind, Clock())
    stopped = asyncio.new_event_loop()  # with the question under way, as where a thread's loop just stops
    with pytest.raises(TimeoutError):
        stopped.run_until_complete(asyncio.wait_for(cached.resolve(HOST, "A"), 0.005))
    behind.silent = set()
    assert ask(cached)
    for task in asyncio.all_tasks(stopped):
        task.cancel()
    stopped.run_until_complete(asyncio.sleep(0))
    stopped.close()


def test_it_does_not_grow_for_ever() -> None:
    behind = TableResolver()
    cached = cache(behind, Clock())

    async def many() -> None:
        for number in range(MAX_ENTRIES + 1):
            await cached.resolve(dns.name.from_text(f"n{number}.example"), "A")

    asyncio.run(many())
    asked = len(behind.asked)
    ask(cached, dns.name.from_text("n1.example"))
    assert len(behind.asked) == asked  # still there
    ask(cached, dns.name.from_text("n0.example"))
    assert len(behind.asked) == asked + 1  # the oldest had to go
