"""What a control socket tells, as cells of tables: for ``ctl`` and ``watch``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ...events import Reason

Row = Mapping[str, Any]
Cells = tuple[str, ...]

SERVER_COLUMNS = ("server", "state", "reason", "next try", "round trip", "last answer", "failures", "answers")
PLAN_COLUMNS = ("target", "order", "server", "reason")
ACCOUNT_COLUMNS = ("account", "user", "server", "since", "reason")
EVENT_COLUMNS = ("at", "event", "what")

_WHY = {each.name.lower(): each.value for each in Reason}


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
    return (time.strftime("%H:%M:%S", time.localtime(row["at"])), row["event"], _sentence(row))


def _sentence(row: Row) -> str:
    match row:
        case {"event": "FailedOver", "why": why}:
            code = f" {row['code']}" if row["code"] else ""
            return f"{row['method']} from {row['left']} to {row['taken']}: {_WHY.get(why, why)}{code}"
        case {"event": "AccountMoved", "before": before}:
            left = f" from {before}" if before else ""
            return f"{row['aor']}{left} to {row['server'] or 'no server'}: {row['reason']}"
        case {"event": "PlanChanged", "servers": servers, "before": before}:
            return f"{row['target']}: now {', '.join(servers) or 'no server'}; was {', '.join(before) or 'no server'}"
        case {"server": about, "reason": said} | {"target": about, "reason": said}:
            return f"{about}: {said}"
        case {"server": about, "outcome": outcome, "method": method}:
            return f"{about}: {outcome.replace('_', ' ')} to {method}"
    return ", ".join(f"{key} {value}" for key, value in row.items() if key not in ("at", "event"))  # of a later version


def span(seconds: float | None) -> str:
    """Seconds as people say them: ``3.2 s``, ``45 s``, ``12 min``, ``3 h``."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
