"""How soon 200 processes know what one has learnt, by SQLite and by Redis: ``python -m bench.shared``.

The processes run no pjsip: each has what pjfail has of the store (a link and a board), and beside it a bare reader of
the same store in the same run: a subscriber of Redis, a loop that looks into the SQLite file. Times are of the clock
that all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import redis.asyncio as redis_client  # noqa: E402
from rig.redis_server import RedisServer  # noqa: E402

from pjfail.model import Server  # noqa: E402
from pjfail.shared import Shared  # noqa: E402
from pjfail.shared.board import Board  # noqa: E402
from pjfail.shared.entries import Entry, dumps, encode  # noqa: E402
from pjfail.shared.link import Link  # noqa: E402
from pjfail.shared.redis import RedisStore  # noqa: E402
from pjfail.shared.sharing import LEASE_S  # noqa: E402
from pjfail.shared.sqlite import POLL_S, SqliteStore  # noqa: E402

PROCESSES = 200
ROUNDS = 10
PAUSE_S = 1.0
"""Between a conviction and its end, and the next conviction."""
LEASES_S = 12.0
ADDRESS = "127.0.90.9"

Seen = dict[str, float]


def server(number: int) -> Server:
    return Server(f"192.0.2.{number + 1}", 5060)


class Process:
    """One of the processes: notes when it knows of each server that it is down, and that it is back."""

    def __init__(self, number: int, settings: Shared) -> None:
        self.name = f"{number:012x}"
        self.board = Board(self.name, 1)
        self.seen: Seen = {}
        self.link = Link(lambda: (RedisStore if settings.is_redis else SqliteStore)(settings), self, Random(number))
        self.leases = 0
        self._sequence = 0

    def say(self, kind: str, of: Server) -> None:
        self._sequence += 1
        reason = "silent to INVITE"
        self.link.say(Entry(of, self.name, kind, self._sequence, 60.0, host="host", reason=reason))  # type: ignore[arg-type]

    def on_entry(self, entry: Entry) -> None:
        if self.board.hear(entry, time.monotonic()):
            self._note(entry.server)

    def on_read(self, entries: Sequence[Entry], began: float) -> None:
        for changed in self.board.take(entries, began, time.monotonic()):
            self._note(changed)

    def on_up(self) -> None:
        pass

    def on_down(self, reason: str) -> None:
        print(f"{self.name}: {reason}", file=sys.stderr)

    def _note(self, of: Server) -> None:
        verdict = self.board.weigh(of, time.monotonic(), None, doubted=False)
        self.seen.setdefault(f"{'down' if verdict.down else 'up'} {of.address}", time.monotonic())


async def _bare_redis(url: str, seen: Seen) -> None:
    channel = redis_client.from_url(url).pubsub()
    await channel.subscribe("bare")
    async for message in channel.listen():
        if message["type"] == "message":
            seen.setdefault(f"bare {message['data'].decode()}", time.monotonic())


async def _bare_sqlite(path: str, seen: Seen) -> None:
    connection = sqlite3.connect(path, isolation_level=None, timeout=5)
    while True:
        for (what,) in connection.execute("SELECT what FROM bare"):
            seen.setdefault(f"bare {what}", time.monotonic())
        await asyncio.sleep(POLL_S)


async def _write_bare(settings: Shared, what: str) -> None:
    if settings.is_redis:
        client = redis_client.from_url(settings.url)
        await client.publish("bare", what)
        await client.aclose()
    else:
        connection = sqlite3.connect(settings.url + ".bare", isolation_level=None, timeout=5)
        connection.execute("INSERT INTO bare VALUES (?)", (what,))
        connection.close()


async def _live(number: int, settings: Shared, begun: Begun) -> dict[str, object]:
    """A process's life: it speaks in its turns, and listens all the time."""
    process, bare = Process(number, settings), {}
    reader = _bare_redis(settings.url, bare) if settings.is_redis else _bare_sqlite(settings.url + ".bare", bare)
    tasks = [asyncio.create_task(process.link.serve()), asyncio.create_task(reader)]
    while not process.link.is_up:
        await asyncio.sleep(0.05)
    begin = await asyncio.to_thread(begun)
    said: Seen = {}
    for turn in range(ROUNDS):
        for at, act in ((0.0, "down"), (PAUSE_S, "up"), (2 * PAUSE_S, "bare")):
            if turn == number:
                await _until(begin + 3 * PAUSE_S * turn + at)
                said[f"{act} {server(turn).address if act != 'bare' else turn}"] = time.monotonic()
                if act == "bare":
                    await _write_bare(settings, str(turn))
                else:
                    process.say(act, server(turn))
    idle_from = begin + 3 * PAUSE_S * ROUNDS
    await _until(idle_from)
    commands = process.link.commands
    await _until(idle_from + 10)
    idle = process.link.commands - commands
    while time.monotonic() < idle_from + 10 + LEASES_S:  # as a half-open server has it: each asks every second
        process.link.ask_lease(server(0), process.name, LEASE_S, lambda ours: _count(process, ours))
        await asyncio.sleep(Random().uniform(0.8, 1.2))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {"seen": process.seen | bare, "said": said, "idle": idle / 10, "leases": process.leases}


def _count(process: Process, ours: bool) -> None:
    process.leases += ours


async def _until(when: float) -> None:
    await asyncio.sleep(max(when - time.monotonic(), 0))


class Begun:
    """A barrier: returns, to all at once, when the measuring begins."""

    def __init__(self, processes: int) -> None:
        context = multiprocessing.get_context("fork")
        self._at = context.Value("d", 0.0)
        self._barrier = context.Barrier(processes, self._set)

    def __call__(self) -> float:
        self._barrier.wait()
        return float(self._at.value)

    def _set(self) -> None:
        self._at.value = time.monotonic() + 2


def _run(settings: Shared, processes: int) -> dict[str, float]:
    """Forks the processes, and reads what each has seen."""
    begun = Begun(processes)
    pipes = []
    for number in range(processes):
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            try:
                told = json.dumps(asyncio.run(_live(number, settings, begun)))
                with os.fdopen(writing, "w") as pipe:
                    pipe.write(told)
            finally:
                os._exit(0)
        os.close(writing)
        pipes.append((reading, child))
    lives = []
    for reading, child in pipes:
        with os.fdopen(reading) as pipe:
            lives.append(json.load(pipe))
        os.waitpid(child, 0)
    said: Seen = {}
    for life in lives:
        said |= life["said"]
    late: dict[str, list[float]] = {"down": [], "up": [], "bare": []}
    for life in lives:
        for what, at in said.items():
            if what not in life["said"]:
                late[what.split()[0]].append(1000 * (life["seen"].get(what, float("inf")) - at))
    figures = {"processes": float(processes)}
    for kind, name in (("down", "conviction"), ("up", "end"), ("bare", "bare")):
        ordered = sorted(late[kind])
        figures[f"{name}_p50_ms"] = ordered[len(ordered) // 2]
        figures[f"{name}_p99_ms"] = ordered[len(ordered) * 99 // 100]
    figures["idle_operations_per_second_per_process"] = sum(life["idle"] for life in lives) / processes
    figures["probes_in_12_s"] = float(sum(life["leases"] for life in lives))
    figures["octets_per_entry"] = float(
        len(
            dumps(
                {
                    **encode(Entry(server(0), "0" * 12, "down", 1, 60.0, host="host", reason="silent to INVITE")),
                    "t": 1.0,
                }
            )
        )
    )
    return figures


def measure(processes: int = PROCESSES) -> dict[str, dict[str, float]]:
    """The figures of both stores."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="pjfail-bench-") as folder:
        path = str(Path(folder, "shared.db"))
        connection = sqlite3.connect(f"{path}.bare")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE bare (what TEXT)")
        connection.commit()
        connection.close()
        found["sqlite"] = _run(Shared(path), processes)
    with RedisServer(ADDRESS) as redis:
        before = int(redis.client.info("stats")["total_commands_processed"])
        began = time.monotonic()
        found["redis"] = _run(Shared(redis.url, trust=1), processes)
        commands = int(redis.client.info("stats")["total_commands_processed"]) - before
        found["redis"]["commands_per_second"] = commands / (time.monotonic() - began)
    return found


def measure_apart() -> dict[str, dict[str, float]]:
    """As :func:`measure`, from a process without pjsip, whose threads a fork would leave behind."""
    run = subprocess.run([sys.executable, "-m", "bench.shared", "--json"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout)


def show(found: dict[str, dict[str, float]]) -> None:
    names = list(found["redis"])
    print(f"\n{'one memory for all processes':<44}{'SQLite':>12}{'Redis':>12}")
    for name in names:
        cells = (
            f"{found[store][name]:>12.1f}" if name in found[store] else f"{'':>12}" for store in ("sqlite", "redis")
        )
        print(f"{name.replace('_', ' '):<44}{''.join(cells)}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--json"]:
        print(json.dumps(measure()))
    else:
        show(measure(int(sys.argv[1]) if sys.argv[1:] else PROCESSES))
