"""The demo on a terminal: both programs side by side, seconds counting, drawn by rich."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich import box
from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .outcome import HEADINGS, closing_sentence, rows, servers
from .program import Program
from .scenario import Scenario

_STYLES = {"good": "green", "bad": "bold red", "waiting": "yellow"}


class LiveView:
    """Redraws a table for each program ten times a second; the last ones stay."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, scenario: Scenario) -> None:
        now = time.monotonic()
        tables = [_table(scenario, program, now) for program in scenario.programs]
        logs = [line for program in scenario.programs for line in program.log[-2:]]
        log = Text("\n".join(logs), style="dim", no_wrap=True, overflow="ellipsis")
        self._live.update(Group(Text(servers(scenario, now)), Columns(tables), log), refresh=True)

    def conclude(self, scenario: Scenario) -> None:
        self._live.stop()
        now = time.monotonic()
        self._console.print(servers(scenario, now))
        for program in scenario.programs:
            self._console.print(_table(scenario, program, now))
        self._console.print(closing_sentence(scenario, now), style="bold")


def _table(scenario: Scenario, program: Program, now: float) -> Table:
    table = Table(title=program.title, title_style="bold", box=box.SIMPLE_HEAD)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading == "took" else "left", no_wrap=True)
    for row in rows(scenario, program, now):
        table.add_row(*row.cells, style=_STYLES[row.mood])
    return table
