"""One memory in a real SQLite file: a full disk, a newer schema, a removed file; and the link on a lossy Redis."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from random import Random

import pytest
from rig.app import TESTS
from rig.redis_server import RedisServer

from pjfail.bridge.machine import watch_file
from pjfail.model import Server
from pjfail.shared import Shared, link
from pjfail.shared.board import Board
from pjfail.shared.entries import Entry
from pjfail.shared.link import Link
from pjfail.shared.redis import RedisStore
from pjfail.shared.sqlite import SqliteStore
from pjfail.shared.store import Store

ONE, REDIS = Server("192.0.2.1", 5060), "127.0.133.9"


class Peer:
    """A process without pjsip: a link to a store, and a board."""

    def __init__(self, name: str, make: Callable[[], Store]) -> None:
        self.board = Board(name, 1)
        self.name = name
        self.said: list[str] = []
        self.link = Link(make, self, Random(name))
        self._sequence = 0

    def say(self, kind: str, server: Server = ONE, left: float = 60.0) -> None:
        self._sequence += 1
        self.link.say(Entry(server, self.name, kind, self._sequence, left, host=self.name))  # type: ignore[arg-type]

    def on_entry(self, entry: Entry) -> None:
        self.board.hear(entry, time.monotonic())

    def on_read(self, entries: Sequence[Entry], began: float) -> None:
        self.board.take(entries, began, time.monotonic())

    def on_up(self) -> None:
        self.said.append("up")

    def on_down(self, reason: str) -> None:
        self.said.append(reason)

    def is_down(self, server: Server = ONE) -> bool:
        return self.board.weigh(server, time.monotonic(), None, doubted=False).down is not None


async def soon(what: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.01)


async def together(peers: Sequence[Peer], act: Callable[[], object]) -> None:
    tasks = [asyncio.create_task(peer.link.serve()) for peer in peers]
    try:
        await act()  # type: ignore[misc]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def sqlite(path: Path, namespace: str = "default") -> Callable[[], Store]:
    return lambda: SqliteStore(Shared(str(path), namespace=namespace))


def test_all_hear_of_a_conviction_and_of_its_end_and_another_namespace_does_not(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    one, two = (Peer(name, sqlite(path)) for name in ("one", "two"))
    other = Peer("other", sqlite(path, "other"))

    async def act() -> None:
        await soon(lambda: all(peer.link.is_up for peer in (one, two, other)))
        one.say("down")
        await soon(two.is_down)
        two.say("up")
        await soon(lambda: bool(one.board.weigh(ONE, time.monotonic(), None, doubted=True).recovered))
        assert len(other.board) == 0

    asyncio.run(together([one, two, other], act))
    assert path.stat().st_mode & 0o077 == 0  # nobody else's


def test_a_lease_is_one_processs_and_ends_by_itself(tmp_path: Path) -> None:
    async def act() -> None:
        one, two = sqlite(tmp_path / "shared.db")(), sqlite(tmp_path / "shared.db")()
        await one.open()
        await two.open()
        assert await one.lease(ONE, "one", 0.3)
        assert not await two.lease(ONE, "two", 0.3)
        await asyncio.sleep(0.4)
        assert await two.lease(ONE, "two", 0.3)
        await one.close()
        await two.close()

    asyncio.run(act())


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("PRAGMA user_version = 2", "a newer pjfail has written it (schema 2); name another file, or update all"),
        ("CREATE TABLE calls (id INTEGER)", "this is the database of another program; name another file"),
    ],
)
def test_a_file_that_is_not_of_this_pjfail_is_left_alone(tmp_path: Path, made: str, said: str) -> None:
    path = tmp_path / "shared.db"
    with sqlite3.connect(path) as connection:
        connection.execute(made)
    connection.close()
    peer = Peer("one", sqlite(path))

    async def act() -> None:
        await soon(lambda: bool(peer.said))

    asyncio.run(together([peer], act))
    assert peer.said == [said]


@pytest.mark.parametrize("what", ["text", "folder", "nowhere"])
def test_a_place_that_cannot_be_used_is_told(tmp_path: Path, what: str) -> None:
    path = tmp_path / "shared.db"
    if what == "text":
        path.write_text("these are my notes, and not a database" * 100)
    elif what == "folder":
        path.mkdir()
    else:
        path = tmp_path / "nowhere" / "shared.db"
    peer = Peer("one", sqlite(path))

    async def act() -> None:
        await soon(lambda: bool(peer.said))

    asyncio.run(together([peer], act))
    assert {"text": "not a database", "folder": "name a file in it", "nowhere": "nowhere is missing; create"}[
        what
    ] in peer.said[0]


def test_a_file_that_is_removed_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "READ_AGAIN_S", 0.2)
    path = tmp_path / "shared.db"
    peer = Peer("one", sqlite(path))

    async def act() -> None:
        await soon(lambda: peer.said == ["up"])
        path.unlink()
        await soon(lambda: peer.said == ["up", "the file was removed", "up"])
        assert path.exists()

    asyncio.run(together([peer], act))


# In a mount namespace with a disk of 300 kB: writes what it hears of the link, and acts on a line.
FULL = """
    import asyncio, json, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from integration.test_shared_sqlite import Peer, soon, sqlite, together

    folder = Path(sys.argv[1])
    peer, other = (Peer(name, sqlite(folder / "shared.db")) for name in ("one", "two"))

    async def act():
        await soon(lambda: peer.said == other.said == ["up"])
        filler = folder / "filler"
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        peer.say("down")
        await soon(lambda: len(peer.said) == 2)
        assert not other.is_down()
        filler.unlink()
        await soon(lambda: peer.said[-1] == "up" and len(peer.said) > 2, 30)
        await soon(other.is_down, 30)  # what could not be written has waited

    asyncio.run(together([peer, other], act))
    print(json.dumps(peer.said))
"""


def test_a_full_disk_is_told_and_what_waits_is_written_when_there_is_room(tmp_path: Path) -> None:
    script = tmp_path / "full.py"
    script.write_text(textwrap.dedent(FULL))
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=300k none {disk} && exec {sys.executable} {script} {disk} {TESTS}"
    run = subprocess.run(
        ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "-m", "sh", "-c", mount],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "PYTHONPATH": str(TESTS)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert "full" in said[1], said


def test_a_store_that_nobody_writes_to_is_left_alone(tmp_path: Path) -> None:
    class Counted(SqliteStore):
        looks = 0

        def _has_changed(self) -> bool:
            Counted.looks += 1
            return super()._has_changed()

    peers = [Peer(name, lambda: Counted(Shared(str(tmp_path / "pjfail.db")))) for name in "ab"]

    async def act() -> None:
        await soon(lambda: all(peer.link.is_up for peer in peers))
        await asyncio.sleep(4)  # after each of two writes it is looked at for a second
        before = Counted.looks
        await asyncio.sleep(2)
        assert Counted.looks == before
        peers[0].say("down")
        await soon(peers[1].is_down, 2)
        await asyncio.sleep(4)
        before = Counted.looks
        await asyncio.sleep(1)
        assert Counted.looks == before

    asyncio.run(together(peers, act))


def test_a_disk_that_hangs_holds_up_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(path: Path) -> int | None:
        time.sleep(0.5)
        return watch_file(path)

    monkeypatch.setattr("pjfail.shared.sqlite.watch_file", slow)
    peer = Peer("a", sqlite(tmp_path / "pjfail.db"))
    waits: list[float] = []

    async def act() -> None:
        while not peer.link.is_up or len(waits) < 150:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            waits.append(time.monotonic() - began)

    asyncio.run(together([peer], act))
    assert max(waits) < 0.4


class LossyStore(RedisStore):
    """Redis, of whose messages some are lost and some come twice."""

    async def changes(self) -> AsyncIterator[Entry | None]:
        random = Random(3261)
        async for entry in super().changes():
            if random.random() < 0.05:
                continue
            yield entry
            if random.random() < 0.05:
                yield entry


def test_all_agree_in_the_end_though_messages_are_lost_and_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "READ_AGAIN_S", 0.5)
    servers = [Server(f"192.0.2.{number}", 5060) for number in range(1, 101)]
    with RedisServer(REDIS) as redis:
        peers = [Peer(str(number), lambda: LossyStore(Shared(redis.url))) for number in range(5)]

        async def act() -> None:
            await soon(lambda: all(peer.link.is_up for peer in peers))
            for server in servers:
                peers[0].say("down", server)
            await soon(lambda: all(peer.is_down(server) for peer in peers[1:] for server in servers), 20)
            for server in servers[::2]:
                peers[0].say("gone", server)
            await soon(lambda: not any(peer.is_down(server) for peer in peers[1:] for server in servers[::2]), 20)
            assert all(peer.is_down(server) for peer in peers[1:] for server in servers[1::2])

        asyncio.run(together(peers, act))


def test_a_process_tells_no_more_than_so_much_a_second_and_keeps_no_more_than_so_much(tmp_path: Path) -> None:
    peer = Peer("one", sqlite(tmp_path / "shared.db"))

    async def act() -> None:
        await soon(lambda: peer.link.is_up)
        began = time.monotonic()
        for number in range(link.MAX_OUTBOX + 10):
            peer.say("down", Server(f"10.0.{number // 256}.{number % 256}", 5060))
        assert peer.link.dropped == 10
        await soon(lambda: peer.link.written >= 2 * link.MAX_RATE)
        assert time.monotonic() - began > 0.5

    asyncio.run(together([peer], act))
