"""Orders: which server comes first. Plain callables, pure. An order with the parameter ``within`` refines another
order.

``Policy(order=Panic(Sticky(PreferFastest())))`` reads: ignore health if too few servers of a tier are usable; within a
tier, give each account its own server; put the fastest first. A tier is a set of equal servers, tried before the next
tier.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal, Protocol, cast

from ._validation import is_amount, require_function
from ._values import dataclass
from .model import Candidate, Health, Request, Server, State

Ordered = Sequence[Candidate] | Sequence[Sequence[Candidate]]
Tiers = list[list[Candidate]]

PlainOrder = Callable[[Sequence[Candidate], Mapping[Server, Health]], Ordered]


class RequestOrder(Protocol):
    """An order that has a keyword-only parameter ``request``, and so gets the request that it orders servers for."""

    def __call__(
        self, candidates: Sequence[Candidate], health: Mapping[Server, Health], *, request: Request
    ) -> Ordered: ...


Order = PlainOrder | RequestOrder
"""Takes the candidates and the servers' present health, and returns the candidates in order: a sequence of candidates,
tried one after the other, or a sequence of tiers, within which the weights of RFC 2782 decide. It may leave candidates
out on purpose, but not add any. If it has a keyword-only parameter ``request``, it gets a :class:`pjfail.Request` and
is called for each request. It runs on pjfail's worker and must not block it.
"""


# --- asking an order --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _parameter(order: Hashable) -> inspect.Parameter | None:
    """Returns the order's keyword-only parameter ``request``; None if it has none."""
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
    """Returns whether *order* must see each request: its parameter has no default, or an order that it refines must."""
    parameter = _request_parameter(order)
    if parameter is not None and parameter.default is inspect.Parameter.empty:
        return True
    within = getattr(order, "within", None)
    return callable(within) and asks_for_request(within)


def require_order(name: str, order: object) -> None:
    """Raises TypeError if *order* is not a valid :data:`Order`."""
    require_function(name, order, ("candidates", "health"), "candidates", keywords=("request",))


def _require_share(name: str, share: object) -> None:
    if not is_amount(share, most=1):
        raise ValueError(f"{name} is {share!r}; give a share from 0 to 1")


def ask(order: Order, candidates: Sequence[Candidate], health: Mapping[Server, Health], request: Request) -> Ordered:
    """Calls *order*, with the request if it has a parameter for that."""
    if _request_parameter(order) is not None:
        return cast(RequestOrder, order)(candidates, health, request=request)
    return cast(PlainOrder, order)(candidates, health)


def tiers_of(ordered: Ordered) -> Tiers:
    """Returns *ordered* as tiers, without the empty ones."""
    items: Sequence[Candidate | Sequence[Candidate]] = ordered
    tiers = [[item] if isinstance(item, Candidate) else list(item) for item in items]
    return [tier for tier in tiers if tier]


# --- the default ------------------------------------------------------------------------------------------------------


def standing(health: Health) -> int:
    """Returns 0 for up, 1 for in doubt (suspect, or up again without its tier), 2 for down, half-open or draining."""
    if not health.usable:
        return 2
    return 1 if health.state is State.SUSPECT or health.returning else 0


_UNKNOWN, _ANY = Health(), Request()


def by_priority(candidates: Sequence[Candidate], health: Mapping[Server, Health]) -> Tiers:
    """Makes tiers by RFC 2782 priority: first of the servers that are up, then of those in doubt, then of the unusable
    ones.
    """
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
    """Puts all servers that are up into one tier, whatever their priority: the weights decide."""
    return _tiers(candidates, health, lambda _: 0)


# --- within a tier ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PreferFastest:
    """Within a tier, puts the servers with the shortest round trips first; servers within ``band`` seconds of the
    fastest are equal.

    A server that was never measured, or not within ``forget`` seconds before another server's last answer, counts as
    fast, so that it is measured. Use it with a ``Policy(replan=...)`` of some seconds, because no event reports that a
    round trip has changed.
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
    """Splits *tier*: a group ends where a server is more than *band* seconds slower than the group's fastest measured
    server.
    """
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
    """Gives each account (or Call-ID) its own order within a tier, by weighted rendezvous hashing.

    A fleet then spreads by weight, each account's requests stay together, and a server that fails moves only its own
    accounts. If the account or Call-ID is not known, the weights decide.
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
    """Returns how far a server is from *key*: the nearest server is used, in proportion to the weights (an exponential
    race).
    """
    digest = hashlib.blake2b(f"{key} {candidate.server}".encode(), digest_size=8).digest()
    uniform = (int.from_bytes(digest, "big") + 0.5) / 2**64
    return -math.log(uniform) / (candidate.weight or 0.1)


# --- when much is down ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Panic:
    """Ignores the health of a tier in which some servers are usable, but less than the share ``below``: those few would
    drown.

    A tier without any usable server stays behind.
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
    """Excludes at most the share ``share`` of a tier (but one server in any case): the worst ones. The others keep
    their places.
    """

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
    """Returns the health to assume for a server whose health is ignored: up, unless the server (503) or the application
    holds it.
    """
    return health if health.held else replace(health, state=State.UP, returning=False)
