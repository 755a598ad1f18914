"""The cache in front of a resolver, by a clock of the test's own."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import dns.name
import dns.rdata
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig.resolver import TableResolver

from pjfail.errors import LookupFailed
from pjfail.lookup.cache import NEGATIVE_CEILING, REFRESH_AT, RETRY, STALE_TTL, Cache
from pjfail.lookup.resolver import Answer, Asked, Kind

HOST = dns.name.from_text("h.example")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def resolver(ttl: int = 60, *, negative_ttl: float = 60.0) -> TableResolver:
    return TableResolver([f"h.example. {ttl} IN A 192.0.2.1"], negative_ttl=negative_ttl)


def cache(behind: TableResolver, clock: Clock, **options: Any) -> Cache:
    given = {"floor": 1.0, "ceiling": 3600.0, "max_stale": 0.0, "hurry": 0.2} | options
    return Cache(behind, clock=clock, **given)


def ask(cached: Cache, name: dns.name.Name = HOST) -> Answer:
    return asyncio.run(cached.resolve(name, "A"))


def addresses(answer: Answer) -> list[str]:
    return [str(record) for record in answer.records]


def test_an_answer_is_kept_and_its_ttl_runs_down() -> None:
    behind, clock = resolver(60), Clock()
    cached = cache(behind, clock)
    assert ask(cached).ttl == 60
    clock.now += 47
    assert ask(cached).ttl == pytest.approx(13)
    assert len(behind.asked) == 1


def test_the_last_fifth_of_a_ttl_asks_again() -> None:
    behind, clock = resolver(60), Clock()
    cached = cache(behind, clock)
    ask(cached)
    behind.records(["h.example. 60 IN A 192.0.2.2"])
    clock.now += 48
    answer = ask(cached)
    assert (addresses(answer), answer.ttl) == (["192.0.2.2"], 60)
    assert len(behind.asked) == 2


@given(st.integers(2, 86400), st.floats(0, 1, exclude_max=True))
def test_a_plan_made_anew_at_four_fifths_of_what_was_left_asks_again(ttl: int, when: float) -> None:
    """However much of the TTL was over when the plan was made."""
    behind, clock = resolver(ttl), Clock()
    cached = cache(behind, clock, ceiling=86400)
    ask(cached)
    clock.now += when * REFRESH_AT * ttl
    left = ask(cached).ttl
    before = len(behind.asked)
    clock.now += REFRESH_AT * left + 1e-6
    ask(cached)
    assert len(behind.asked) == before + 1


@pytest.mark.parametrize(("ttl", "kept"), [(0, 5), (60, 60), (86400, 3600)])
def test_a_ttl_has_a_floor_and_a_ceiling(ttl: int, kept: float) -> None:
    behind, clock = resolver(ttl), Clock()
    cached = cache(behind, clock, floor=5)
    assert ask(cached).ttl == kept
    clock.now += REFRESH_AT * kept - 0.1
    ask(cached)
    assert len(behind.asked) == 1
    clock.now += 0.2
    ask(cached)
    assert len(behind.asked) == 2


@pytest.mark.parametrize(("ttl", "kept"), [(30, 30), (86400, NEGATIVE_CEILING)])
def test_that_there_is_none_is_kept_too(ttl: float, kept: float) -> None:
    behind, clock = TableResolver(negative_ttl=ttl), Clock()
    cached = cache(behind, clock)
    assert not ask(cached)
    behind.records(["h.example. 60 IN A 192.0.2.1"])
    clock.now += REFRESH_AT * kept - 0.1
    assert not ask(cached)
    assert len(behind.asked) == 1
    clock.now += 0.2
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


def test_a_failure_that_is_kept_keeps_nothing_of_how_it_came_about() -> None:
    class Large:
        """Stands for an answer that was no good."""

    seen: list[weakref.ref[Large]] = []

    async def fail(name: dns.name.Name, kind: Kind) -> Answer:
        large = Large()
        seen.append(weakref.ref(large))
        raise LookupFailed(f"{kind} {name}: SERVFAIL", temporary=True)

    behind = resolver()
    behind.resolve = fail  # type: ignore[method-assign]
    cached = cache(behind, Clock())
    with pytest.raises(LookupFailed):
        ask(cached)
    gc.collect()
    assert [each() for each in seen] == [None]


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


@pytest.mark.slow
def test_it_does_not_grow_for_ever() -> None:
    behind = TableResolver()
    cached = cache(behind, Clock(), room=1 << 20)

    async def many() -> None:
        for number in range(3000):
            await cached.resolve(dns.name.from_text(f"n{number}.example"), "A")

    asyncio.run(many())
    asked = len(behind.asked)
    ask(cached, dns.name.from_text("n2999.example"))
    ask(cached, dns.name.from_text("n2500.example"))
    assert len(behind.asked) == asked  # still there
    ask(cached, dns.name.from_text("n0.example"))
    assert len(behind.asked) == asked + 1  # the oldest had to go


def test_answers_of_an_earlier_life_have_no_more_room_than_others() -> None:
    record = dns.rdata.from_text("IN", "A", "192.0.2.1")
    old = {Asked(dns.name.from_text(f"n{n}.example"), "A"): Answer(HOST, (record,), 60.0) for n in range(3000)}
    kept = cache(resolver(), Clock(), room=1 << 20, answers=old).answers()
    assert 500 < len(kept) < 1200
    assert list(kept) == list(old)[-len(kept) :]


SERVFAIL = "A h.example.: SERVFAIL"


def outage(**options: Any) -> tuple[TableResolver, Clock, Cache]:
    """A cache whose answer is a second too old, and whose resolver fails."""
    behind, clock = resolver(60), Clock()
    cached = cache(behind, clock, **{"max_stale": 1000.0} | options)
    ask(cached)
    behind.failing = {("h.example", "A")}
    clock.now += 61
    return behind, clock, cached


def test_the_last_good_answer_outlasts_its_ttl_while_the_resolver_fails() -> None:
    _, clock, cached = outage()
    answer = ask(cached)
    assert (addresses(answer), answer.ttl, answer.stale) == (["192.0.2.1"], STALE_TTL, SERVFAIL)
    clock.now += 998
    assert ask(cached).stale == SERVFAIL
    assert len(cached.answers()) == 1
    clock.now += 2
    assert cached.answers() == {}
    with pytest.raises(LookupFailed, match="SERVFAIL") as caught:
        ask(cached)
    assert caught.value.temporary


def test_without_stale_answers_an_outage_is_felt_when_the_ttl_is_over() -> None:
    behind, clock, cached = outage(max_stale=0.0)
    with pytest.raises(LookupFailed, match="SERVFAIL"):
        ask(cached)
    behind.failing = set()
    clock.now += 1
    ask(cached)
    behind.failing = {("h.example", "A")}
    clock.now += 59
    assert ask(cached).ttl == pytest.approx(1)
    clock.now += 1
    with pytest.raises(LookupFailed, match="SERVFAIL"):
        ask(cached)


def test_a_refresh_that_fails_leaves_what_is_left_of_the_ttl() -> None:
    behind, clock = resolver(60), Clock()
    cached = cache(behind, clock, max_stale=1000)
    ask(cached)
    behind.failing = {("h.example", "A")}
    clock.now += 50
    answer = ask(cached)
    assert (answer.ttl, answer.stale) == (pytest.approx(10), "")
    assert len(behind.asked) == 2


def test_a_failing_resolver_is_asked_once_in_a_while() -> None:
    behind, clock, cached = outage()
    for _ in range(3):
        ask(cached)
    assert len(behind.asked) == 2
    clock.now += RETRY - 0.1
    ask(cached)
    assert len(behind.asked) == 2
    clock.now += 0.2
    ask(cached)
    assert len(behind.asked) == 3


def test_a_plan_of_stale_answers_asks_again_when_it_is_made_anew() -> None:
    behind, clock, cached = outage()
    clock.now += REFRESH_AT * ask(cached).ttl
    ask(cached)
    assert len(behind.asked) == 3


def test_the_resolver_that_is_back_is_believed() -> None:
    behind, clock, cached = outage()
    ask(cached)
    behind.failing = set()
    behind.records(["h.example. 60 IN A 192.0.2.2"])
    clock.now += RETRY
    answer = ask(cached)
    assert (addresses(answer), answer.ttl, answer.stale) == (["192.0.2.2"], 60, "")


def test_that_there_is_none_ends_the_old_answer() -> None:
    behind, clock, cached = outage()
    assert ask(cached)
    behind.failing = set()
    behind.records([])
    clock.now += RETRY
    assert not ask(cached)
    behind.failing = {("h.example", "A")}
    clock.now += 61
    answer = ask(cached)
    assert not answer
    assert answer.stale == SERVFAIL


def test_a_failure_for_good_ends_the_old_answer() -> None:
    behind, clock = resolver(60), Clock()
    cached = cache(behind, clock, max_stale=1000)
    ask(cached)

    async def circle(name: dns.name.Name, kind: Kind) -> Answer:
        raise LookupFailed("CNAMEs in a circle")

    behind.resolve = circle  # type: ignore[method-assign]
    clock.now += 61
    with pytest.raises(LookupFailed, match="circle"):
        ask(cached)
    assert cached.answers() == {}


def test_a_slow_resolver_is_not_waited_for_with_an_answer_at_hand() -> None:
    behind, _, cached = outage()
    behind.failing, behind.silent = set(), {("h.example", "A")}

    async def twice() -> list[Answer]:
        first = await asyncio.wait_for(cached.resolve(HOST, "A"), 1)
        return [first, await asyncio.wait_for(cached.resolve(HOST, "A"), 1)]

    for answer in asyncio.run(twice()):
        assert (addresses(answer), answer.ttl) == (["192.0.2.1"], STALE_TTL)
        assert answer.stale == "no answer to A h.example within 0.2 s"
    assert len(behind.asked) == 2  # the question goes on, and is one


def test_an_answer_that_comes_after_the_old_one_served_is_kept() -> None:
    class Slow(TableResolver):
        async def resolve(self, name: dns.name.Name, kind: Kind) -> Answer:
            await asyncio.sleep(0.5 if self.asked else 0)
            return await super().resolve(name, kind)

    behind, clock = Slow(["h.example. 60 IN A 192.0.2.1"]), Clock()
    cached = cache(behind, clock, max_stale=1000)
    ask(cached)
    clock.now += 61

    async def later() -> list[str]:
        assert (await cached.resolve(HOST, "A")).stale
        await asyncio.sleep(1)
        return [(await cached.resolve(HOST, "A")).stale]

    assert asyncio.run(later()) == [""]
    assert len(behind.asked) == 2


def test_each_new_answer_is_told_and_no_failure_is() -> None:
    told: list[dict[Asked, Answer]] = []
    behind, clock = resolver(60), Clock()
    cached = cache(behind, clock, max_stale=1000, learnt=lambda: told.append(cached.answers()))
    ask(cached)
    ask(cached)
    behind.failing = {("h.example", "A")}
    clock.now += 61
    ask(cached)
    assert [list(answers) for answers in told] == [[Asked(HOST, "A")]]
    assert [answer.ttl for answer in cached.answers().values()] == [pytest.approx(-1)]


@pytest.mark.parametrize(("left", "ttl", "stale"), [(40.0, 40.0, ""), (10_000.0, 3600.0, ""), (-999.0, 30, SERVFAIL)])
def test_answers_of_an_earlier_life_are_asked_for_again_and_serve_where_that_fails(
    left: float, ttl: float, stale: str
) -> None:
    behind, clock = TableResolver(["h.example. 60 IN A 192.0.2.9"]), Clock()
    old = Answer(HOST, (dns.rdata.from_text("IN", "A", "192.0.2.1"),), left)
    assert addresses(ask(cache(behind, clock, max_stale=1000, answers={Asked(HOST, "A"): old}))) == ["192.0.2.9"]
    behind.failing = {("h.example", "A")}
    answer = ask(cache(behind, clock, max_stale=1000, answers={Asked(HOST, "A"): old}))
    assert (addresses(answer), answer.ttl, answer.stale) == (["192.0.2.1"], ttl, stale)


def test_answers_of_an_earlier_life_that_are_too_old_do_not_serve() -> None:
    behind, clock = resolver(), Clock()
    behind.failing = {("h.example", "A")}
    old = Answer(HOST, (dns.rdata.from_text("IN", "A", "192.0.2.1"),), -1000.0)
    with pytest.raises(LookupFailed, match="SERVFAIL"):
        ask(cache(behind, clock, max_stale=1000, answers={Asked(HOST, "A"): old}))
