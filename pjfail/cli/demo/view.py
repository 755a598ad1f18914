"""Shows the demo: on a terminal with rich it redraws a table, otherwise it prints lines."""

from __future__ import annotations

import importlib.util
import sys
import time
from types import TracebackType
from typing import Protocol, Self

from .outcome import HEADINGS, closing_sentence, duration, rows, servers
from .scenario import Scenario


class View(Protocol):
    """Shows a scenario while it runs, and its outcome."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def update(self, scenario: Scenario) -> None:
        """Shows the present state; called every 0.1 s."""

    def conclude(self, scenario: Scenario) -> None:
        """Shows the table and the closing sentence."""


def choose_view() -> View:
    """Returns the live view on a terminal with rich installed, otherwise the plain one."""
    if sys.stdout.isatty() and importlib.util.find_spec("rich"):
        from .live import LiveView

        return LiveView()
    return PlainView()


class PlainView:
    """Prints a line for everything that happens, then a table in plain text."""

    def __init__(self) -> None:
        self._said: set[tuple[object, ...]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def update(self, scenario: Scenario) -> None:
        now = time.monotonic()
        elapsed = f"{now - scenario.started_at:5.1f} s"
        for program in scenario.programs:
            for number, line in enumerate(program.log):
                self._say_once((program, number), f"{elapsed}  {program.title:<16}  {line}")
            for one in program.transactions:
                sent = f"{elapsed}  {program.title:<16}  {one.method}"
                self._say_once((program, one.method, one.number), f"{sent} sent")
                if one.code:
                    took = duration(one.took)
                    self._say_once((program, one.method, one.number, "end"), f"{sent} {one.code} {one.reason}, {took}")
        if scenario.died_at is not None:
            self._say_once(("death",), f"{elapsed}  the first server falls silent")

    def conclude(self, scenario: Scenario) -> None:
        now = time.monotonic()
        print(f"\nservers: {servers(scenario, now)}")
        for program in scenario.programs:
            print(f"\n{program.title}")
            for cells in [HEADINGS, *(row.cells for row in rows(scenario, program, now))]:
                print("  {:<8}  {:<13}  {:<13}  {:>7}  {}".format(*cells))
        print(f"\n{closing_sentence(scenario, now)}")

    def _say_once(self, key: tuple[object, ...], line: str) -> None:
        if key not in self._said:
            self._said.add(key)
            print(line, flush=True)
