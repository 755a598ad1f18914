"""Events for the listeners, and log lines for the policy's mistakes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from . import events
from ._validation import FAILURES

log = logging.getLogger("pjfail")

# The most different mistakes of a policy that are logged.
MAX_POLICY_ERRORS = 100


class News:
    """The events that have not been delivered to the listeners yet. Worker only."""

    def __init__(self, listeners: Sequence[events.Listener]) -> None:
        self._listeners = tuple(listeners)
        self._events: list[events.Event] = []

    def add(self, listener: events.Listener) -> None:
        """Has *listener* called before the others."""
        self._listeners = (listener, *self._listeners)

    def tell(self, event: events.Event) -> None:
        """Keeps *event* until :meth:`deliver`."""
        self._events.append(event)

    def deliver(self) -> None:
        """Calls the listeners with each new event; call it once the new plans are in force."""
        new, self._events = self._events, []
        for event in new:
            for listener in self._listeners:
                try:
                    listener(event)
                except FAILURES:
                    log.exception("a listener failed on %s", type(event).__name__)


class PolicyErrors:
    """Logs what a policy does wrong, each mistake once. Worker only."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def __call__(self, problem: str, error: BaseException | None) -> None:
        """Logs *problem* after the words "the policy"; *error* is the exception that the policy raised, or None."""
        if problem not in self._logged and len(self._logged) < MAX_POLICY_ERRORS:
            self._logged.add(problem)
            log.error("the policy %s; pjfail uses the default policy instead (logged once)", problem, exc_info=error)
