"""The policy: who comes first, who is convicted, and for how long. Pure functions, each replaceable.

A policy is three plain callables in a :class:`Policy`. A plain function given as ``policy=`` stands for its order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from .model import Candidate, CertificateProblem, Health, Outcome, Seen, Server, State

Order = Callable[[Sequence[Candidate], Mapping[Server, Health]], Sequence[Candidate] | Sequence[Sequence[Candidate]]]
"""From the candidates and what is known of them (current at the call) to their order: a sequence of candidates, each
tried before the next, or a sequence of tiers, within which the weights of RFC 2782 decide. Candidates may be left out
on purpose, none may be added. Runs on pjfail's worker, which it must not hold up."""

Convict = Callable[[Health, Outcome], bool]
"""Whether this outcome makes the server "down", given its health before."""

Backoff = Callable[[int, Random], float]
"""How many seconds a server stays down after this many consecutive failures (1, 2, ...)."""


def by_priority(candidates: Sequence[Candidate], health: Mapping[Server, Health]) -> list[list[Candidate]]:
    """Tiers by RFC 2782 priority; servers that are not usable stand, by priority too, behind all that are."""
    tiers: dict[tuple[bool, int], list[Candidate]] = {}
    for candidate in candidates:
        usable = candidate.server not in health or health[candidate.server].usable
        tiers.setdefault((not usable, candidate.priority), []).append(candidate)
    return [tiers[key] for key in sorted(tiers)]


def on_first_failure(health: Health, outcome: Outcome) -> bool:
    """Convicts of silence, refusal, a connection lost with a request on it, and a 503 of the server's own.

    A certificate that does not match, and a 503 after a provisional (it came from further downstream), tell nothing of
    the server itself.
    """
    del health
    if outcome.seen is Seen.UNAVAILABLE:
        return not outcome.after_provisional
    return outcome.seen in (Seen.SILENT, Seen.REFUSED, Seen.DISCONNECTED)


@dataclass(frozen=True, slots=True)
class ExponentialBackoff:
    """*base* seconds, doubled with each consecutive failure up to *ceiling*, give or take the share *jitter*."""

    base: float = 30.0
    ceiling: float = 300.0
    jitter: float = 0.1

    def __call__(self, failures: int, random: Random) -> float:
        hold = self.base * 2.0 ** min(failures - 1, 32)
        return min(hold, self.ceiling) * random.uniform(1 - self.jitter, 1 + self.jitter)


@dataclass(frozen=True, slots=True)
class Policy:
    """How pjfail decides. ``retry_after_ceiling`` bounds the seconds that a 503 may ask for."""

    order: Order = by_priority
    convict: Convict = on_first_failure
    backoff: Backoff = ExponentialBackoff()
    retry_after_ceiling: float = 300.0


def judge(health: Health, outcome: Outcome, policy: Policy, now: float, random: Random) -> Health:
    """A server's health after *outcome*, given its health before. Pure; what :mod:`pjfail.health` keeps.

    Raises what the policy's parts raise, and ValueError or TypeError for a backoff that is no time.
    """
    if outcome.seen is Seen.ANSWERED:
        answered = _with_answer(health, outcome)
        on_hold = health.state is State.DOWN and health.held and _holds(health, now)
        if on_hold or health.state in (State.UP, State.DRAINING):
            return answered
        return Health(State.UP, since=now, rtt=answered.rtt, last_answer=answered.last_answer)
    if health.state is State.DRAINING:
        return health
    if not policy.convict(health, outcome):
        # One that shows a certificate is there again, and what was held against it is over.
        back = health.state is State.HALF_OPEN and outcome.seen is Seen.CERTIFICATE
        return Health(since=now, rtt=health.rtt, last_answer=health.last_answer) if back else health
    asked = outcome.retry_after if outcome.seen is Seen.UNAVAILABLE else None
    down_already = health.state is State.DOWN and _holds(health, now)
    if down_already and (asked is None or health.until is None):
        return health  # the same trouble, told by another request
    failures = health.failures + (not down_already)
    hold = policy.backoff(failures, random) if asked is None else min(max(asked, 1.0), policy.retry_after_ceiling)
    if not 0 <= hold < math.inf:
        raise ValueError(f"the backoff after {failures} failures is {hold!r}, which is no number of seconds")
    until = now + hold
    if health.state is State.DOWN and health.until is not None:
        until = max(until, health.until)
    return Health(
        State.DOWN,
        failures=failures,
        since=now,
        until=until,
        reason=describe(outcome),
        held=outcome.seen is Seen.UNAVAILABLE,
        rtt=health.rtt,
        last_answer=health.last_answer,
    )


def _holds(health: Health, now: float) -> bool:
    """Whether a hold-down has not ended."""
    return health.until is None or health.until > now


def _with_answer(health: Health, outcome: Outcome) -> Health:
    rtt = health.rtt if outcome.rtt is None else outcome.rtt
    return Health(
        health.state, health.failures, health.since, health.until, health.reason, health.held, rtt, outcome.at
    )


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
    """The outcome in words: ``silent to REGISTER``, ``answered 503 to OPTIONS, Retry-After 7 s``."""
    if outcome.seen is Seen.CERTIFICATE:
        return _describe_certificate(outcome.certificate)
    if outcome.seen is Seen.SILENT:
        return f"silent to {outcome.method}"
    if outcome.seen in (Seen.ANSWERED, Seen.UNAVAILABLE):
        asked = "" if outcome.retry_after is None else f", Retry-After {outcome.retry_after:g} s"
        return f"answered {outcome.code} to {outcome.method}{asked}"
    return f"{outcome.seen.value}{f' ({outcome.detail})' if outcome.detail else ''}"
