"""The load that a fleet makes for five servers, drawn in ``docs/fleet.svg``: ``python -m bench.fleet``.

An SVG that brings its own background, for light and for dark pages.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from rig.fleet import Fleet, Load, scenarios, simulate  # noqa: E402

COLOURS = ("#d1242f", "#3f8cff", "#14a38b", "#d99000", "#a56be0")
WIDTH, LEFT, RIGHT = 860, 56, 24
TOP, PANEL, GAP, BOTTOM = 84, 128, 52, 44
BIN = 10  # seconds a point
TICK = 60  # seconds

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 18px; font-weight: 600 } .head { font-size: 13px; font-weight: 600 }
.faint { fill: #59636e } .back { fill: #ffffff } .row { fill: #f3f5f7 }
.grid { stroke: #d1d9e0 } .aim { stroke: #2da44e; stroke-dasharray: 5 4 } .line { fill: none; stroke-width: 1.6 }
@media (prefers-color-scheme: dark) {
 text { fill: #e6edf3 } .faint { fill: #9198a1 } .back { fill: #0d1117 } .row { fill: #161c24 }
 .grid { stroke: #3d444d }
}
"""


def draw(loads: dict[str, tuple[Fleet, Load]]) -> str:
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
            f'<rect x="{144 + 14 * number}" y="44" width="11" height="11" rx="2" fill="{colour}"/>'
            for number, colour in enumerate(COLOURS[1:])
        ),
        '<text x="204" y="54">the others</text>'
        '<line class="aim" x1="290" x2="314" y1="49.5" y2="49.5"/>'
        '<text x="320" y="54">one and a half times its steady load</text>',
    ]
    for number, (title, (_, load)) in enumerate(loads.items()):
        parts += _panel(TOP + number * (PANEL + GAP), title, load)
    return "\n".join([*parts, "</svg>", ""])


def _panel(top: float, title: str, load: Load) -> Iterator[str]:
    seconds = len(load.seen[0]) // BIN * BIN
    points = [
        [load.mean(server, begin, begin + BIN) for begin in range(0, seconds, BIN)] for server in range(len(load.seen))
    ]
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
    for line, colour in reversed(list(zip(points, COLOURS, strict=True))):
        middles = [(x((index + 0.5) * BIN), y(value)) for index, value in enumerate(line)]
        steps = "".join(f"L{right:.1f} {high:.1f}" for _, (right, high) in pairwise(middles))
        yield f'<path class="line" stroke="{colour}" d="M{middles[0][0]:.1f} {middles[0][1]:.1f}{steps}"/>'


def main() -> None:
    loads = {title: (fleet, simulate(fleet)) for title, fleet in scenarios().items()}
    path = ROOT / "docs" / "fleet.svg"
    path.parent.mkdir(exist_ok=True)
    path.write_text(draw(loads), encoding="utf-8")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
