"""Failure detectors: is this outcome enough to take the server down? Plain callables, pure.

An outcome :func:`counts` against a server when it is the server's own doing. A certificate that does not match, and a
503 or 500 that came after a provisional response (from further downstream), tell nothing of the server itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ._validation import is_amount, require_function
from .model import Health, Outcome, OutcomeKind, State

Detect = Callable[[Health, Outcome], bool | State]
"""Whether this outcome makes the server "down", given its health before: True or ``State.DOWN``; ``State.SUSPECT`` to
put it behind those that are well and have it probed; False to leave it where it is. While it is half-open, suspicion
is enough."""

_FAILURES = frozenset(
    {
        OutcomeKind.SILENT,
        OutcomeKind.REFUSED,
        OutcomeKind.DISCONNECTED,
        OutcomeKind.UNAVAILABLE,
        OutcomeKind.SERVER_ERROR,
    }
)


def counts(outcome: Outcome) -> bool:
    """Whether *outcome* is a failure, and the server's own."""
    return outcome.seen in _FAILURES and not outcome.after_provisional


@dataclass(frozen=True, slots=True)
class Consecutive:
    """Down after so many in a row: ``failures`` of requests, ``errors`` (500, 502, 504), ``fall`` failed probes.

    Until then a failure makes the server suspect; an error, which is an answer, does not. Raises ValueError for what is
    not a whole number from 1 on.
    """

    failures: int = 1
    errors: int = 5
    fall: int = 1

    def __post_init__(self) -> None:
        if not all(isinstance(each, int) and each >= 1 for each in (self.failures, self.errors, self.fall)):
            raise ValueError(f"{self}: give whole numbers from 1 on")

    def __call__(self, health: Health, outcome: Outcome) -> bool | State:
        if not counts(outcome):
            return False
        if outcome.seen is OutcomeKind.SERVER_ERROR:
            return health.errors + 1 >= self.errors
        enough = self.fall if outcome.probe else self.failures
        return State.DOWN if health.streak + 1 >= enough else State.SUSPECT


@dataclass(frozen=True, slots=True)
class FailureRate:
    """Down when more than the share ``above`` of its requests in the window failed, of at least ``samples``."""

    above: float = 0.5
    samples: int = 20

    def __post_init__(self) -> None:
        if not (is_amount(self.above) and self.above < 1 and is_amount(self.samples, least=1)):
            raise ValueError(f"{self}: give a share below 1, and a number from 1 on")

    def __call__(self, health: Health, outcome: Outcome) -> bool:
        if not counts(outcome):
            return False
        window = health.window.note(outcome.at, outcome.answers, failures=1)
        return window.samples >= self.samples and window.rate > self.above


@dataclass(frozen=True, slots=True)
class _AnyOf:
    """Down when one of ``detectors`` says so, and suspect when one of them says that."""

    detectors: tuple[Detect, ...]

    def __post_init__(self) -> None:
        if not self.detectors:
            raise TypeError("any_of() without detectors takes no server down; give at least one")
        for detect in self.detectors:
            require_function("a failure detector", detect, ("health", "outcome"), "bool or State")

    def __call__(self, health: Health, outcome: Outcome) -> State | bool:
        verdicts = [detect(health, outcome) for detect in self.detectors]
        if any(verdict is True or verdict is State.DOWN for verdict in verdicts):
            return State.DOWN
        return State.SUSPECT if State.SUSPECT in verdicts else False


def any_of(*detectors: Detect) -> Detect:
    """``any_of(Consecutive(), FailureRate())``: down when one of them says so."""
    return _AnyOf(detectors)
