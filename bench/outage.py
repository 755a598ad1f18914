"""What an outage costs many programs, each for itself or with one memory: ``python -m bench.outage``.

Real pjsua2 programs, idle so far, have two servers in their plan. The first falls silent for :data:`OUTAGE_S` seconds,
in which each program sends :data:`REQUESTS` INVITEs, at random times. A request is late when its answer took longer
than :data:`LATE_S`; it is lost when it ended with anything but the answer of a server.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from rig.app import App, Line  # noqa: E402
from rig.redis_server import RedisServer  # noqa: E402
from rig.shared_app import APP, started  # noqa: E402

from pjfail.testing import SILENT, Registrar  # noqa: E402

FIRST, SECOND, REDIS = "127.0.91.1", "127.0.91.2", "127.0.91.3"
PROCESSES = (1, 5, 20)
STORES = ("none", "SQLite", "Redis")
OUTAGE_S = 30.0
REQUESTS = 5
LATE_S = 0.3

Row = dict[str, float | str]


def measure() -> list[Row]:
    """A row for each store and number of processes."""
    return [_outage(store, processes) for processes in PROCESSES for store in STORES]


def _outage(store: str, processes: int) -> Row:
    with ExitStack() as stack:
        shared = stack.enter_context(_store(store))
        first = stack.enter_context(Registrar(FIRST))
        stack.enter_context(Registrar(SECOND))
        apps = [stack.enter_context(App(APP, FIRST, SECOND, shared, "Policy()")) for _ in range(processes)]
        for app in apps:
            started(app).ask("plan")
        first.fault = SILENT
        before = len(first.requests)
        began = time.monotonic()
        with ThreadPoolExecutor(processes) as pool:
            answers = [each for those in pool.map(_live, apps, range(processes)) for each in those]
        time.sleep(max(began + OUTAGE_S - time.monotonic(), 0))
        asked = first.requests[before:]
        took = sorted(float(each["seconds"]) for each in answers)
        return {
            "store": store,
            "processes": processes,
            "requests": len(answers),
            "lost": sum(not each["server"] for each in answers),
            "late": sum(each > LATE_S for each in took),
            "slowest_s": took[-1],
            "invites_at_the_dead_server": len({each.call_id for each in asked if each.method == "INVITE"}),
            "probes_at_the_dead_server": len({each.call_id for each in asked if each.method == "OPTIONS"}),
        }


@contextmanager
def _store(store: str) -> Iterator[str]:
    """The words that open it in a program."""
    if store == "none":
        yield "None"
    elif store == "SQLite":
        with tempfile.TemporaryDirectory(prefix="pjfail-bench-") as folder:
            yield f"Shared({str(Path(folder, 'shared.db'))!r})"
    else:
        with RedisServer(REDIS) as redis:
            yield f"Shared({redis.url!r})"


def _live(app: App, number: int) -> list[Line]:
    """What a program's requests came to."""
    random = Random(number)
    began = time.monotonic()
    answers = []
    for at in sorted(random.uniform(0, OUTAGE_S - 5) for _ in range(REQUESTS)):
        time.sleep(max(began + at - time.monotonic(), 0))
        answers.append(app.ask("INVITE"))
    return answers


def show(rows: list[Row]) -> None:
    """Prints the rows as a table."""
    print(f"\n{OUTAGE_S:.0f} s of a silent server, {REQUESTS} INVITEs of each process in them")
    names = list(rows[0])
    print("".join(f"{name.replace('_', ' '):>{len(name) + 2}}" for name in names))
    for row in rows:
        cells = (f"{row[name]:.2f}" if isinstance(row[name], float) else str(row[name]) for name in names)
        print("".join(f"{cell:>{len(name) + 2}}" for cell, name in zip(cells, names, strict=True)))


if __name__ == "__main__":
    show(measure())
