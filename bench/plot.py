"""Draws the fault matrix as an SVG that brings its own background, for light and for dark pages."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from rig.faults import METHODS, Cell, Order, Outcome, Outcomes, Stack

COLOURS = dict(zip(METHODS, ("#3f8cff", "#14a38b", "#d99000", "#a56be0", "#e8558a", "#8a3a5c", "#1f4e9c"), strict=True))
PANELS: tuple[tuple[Order, Stack], ...] = (
    ("first", "stock"),
    ("first", "pjfail"),
    ("next", "stock"),
    ("next", "pjfail"),
)
AIMS: dict[Order, tuple[float, ...]] = {"first": (0.6, 2.0), "next": (0.1,)}
TICKS = {0.001: "1 ms", 0.01: "10 ms", 0.1: "0.1 s", 0.6: "0.6", 2.0: "2", 32.0: "32 s"}
SHORTEST, LONGEST = 0.0004, 48.0  # what the time axis spans

LABELS, PANEL, GAP, PAIR_GAP, EDGE = 200, 196, 28, 32, 22
LANE, PAD, TOP, BOTTOM = 3.6, 1.5, 122, 46  # low: the whole picture shows on README's first screen
ROW = LANE * len(METHODS) + 2 * PAD
WIDTH = LABELS + 4 * PANEL + 2 * GAP + PAIR_GAP + EDGE

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 18px; font-weight: 600 } .head { font-size: 13px; font-weight: 600 }
.faint, .faint text { fill: #59636e } .sign { stroke: #59636e } .back { fill: #ffffff } .row { fill: #f3f5f7 }
.grid { stroke: #d1d9e0 } .aim { fill: #2da44e; opacity: .1 } .cross { stroke-width: 1.5; fill: none }
@media (prefers-color-scheme: dark) {
 text { fill: #e6edf3 } .faint, .faint text { fill: #9198a1 } .sign { stroke: #9198a1 }
 .back { fill: #0d1117 } .row { fill: #161c24 } .grid { stroke: #3d444d } .aim { opacity: .16 }
}
"""


def draw(matrix: Mapping[Cell, Outcomes]) -> str:
    """The picture: a row for each failure, in it a lane for each method; a panel for each request and stack."""
    rows = list(dict.fromkeys((cell.failure, cell.transport) for cell in matrix))
    height = round(TOP + ROW * len(rows) + BOTTOM)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        f"<style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{height}" rx="8"/>',
        '<text class="title" x="16" y="30">How long until a request is answered, when the first of two servers fails'
        "</text>",
        *_legend(),
    ]
    for index, (failure, transport) in enumerate(rows):
        y = TOP + ROW * index
        if index % 2 == 0:
            parts.append(f'<rect class="row" x="8" y="{y:.1f}" width="{WIDTH - 16}" height="{ROW}"/>')
        middle = f"{y + ROW / 2 + 4:.1f}"
        parts.append(f'<text x="16" y="{middle}">{failure}</text>')
        parts.append(f'<text class="faint" x="{LABELS - 10}" y="{middle}" text-anchor="end">{transport.upper()}</text>')
    for number, (order, stack) in enumerate(PANELS):
        left = LABELS + number * (PANEL + GAP) + (number // 2) * (PAIR_GAP - GAP)
        parts += _panel(left, order, stack, ROW * len(rows))
        for cell, outcomes in matrix.items():
            if cell.stack == stack:
                lane = METHODS.index(cell.method)
                y = TOP + ROW * rows.index((cell.failure, cell.transport)) + PAD + LANE * (lane + 0.5)
                parts.append(_mark(left, y, cell, outcomes[order]))
    parts.append(
        f'<text class="faint" x="16" y="{height - 9}">Time until the application has its answer, '
        "logarithmic. By default pjfail sends no MESSAGE twice that may have arrived, and leaves a ringing call (slow) "
        "where it is.</text>"
    )
    return "\n".join([*parts, "</svg>", ""])


def _panel(left: float, order: Order, stack: Stack, height: int) -> Iterator[str]:
    title = "stock pjsip" if stack == "stock" else "pjfail"
    request = "the request that meets the failure" if order == "first" else "the next request"
    if stack == "stock":
        yield f'<text class="head" x="{left + PANEL + GAP / 2}" y="{TOP - 24}" text-anchor="middle">{request}</text>'
    yield f'<text x="{left + PANEL / 2}" y="{TOP - 8}" text-anchor="middle">{title}</text>'
    for aim in AIMS[order]:
        yield f'<rect class="aim" x="{left}" y="{TOP}" width="{_x(aim):.1f}" height="{height:.1f}"/>'
    for seconds, words in TICKS.items():
        x = f"{left + _x(seconds):.1f}"
        yield f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP}" y2="{TOP + height + 3:.1f}"/>'
        yield f'<text class="faint" x="{x}" y="{TOP + height + 16:.1f}" text-anchor="middle">{words}</text>'


def _mark(left: float, y: float, cell: Cell, outcome: Outcome) -> str:
    x = left + _x(outcome.seconds)
    told = f"{outcome.code} after {outcome.seconds:.3f} s" if outcome.code else "no answer"
    title = f"<title>{cell.method}, {cell.failure}, {cell.transport}: {told}</title>"
    if outcome.succeeded:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.1" fill="{COLOURS[cell.method]}">{title}</circle>'
    cross = f"M{x - 2.1:.1f} {y - 2.1:.1f}l4.2 4.2m0 -4.2l-4.2 4.2"
    return f'<path class="cross" stroke="{COLOURS[cell.method]}" d="{cross}">{title}</path>'


def _legend() -> Iterator[str]:
    x = 18.0
    for method, colour in COLOURS.items():
        yield f'<rect x="{x}" y="50" width="11" height="11" rx="2" fill="{colour}"/>'
        yield f'<text x="{x + 16}" y="60">{method}</text>'
        x += 34 + 8.2 * len(method)
    yield f'<g transform="translate({-x:.0f} 17)">'  # a second line
    yield f'<circle class="faint" cx="{x + 20}" cy="55.5" r="3.5"/><text x="{x + 30}" y="60">succeeded</text>'
    cross = f"M{x + 111} 52l7 7m0 -7l-7 7"
    yield f'<path class="cross sign" d="{cross}"/><text x="{x + 124}" y="60">failed</text>'
    yield f'<rect class="aim" x="{x + 180}" y="49" width="24" height="13"/>'
    yield f'<rect class="aim" x="{x + 180}" y="49" width="14" height="13"/>'
    yield f'<text x="{x + 210}" y="60">aim: 0.6 s (INVITE 2 s), the next request at once</text></g>'


def _x(seconds: float) -> float:
    """Where a time stands on a panel's axis."""
    share = math.log(max(seconds, SHORTEST) / SHORTEST) / math.log(LONGEST / SHORTEST)
    return min(share, 1.0) * PANEL
