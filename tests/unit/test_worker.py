"""What of the worker needs no pjsip: the application's own word, the listeners, and a worker that cannot live."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from pjfail.errors import NotAttached
from pjfail.events import Event, Listener, ServerDown, ServerUp
from pjfail.lookup import StaticLookup
from pjfail.model import Health, Server, State, Target
from pjfail.policy import Policy
from pjfail.probe import Probe
from pjfail.worker import MOST_CRASHES, Worker

ONE, OTHER = Server("192.0.2.1", 5060), Server("192.0.2.2", 5060)
MARKED = Health(State.DOWN, 0, 1.0, None, "marked down by the application", held=True)
DRAINING = Health(State.DRAINING, 0, 1.0, None, "drained by the application", held=True)
RESTORED = Health(since=2.0, reason="restored")


def worker(*listeners: Listener, detached: Callable[[], bool] = lambda: True) -> Worker:
    """A worker whose thread does not run: the test's own thread is its writer."""
    return Worker(StaticLookup({"example.com": ["192.0.2.1:5060"]}), Policy(), Probe(), listeners, detached)


def become(health: Health) -> Callable[[Health, float], Health]:
    return lambda _before, _now: health


def test_marking_down_and_restoring_are_told_to_the_listeners() -> None:
    told: list[Event] = []
    one = worker(told.append)
    one.set_health([ONE], become(MARKED))
    one.set_health([ONE], become(RESTORED))
    assert told == [ServerDown(ONE, MARKED, None), ServerUp(ONE, RESTORED)]


def test_restoring_a_server_that_is_up_is_no_event() -> None:
    told: list[Event] = []
    worker(told.append).set_health([ONE], become(RESTORED))
    assert told == []


def test_draining_is_no_event_but_its_end_is() -> None:
    told: list[Event] = []
    one = worker(told.append)
    one.set_health([ONE], become(DRAINING))
    assert told == []
    one.set_health([ONE], become(RESTORED))
    assert told == [ServerUp(ONE, RESTORED)]


def test_a_change_is_given_the_health_before_and_is_seen_at_once() -> None:
    before: list[Health] = []

    def change(health: Health, _now: float) -> Health:
        before.append(health)
        return MARKED

    one = worker()
    one.set_health([ONE, OTHER], change)
    one.set_health([ONE], change)
    assert before == [Health(), Health(), MARKED]
    assert one.health() == {ONE: MARKED, OTHER: MARKED}


def test_a_listener_that_raises_is_logged_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Event] = []

    def broken(_event: Event) -> None:
        raise RuntimeError("out of order")

    one = worker(broken, told.append)
    one.set_health([ONE], become(MARKED))
    one.set_health([ONE], become(RESTORED))
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
        one.set_health([ONE], become(health))
    assert caplog.messages == [
        "udp:192.0.2.1:5060 is down until it is restored: marked down by the application",
        "udp:192.0.2.1:5060 is draining: drained by the application",
        "udp:192.0.2.1:5060 is up again: restored",
    ]


def test_a_server_in_no_plan_is_not_found_by_its_endpoint() -> None:
    assert worker().servers_at("192.0.2.1:5060") == []


def test_a_worker_that_does_not_run_says_so() -> None:
    with pytest.raises(NotAttached):
        worker().call(lambda: 1)
    with pytest.raises(NotAttached):
        worker().resolve(Target("example.com"), 1.0)


def test_a_worker_that_cannot_be_kept_alive_detaches_loudly(caplog: pytest.LogCaptureFixture) -> None:
    """Without an attached core there is no descriptor to wait on, so each of its lives ends at once."""
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
    levels = [record.levelno for record in caplog.records if record.name == "pjfail"]
    assert levels == [logging.ERROR] * MOST_CRASHES + [logging.CRITICAL]
    with pytest.raises(NotAttached):
        one.call(lambda: 1)
