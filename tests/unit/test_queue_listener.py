"""Events for an asyncio program, put by another thread."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from pjfail.events import Event, LookupFailed
from pjfail.listeners import QueueListener
from pjfail.model import Target


def event(number: int) -> LookupFailed:
    return LookupFailed(Target("example.com"), str(number), temporary=False)


def numbers(found: list[Event]) -> list[int]:
    return [int(each.reason) for each in found if isinstance(each, LookupFailed)]


def tell(listener: QueueListener, first: int, last: int) -> threading.Thread:
    """Tells of these events as the worker does, from a thread of its own."""
    thread = threading.Thread(target=lambda: [listener(event(number)) for number in range(first, last)])
    thread.start()
    return thread


def test_events_of_another_thread_are_taken_in_order() -> None:
    async def program() -> list[Event]:
        listener = QueueListener(size=100_000)
        tell(listener, 0, 2000)
        found: list[Event] = []
        async for each in listener:
            found.append(each)
            if len(found) == 2000:
                return found
        raise AssertionError

    assert numbers(asyncio.run(asyncio.wait_for(program(), 20))) == list(range(2000))


def test_one_who_waits_is_woken_at_once() -> None:
    async def program() -> float:
        listener = QueueListener()
        threading.Timer(0.2, listener, [event(1)]).start()
        before = time.monotonic()
        assert await asyncio.wait_for(listener.get(), 5) == event(1)
        return time.monotonic() - before

    assert 0.15 < asyncio.run(program()) < 2


def test_a_loop_that_is_held_up_loses_the_oldest_and_they_are_counted() -> None:
    async def program() -> tuple[list[int], int]:
        listener = QueueListener(size=3)
        tell(listener, 0, 10).join()  # the loop stands still meanwhile
        found = [await listener.get() for _ in range(3)]
        return numbers(found), listener.dropped

    assert asyncio.run(program()) == ([7, 8, 9], 7)


def test_many_may_take_from_it() -> None:
    async def program() -> set[int]:
        listener = QueueListener()
        takers = [asyncio.create_task(listener.get()) for _ in range(5)]
        await asyncio.sleep(0)
        tell(listener, 0, 5)
        return set(numbers(await asyncio.wait_for(asyncio.gather(*takers), 5)))

    assert asyncio.run(program()) == set(range(5))


def test_a_loop_that_has_ended_is_no_trouble() -> None:
    async def program() -> QueueListener:
        return QueueListener(size=2)

    listener = asyncio.run(program())
    for number in range(3):
        listener(event(number))
    assert listener.dropped == 1


def test_it_may_be_made_elsewhere_for_a_loop() -> None:
    loop = asyncio.new_event_loop()
    listener = QueueListener(loop=loop)
    tell(listener, 4, 5).join()
    assert loop.run_until_complete(asyncio.wait_for(listener.get(), 5)) == event(4)
    loop.close()


def test_without_a_loop_or_without_room_it_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        QueueListener()
    with pytest.raises(ValueError, match="size is 0"):
        QueueListener(0, asyncio.new_event_loop())
