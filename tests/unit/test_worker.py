"""What of the worker needs no pjsip: the application's own word, the listeners, and a worker that cannot live."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from pjfail.bridge import plans
from pjfail.errors import LookupFailed, NotAttached
from pjfail.events import Event, Listener, ServerDown, ServerSuspected, ServerUp
from pjfail.lookup import StaticLookup
from pjfail.model import Candidate, Health, Outcome, OutcomeKind, Server, State, Target
from pjfail.news import MAX_POLICY_ERRORS, PolicyErrors
from pjfail.policy import Policy
from pjfail.probe import Probe
from pjfail.resolution import MAX_PORTS_TOLD, Resolution, allowed
from pjfail.worker import MAX_CRASHES, Worker

ONE, OTHER = Server("192.0.2.1", 5060), Server("192.0.2.2", 5060)
MARKED = Health(State.DOWN, 0, 1.0, None, "marked down by the application", held=True)
DRAINING = Health(State.DRAINING, 0, 1.0, None, "drained by the application", held=True)
RESTORED = Health(since=2.0, reason="restored")


def worker(*listeners: Listener, detached: Callable[[], bool] = lambda: True) -> Worker:
    """A worker whose thread does not run: the test's own thread is its writer."""
    return Worker(StaticLookup({"example.com": ["192.0.2.1:5060"]}), Policy(), Probe(), None, listeners, detached)


def become(health: Health) -> Callable[[Health, float], Health]:
    return lambda _before, _now: health


def test_marking_down_and_restoring_are_told_to_the_listeners() -> None:
    told: list[Event] = []
    one = worker(told.append)
    one.monitor.set_health([ONE], become(MARKED))
    one.monitor.set_health([ONE], become(RESTORED))
    assert told == [ServerDown(ONE, MARKED, None), ServerUp(ONE, RESTORED)]


def test_restoring_a_server_that_is_up_is_no_event() -> None:
    told: list[Event] = []
    worker(told.append).monitor.set_health([ONE], become(RESTORED))
    assert told == []


def test_draining_is_no_event_but_its_end_is() -> None:
    told: list[Event] = []
    one = worker(told.append)
    one.monitor.set_health([ONE], become(DRAINING))
    assert told == []
    one.monitor.set_health([ONE], become(RESTORED))
    assert told == [ServerUp(ONE, RESTORED)]


def test_a_change_is_given_the_health_before_and_is_seen_at_once() -> None:
    before: list[Health] = []

    def change(health: Health, _now: float) -> Health:
        before.append(health)
        return MARKED

    one = worker()
    one.monitor.set_health([ONE, OTHER], change)
    one.monitor.set_health([ONE], change)
    assert before == [Health(), Health(), MARKED]
    assert one.monitor.health() == {ONE: MARKED, OTHER: MARKED}


@pytest.mark.parametrize("error", [RuntimeError("out of order"), SystemExit(1)])
def test_a_listener_that_raises_is_logged_and_the_others_are_told(
    caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    told: list[Event] = []

    def broken(_event: Event) -> None:
        raise error

    one = worker(broken, told.append)
    one.monitor.set_health([ONE], become(MARKED))
    one.monitor.set_health([ONE], become(RESTORED))
    assert [type(event) for event in told] == [ServerDown, ServerUp]
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in failures] == [
        "a listener failed on ServerDown",
        "a listener failed on ServerUp",
    ]
    assert all(record.exc_info for record in failures)


def test_a_line_for_whoever_is_on_call_names_the_server_and_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pjfail")
    one = worker()
    for health in (MARKED, DRAINING, RESTORED):
        one.monitor.set_health([ONE], become(health))
    assert caplog.messages == [
        "udp:192.0.2.1:5060 is down, until the application restores it: marked down by the application",
        "udp:192.0.2.1:5060 is draining: drained by the application",
        "udp:192.0.2.1:5060 is up again: restored",
    ]


def test_a_server_in_no_plan_is_not_found_by_its_endpoint() -> None:
    assert worker().monitor.find(None, "192.0.2.1", 5060) == []


def test_a_worker_that_does_not_run_says_so() -> None:
    with pytest.raises(NotAttached):
        worker().call(lambda: 1)
    with pytest.raises(NotAttached):
        worker().resolve(Target("example.com"), 1.0)


def test_a_worker_that_cannot_be_kept_alive_detaches_loudly(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an attached core there is no descriptor to wait on, so each of its lives ends at once."""
    monkeypatch.setattr("pjfail.worker.RESTART_PAUSE", 0.3)
    detached: list[str] = []
    ended = threading.Event()

    def on_detached() -> bool:
        detached.append(threading.current_thread().name)
        ended.set()
        return True

    one = worker(detached=on_detached)
    one.start(1)
    assert ended.wait(5)
    one.stop()
    assert detached == ["pjfail"]
    records = [record for record in caplog.records if record.name == "pjfail"]
    assert [record.levelno for record in records] == [logging.ERROR] * MAX_CRASHES + [logging.CRITICAL]
    times = [record.created for record in records[:MAX_CRASHES]]
    assert all(later - earlier > 0.25 for earlier, later in pairwise(times))
    with pytest.raises(NotAttached, match="has been detached"):
        one.call(lambda: 1)


def test_between_two_lives_of_the_worker_its_callers_hear_why_and_a_stop_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pjfail.worker.RESTART_PAUSE", 60.0)
    one = worker()
    one.start(1)
    for ask in (lambda: one.call(lambda: 1), lambda: one.resolve(Target("example.com"), 1.0)):
        with pytest.raises(NotAttached, match="which starts anew"):
            ask()
    one.maintenance.wake()
    began = time.monotonic()
    one.stop(10)
    assert time.monotonic() - began < 5


def test_a_loop_that_has_just_been_closed_is_not_an_error_of_its_own() -> None:
    one = worker()
    one._loop = one.maintenance._loop = asyncio.new_event_loop()
    one._loop.close()
    with pytest.raises(NotAttached, match="which starts anew"):
        one.resolve(Target("example.com"), 1.0)
    one.maintenance.wake()


def test_crashes_long_ago_do_not_count(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pjfail.worker.RESTART_PAUSE", 0.02)
    monkeypatch.setattr("pjfail.worker.CRASHES_FORGOTTEN", 0.0)
    one = worker()
    one.start(1)
    until = time.monotonic() + 5
    while len(caplog.records) <= 2 * MAX_CRASHES and time.monotonic() < until:
        time.sleep(0.01)
    one.stop()
    assert len(caplog.records) > 2 * MAX_CRASHES
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_of_more_servers_than_a_plan_has_room_for_the_best_are_used(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pjfail")
    found = [
        Candidate(Server(f"10.0.{n >> 8}.{n & 255}", 5060), "example.com", priority=999 - n % 1000) for n in range(2000)
    ]
    fit = allowed(Target("example.com"), found)
    assert [candidate.priority for candidate in fit] == sorted([*range(128), *range(128)])
    assert "of 2000 servers the first 256 are used" in caplog.text


def test_a_policy_that_fails_in_ever_new_ways_is_told_of_a_hundred_times(caplog: pytest.LogCaptureFixture) -> None:
    complain = PolicyErrors()
    for number in range(2 * MAX_POLICY_ERRORS):
        complain(f"returned Candidate({number}), which is none of the candidates", None)
    assert len(caplog.records) == MAX_POLICY_ERRORS


def test_a_hold_down_that_is_put_off_again_and_again_has_one_timer() -> None:
    """Each 503 with a Retry-After puts it off."""

    async def timers() -> int:
        one = worker().monitor
        one._loop = loop = asyncio.get_running_loop()
        for number in range(1000):
            one._watch(ONE, Health(State.DOWN, 1, 0.0, time.monotonic() + 60 + number / 100))
            one._watch(OTHER, Health(State.DOWN, 1, 0.0, time.monotonic() + 60))
        return sum(not handle.cancelled() for handle in loop._scheduled)  # type: ignore[attr-defined]

    assert asyncio.run(timers()) == 2


def test_who_did_badly_is_remembered_only_while_a_plan_has_it() -> None:
    told: list[Event] = []
    one = worker(told.append)
    for number in range(300):
        server = Server(f"10.0.{number >> 8}.{number & 255}", 5060)
        one.monitor.judge([Outcome(server, OutcomeKind.SERVER_ERROR, time.monotonic(), "OPTIONS", 500)])
    one._news.deliver()
    assert [type(event) for event in told] == [ServerSuspected] * 300
    assert not one.monitor._suspected


def test_a_lookup_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging:
        async def lookup(self, _target: Target) -> list[Candidate]:
            await asyncio.Event().wait()
            return []

    monkeypatch.setattr("pjfail.resolution.LOOKUP_TIMEOUT", 0.05)
    one = Worker(Hanging(), Policy(), Probe(), None, (), lambda: True)
    with pytest.raises(LookupFailed, match=r"did not end within 0\.05 s") as caught:
        asyncio.run(one.resolution.plan(Target("example.com")))
    assert caught.value.temporary


def test_a_lookup_that_would_end_the_program_has_failed() -> None:
    class Exiting:
        async def lookup(self, _target: Target) -> list[Candidate]:
            sys.exit(1)

    one = Worker(Exiting(), Policy(), Probe(), None, (), lambda: True)
    with pytest.raises(LookupFailed, match=r"the lookup failed: SystemExit\(1\)"):
        asyncio.run(one.resolution.plan(Target("example.com")))


class SrvBeside:
    """A lookup of hosts whose SRV records lead elsewhere than their addresses."""

    async def lookup(self, target: Target) -> list[Candidate]:
        return [
            Candidate(ONE, "one.example") if target.port else Candidate(OTHER, "other.example", query="SRV ... SRV")
        ]


def test_of_so_many_hosts_is_it_told_that_a_port_keeps_their_srv_records_unused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    targets = [Target(f"sip{number}.example", 5060) for number in range(MAX_PORTS_TOLD + 5)]

    async def use(resolution: Resolution) -> None:
        for target in targets:
            await resolution.plan(target)
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.01)

    asyncio.run(use(Worker(SrvBeside(), Policy(), Probe(), None, (), lambda: True).resolution))
    for target in targets:
        plans.forget(target)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == MAX_PORTS_TOLD
    assert told[0].startswith("sip:sip0.example:5060 names a port, so its SRV records are not asked")
    assert told[0].endswith("write sip:sip0.example or attach(servers={'sip0.example:5060': [...]})")
