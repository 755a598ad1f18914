"""The store of one machine: a SQLite file in WAL mode, used by one small thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..bridge.machine import drain, watch_file
from ..model import Server
from .board import MAX_ENTRIES
from .entries import SCHEMA, Entry, decode, dumps, encode
from .settings import Shared
from .store import StoreFailed

T = TypeVar("T")

POLL_S = 0.1
"""Between two looks at whether another process has written: it reads a counter in shared memory."""
LOOKS = 10
"""So many looks follow when the file was written: the writer counts up a moment later."""
BUSY_S = 1.0
"""So long SQLite waits for another process that writes."""
MAX_JOBS = 100
MAX_LEASE_S = 60.0
"""A lease that claims to last longer is of a clock that was wrong."""

_TABLES = f"""
    CREATE TABLE entries (namespace TEXT, server TEXT, writer TEXT, expires REAL, body TEXT,
        PRIMARY KEY (namespace, server, writer)) WITHOUT ROWID;
    CREATE TABLE leases (namespace TEXT, server TEXT, holder TEXT, expires REAL,
        PRIMARY KEY (namespace, server)) WITHOUT ROWID;
    PRAGMA user_version = {SCHEMA};
"""


class _Thread:
    """Runs functions one after the other on a daemon thread, so that a disk that hangs holds up nobody else."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(MAX_JOBS)
        self._last: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._run, name="pjfail-shared", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    async def call(self, function: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if not future.done():
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)

        def job() -> None:
            result, error = None, None
            try:
                result = function()
            except BaseException as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, result, error)

        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise StoreFailed("the disk is too slow") from None
        return await future

    def end(self, last: Callable[[], None]) -> None:
        """Has *last* run after all jobs, and ends the thread; waits for neither."""
        self._last = last
        with contextlib.suppress(queue.Full):  # then it ends after those jobs
            self._jobs.put_nowait(None)

    def _run(self) -> None:
        while self._last is None or not self._jobs.empty():
            if (job := self._jobs.get()) is not None:
                job()
        self._last()


class _Writes:
    """Tells when a file was written, by whatever process. In the loop. It closes *descriptor* (:func:`watch_file`)."""

    def __init__(self, descriptor: int | None) -> None:
        self._written = asyncio.Event()
        self._written.set()  # nobody has looked until now
        self._descriptor = descriptor

    def __enter__(self) -> _Writes:
        if self._descriptor is not None:
            asyncio.get_running_loop().add_reader(self._descriptor, self._on_written, self._descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)

    def _on_written(self, descriptor: int) -> None:
        drain(descriptor)
        self._written.set()

    async def wait(self) -> None:
        """Returns when it was written since the last call; at once where the system tells of no writes."""
        if self._descriptor is not None:
            await self._written.wait()
            self._written.clear()


class SqliteStore:
    """Processes of one user share a file by its path. Times in it are of the machine's wall clock."""

    strangers = 0

    def __init__(self, settings: Shared) -> None:
        self._path = Path(settings.url).expanduser()
        self._namespace = settings.namespace
        self._thread: _Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._version: object = None
        self._watch: int | None = None

    async def open(self) -> None:
        if self._thread is not None and self._thread.is_alive:
            raise StoreFailed("the disk has not answered yet")
        self._thread = _Thread()
        await self._call(self._open)

    async def read(self) -> list[Entry]:
        return await self._call(self._read)

    async def write(self, entries: Sequence[Entry]) -> None:
        await self._call(lambda: self._write(entries))

    async def lease(self, server: Server, holder: str, seconds: float) -> bool:
        return await self._call(lambda: self._lease(server, holder, seconds))

    async def changes(self) -> AsyncIterator[Entry | None]:
        descriptor, self._watch = self._watch, None
        with _Writes(descriptor) as writes:
            while True:
                await writes.wait()
                for _ in range(LOOKS):
                    await asyncio.sleep(POLL_S)
                    if await self._call(self._has_changed):
                        yield None

    async def close(self) -> None:
        if self._thread is not None:
            self._thread.end(self._close)

    async def _call(self, function: Callable[[], T]) -> T:
        assert self._thread is not None
        try:
            return await self._thread.call(function)
        except sqlite3.Error as error:
            raise StoreFailed(str(error)) from error

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except FileNotFoundError:
            raise StoreFailed(f"the folder {self._path.parent} is missing; create it") from None
        except IsADirectoryError:
            raise StoreFailed("this is a folder; name a file in it") from None
        self._connection = connection = sqlite3.connect(
            self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        _open.append(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        with _transaction(connection):
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if schema == 0 and tables == 0:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
            elif schema > SCHEMA:
                raise StoreFailed(f"a newer pjfail has written it (schema {schema}); name another file, or update all")
            elif schema != SCHEMA:
                raise StoreFailed("this is the database of another program; name another file")
        self._inode = os.stat(self._path).st_ino
        self._watch = watch_file(Path(f"{self._path.resolve()}-wal"))

    def _read(self) -> list[Entry]:
        if not self._path.exists() or os.stat(self._path).st_ino != self._inode:
            raise StoreFailed("the file was removed")
        connection = self._connection
        assert connection is not None
        self._version = connection.execute("PRAGMA data_version").fetchone()
        now = time.time()
        query = "SELECT body FROM entries WHERE namespace = ? AND expires > ? ORDER BY expires DESC LIMIT ?"
        rows = connection.execute(query, (self._namespace, now, MAX_ENTRIES)).fetchall()
        found = [decode(body, now) if isinstance(body, str) else None for (body,) in rows]
        self.strangers = found.count(None)
        return [entry for entry in found if entry is not None]

    def _has_changed(self) -> bool:
        assert self._connection is not None
        return bool(self._connection.execute("PRAGMA data_version").fetchone() != self._version)

    def _write(self, entries: Sequence[Entry]) -> None:
        connection, now = self._connection, time.time()
        assert connection is not None
        rows = [
            (
                self._namespace,
                str(entry.server),
                entry.writer,
                now + entry.left,
                dumps({**encode(entry), "t": round(now, 3)}),
            )
            for entry in entries
        ]
        with _transaction(connection):
            connection.execute("DELETE FROM entries WHERE expires <= ?", (now,))
            connection.execute("DELETE FROM leases WHERE expires <= ?", (now,))
            (there,) = connection.execute("SELECT count(*) FROM entries").fetchone()
            room = max(MAX_ENTRIES - there, 0)
            connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)", rows[:room])

    def _lease(self, server: Server, holder: str, seconds: float) -> bool:
        connection, now = self._connection, time.time()
        assert connection is not None
        cursor = connection.execute(
            "INSERT INTO leases VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET holder = excluded.holder,"
            " expires = excluded.expires WHERE expires <= ? OR expires > ?",
            (self._namespace, str(server), holder, now + seconds, now, now + MAX_LEASE_S),
        )
        return cursor.rowcount == 1

    def _close(self) -> None:
        if self._watch is not None:
            os.close(self._watch)
            self._watch = None
        if self._connection is not None:
            _open.remove(self._connection)
            self._connection.close()
            self._connection = None


class _transaction:
    """A writing transaction: rolled back when its block raises."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._connection.execute("COMMIT")
        elif self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


# A forked child must not close what its parent has open (SQLite's rule), so what is open stays referenced here.
_open: list[sqlite3.Connection] = []
