"""What the control socket answers. All of it runs on the worker, so each command is short."""

from __future__ import annotations

import inspect
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Protocol

from ..bridge import counts
from ..bridge.counts import Counters
from ..model import Health, Plan, PlanEntry, Server, State, parse_server
from ..planning import reason
from ..resolution import asked_target
from ..worker import Worker
from .journal import Journal
from .server import LEVELS

log = logging.getLogger("pjfail")

MAX_ROWS = 1000
"""Servers, plans or accounts in one answer: of more, those that are worst off."""

CHANGING = ("drain", "mark-down", "restore", "refresh", "log")
"""The commands that change something; the log says who gave them."""

Row = dict[str, Any]


class Controlled(Protocol):
    """What the commands need of a :class:`pjfail.Failover`."""

    pjsip_version: str

    def servers(self) -> Mapping[Server, Health]: ...

    def mark_down(self, server: Server | str, seconds: float | None = None) -> None: ...

    def drain(self, server: Server | str) -> None: ...

    def restore(self, server: Server | str) -> None: ...

    def counters(self) -> Counters: ...

    def refresh(self, uri: str | None = None) -> None: ...


class Commands:
    """The commands for one attachment: *failover*, whose worker is *worker*; *journal* has its events. Worker only."""

    def __init__(self, failover: Controlled, worker: Worker, journal: Journal, version: str) -> None:
        self._failover = failover
        self._worker = worker
        self._journal = journal
        self._version = version
        self._began = time.monotonic()
        self._commands: Mapping[str, Callable[..., object]] = {
            "process": self.process,
            "servers": self.servers,
            "plan": self.plan,
            "plans": self.plans,
            "accounts": self.accounts,
            "counters": self.counters,
            "events": self.events,
            "shared": self.shared,
            "snapshot": self.snapshot,
            "drain": self.drain,
            "mark-down": self.mark_down,
            "restore": self.restore,
            "refresh": self.refresh,
            "log": self.log,
        }

    async def answer(self, command: str, arguments: Mapping[str, Any], who: str) -> object:
        """The result of *command*, to be written as JSON. Raises ValueError, TypeError, PjfailError."""
        function = self._commands.get(command)
        if function is None:
            raise ValueError(f"{command!r} is not a command; use one of {', '.join(self._commands)}")
        try:
            inspect.signature(function).bind(**arguments)
        except TypeError as error:
            raise ValueError(f"{command}: {error}") from None
        if command in CHANGING:
            told = " ".join([command, *map(str, arguments.values())])
            log.info("the control socket was told by %s: %s", who, told[:200].encode("unicode_escape").decode())
        result = function(**arguments)
        return await result if isinstance(result, Awaitable) else result

    # --- asking -------------------------------------------------------------------------------------------------------

    def process(self) -> Row:
        return {
            "pid": os.getpid(),
            "program": " ".join(sys.orig_argv)[:200],
            "pjfail": self._version,
            "pjsip": self._failover.pjsip_version,
            "attached": round(time.monotonic() - self._began, 1),
            "at": round(time.time(), 3),
        }

    def servers(self) -> list[Row]:
        """Those that are not up first."""
        now, monitor = time.monotonic(), self._worker.monitor
        found = sorted(self._failover.servers().items(), key=lambda item: (item[1].state is State.UP, item[0]))
        return [_server(server, health, now, monitor.down_since(server)) for server, health in found[:MAX_ROWS]]

    async def plan(self, uri: str) -> Row:
        return _plan(await self._worker.resolution.plan(asked_target(uri)))

    def plans(self) -> list[Row]:
        """The newest first, with the reasons of servers that are not up as of now: some count seconds."""
        now, healths = time.monotonic(), self._failover.servers()
        wall = time.time() - now

        def at_present(entry: PlanEntry) -> PlanEntry:
            health = healths.get(entry.server)
            if health is None or health.state is State.UP:
                return entry
            return replace(entry, reason=reason(entry.candidate, health, now, wall))

        return [
            _plan(replace(plan, entries=tuple(map(at_present, plan.entries))))
            for plan in self._worker.resolution.plans(MAX_ROWS)
        ]

    def accounts(self) -> list[Row]:
        """Those without a server first."""
        maintenance = self._worker.maintenance
        followed = [
            (each.account, each.aor, each.server, "followed", each.reason) for each in maintenance.follower.followed()
        ]
        pinned = [
            (pin.account, pin.aor, pin.server, "pinned", "its server is down: the plan decides" if pin.idle else "")
            for pin in maintenance.pins.pinned_accounts()
        ]
        rows = sorted([*followed, *pinned], key=lambda row: (row[2] is not None, row[0]))[:MAX_ROWS]
        return [
            {
                "account": account,
                "aor": aor,
                "server": None if server is None else str(server),
                "kept": kept,
                "since": self._journal.moved(account),
                "reason": reason,
            }
            for account, aor, server, kept, reason in rows
        ]

    def counters(self) -> Row:
        return asdict(self._failover.counters())

    def events(self, last: int = 20) -> list[Row]:
        """The last of each kind, the newest last."""
        if not isinstance(last, int) or last < 0:
            raise ValueError(f"{last!r} is not a valid number of events; write 0 or more")
        return self._journal.last(last)

    def shared(self) -> Row | None:
        """The memory that processes share; None where there is none."""
        return None if self._worker.sharing is None else asdict(self._worker.sharing.status())

    def snapshot(self) -> Row:
        """All of it, at one moment."""
        return {
            "process": self.process(),
            "servers": self.servers(),
            "plans": self.plans(),
            "accounts": self.accounts(),
            "counters": self.counters(),
            "events": self.events(),
            "shared": self.shared(),
            "log": logging.getLevelName(log.getEffectiveLevel()).lower(),
        }

    # --- saying -------------------------------------------------------------------------------------------------------

    def drain(self, server: str) -> list[Row]:
        return self._said(server, lambda: self._failover.drain(server))

    def mark_down(self, server: str, seconds: float | None = None) -> list[Row]:
        return self._said(server, lambda: self._failover.mark_down(server, seconds))

    def restore(self, server: str) -> list[Row]:
        return self._said(server, lambda: self._failover.restore(server))

    def _said(self, server: str, say: Callable[[], None]) -> list[Row]:
        """Does what *say* does of *server*; returns the servers that it was said of."""
        say()
        found = self._worker.monitor.find(*parse_server(server)) or [Server.parse(server)]
        meant = set(map(str, found))
        return [row for row in self.servers() if row["server"] in meant]

    def refresh(self, uri: str | None = None) -> object:
        """Looks up again, as :meth:`pjfail.Failover.refresh`."""
        self._failover.refresh(uri)
        return []

    def log(self, level: str) -> Row:
        """Sets the level of the logger "pjfail"."""
        if not isinstance(level, str) or level.lower() not in LEVELS:
            raise ValueError(f"{level!r} is not a valid log level; use one of {', '.join(LEVELS)}")
        before = logging.getLevelName(log.getEffectiveLevel()).lower()
        log.setLevel(level.upper())
        return {"level": level.lower(), "before": before}


def _server(server: Server, health: Health, now: float, down_since: float | None) -> Row:
    """*down_since*: when it was first taken down. Each time that it is tried in vain its health begins anew."""
    stats = counts.stats(server)
    since = down_since if down_since is not None and health.state in (State.DOWN, State.HALF_OPEN) else health.since
    return {
        "server": str(server),
        "state": health.state.value,
        "reason": health.reason,
        "failures": health.failures,
        "since": round(now - since, 1) if since else None,
        "next_try": None if health.until is None else round(max(health.until - now, 0.0), 1),
        "rtt": None if health.rtt is None else round(health.rtt, 6),
        "last_answer": None if health.last_answer is None else round(now - health.last_answer, 1),
        "answers": 0 if stats is None else stats.answers,
        "silences": 0 if stats is None else stats.silences,
        "connection_failures": 0 if stats is None else stats.refusals,
        "unavailable": 0 if stats is None else stats.unavailable,
    }


def _plan(plan: Plan) -> Row:
    return {
        "target": str(plan.target),
        "valid": round(max(plan.valid_until - time.monotonic(), 0.0), 1),
        "entries": [
            {"server": str(each.server), "name": each.candidate.name, "tier": each.tier, "reason": each.reason}
            for each in plan.entries
        ],
    }
