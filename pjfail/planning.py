"""From candidates to a plan: calls the policy's order, checks the result, and adds a reason to each position. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from .model import Candidate, Health, Plan, PlanEntry, Request, Server, State, Target
from .order import Order, Tiers, ask, by_priority, tiers_of
from .policy import Policy, share

Complain = Callable[[str, BaseException | None], object]
"""Called with what the policy did wrong, in words, and the exception that it raised, if any."""


def make_plan(
    target: Target,
    candidates: Sequence[Candidate],
    health: Mapping[Server, Health],
    order: Order,
    valid_until: float,
    now: float,
    complain: Complain,
    request: Request | None = None,
    slow_start: float = 0.0,
    wall: float | None = None,
) -> Plan:
    """Returns the plan for *target* by *order*; by the default order if *order* raises or returns something invalid.

    A plan is never empty: if *order* leaves every candidate out, the plan has all. *request* is the request that the
    plan is for; None: any. *slow_start* is the policy's; *wall* is the wall clock's time minus the monotonic time, in
    seconds.
    """
    candidates = tuple(dict.fromkeys(candidates))  # a lookup may have found one twice
    request = Request(target) if request is None else request
    if request.method:
        health = {server: known.to(request.method) for server, known in health.items()}
    tiers = _tiers(order, candidates, health, request, complain) or by_priority(candidates, health)

    known = {candidate.server: health.get(candidate.server, Health()) for candidate in candidates}
    tried_first = len(tiers)
    while tried_first and not any(known[candidate.server].usable for candidate in tiers[tried_first - 1]):
        tried_first -= 1

    def place(candidate: Candidate, tier: int) -> PlanEntry:
        own = known[candidate.server]
        portion = 1.0 if len(tiers[tier]) == 1 else share(own, now, slow_start)
        return PlanEntry(candidate, tier, reason(candidate, own, now, wall, portion), portion, tier >= tried_first)

    places = tuple(place(candidate, number) for number, tier in enumerate(tiers) for candidate in tier)
    return Plan(target, places, valid_until)


def _tiers(
    order: Order,
    candidates: Sequence[Candidate],
    health: Mapping[Server, Health],
    request: Request,
    complain: Complain,
) -> Tiers | None:
    """Returns what *order* makes of the candidates; None if that is not an order of them."""
    try:
        ordered = ask(order, candidates, health, request)
        try:
            tiers = tiers_of(ordered)
            flat = [candidate for tier in tiers for candidate in tier]
            known = set(candidates)
            foreign = [candidate for candidate in flat if candidate not in known]
        except TypeError as error:
            complain(f"returned what is not an order of the candidates ({type(ordered).__name__})", error)
            return None
    except (Exception, SystemExit) as error:  # an order may be a generator, which raises only now
        complain(f"raised {type(error).__name__}", error)
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
    return tiers


def weighted(places: Sequence[PlanEntry]) -> list[int]:
    """Returns the present weights of *places*: their own or, in a tier with a slow start, the shares that count now.

    In such a tier, weights that are all 0 (RFC 2782: no selection) count as equal.
    """
    slow = {place.tier for place in places if place.share < 1.0}
    most: dict[int, int] = {}
    for place in places:
        most[place.tier] = max(most.get(place.tier, 0), place.candidate.weight)

    def weight(place: PlanEntry) -> int:
        own, highest = place.candidate.weight, most[place.tier]
        if place.tier not in slow or (own == 0 and highest > 0):
            return own
        fine = min(_FINE, 65535 // highest) if highest else _FINE
        return max(1, round((own or 1) * fine * place.share))

    return [weight(place) for place in places]


# Weights are often small: multiplied by this, a share of one stays a whole number.
_FINE = 100


def review_at(plan: Plan, health: Mapping[Server, Health], now: float, policy: Policy) -> float:
    """Returns when to make *plan* anew though nothing happens: a share has grown, or a server has its tier back."""
    times = [plan.valid_until]
    if policy.replan is not None:
        times.append(now + policy.replan)
    for place in plan.entries:
        known = health.get(place.server)
        if known is not None and known.returns_at is not None:
            if known.returning:
                times.append(known.returns_at)
            elif place.share < 1.0:
                times.append(now + policy.slow_start / _STEPS)
    return max(min(times), now)


# In so many steps a share grows to 1.
_STEPS = 20


def reason(candidate: Candidate, health: Health, now: float, wall: float | None = None, portion: float = 1.0) -> str:
    """Returns, in words, the reason for a candidate's position.

    *wall* is the wall clock's time minus the monotonic time (seconds); None leaves times of day out. *portion* is the
    share of its weight that counts.
    """
    when = f" at {clock(health.failed_at + wall)}" if wall is not None and health.failed_at is not None else ""
    blamed = f"{health.reason}{when}, failure {health.failures}"
    if health.state is State.DOWN:
        ending = "" if health.until is None else f", next tried within {max(health.until - now, 0):.0f} s"
        return f"down{ending}, {blamed if health.failures else health.reason}"
    if health.state is State.HALF_OPEN:
        return f"half-open, being probed, was {blamed if health.failures else health.reason}"
    if health.state is State.UP:
        slow = "" if portion == 1.0 else f", {portion:.0%} of it after a recovery"
        waits = health.returns_at if health.returning else None
        back = "" if waits is None else f", back in its tier in {max(waits - now, 0):.0f} s"
        return f"up, priority {candidate.priority}, weight {candidate.weight}{slow}{back}"
    if health.state is State.SUSPECT:
        return f"suspect, {health.reason}{when}"
    return f"{health.state.value}, {health.reason}"


def clock(at: float) -> str:
    """Returns a wall clock time (seconds since the epoch) in the local zone: ``10:31:02``."""
    return time.strftime("%H:%M:%S", time.localtime(at))
