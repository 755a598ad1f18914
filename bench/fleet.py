"""The load that a fleet makes for five servers, drawn in ``docs/fleet.svg``: ``python -m bench.fleet``.

An SVG that brings its own background, for light and for dark pages.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from rig.fleet import Fleet, Load, scenarios, shared_scenarios, simulate  # noqa: E402

COLOURS = ("#d1242f", "#3f8cff", "#14a38b", "#d99000", "#a56be0")
WIDTH, LEFT, RIGHT = 860, 56, 24
TOP, PANEL, GAP, BOTTOM = 104, 128, 52, 44
SHARED_CLIENTS = 10_000  # some minutes
BIN = 10  # seconds a point
TICK = 60  # seconds

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 18px; font-weight: 600 } .head { font-size: 13px; font-weight: 600 }
.faint { fill: #59636e } .back { fill: #ffffff } .row { fill: #f3f5f7 }
.grid { stroke: #d1d9e0 } .aim { stroke: #2da44e; stroke-dasharray: 5 4 }
.line { fill: none; stroke-width: 1.6 } .probes { opacity: .28 }
@media (prefers-color-scheme: dark) {
 text { fill: #e6edf3 } .faint { fill: #9198a1 } .back { fill: #0d1117 } .row { fill: #161c24 }
 .grid { stroke: #3d444d }
}
"""


PROBES = "each client sends one OPTIONS when its hold-down ends, the first about 30 s after the failure, at 95 s"
SHARED_PROBES = "where the memory is shared, one client probes for all"


def draw(loads: dict[str, tuple[Fleet, Load]], probes: str = PROBES) -> str:
    """The picture: a panel for each scenario, in it a line for each server."""
    height = TOP + len(loads) * (PANEL + GAP) + BOTTOM - GAP
    clients = next(iter(loads.values()))[0].clients
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{height}" rx="8"/>',
        f'<text class="title" x="16" y="30">{clients:,} clients, five servers: requests a second at each server</text>',
        f'<rect x="18" y="44" width="11" height="11" rx="2" fill="{COLOURS[0]}"/>'
        '<text x="34" y="54">the one that fails</text>',
        *(
            f'<rect x="{152 + 14 * number}" y="44" width="11" height="11" rx="2" fill="{colour}"/>'
            for number, colour in enumerate(COLOURS[1:])
        ),
        '<text x="212" y="54">the others</text>'
        '<line class="aim" x1="298" x2="322" y1="49.5" y2="49.5"/>'
        '<text x="328" y="54">one and a half times the steady load of the one that fails</text>',
        f'<rect class="probes" x="18" y="64" width="11" height="11" rx="2" fill="{COLOURS[0]}"/>'
        f'<text x="34" y="74">of its load, the probes: {probes}</text>',
    ]
    for number, (title, (_, load)) in enumerate(loads.items()):
        parts += _panel(TOP + number * (PANEL + GAP), title, load)
    return "\n".join([*parts, "</svg>", ""])


def _panel(top: float, title: str, load: Load) -> Iterator[str]:
    seconds = len(load.seen[0]) // BIN * BIN
    points = [_by_bin(counts, seconds) for counts in load.seen]
    probes = _by_bin(load.probes[0], seconds)
    bound = 1.5 * load.mean(0, 10, 60)
    highest = 1.08 * max(bound, *(max(line) for line in points))

    def x(second: float) -> float:
        return LEFT + second / seconds * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return top + PANEL * (1 - value / highest)

    yield f'<text class="head" x="16" y="{top - 10}">{title}</text>'
    yield f'<rect class="row" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{PANEL}"/>'
    for second in range(0, seconds + 1, TICK):
        yield f'<line class="grid" x1="{x(second):.1f}" x2="{x(second):.1f}" y1="{top}" y2="{top + PANEL + 4}"/>'
        yield f'<text class="faint" x="{x(second):.1f}" y="{top + PANEL + 18}" text-anchor="middle">{second} s</text>'
    for value in (0.0, bound / 1.5):
        yield f'<text class="faint" x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.0f}</text>'
    yield f'<line class="aim" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(bound):.1f}" y2="{y(bound):.1f}"/>'

    def path(line: list[float]) -> str:
        middles = (f"{x((index + 0.5) * BIN):.1f} {y(value):.1f}" for index, value in enumerate(line))
        return "M" + "L".join(middles)

    yield f'<path class="probes" fill="{COLOURS[0]}" d="{path(probes)}V{y(0):.1f}H{x(BIN / 2):.1f}z"/>'
    for line, colour in reversed(list(zip(points, COLOURS, strict=True))):
        yield f'<path class="line" stroke="{colour}" d="{path(line)}"/>'


def _by_bin(counts: list[int], seconds: int) -> list[float]:
    """The mean number a second, of each BIN seconds."""
    return [sum(counts[begin : begin + BIN]) / BIN for begin in range(0, seconds, BIN)]


def main() -> None:
    for name, fleets, probes in (
        ("fleet", scenarios(), PROBES),
        ("shared", shared_scenarios(SHARED_CLIENTS), SHARED_PROBES),
    ):
        loads = {title: (fleet, simulate(fleet)) for title, fleet in fleets.items()}
        path = ROOT / "docs" / f"{name}.svg"
        path.parent.mkdir(exist_ok=True)
        path.write_text(draw(loads, probes), encoding="utf-8")
        print(f"written to {path}")
    for title, (_, load) in loads.items():  # those that share a memory
        peak = load.peak(0, 180, 419, 10) / load.mean(0, 10, 60)
        print(f"{title}: {load.late} requests late, {sum(load.probes[0])} probes, peak at failback {peak:.2f}")


if __name__ == "__main__":
    main()
