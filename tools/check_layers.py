"""check_layers.py: holds the C core to pjfail/_core/layers.txt: no file calls, or includes, what stands above it.

Who defines a symbol, and who needs it, is read from the object files, which are compiled into build/layers where they
are older than the source. Within a layer files may call each other, but not in a circle. Exits with 1, and says what is
wrong, when the source and the list differ.
"""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pjfail_build import CORE, MACROS, STANDARD, includes  # noqa: E402

SOURCES = ROOT / CORE
OBJECTS = ROOT / "build/layers"
FOR_PYTHON = "pjfail"  # pjfail.h declares functions of many files, for Python


def read_layers(text: str) -> list[tuple[str, list[str]]]:
    """Each layer's name and files, the highest first."""
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return [(name.strip(), files.split()) for name, _, files in (line.partition(":") for line in lines if line)]


def compile_file(source: Path, newest_header: float) -> Path:
    """The object file of *source*, compiled anew where it is older than its source, or than any header."""
    made = OBJECTS / f"{source.stem}.o"
    if not made.exists() or made.stat().st_mtime <= max(newest_header, source.stat().st_mtime):
        macros = [f"-D{name}" if value is None else f"-D{name}={value}" for name, value in MACROS.items()]
        command = ["cc", STANDARD, "-w", "-O0", *macros, *includes(), "-c", str(source), "-o", str(made)]
        subprocess.run(command, check=True)
    return made


def symbols(made: Path) -> tuple[set[str], set[str]]:
    """What the object file defines for others, and what it needs of them."""
    defined, needed = set(), set()
    for line in subprocess.run(["nm", "-g", str(made)], capture_output=True, text=True, check=True).stdout.splitlines():
        kind, name = line.split()[-2:]
        (needed if kind == "U" else defined).add(name)
    return defined, needed


def find_calls(table: dict[str, tuple[set[str], set[str]]]) -> dict[tuple[str, str], set[str]]:
    """By what symbols a file (first) needs another one."""
    owner = {name: file for file, (defined, _) in table.items() for name in defined}
    calls: dict[tuple[str, str], set[str]] = {}
    for file, (_, needed) in table.items():
        for name in needed & owner.keys():
            calls.setdefault((file, owner[name]), set()).add(name)
    return calls


def find_includes() -> set[tuple[str, str]]:
    """Which file includes which other file's header."""
    found = set()
    for source in SOURCES.glob("*.[ch]"):
        for header in re.findall(r'^#include "(\w+)\.h"', source.read_text(encoding="utf-8"), flags=re.MULTILINE):
            if header not in (source.stem, FOR_PYTHON):
                found.add((source.stem, header))
    return found


def check(
    layers: list[tuple[str, list[str]]],
    files: set[str],
    calls: dict[tuple[str, str], set[str]],
    included: set[tuple[str, str]],
) -> list[str]:
    """What is wrong, a line each."""
    height = {file: number for number, (_, listed) in enumerate(layers) for file in listed}
    wrong = [f"{file} is in no layer" for file in sorted(files - height.keys())]
    wrong += [f"{file} is no file" for file in sorted(height.keys() - files)]
    known = {pair: names for pair, names in calls.items() if height.keys() >= set(pair)}
    for (one, other), names in sorted(known.items()):
        if height[other] < height[one]:
            wrong.append(f"{one} calls up to {other}: {', '.join(sorted(names))}")
    for one, other in sorted(included):
        if {one, other} <= height.keys() and height[other] < height[one]:
            wrong.append(f"{one} includes {other}.h, which stands above it")
    for number, (name, _) in enumerate(layers):
        graph: dict[str, set[str]] = {}
        for one, other in known:
            if height[one] == height[other] == number:
                graph.setdefault(one, set()).add(other)
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            wrong.append(f"{name}: files call each other in a circle: {' > '.join(reversed(error.args[1]))}")
    return wrong


def main() -> int:
    OBJECTS.mkdir(parents=True, exist_ok=True)
    sources = sorted(SOURCES.glob("*.c"))
    newest = max(header.stat().st_mtime for header in SOURCES.glob("*.h"))
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda source: compile_file(source, newest), sources))
    calls = find_calls({each.stem: symbols(each) for each in made})
    files = {path.stem for path in SOURCES.glob("*.[ch]")} - {FOR_PYTHON}
    layers = read_layers((SOURCES / "layers.txt").read_text(encoding="utf-8"))
    wrong = check(layers, files, calls, find_includes())
    for line in wrong:
        print(f"layers: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
