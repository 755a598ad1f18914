"""What the policy costs the worker, with 100 000 servers in its table: ``python -m bench.judging``.

No SIP thread ever waits for any of it.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from random import Random

from pjfail import planning
from pjfail.health import HealthTable
from pjfail.model import Candidate, Outcome, OutcomeKind, Server, Target
from pjfail.order import Order, Panic, PreferFastest, Sticky, by_priority
from pjfail.policy import Policy, judge

SERVERS, EACH = 100_000, 10  # and how many a target has
ROUNDS = 5
NOW = 1000.0

Figures = dict[str, float]


def _fail(problem: str, _: Exception | None) -> None:
    raise AssertionError(problem)


def _best(work: Callable[[], object]) -> float:
    """Seconds: the best of some rounds, for the machine has other work."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def figures() -> Figures:
    """Microseconds for one judgement and one plan, milliseconds for a snapshot, octets for a server in the table."""
    servers = [Server(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 5060) for n in range(SERVERS)]
    candidates = [Candidate(server, "sip.bench.test", 10 * (n % 2), 1, 60.0) for n, server in enumerate(servers)]
    target, policy, random = Target("bench.test"), Policy(), Random(3261)
    answered = [Outcome(server, OutcomeKind.ANSWERED, NOW, "OPTIONS", 200, 0.02, answers=1) for server in servers]
    silent = [Outcome(server, OutcomeKind.SILENT, NOW, "REGISTER") for server in servers]

    def judged(outcomes: list[Outcome]) -> HealthTable:
        table = HealthTable()
        for outcome in outcomes:
            before = table.get(outcome.server, NOW)
            table.put(outcome.server, judge(before, outcome, policy, NOW, random))
        return table

    tracemalloc.start()
    table = judged(answered)
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    for outcome in silent[::7]:
        table.put(outcome.server, judge(table.get(outcome.server, NOW), outcome, policy, NOW, random))

    def planned(order: Order) -> None:
        for begin in range(0, SERVERS, EACH):
            these = candidates[begin : begin + EACH]
            health = {each.server: table.get(each.server, NOW) for each in these}
            planning.make_plan(target, these, health, order, NOW + 60, NOW, _fail, slow_start=30.0, wall=0.0)

    plans = SERVERS / EACH
    return {
        "judge_answer_us": _best(lambda: judged(answered)) / SERVERS * 1e6,
        "judge_silence_us": _best(lambda: judged(silent)) / SERVERS * 1e6,
        "plan_us": _best(lambda: planned(by_priority)) / plans * 1e6,
        "composed_plan_us": _best(lambda: planned(Panic(Sticky(PreferFastest())))) / plans * 1e6,
        "snapshot_ms": _best(lambda: table.snapshot(NOW)) * 1e3,
        "bytes_a_server": memory / SERVERS,
    }


def show(row: Figures) -> None:
    print(
        f"the worker, {SERVERS:,} servers in its table ({row['bytes_a_server']:.0f} bytes each): one outcome judged in "
        f"{row['judge_answer_us']:.1f} us (answer)\nor {row['judge_silence_us']:.1f} us (silence), a plan of {EACH} "
        f"made in {row['plan_us']:.0f} us ({row['composed_plan_us']:.0f} us with panic, sticky and the fastest first), "
        f"a snapshot taken in {row['snapshot_ms']:.1f} ms"
    )


if __name__ == "__main__":
    show(figures())
