"""CPU time of a request while many are in flight, pjfail beside stock pjsip: ``python -m bench.inflight [ROW...]``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROWS = {"500": ("silent", "500"), "1500": ("silent", "1500"), "ringing": ("ringing", "1500")}


def measure(rows: tuple[str, ...] = tuple(ROWS)) -> dict[str, dict[str, float]]:
    """For each row the CPU time of a request (microseconds), stock and with pjfail, and their ratio."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from native import build

    program = build(HERE / "inflight.c")
    figures = {}
    for row in rows:
        stock, pjfail = (_run(program, side, *ROWS[row]) for side in ("stock", "pjfail"))
        figures[row] = {"stock_us": stock, "pjfail_us": pjfail, "ratio": pjfail / stock}
    return figures


def _run(program: Path, *words: str) -> float:
    done = subprocess.run([program, *words], check=True, capture_output=True, text=True, timeout=120)
    result: dict[str, Any] = json.loads(done.stdout)
    if words[1] == "ringing":
        assert result["declined"] == result["requests"], f"{' '.join(words)}: calls were lost: {result}"
    return float(result["us"])


def show(figures: dict[str, dict[str, float]]) -> None:
    for row, figure in figures.items():
        what = "12 000 ringing INVITEs" if row == "ringing" else f"all servers silent, {row} requests a second"
        print(
            f"{what:47s}{figure['stock_us']:8.1f} us CPU a request with stock pjsip, {figure['pjfail_us']:8.1f} us "
            f"with pjfail, ratio {figure['ratio']:.2f} (aim: at most 1.3)"
        )


if __name__ == "__main__":
    show(measure(tuple(sys.argv[1:]) or tuple(ROWS)))
