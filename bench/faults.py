"""The fault matrix of tests/rig/faults.py, with stock pjsip and with pjfail: ``python -m bench.faults``.

Prints it, writes ``bench/out/faults.json`` and draws ``docs/faults.svg``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from . import plot

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from rig.faults import METHODS, STACKS, Cell, Order, Outcome, Outcomes, cells, run  # noqa: E402

OUT = HERE / "out" / "faults.json"
PLOT = HERE.parent / "docs" / "faults.svg"
ORDERS: tuple[Order, ...] = ("first", "next")
AIM, AIM_INVITE, AT_ONCE = 0.6, 2.0, 0.1  # seconds

Matrix = dict[Cell, Outcomes]


def measure() -> Matrix:
    """All cells at once, some 80 s: what fails with stock pjsip takes 32 s, twice."""
    return run(cells(STACKS), at_once=200)


def aim(cell: Cell, order: Order) -> float:
    if order == "next":
        return AT_ONCE
    return AIM_INVITE if "INVITE" in cell.method else AIM


def show(matrix: Matrix) -> None:
    for order in ORDERS:
        methods = "".join(f"{method:>15s}" for method in METHODS)
        print(f"\n{order + ' request, seconds':37s}{'stock pjsip':>60s}{'pjfail':>105s}")
        print(f"{'the first server':37s}{methods}{methods}")
        rows = dict.fromkeys((cell.failure, cell.transport) for cell in matrix)
        for failure, transport in rows:
            row = [matrix.get(Cell(failure, transport, method, stack)) for stack in STACKS for method in METHODS]
            words = (_words(outcomes[order]) if outcomes else "" for outcomes in row)
            print(f"{f'{failure}, {transport}':37s}{''.join(f'{each:>15s}' for each in words)}")
    print()
    for stack in STACKS:
        print(_summary(matrix, stack))


def _words(outcome: Outcome) -> str:
    """The time of a success; else the code, and after how long it came."""
    if outcome.succeeded:
        return f"{outcome.seconds:.3f}" if outcome.seconds < 0.1 else f"{outcome.seconds:.2f}"
    return f"{outcome.code or 'nothing'}/{outcome.seconds:.0f} s"


def _summary(matrix: Matrix, stack: str) -> str:
    def those(order: Order) -> Iterator[tuple[Cell, Outcome]]:
        return ((cell, outcomes[order]) for cell, outcomes in matrix.items() if cell.stack == stack)

    parts = []
    for order in ORDERS:
        succeeded = [outcome.seconds for _, outcome in those(order) if outcome.succeeded]
        in_time = sum(outcome.succeeded and outcome.seconds <= aim(cell, order) for cell, outcome in those(order))
        total = len(list(those(order)))
        parts.append(
            f"{len(succeeded)} of {total} {order} requests got through, the slowest in {max(succeeded):.2f} s, "
            f"{in_time} as fast as aimed at"
        )
    return f"{stack}: {'; '.join(parts)}"


def write(matrix: Matrix) -> None:
    OUT.parent.mkdir(exist_ok=True)
    lines = [asdict(cell) | asdict(outcome) for cell, outcomes in matrix.items() for outcome in outcomes.values()]
    OUT.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
    PLOT.parent.mkdir(exist_ok=True)
    PLOT.write_text(plot.draw(matrix), encoding="utf-8")
    print(f"written to {OUT}, drawn in {PLOT}")


def main() -> None:
    print(f"\nthe fault matrix: {len(cells(STACKS))} programs, some 80 s ...")
    matrix = measure()
    show(matrix)
    print(f"aim: {AIM} s (INVITE {AIM_INVITE:g} s), the next request {AT_ONCE} s")
    write(matrix)


if __name__ == "__main__":
    main()
