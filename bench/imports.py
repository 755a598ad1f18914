"""``python -m bench.imports``: the CPU that importing pjfail takes, beside what it cannot do without.

Fresh processes in turn, so that a machine that slows down slows all; their bytecode is on the disk.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys

IMPORTS = {
    "needed": "import asyncio, dns.message",
    "pjfail": "import pjfail; pjfail.attach",
    # What attach() imports besides, where it is told nothing.
    "attached": "import pjfail; pjfail.attach; pjfail.DnsLookup()",
}
ROUNDS = 31


def _cpu_ms(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def measure() -> dict[str, float]:
    """Medians in milliseconds, the interpreter's own start included; ratios to what is needed, of the same round."""
    for code in IMPORTS.values():
        _cpu_ms(code)
    rounds = [{name: _cpu_ms(code) for name, code in IMPORTS.items()} for _ in range(ROUNDS)]
    figures = {f"{name}_ms": statistics.median(each[name] for each in rounds) for name in IMPORTS}
    for name in ("pjfail", "attached"):
        figures[f"{name}_ratio"] = statistics.median(each[name] / each["needed"] for each in rounds)
    return figures


def show(row: dict[str, float]) -> None:
    print(
        f"import pjfail; pjfail.attach: {row['pjfail_ms']:.0f} ms of CPU, {row['pjfail_ratio']:.2f} of what import "
        f"asyncio, dns.message takes (aim: at most 1.3); and what attach() imports: {row['attached_ms']:.0f} ms, "
        f"{row['attached_ratio']:.2f}"
    )


if __name__ == "__main__":
    show(measure())
