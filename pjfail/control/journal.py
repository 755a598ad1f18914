"""The last events, for whoever asks what has happened, and since when accounts are where they are."""

from __future__ import annotations

import time
from collections import deque
from itertools import islice
from operator import itemgetter
from typing import Any

from .. import events

MAX_EVENTS = 100
"""Events of each kind that are remembered: thousands of failovers leave the server that went down."""
MAX_MOVED = 10_000
"""Accounts whose last move is remembered."""


class Journal:
    """Worker only."""

    def __init__(self) -> None:
        self._told: dict[type, deque[tuple[int, float, events.Event]]] = {}
        self._number = 0
        self._moved: dict[int, float] = {}

    def note(self, event: events.Event) -> None:
        self._number += 1
        self._told.setdefault(type(event), deque(maxlen=MAX_EVENTS)).append((self._number, time.time(), event))
        if isinstance(event, events.AccountMoved):
            self._moved.pop(event.account, None)
            self._moved[event.account] = time.monotonic()
            if len(self._moved) > MAX_MOVED:
                del self._moved[next(iter(self._moved))]

    def moved(self, account: int) -> float | None:
        """How many seconds ago *account* has moved last, None when that is not known."""
        at = self._moved.get(account)
        return None if at is None else round(time.monotonic() - at, 1)

    def last(self, number: int) -> list[dict[str, Any]]:
        """The last events of each kind, the newest last."""
        told = [each for kind in self._told.values() for each in islice(kind, max(len(kind) - number, 0), None)]
        return [as_row(at, event) for _, at, event in sorted(told, key=itemgetter(0))]


def as_row(at: float, event: events.Event) -> dict[str, Any]:
    """An event with the time of day, in seconds since 1970."""
    return {"at": round(at, 3), **event.as_dict()}
