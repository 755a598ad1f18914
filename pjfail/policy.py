"""The policy: which server comes first, which server is taken down, and for how long. Pure functions, each replaceable.

A :class:`Policy` has three plain callables and a few numbers. A plain function given as ``policy=`` is used as its
order. :mod:`pjfail.order` and :mod:`pjfail.detection` have ready parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from types import MappingProxyType

from ._validation import is_amount, require_bool, require_function
from ._values import dataclass
from .detection import Consecutive, Detect, counts
from .model import CertificateProblem, Health, Outcome, OutcomeKind, State
from .order import Order, asks_for_request, by_priority, require_order
from .window import Window

Backoff = Callable[[int, Random], float]
"""Returns how many seconds a server stays down that was taken down for the nth time in a row (1, 2, ...)."""

# A server gets its tier back up to this share of ``failback`` later, at random: a fleet does not return at once.
FAILBACK_SPREAD = 0.5
# A server that was down for less by another's word, and is not, has its tier back at once.
TOLD_BRIEFLY_S = 5.0
# The share of its weight that a server has when it comes back.
SMALLEST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class ExponentialBackoff:
    """*base* seconds, doubled with each consecutive failure, plus or minus the share *jitter*; never more than
    *ceiling*.

    Without jitter, clients that lost a server at the same moment would all probe it at the same moment
    (docs/fleet.svg).
    """

    base: float = 30.0
    ceiling: float = 300.0
    jitter: float = 0.3

    def __post_init__(self) -> None:
        if not (is_amount(self.base) and is_amount(self.ceiling) and is_amount(self.jitter, most=1)):
            raise ValueError(f"{self}: base and ceiling are seconds, jitter is a share from 0 to 1")

    def __call__(self, failures: int, random: Random) -> float:
        hold = min(self.base * 2.0 ** min(failures - 1, 32), self.ceiling)
        return min(hold * random.uniform(1 - self.jitter, 1 + self.jitter), self.ceiling)


_CONSECUTIVE = Consecutive()


@dataclass(frozen=True, slots=True)
class Policy:
    """How pjfail decides. Times are in seconds.

    ``order``, ``detect`` and ``backoff`` are callables. A hold-down is never shorter than the one before it, unless the
    server has answered in between; that of a server which accounts want back may end early, unless it flaps.

    ``retry_after_floor`` and ``retry_after_ceiling`` bound the Retry-After of a 503. ``rise``: how many probes in a row
    a server must answer to be up again; with 1 any answer is enough. ``failback``: how long the server must then stay
    up before it has its tier back, and at random up to half as long again, so that a fleet does not return at once.
    ``slow_start``: how long after that its share of its tier grows, from a tenth to all of it.

    ``window``: how far back :attr:`pjfail.Health.window` looks. ``replan``: how old a plan may become if nothing
    happens (None: the TTL), for an order that uses measurements.

    ``per_method``: a server that leaves only one method unanswered, and answers others meanwhile, is down for that
    method only. Without it the server is down for all methods, because one plan then serves all methods.

    Raises ValueError for an invalid number, and TypeError for a function that does not take those arguments.
    """

    order: Order = by_priority
    detect: Detect = _CONSECUTIVE
    backoff: Backoff = ExponentialBackoff()
    retry_after_ceiling: float = 300.0
    retry_after_floor: float = 1.0
    rise: int = 1
    failback: float = 0.0
    slow_start: float = 30.0
    window: float = 60.0
    replan: float | None = None
    per_method: bool = False

    def __post_init__(self) -> None:
        require_order("order", self.order)
        require_function("detect", self.detect, ("health", "outcome"), "bool or State")
        require_function("backoff", self.backoff, ("failures", "random"), "seconds")
        for name in ("retry_after_ceiling", "retry_after_floor", "failback", "slow_start", "window"):
            if not is_amount(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)!r}; give a number of seconds")
        if self.retry_after_floor > self.retry_after_ceiling:
            raise ValueError(
                f"retry_after_floor is {self.retry_after_floor!r}; give at most retry_after_ceiling, "
                f"{self.retry_after_ceiling!r}"
            )
        if not (isinstance(self.rise, int) and self.rise >= 1):
            raise ValueError(f"rise is {self.rise!r}; give a whole number from 1 on")
        if self.replan is not None and not is_amount(self.replan, least=1, most=math.inf):
            raise ValueError(f"replan is {self.replan!r}; give a second or more, or None")
        require_bool("per_method", self.per_method)
        Window(self.window)

    @property
    def per_request(self) -> bool:
        """Whether a plan serves one request only: the order asks for the request, or ``per_method`` is set."""
        return self.per_method or asks_for_request(self.order)


# --- judging ----------------------------------------------------------------------------------------------------------


def judge(health: Health, outcome: Outcome, policy: Policy, now: float, random: Random) -> Health:
    """Returns a server's health after *outcome*, given its health before. Pure; ``pjfail.health`` stores it.

    Raises what the policy's parts raise, and ValueError or TypeError if the backoff does not return a valid time.
    """
    if _began(outcome) < health.since:
        return health  # it belongs to an older generation
    if outcome.seen is OutcomeKind.ANSWERED:
        return _answered(_noted(health, outcome, policy), outcome, policy, now, random)
    if health.state is State.DRAINING:
        return health
    own = _own_of_method(health, outcome)
    if own is not None:
        after = judge(own, outcome, policy, now, random)
        return replace(health, methods=MappingProxyType({**health.methods, outcome.method: after}))
    verdict = policy.detect(health, outcome)
    if not counts(outcome) and not verdict:
        # A server that shows a certificate answers again, so its failure is over.
        back = health.state is State.HALF_OPEN and outcome.seen is OutcomeKind.CERTIFICATE
        return _answered(health, outcome, policy, now, random) if back else health
    if verdict is False or verdict is State.UP:
        noted = _noted(health, outcome, policy)
        if outcome.seen is OutcomeKind.SERVER_ERROR:  # it is there
            return _answered(noted, outcome, policy, now, random)
        return noted
    if verdict is State.SUSPECT and health.state in (State.UP, State.SUSPECT):
        return suspected(_noted(health, outcome, policy), outcome.at, describe(outcome))
    return _taken_down(health, outcome, policy, now, random)


def _began(outcome: Outcome) -> float:
    return outcome.at if outcome.began is None else outcome.began


def _noted(health: Health, outcome: Outcome, policy: Policy) -> Health:
    """Returns *health* with *outcome* counted."""
    window = health.window if health.window.seconds == policy.window else Window(policy.window)
    window = window.note(outcome.at, outcome.answers, failures=outcome.seen is not OutcomeKind.ANSWERED)
    if outcome.seen in (OutcomeKind.ANSWERED, OutcomeKind.SERVER_ERROR):
        rtt = health.rtt if outcome.rtt is None else outcome.rtt
        errors = health.errors if outcome.code < 200 else 0  # a provisional answer says nothing about errors
        if outcome.seen is OutcomeKind.SERVER_ERROR:
            errors = health.errors + 1
        return replace(health, rtt=rtt, last_answer=outcome.at, streak=0, errors=errors, window=window)
    return replace(
        health,
        streak=health.streak + 1,
        successes=0,
        window=window,
        failed_at=outcome.at,
        failed_method=outcome.method,
    )


def _answered(health: Health, outcome: Outcome, policy: Policy, now: float, random: Random) -> Health:
    """Returns the health after an answer that has been counted."""
    if health.state is State.UP and health.failures:  # left to its traffic, it has shown that it is there
        health = replace(health, failures=0, hold=0.0, reason="")
    on_hold = health.state is State.DOWN and health.held and _holds(health, now)
    if on_hold or health.state in (State.UP, State.DRAINING):
        return _heard_of(health, outcome.method)
    if health.state is State.SUSPECT:
        return _up(health, outcome, returns_at=None)
    successes = health.successes + (outcome.probe or policy.rise == 1)
    if successes < policy.rise:
        if health.state is State.HALF_OPEN:
            return replace(health, successes=successes)
        return replace(
            health,
            state=State.HALF_OPEN,
            since=outcome.at,
            until=None,
            held=False,
            successes=successes,
            generation=health.generation + 1,
        )
    returns_at = outcome.at + policy.failback * random.uniform(1, 1 + FAILBACK_SPREAD)
    recovered = _up(health, outcome, returns_at)
    if not policy.per_method or health.failed_method in ("", outcome.method):
        return recovered
    # The server failed on another method: if that method fails again, only that method is down.
    doubted = Health(
        failures=health.failures,
        since=outcome.at,
        hold=health.hold,
        failed_at=health.failed_at,
        failed_method=health.failed_method,
    )
    return replace(recovered, methods=MappingProxyType({**health.methods, health.failed_method: doubted}))


def _up(health: Health, outcome: Outcome, returns_at: float | None) -> Health:
    """Returns the health of a server that is up again; everything recorded against it is forgotten."""
    return Health(
        State.UP,
        since=outcome.at,
        rtt=health.rtt,
        last_answer=health.last_answer,
        rttvar=health.rttvar,
        errors=health.errors,
        window=Window(health.window.seconds, outcome.at),
        generation=health.generation + 1,
        returning=returns_at is not None and returns_at > outcome.at,
        returns_at=returns_at,
        methods=_without(health.methods, outcome.method),
    )


def _heard_of(health: Health, method: str) -> Health:
    return replace(health, methods=_without(health.methods, method)) if method in health.methods else health


def _without(methods: Mapping[str, Health], method: str) -> Mapping[str, Health]:
    return MappingProxyType({name: own for name, own in methods.items() if name != method})


def left_to_traffic(health: Health, policy: Policy, now: float, random: Random) -> Health:
    """Up again without an answer, for requests to find out whether it is: of a server that answers no probe. Pure.

    Its failures are forgotten once it answers; until then the next one holds it down for longer.
    """
    returns_at = now + policy.failback * random.uniform(1, 1 + FAILBACK_SPREAD)
    return replace(
        health,
        state=State.UP,
        since=now,
        until=None,
        held=False,
        reason="it ignores OPTIONS, so its traffic is to tell",
        generation=health.generation + 1,
        returning=returns_at > now,
        returns_at=returns_at,
    )


def is_pardonable(health: Health, began: float) -> bool:
    """Returns whether the server is in doubt or down only for what it left undone since *began*. Pure."""
    doubted = health.state in (State.SUSPECT, State.DOWN, State.HALF_OPEN)
    return doubted and not health.held and health.failures <= 1 and health.since >= began


def pardoned(health: Health, now: float) -> Health:
    """Up again, with its failures forgotten: they were the network's. Pure."""
    return Health(
        since=now,
        reason="the network had failed",
        rtt=health.rtt,
        last_answer=health.last_answer,
        rttvar=health.rttvar,
        generation=health.generation + 1,
    )


def told_up(health: Health, reason: str, policy: Policy, now: float, random: Random) -> Health:
    """Up again by the word of another process, for *reason*. Pure.

    All processes hear that at once, so each gives the server its tier back at a time of its own, within twice
    ``slow_start``; at once, if it was down only briefly, since then the word that took it down was a mistake. Its
    failures are forgotten once it answers this process; until then the next one holds it down for longer.
    """
    spread = 0.0
    if now - health.since > TOLD_BRIEFLY_S:
        spread = policy.failback * random.uniform(1, 1 + FAILBACK_SPREAD) + 2 * random.uniform(0, policy.slow_start)
    up = left_to_traffic(health, policy, now, random)
    returns_at = now + spread if spread else None
    return replace(up, reason=reason, told=0, returning=spread > 0, returns_at=returns_at)


def _own_of_method(health: Health, outcome: Outcome) -> Health | None:
    """Returns the health that a failure of one method alone changes; None if the failure counts against the server."""
    alone = health.usable and not outcome.probe and outcome.seen in (OutcomeKind.SILENT, OutcomeKind.UNAVAILABLE)
    return health.methods.get(outcome.method) if alone else None


def suspected(health: Health, at: float, reason: str) -> Health:
    """The health of a server that is suspect, from the time *at* on, for *reason*."""
    if health.state is State.SUSPECT:
        return replace(health, reason=reason)
    return replace(
        health,
        state=State.SUSPECT,
        since=at,
        reason=reason,
        generation=health.generation + 1,
        returning=False,
        returns_at=None,
    )


def _taken_down(health: Health, outcome: Outcome, policy: Policy, now: float, random: Random) -> Health:
    asked = outcome.retry_after if outcome.seen is OutcomeKind.UNAVAILABLE else None
    down_already = health.state is State.DOWN and _holds(health, now)
    if down_already and (asked is None or health.until is None):
        return health  # the same failure, seen by another request
    failures = health.failures + (not down_already)
    if asked is None:
        backoff = policy.backoff(failures, random)
        if not is_amount(backoff):
            raise ValueError(f"{backoff!r} is not a valid backoff; return a number of seconds")
        hold = remembered = max(backoff, health.hold)
    else:
        hold = min(max(asked, policy.retry_after_floor), policy.retry_after_ceiling)
        remembered = health.hold
    until = now + hold
    if health.state is State.DOWN and health.until is not None:
        until = max(until, health.until)
    return replace(
        _noted(health, outcome, policy),
        state=State.DOWN,
        failures=failures,
        since=health.since if down_already else outcome.at,
        until=until,
        reason=describe(outcome),
        held=outcome.seen is OutcomeKind.UNAVAILABLE,
        failed_at=outcome.at,
        failed_method=outcome.method,
        hold=remembered,
        told=0,
        generation=health.generation + (not down_already),
        returning=False,
        returns_at=None,
    )


def _holds(health: Health, now: float) -> bool:
    """Returns whether the server's hold-down is still going on."""
    return health.until is None or health.until > now


def share(health: Health, now: float, slow_start: float) -> float:
    """Returns the share of its weight that counts at *now*, from 0.1 to 1: after a recovery it grows over *slow_start*
    seconds.
    """
    if health.returns_at is None or health.returns_at + slow_start <= now:
        return 1.0
    return max(SMALLEST_SHARE, (now - health.returns_at) / slow_start)


# --- in words ---------------------------------------------------------------------------------------------------------


_CERTIFICATE_WORDS = {
    CertificateProblem.WRONG_NAME: "is for another name",
    CertificateProblem.OUT_OF_DATE: "has expired or is not valid yet",
    CertificateProblem.UNTRUSTED: "is of an authority that is not trusted",
    CertificateProblem.NO_ISSUER: "is of an authority that is not known",
    CertificateProblem.WRONG_ISSUER: "is not of the authority that it names",
    CertificateProblem.REVOKED: "has been revoked",
    CertificateProblem.NO_REVOCATION_LIST: "cannot be checked for revocation",
    CertificateProblem.WRONG_PURPOSE: "is not for this purpose",
    CertificateProblem.MALFORMED: "cannot be read",
    CertificateProblem.CHAIN_TOO_LONG: "has too long a chain",
    CertificateProblem.WEAK_SIGNATURE: "is weakly signed",
}


def _describe_certificate(problem: CertificateProblem) -> str:
    found = [words for one, words in _CERTIFICATE_WORDS.items() if one in problem]
    return f"showed a certificate that {' and '.join(found) or 'was not accepted'}"


def describe(outcome: Outcome) -> str:
    """Returns the outcome in words: ``silent to REGISTER``, ``answered 503 to OPTIONS, Retry-After 7 s``."""
    if outcome.seen is OutcomeKind.CERTIFICATE:
        return _describe_certificate(outcome.certificate)
    if outcome.seen is OutcomeKind.SILENT:
        return f"silent to {outcome.method}"
    if outcome.seen in (OutcomeKind.ANSWERED, OutcomeKind.UNAVAILABLE, OutcomeKind.SERVER_ERROR):
        asked = "" if outcome.retry_after is None else f", Retry-After {outcome.retry_after:g} s"
        return f"answered {outcome.code} to {outcome.method}{asked}"
    return f"{outcome.seen.value}{f' ({outcome.detail})' if outcome.detail else ''}"
