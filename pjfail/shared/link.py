"""The connection to a store: kept up, read, and written to, in the worker's loop. Nobody waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random
from typing import Protocol, TypeVar

from ..model import Server
from .entries import Entry
from .store import Store, StoreFailed

T = TypeVar("T")

OPERATION_S = 3.0
"""No operation of a store takes longer; then the store counts as gone."""
READ_AGAIN_S = 10.0
"""All is read anew so often (more or less), for what was lost on the way."""
RETRY_FLOOR_S, RETRY_CEILING_S = 1.0, 10.0
MAX_OUTBOX = 1000
"""Entries that wait to be written; of more, the oldest goes. Of one server, only the newest waits."""
MAX_RATE = 50
"""Entries that a process writes in a second; the others wait."""
MAX_LEASES = 100
"""Leases that are asked for at one time."""


class Hearer(Protocol):
    """What is told of the store."""

    def on_entry(self, entry: Entry) -> None: ...

    def on_read(self, entries: Sequence[Entry], began: float) -> None: ...

    def on_up(self) -> None: ...

    def on_down(self, reason: str) -> None: ...


class Link:
    """Worker only. *make* makes the store; it may raise StoreFailed."""

    def __init__(self, make: Callable[[], Store], hearer: Hearer, random: Random) -> None:
        self._make = make
        self._hearer = hearer
        self._random = random
        self._outbox: dict[tuple[Server, str], Entry] = {}
        self._waiting = asyncio.Event()
        self._asking = 0
        self._store: Store | None = None
        self._using = asyncio.Lock()
        self._failed: asyncio.Future[None] | None = None
        self.is_up = False
        self.written = self.dropped = self.commands = self.strangers = 0

    def say(self, entry: Entry) -> None:
        """Has *entry* written soon."""
        key = entry.server, entry.writer
        self._outbox.pop(key, None)
        self._outbox[key] = entry
        if len(self._outbox) > MAX_OUTBOX:
            del self._outbox[next(iter(self._outbox))]
            self.dropped += 1
        self._waiting.set()

    def ask_lease(self, server: Server, holder: str, seconds: float, got: Callable[[bool], None]) -> None:
        """Calls *got* with whether the lease is ours; True where the store is not there to ask."""
        if self._asking >= MAX_LEASES:
            return got(False)
        self._asking += 1

        async def ask() -> None:
            ours = True
            try:
                store = self._store
                if self.is_up and store is not None:
                    ours = await self._do(lambda: store.lease(server, holder, seconds))
            except Exception as error:
                self._fail(error)
            finally:
                self._asking -= 1
            got(ours)

        task = asyncio.get_running_loop().create_task(ask())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        return None

    async def serve(self) -> None:
        """Keeps the connection, until cancelled."""
        wait = RETRY_FLOOR_S
        while True:
            self._using, self._waiting = asyncio.Lock(), asyncio.Event()
            self._failed = asyncio.get_running_loop().create_future()
            if self._outbox:
                self._waiting.set()
            try:
                self._store = store = self._make()
                await self._do(store.open)
                await self._read(store)
                self.is_up, wait = True, RETRY_FLOOR_S
                self._hearer.on_up()
                await self._work(store)
            except Exception as error:
                self._store_failed(error)
            finally:
                self.is_up = False
                if self._store is not None:
                    with contextlib.suppress(Exception):
                        async with asyncio.timeout(1):
                            await self._store.close()
                    self._store = None
            await asyncio.sleep(wait * self._random.uniform(0.8, 1.2))
            wait = min(wait * 2, RETRY_CEILING_S)

    async def _work(self, store: Store) -> None:
        jobs = [self._write(store), self._listen(store), self._read_again(store)]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        assert self._failed is not None
        try:
            done, _ = await asyncio.wait([*tasks, self._failed], return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _write(self, store: Store) -> None:
        allowed, since = float(MAX_RATE), time.monotonic()
        while True:
            await self._waiting.wait()
            now = time.monotonic()
            allowed, since = min(allowed + (now - since) * MAX_RATE, MAX_RATE), now
            if allowed < 1:
                await asyncio.sleep(1 / MAX_RATE)
                continue
            batch = list(self._outbox.items())[: int(allowed)]
            entries = [entry for _, entry in batch]
            await self._do(partial(store.write, entries))
            allowed -= len(batch)
            self.written += len(batch)
            for key, entry in batch:
                if self._outbox.get(key) is entry:
                    del self._outbox[key]
            if not self._outbox:
                self._waiting.clear()

    async def _listen(self, store: Store) -> None:
        async for entry in store.changes():
            if entry is None:
                await self._read(store)
            else:
                self._hearer.on_entry(entry)

    async def _read_again(self, store: Store) -> None:
        while True:
            await asyncio.sleep(READ_AGAIN_S * self._random.uniform(0.8, 1.2))
            await self._read(store)

    async def _read(self, store: Store) -> None:
        began = time.monotonic()
        entries = await self._do(store.read)
        self.strangers = store.strangers
        self._hearer.on_read(entries, began)

    async def _do(self, function: Callable[[], Awaitable[T]]) -> T:
        """One operation of the store, after those before it."""
        async with self._using:
            self.commands += 1
            try:
                async with asyncio.timeout(OPERATION_S):
                    return await function()
            except TimeoutError:
                raise StoreFailed(f"no answer within {OPERATION_S:g} s") from None

    def _fail(self, error: Exception) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _store_failed(self, error: Exception) -> None:
        expected = isinstance(error, StoreFailed | OSError)
        self._hearer.on_down(str(error) if expected else f"{type(error).__name__}: {error}")


_tasks: set[asyncio.Task[None]] = set()
