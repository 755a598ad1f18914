"""What is told: events to the listeners, and what a policy does wrong to the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from . import events

log = logging.getLogger("pjfail")

# The mistakes of a policy beyond this many different ones are not logged.
MAX_POLICY_ERRORS = 100


class News:
    """The events that the listeners have not been told yet. Worker only."""

    def __init__(self, listeners: Sequence[events.Listener]) -> None:
        self._listeners = tuple(listeners)
        self._events: list[events.Event] = []

    def tell(self, event: events.Event) -> None:
        """Keeps *event* until :meth:`deliver`."""
        self._events.append(event)

    def deliver(self) -> None:
        """Calls the listeners with each new event; call it once the plans that come of it are in force."""
        new, self._events = self._events, []
        for event in new:
            for listener in self._listeners:
                try:
                    listener(event)
                except Exception:
                    log.exception("a listener failed on %s", type(event).__name__)


class PolicyErrors:
    """Logs what a policy does wrong, each mistake once. Worker only."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def __call__(self, problem: str, error: Exception | None) -> None:
        """*problem* follows the words "the policy" in the log; *error* is what it raised, if it did."""
        if problem not in self._logged and len(self._logged) < MAX_POLICY_ERRORS:
            self._logged.add(problem)
            log.error("the policy %s; pjfail uses the default policy instead (logged once)", problem, exc_info=error)
