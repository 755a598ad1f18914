"""failover_decide.c alone, and its structs as plain values: what a decision changed, and what it said to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .core import pure_library

Changes = dict[str, Any]

# Actions that are attempts, a bit each.
_SETS = ("suspect", "resend", "abandon", "silent", "cancel")
# Actions that tell an attempt: -1 is none.
_ATTEMPTS = ("move_to", "left")


class Decider:
    """The library, compiled at *path*."""

    def __init__(self, path: Path) -> None:
        self.ffi, self.lib = pure_library(path, "failover_decide")

    def request(self, attempts: tuple[Mapping[str, Any], ...] = (), **fields: Any) -> Any:
        """A request with these *fields* and *attempts*; what is left out is as after failover_start(0)."""
        request = self.ffi.new("struct failover_state *")
        request.timeout, request.max_attempts = math.inf, self.lib.MAX_ATTEMPTS
        self.lib.failover_start(request, 0.0)
        request.attempt_count, request.newest = len(attempts), max(len(attempts) - 1, 0)
        for index, attempt in enumerate(attempts):
            alike = {"sends": 1, "candidates": 1 << index, "reliable": fields.get("reliable", 0)}
            self._fill(request.attempts[index], {**alike, **attempt})
            request.tried |= 1 << index
        self._fill(request, fields)
        return request

    def event(self, kind: str, **fields: Any) -> Any:
        event = self.ffi.new("struct failover_event *")
        self._fill(event, {"kind": f"FAILOVER_{kind}", "attempt": -1, **fields})
        return event

    def _fill(self, struct: Any, fields: Mapping[str, Any]) -> None:
        for name, value in fields.items():
            setattr(struct, name, getattr(self.lib, value) if isinstance(value, str) else value)

    def actions(self) -> Any:
        return self.ffi.new("struct failover_actions *")

    def decide(self, request: Any, event: Any, now: float) -> Any:
        """Decides; gives the struct failover_actions."""
        actions = self.actions()
        actions.forget = actions.move_to = 77  # left over from before, and overwritten
        self.lib.failover_decide(request, event, now, actions)
        return actions

    def changes(self, request: Any, event: Any, now: float) -> tuple[Changes, Changes]:
        """Decides; gives the actions, those that are none left out, and all that has changed in *request*."""
        before = self.snapshot(request)
        actions = self.decide(request, event, now)
        return self.to_be_done(actions), self.difference(before, self.snapshot(request))

    def to_be_done(self, actions: Any) -> Changes:
        done: Changes = {}
        for name, _ in self.ffi.typeof("struct failover_actions").fields:
            value = getattr(actions, name)
            if name != "reason" and value != (-1 if name in _ATTEMPTS else 0):
                done[name] = members(value) if name in _SETS else value
        if actions.retry:
            done["retry"] = self.ffi.string(self.ffi.cast("enum failover_reason", actions.reason))
        return done

    def snapshot(self, request: Any) -> Changes:
        """All that is in *request*; an attempt's fields as "0.ended"."""
        values: Changes = {}
        for name, _ in self.ffi.typeof("struct failover_state").fields:
            if name != "attempts":
                values[name] = getattr(request, name)
        values["state"] = self.ffi.string(self.ffi.cast("enum request_state", request.state))
        values["ruling"] = self.ffi.string(self.ffi.cast("enum failover_ruling", request.ruling))
        for index in range(request.attempt_count):
            for name, _ in self.ffi.typeof("struct attempt_state").fields:
                values[f"{index}.{name}"] = getattr(request.attempts[index], name)
        return values

    @staticmethod
    def difference(before: Changes, after: Changes) -> Changes:
        return {name: value for name, value in after.items() if name not in before or before[name] != value}


def members(bits: int) -> set[int]:
    return {index for index in range(bits.bit_length()) if bits & 1 << index}


def bits(indices: set[int]) -> int:
    return sum(1 << index for index in indices)
