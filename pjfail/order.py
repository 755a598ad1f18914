"""The order: who comes first. Plain callables, pure; those that take an order (``within``) refine what it says.

``Policy(order=Panic(Sticky(PreferFastest())))`` reads: health ignored where too little is left of a tier; within a tier
each account to a server of its own; the fastest first. A tier is a set of equals, tried before the next one.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Protocol, cast

from ._validation import is_amount, require_function
from .model import Candidate, Health, Request, Server, State

Ordered = Sequence[Candidate] | Sequence[Sequence[Candidate]]
Tiers = list[list[Candidate]]

PlainOrder = Callable[[Sequence[Candidate], Mapping[Server, Health]], Ordered]


class RequestOrder(Protocol):
    """An order that asks, by a keyword-only parameter ``request``, for what the request is."""

    def __call__(
        self, candidates: Sequence[Candidate], health: Mapping[Server, Health], *, request: Request
    ) -> Ordered: ...


Order = PlainOrder | RequestOrder
"""From the candidates and what is known of them (current at the call) to their order: a sequence of candidates, each
tried before the next, or a sequence of tiers, within which the weights of RFC 2782 decide. Candidates may be left out
on purpose, none may be added. One with a keyword-only parameter ``request`` is given a :class:`pjfail.Request`, and its
plans are made for each request. Runs on pjfail's worker, which it must not hold up."""


# --- asking an order --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _parameter(order: Hashable) -> inspect.Parameter | None:
    """The keyword-only parameter ``request`` of an order, if it has one."""
    try:
        found = inspect.signature(cast(Order, order)).parameters.get("request")
    except (TypeError, ValueError):  # a builtin that has no signature
        return None
    return found if found is not None and found.kind is inspect.Parameter.KEYWORD_ONLY else None


def _request_parameter(order: Order) -> inspect.Parameter | None:
    try:
        return _parameter(cast(Hashable, order))
    except TypeError:  # a callable that cannot be hashed
        return _parameter.__wrapped__(cast(Hashable, order))


def asks_for_request(order: Order) -> bool:
    """Whether *order* must see each request: its parameter has no default, or what it refines (``within``) must."""
    parameter = _request_parameter(order)
    if parameter is not None and parameter.default is inspect.Parameter.empty:
        return True
    within = getattr(order, "within", None)
    return callable(within) and asks_for_request(within)


def require_order(name: str, order: object) -> None:
    """Raises TypeError for what is not a valid :data:`Order`."""
    require_function(name, order, ("candidates", "health"), "candidates", keywords=("request",))


def _require_share(name: str, share: object) -> None:
    if not is_amount(share, most=1):
        raise ValueError(f"{name} is {share!r}; give a share from 0 to 1")


def ask(order: Order, candidates: Sequence[Candidate], health: Mapping[Server, Health], request: Request) -> Ordered:
    """What *order* says, given the request if it has a parameter for it."""
    if _request_parameter(order) is not None:
        return cast(RequestOrder, order)(candidates, health, request=request)
    return cast(PlainOrder, order)(candidates, health)


def tiers_of(ordered: Ordered) -> Tiers:
    """*ordered* as tiers, those that are empty left out."""
    items: Sequence[Candidate | Sequence[Candidate]] = ordered
    tiers = [[item] if isinstance(item, Candidate) else list(item) for item in items]
    return [tier for tier in tiers if tier]


# --- the default ------------------------------------------------------------------------------------------------------


def standing(health: Health) -> int:
    """0: well. 1: in doubt (suspect, or up again not long enough). 2: down, half-open or draining."""
    if not health.usable:
        return 2
    return 1 if health.state is State.SUSPECT or health.returning else 0


_UNKNOWN, _ANY = Health(), Request()


def by_priority(candidates: Sequence[Candidate], health: Mapping[Server, Health]) -> Tiers:
    """Tiers by RFC 2782 priority: of those that are well, then of those in doubt, then of those that are not usable."""
    return _tiers(candidates, health, lambda candidate: candidate.priority)


def _tiers(
    candidates: Sequence[Candidate], health: Mapping[Server, Health], priority: Callable[[Candidate], int]
) -> Tiers:
    tiers: dict[tuple[int, int], list[Candidate]] = {}
    for candidate in candidates:
        place = standing(health.get(candidate.server, _UNKNOWN)), priority(candidate)
        tiers.setdefault(place, []).append(candidate)
    return [tiers[place] for place in sorted(tiers)]


def spread(candidates: Sequence[Candidate], health: Mapping[Server, Health]) -> Tiers:
    """All that are well take part by weight, whatever their priority."""
    return _tiers(candidates, health, lambda _: 0)


# --- within a tier ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PreferFastest:
    """Within a tier, those with the shortest round trip first; those within ``band`` seconds of it are as good.

    A server that was never measured, or not in the ``forget`` seconds before another one's last answer, counts as fast:
    so it gets measured. Goes with a ``Policy(replan=...)`` of some seconds, for round trips change and tell nobody.
    """

    within: Order = by_priority
    band: float = 0.02
    forget: float = 60.0

    def __post_init__(self) -> None:
        require_order("within", self.within)
        for name in ("band", "forget"):
            if not is_amount(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)!r}; give seconds")

    def __call__(
        self, candidates: Sequence[Candidate], health: Mapping[Server, Health], *, request: Request = _ANY
    ) -> Tiers:
        known = [health.get(candidate.server, _UNKNOWN) for candidate in candidates]
        heard_since = max((each.last_answer or 0.0 for each in known), default=0.0) - self.forget

        def rtt(candidate: Candidate) -> float:
            one = health.get(candidate.server, _UNKNOWN)
            return one.rtt if one.rtt is not None and (one.last_answer or 0.0) >= heard_since else 0.0

        return [
            group
            for tier in tiers_of(ask(self.within, candidates, health, request))
            for group in _bands(tier, rtt, self.band)
        ]


def _bands(tier: Sequence[Candidate], rtt: Callable[[Candidate], float], band: float) -> Tiers:
    """*tier* cut where a server is slower by more than *band* than the fastest measured one of its group."""
    groups: Tiers = []
    fastest = 0.0
    for candidate in sorted(tier, key=rtt):  # stable: equals stay as they were
        if not groups or (fastest and rtt(candidate) > fastest + band):
            groups.append([])
            fastest = 0.0
        groups[-1].append(candidate)
        fastest = fastest or rtt(candidate)
    return groups


@dataclass(frozen=True, slots=True)
class Sticky:
    """Within a tier, each account (or Call-ID) has an order of its own, by weighted rendezvous hashing.

    So a fleet spreads by weight, what belongs together stays together, and a server that goes away moves nobody but its
    own. Where the account or Call-ID is not known, the weights decide.
    """

    within: Order = by_priority
    key: Literal["account", "call_id"] = "account"

    def __post_init__(self) -> None:
        require_order("within", self.within)
        if self.key not in ("account", "call_id"):
            raise ValueError(f'key is {self.key!r}; give "account" or "call_id"')

    def __call__(self, candidates: Sequence[Candidate], health: Mapping[Server, Health], *, request: Request) -> Tiers:
        key = request.call_id if self.key == "call_id" else request.account
        tiers = tiers_of(ask(self.within, candidates, health, request))
        if not key:
            return tiers
        return [[each] for tier in tiers for each in sorted(tier, key=lambda one: _distance(key, one))]


def _distance(key: str, candidate: Candidate) -> float:
    """How far a server is from *key*: the nearest has it, in proportion to the weights (an exponential race)."""
    digest = hashlib.blake2b(f"{key} {candidate.server}".encode(), digest_size=8).digest()
    uniform = (int.from_bytes(digest, "big") + 0.5) / 2**64
    return -math.log(uniform) / (candidate.weight or 0.1)


# --- when much is down ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Panic:
    """Ignores health in a tier of which less than the share ``below`` is usable, but some: they would drown.

    A tier that is down as a whole stays behind.
    """

    within: Order = by_priority
    below: float = 0.5

    def __post_init__(self) -> None:
        require_order("within", self.within)
        _require_share("below", self.below)

    def __call__(
        self, candidates: Sequence[Candidate], health: Mapping[Server, Health], *, request: Request = _ANY
    ) -> Ordered:
        ignored: dict[Server, Health] = {}
        for tier in _by_priority_alone(candidates):
            usable = sum(health.get(each.server, _UNKNOWN).usable for each in tier)
            if 0 < usable < self.below * len(tier):
                ignored |= {each.server: _as_well(health.get(each.server, _UNKNOWN)) for each in tier}
        return ask(self.within, candidates, {**health, **ignored}, request)


@dataclass(frozen=True, slots=True)
class MaxExcluded:
    """Puts at most the ``share`` of a tier behind (but one in any case): the worst. The others stay in place."""

    within: Order = by_priority
    share: float = 0.5

    def __post_init__(self) -> None:
        require_order("within", self.within)
        _require_share("share", self.share)

    def __call__(
        self, candidates: Sequence[Candidate], health: Mapping[Server, Health], *, request: Request = _ANY
    ) -> Ordered:
        spared: dict[Server, Health] = {}
        for tier in _by_priority_alone(candidates):
            bad = {each.server: health[each.server] for each in tier if each.server in health}
            bad = {server: known for server, known in bad.items() if not known.usable}
            worst_first = sorted(bad, key=lambda server: _badness(bad[server]), reverse=True)
            for server in worst_first[max(1, math.floor(self.share * len(tier))) :]:
                spared[server] = _as_well(bad[server])
        return ask(self.within, candidates, {**health, **spared}, request)


def _by_priority_alone(candidates: Sequence[Candidate]) -> Tiers:
    return by_priority(candidates, {})


def _badness(health: Health) -> tuple[bool, int, float]:
    return health.held, health.failures, health.until or 0.0


def _as_well(health: Health) -> Health:
    """What a server is taken for whose health is ignored; a word of the application's, or its own (503), is not."""
    return health if health.held else replace(health, state=State.UP, returning=False)
