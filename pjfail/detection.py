"""Failure detectors: does this outcome take the server down? Plain callables, pure.

An outcome :func:`counts` against a server if the server itself caused it. A certificate that does not match, and a 503
or 500 after a provisional response (both come from further downstream), say nothing about the server itself.
"""

from __future__ import annotations

from collections.abc import Callable

from ._validation import is_amount, require_function
from ._values import dataclass
from .model import Health, Outcome, OutcomeKind, State

Detect = Callable[[Health, Outcome], bool | State]
"""Says whether this outcome takes the server down, given the server's health before: True or ``State.DOWN`` takes it
down; ``State.SUSPECT`` puts it behind the servers that are up and has it probed; False changes nothing. A half-open
server goes down for ``State.SUSPECT`` too.
"""

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
    """Returns whether *outcome* is a failure that the server itself caused."""
    return outcome.seen in _FAILURES and not outcome.after_provisional


@dataclass(frozen=True, slots=True)
class Consecutive:
    """Takes a server down after a number of failures in a row: ``failures`` of requests, ``errors`` (500, 502, 504),
    ``fall`` failed probes.

    Before that number is reached, a failure makes the server suspect; an error does not, because it is an answer.
    Raises ValueError unless each is a whole number from 1 on.
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
    """Takes a server down when more than the share ``above`` of its requests in the window failed, of at least
    ``samples``.
    """

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
    """Takes a server down, or makes it suspect, when one of ``detectors`` says so; down wins."""

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
    """Combines detectors: ``any_of(Consecutive(), FailureRate())`` takes a server down when one of the two does."""
    return _AnyOf(detectors)
