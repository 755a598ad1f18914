"""Writes events as lines into a log, in words."""

from __future__ import annotations

import logging
import re
from dataclasses import fields, is_dataclass
from functools import singledispatch

from .. import events
from ..model import Health, Outcome
from ..policy import describe


class LogListener:
    """Writes one line for each event to *logger*, by default "pjfail.events".

    Bad news (a server down, a lookup failed, an account without a server) is a warning, all else is information. Called
    on pjfail's worker.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        if logger is not None and not callable(getattr(logger, "log", None)):
            raise TypeError(f"logger is {logger!r}; give a logging.Logger, by logging.getLogger()")
        self._logger = logging.getLogger("pjfail.events") if logger is None else logger

    def __call__(self, event: events.Event) -> None:
        level, line = in_words(event)
        self._logger.log(level, "%s", line)


@singledispatch
def in_words(event: object) -> tuple[int, str]:
    """Returns the log level of *event* and its line. This function itself serves events of unknown types."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(event).__name__).lower()
    if not is_dataclass(event):
        return logging.INFO, f"{name}: {event}"
    told = ((field.name.replace("_", " "), getattr(event, field.name)) for field in fields(event))
    return logging.INFO, f"{name}: {', '.join(f'{what} {_value(value)}' for what, value in told)}"


def _value(value: object) -> str:
    if isinstance(value, Outcome):
        return describe(value)
    if isinstance(value, Health):
        return f"{value.state.value} ({value.reason})" if value.reason else value.state.value
    return str(value)


@in_words.register
def _(event: events.ServerSuspected) -> tuple[int, str]:
    return logging.INFO, f"{event.server} is suspect: {describe(event.outcome)}"


@in_words.register
def _(event: events.ServerDown) -> tuple[int, str]:
    health = event.health
    ending = (
        "until the application restores it"
        if health.until is None
        else f"next tried within {health.until - health.since:.0f} s"
    )
    again = f" (failure {health.failures})" if health.failures > 1 else ""
    return logging.WARNING, f"{event.server} is down, {ending}: {health.reason}{again}"


@in_words.register
def _(event: events.ServerUp) -> tuple[int, str]:
    return logging.INFO, f"{event.server} is up again{f': {event.health.reason}' if event.health.reason else ''}"


@in_words.register
def _(event: events.ProbeFailed) -> tuple[int, str]:
    return logging.INFO, f"{event.server} failed a probe: {describe(event.outcome)}"


@in_words.register
def _(event: events.CertificateRejected) -> tuple[int, str]:
    return logging.WARNING, f"{event.server} {event.reason}"


@in_words.register
def _(event: events.FailedOver) -> tuple[int, str]:
    code = f" {event.code}" if event.code else ""
    went = f"{event.method} failed over from {event.left} to {event.taken} after {event.after:.1f} s"
    return logging.INFO, f"{went}: {event.why.value}{code}"


@in_words.register
def _(event: events.PlanChanged) -> tuple[int, str]:
    return logging.INFO, f"{event.plan.target} goes to {', then '.join(map(str, event.plan.servers))}"


@in_words.register
def _(event: events.AccountMoved) -> tuple[int, str]:
    account = f"account {event.account} ({event.aor})"
    why = f": {event.reason}" if event.reason else ""
    if event.reason == events.UNREGISTERS:
        return logging.INFO, f"{account} unregisters"
    if event.server is None:
        return logging.WARNING, f"{account} has no healthy server{why}"
    return logging.INFO, f"{account} is on {event.server}, after {event.before or 'none'}{why}"


@in_words.register
def _(event: events.CallRefreshed) -> tuple[int, str]:
    return logging.INFO, f"call {event.call} of account {event.account} is refreshed at {event.server}"


@in_words.register
def _(event: events.CallStranded) -> tuple[int, str]:
    return logging.WARNING, f"call {event.call} of account {event.account} is stranded: {event.reason}"


@in_words.register
def _(event: events.LookupFailed) -> tuple[int, str]:
    target = str(event.target)
    reason = event.reason if event.reason.startswith(target) else f"{target}: {event.reason}"
    return logging.WARNING, f"{reason} ({'for now' if event.temporary else 'for good'})"


@in_words.register
def _(event: events.SharedDown) -> tuple[int, str]:
    return logging.WARNING, f"the shared memory {event.store} cannot be used: {event.reason}"


@in_words.register
def _(event: events.SharedUp) -> tuple[int, str]:
    return logging.INFO, f"the shared memory {event.store} is there again, after {event.after:.0f} s"


@in_words.register
def _(event: events.LookupStale) -> tuple[int, str]:
    return logging.WARNING, f"{event.target} uses old answers: {event.reason}"
