"""From candidates to a plan: the policy's order, checked, with a reason for each place. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .model import Candidate, Health, Place, Plan, Server, State, Target
from .policy import Order, by_priority

Complain = Callable[[str, Exception | None], object]
"""Told in words what the policy did wrong, with its exception where it raised one."""


def make_plan(
    target: Target,
    candidates: Sequence[Candidate],
    health: Mapping[Server, Health],
    order: Order,
    valid_until: float,
    now: float,
    complain: Complain,
) -> Plan:
    """The plan for *target* by *order*; by the default order where that raises, or returns what it may not.

    A plan is never empty: with every candidate left out, all are in it.
    """
    candidates = tuple(dict.fromkeys(candidates))  # a lookup may have found one twice
    tiers = _tiers(order, candidates, health, complain) or by_priority(candidates, health)
    places = tuple(
        Place(candidate, number, reason(candidate, health.get(candidate.server, Health()), now))
        for number, tier in enumerate(tiers)
        for candidate in tier
    )
    return Plan(target, places, valid_until)


def _tiers(
    order: Order, candidates: Sequence[Candidate], health: Mapping[Server, Health], complain: Complain
) -> list[list[Candidate]] | None:
    """What *order* makes of the candidates, None where that is no order of them."""
    try:
        ordered: Sequence[Candidate | Sequence[Candidate]] = order(candidates, health)
        tiers = [[item] if isinstance(item, Candidate) else list(item) for item in ordered]
        flat = [candidate for tier in tiers for candidate in tier]
        known = set(candidates)
        foreign = [candidate for candidate in flat if candidate not in known]
    except Exception as error:
        complain(f"raised {type(error).__name__} or returned no sequence of candidates", error)
        return None
    if foreign:
        complain(f"returned {foreign[0]!r}, which is none of the candidates", None)
        return None
    if len(set(flat)) < len(flat):
        complain("returned a candidate twice", None)
        return None
    if not flat:
        complain("left out every candidate", None)
        return None
    return [tier for tier in tiers if tier]


def reason(candidate: Candidate, health: Health, now: float) -> str:
    """In words, why a candidate stands where it does."""
    if health.state is State.DOWN:
        ending = "" if health.until is None else f" for {max(health.until - now, 0):.0f} s more"
        return f"down{ending}: {health.reason}, failure {health.failures}"
    if health.state is State.HALF_OPEN:
        return f"half-open, being probed: was {health.reason}, failure {health.failures}"
    if health.state is State.UP:
        return f"up, priority {candidate.priority}, weight {candidate.weight}"
    return f"{health.state.value}: {health.reason}"
