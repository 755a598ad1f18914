"""What ``watch`` shows: a pure function from what the program has told, and what the keys have chosen, to a screen."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from . import words

SORTS = ("state", "server", "round trip", "failures")
_STYLES = {"up": "green", "suspect": "yellow", "half-open": "yellow", "down": "bold red", "draining": "cyan"}
# Below these widths columns of servers are left out (columns of the terminal, and of the table).
_NARROW = ((80, 3), (110, 5))
KEYS = "up/down select  d drain  m mark down  r restore  u look up again  s sort  / filter  q quit"
SHORT_KEYS = "d drain m down r restore u look up s sort / filter q quit"


@dataclass(slots=True)
class View:
    """What is on the screen.

    ``told`` and ``before`` are the last two snapshots. ``question`` waits for a yes, ``typing`` tells that keys go into
    the filter; ``message`` says what has come of a command, ``problem`` why nothing new comes.
    """

    told: dict[str, Any]
    before: dict[str, Any] | None = None
    sort: str = SORTS[0]
    filter: str = ""
    selected: str = ""
    typing: bool = False
    question: str = ""
    message: str = ""
    problem: str = ""

    def servers(self) -> list[dict[str, Any]]:
        """The servers that the filter lets through, sorted."""
        rows = [row for row in self.told["servers"] if self._matches(row["server"], row["state"], row["reason"])]
        if self.sort == "server":
            rows.sort(key=lambda row: row["server"])
        elif self.sort == "round trip":
            rows.sort(key=lambda row: -(row["rtt"] or 0.0))
        elif self.sort == "failures":
            rows.sort(key=lambda row: -(row["silences"] + row["connection_failures"] + row["unavailable"]))
        return rows  # by state they come

    def select(self, step: int) -> None:
        """Selects the next server, or the one before."""
        names = [row["server"] for row in self.servers()]
        if names:
            at = names.index(self.selected) + step if self.selected in names else 0
            self.selected = names[min(max(at, 0), len(names) - 1)]

    def _matches(self, *texts: str) -> bool:
        return any(self.filter.lower() in text.lower() for text in texts)


def render(view: View, width: int, height: int | None) -> Group:
    """The screen; without a *height* all rows, and nothing of keys."""
    told = view.told
    parts: list[Text | Table] = [_line(_head(view), "bold"), _line(_requests(view))]
    if view.problem:
        parts.append(_line(view.problem, "bold red"))
    servers, plans = view.servers(), words.plan_cells(told["plans"])
    accounts = [words.account_cells(row) for row in told["accounts"]]
    events = [words.event_cells(row) for row in reversed(told["events"])]
    room = None if height is None else height - len(parts) - 1
    rows = _shares(room, [len(servers), len(plans), len(accounts), len(events)])
    columns = next((count for limit, count in _NARROW if width < limit), len(words.SERVER_COLUMNS))
    by = f", by {view.sort}" if height is not None else ""
    kept = f", filter {view.filter!r}" if view.filter else ""
    first = _first([row["server"] for row in servers], view.selected, rows[0])
    table = _table(words.SERVER_COLUMNS[:columns], wide=2)
    for row in servers[first : first + rows[0]]:
        style = _STYLES.get(row["state"], "")
        chosen = height is not None and row["server"] == view.selected
        name, state, *others = words.server_cells(row)[:columns]
        name = f"{'>' if chosen else ' '}{name}"
        table.add_row(Text(name), Text(state, style), *map(Text, others), style="reverse" if chosen else "")
    parts += [_title(f"servers{by}{kept}", rows[0], len(servers)), table]
    for title, heads, cells_of, shown, wide in (
        ("plans, place by place", words.PLAN_COLUMNS, plans, rows[1], 3),
        ("accounts", words.ACCOUNT_COLUMNS, accounts, rows[2], 4),
        ("events, newest first", words.EVENT_COLUMNS, events, rows[3], 2),
    ):
        keep = [index for index in range(len(heads)) if width >= 80 or not (title == "accounts" and index == 4)]
        table = _table([heads[index] for index in keep], wide=keep.index(wide) if wide in keep else 2)
        for cells in cells_of[:shown]:
            table.add_row(*(Text(cells[index]) for index in keep))
        parts += [_title(title, shown, len(cells_of)), table] if cells_of else [_line(f"no {title}", "dim")]
    if height is not None:
        parts.append(_foot(view, width))
    return Group(*parts)


def _head(view: View) -> str:
    process = view.told["process"]
    at = time.strftime("%H:%M:%S", time.localtime(process["at"]))
    said = f"process {process['pid']}  {at}  pjsip {process['pjsip']}, attached for {words.span(process['attached'])}"
    return f"{said}  {process['program']}"


def _requests(view: View) -> str:
    now, went_on = view.told["counters"], _failed_over(view.told["counters"])
    said = f"requests: {now['outstanding']} in flight, {now['waiting']} waiting, {went_on} failed over"
    if view.before is not None:
        seconds = view.told["process"]["at"] - view.before["process"]["at"]
        if seconds > 0:
            before = view.before["counters"]
            asked, failed = now["resolved"] - before["resolved"], went_on - _failed_over(before)
            said += f"; {asked / seconds:.1f} a second, {failed / seconds:.1f} of them failed over"
    said += f"; {now['dialogs']} dialogs"
    if (shared := view.told.get("shared")) is not None:
        there = "there" if shared["connected"] else "not there"
        said += f"; shared memory {there}, {shared['believed']} servers down by others' words"
    return said


def _failed_over(counters: Mapping[str, int]) -> int:
    return counters["retried"] + counters["hedged"]  # after a timeout or failure; sooner than that


def _foot(view: View, width: int) -> Text:
    if view.question:
        return _line(f"{view.question} y/n", "bold reverse")
    if view.typing:
        return _line(f"filter: {view.filter}_  Enter ends", "bold reverse")
    if view.message:
        return _line(view.message, "reverse")
    return _line(KEYS if width >= len(KEYS) else SHORT_KEYS, "reverse")


def _shares(room: int | None, wanted: Sequence[int]) -> list[int]:
    """How many rows each section gets of *room* lines, beside its title and its head; an empty one has one line."""
    if room is None:
        return list(wanted)
    left = room - sum(2 if each else 1 for each in wanted)
    shares = [0] * len(wanted)
    while left > 0 and any(share < each for share, each in zip(shares, wanted, strict=True)):
        for index, each in enumerate(wanted):
            if left > 0 and shares[index] < each:
                shares[index] += 1
                left -= 1
    return shares


def _first(names: Sequence[str], selected: str, rows: int) -> int:
    """The first row that is shown, so that the selected one is."""
    if selected not in names:
        return 0
    return max(0, names.index(selected) - rows + 1)


def _table(columns: Sequence[str], wide: int) -> Table:
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    for index, name in enumerate(columns):
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1 if index == wide else None)
    return table


def _title(title: str, shown: int, all_of_them: int) -> Text:
    return _line(f"{title}: {all_of_them}" if shown >= all_of_them else f"{title}: {shown} of {all_of_them}", "bold")


def _line(text: str, style: str = "") -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")
