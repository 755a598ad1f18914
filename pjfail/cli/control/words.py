"""What a control socket tells, as cells of tables: for ``ctl`` and ``watch``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Cells = tuple[str, ...]

SERVER_COLUMNS = ("server", "state", "reason", "next try", "round trip", "last answer", "failures", "answers")
PLAN_COLUMNS = ("target", "order", "server", "reason")
ACCOUNT_COLUMNS = ("account", "user", "server", "since", "reason")
EVENT_COLUMNS = ("at", "event", "what")

# Of an event's keys, those that say it; the rest is for programs.
_SAID = ("method", "target", "aor", "server", "left", "taken", "servers", "before", "outcome", "why", "reason", "code")


def server_cells(row: Row) -> Cells:
    round_trip = "" if row["rtt"] is None else f"{row['rtt'] * 1000:.1f} ms"
    failed = row["silences"] + row["connection_failures"] + row["unavailable"]
    state = f"{row['state']} {span(row['since'])}".rstrip()
    answered = f"{span(row['last_answer'])} ago" if row["last_answer"] is not None else ""
    return (
        row["server"],
        state,
        row["reason"],
        "" if row["next_try"] is None else f"in {span(row['next_try'])}",
        round_trip,
        answered,
        str(failed),
        str(row["answers"]),
    )


def plan_cells(plans: Sequence[Row]) -> list[Cells]:
    return [
        (plan["target"] if index == 0 else "", str(entry["tier"] + 1), entry["server"], entry["reason"])
        for plan in plans
        for index, entry in enumerate(plan["entries"])
    ]


def account_cells(row: Row) -> Cells:
    server = row["server"] or "none: its plan decides"
    return (str(row["account"]), row["aor"], server, span(row["since"]), row["reason"] or row["kept"])


def event_cells(row: Row) -> Cells:
    at = time.strftime("%H:%M:%S", time.localtime(row["at"]))
    said = []
    for key in _SAID:
        value = row.get(key)
        if value in (None, "", 0, []) or (key == "outcome" and row.get("reason")):
            continue
        if key == "taken":
            said.append(f"to {value}")
        elif key == "left":
            said.append(f"from {value}")
        elif isinstance(value, list):
            said.append(f"{'until now ' if key == 'before' else ''}{', '.join(value)}")
        elif key == "before":
            said.append(f"after {value}")
        else:
            said.append(str(value))
    return (at, row["event"], " ".join(said))


def span(seconds: float | None) -> str:
    """Seconds as people say them: ``3.2 s``, ``45 s``, ``12 min``, ``3 h``."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
