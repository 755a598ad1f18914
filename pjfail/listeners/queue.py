"""A queue of events, for an asyncio program."""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from ..events import Event


class QueueListener:
    """Keeps events until the program takes them, with ``await get()`` or ``async for event in listener``.

    It belongs to *loop*, by default the running one (RuntimeError if there is none); take events only in that loop. It
    holds at most *size* events. If the loop does not take them in time, the oldest are dropped, and ``dropped`` counts
    them. After a detach both wait on, for the events of the next attachment: cancel the task that takes them.
    """

    def __init__(self, size: int = 1000, loop: asyncio.AbstractEventLoop | None = None) -> None:
        if not (isinstance(size, int) and size >= 1):
            raise ValueError(f"size is {size!r}; give how many events to keep, 1 or more")
        self._loop = asyncio.get_running_loop() if loop is None else loop
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=size)
        self._arrived = asyncio.Event()
        self._waking = False
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """The number of events that were dropped unread to make room for newer ones."""
        return self._dropped

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._dropped += len(self._events) == self._events.maxlen
            self._events.append(event)
            waking, self._waking = self._waking, True
        if not waking:  # one wake-up serves all events that come before the loop runs
            try:
                self._loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # the loop is closed: nobody takes events any more
                return

    def _wake(self) -> None:
        with self._lock:
            self._waking = False
            self._arrived.set()

    async def get(self) -> Event:
        """Returns the oldest event; waits for one if there is none."""
        while True:
            with self._lock:
                if self._events:
                    return self._events.popleft()
                self._arrived.clear()
            await self._arrived.wait()

    def __aiter__(self) -> QueueListener:
        return self

    async def __anext__(self) -> Event:
        return await self.get()
