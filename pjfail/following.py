"""Followed accounts: on the server they registered with, on the next when it fails, back on a better one in time.

What should become of an account is a pure function, :func:`decide`; :class:`Follower` has it done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from . import bridge, events
from .bridge import Pin, Registration
from .model import Health, Plan, Server, Target

log = logging.getLogger("pjfail")

# How long after a REGISTER that pjsua would not send it is tried again: another one is under way (seconds).
BUSY = 1.0
# A Retry-After beyond this is cut (seconds).
RETRY_AFTER_CEILING = 300.0
# How much later than asked an account moves back at the most, so that a fleet does not come at once (a share).
FAILBACK_SPREAD = 0.5


@dataclass(frozen=True, slots=True)
class Following:
    """One followed account, at one moment.

    ``server`` has its requests, None while its plan decides; its REGISTERs go to ``trying``, if any, which takes the
    others over once it has answered. ``register_at`` is when the next REGISTER of ours is due, ``return_at`` when the
    account goes back to a better server; ``reason`` tells of the last move.
    """

    account: int
    aor: str
    next_hop: Target
    failback: float | None
    spread: float
    server: Server | None = None
    trying: Server | None = None
    register_at: float | None = None
    return_at: float | None = None
    reason: str = ""

    @property
    def pin(self) -> Pin:
        return Pin(self.account, self.aor, self.next_hop, self.server, self.trying, self.server is None, followed=True)


def decide(
    following: Following,
    plan: Plan | None,
    order: Sequence[Server],
    health: Mapping[Server, Health],
    now: float,
    random: Random,
) -> Following:
    """What becomes of an account, given its target's plan and a draw (*order*) of it. Pure.

    A server that is not usable is left at once, for the first usable one in *order*, with a REGISTER within ``spread``
    seconds. One in a better tier, well for ``failback`` seconds, is registered with first.
    """
    usable = [server for server in order if health.get(server, Health()).usable]
    if following.trying is not None and following.trying not in usable:
        following = replace(following, trying=None, register_at=now, return_at=None)
    if following.server is not None and not health.get(following.server, Health()).usable:
        lost = health[following.server]
        reason = f"{following.server} is {lost.state.value}: {lost.reason}"
        following = replace(following, server=None, trying=None, return_at=None, reason=reason)
        if usable:
            soon = now + random.uniform(0, following.spread)
            return replace(following, server=usable[0], register_at=soon)
        return replace(following, register_at=None)
    if following.server is None:
        if usable and following.reason:  # it was lost when none was well
            soon = now + random.uniform(0, following.spread)
            return replace(following, server=usable[0], register_at=soon, reason=f"{usable[0]} is well again")
        return following
    if following.failback is None or plan is None or following.trying is not None:
        return following
    better = _better(plan, following.server, usable)
    if better is None:
        return replace(following, return_at=None)
    if following.return_at is None:
        well_since = health.get(better, Health()).since
        due = max(well_since + following.failback, now) + random.uniform(0, FAILBACK_SPREAD * following.failback)
        return replace(following, return_at=due)
    if now < following.return_at:
        return following
    reason = f"{better} is well again"
    return replace(following, trying=better, register_at=now, return_at=None, reason=reason)


def _better(plan: Plan, server: Server, usable: Sequence[Server]) -> Server | None:
    """The first usable server in a tier before that of *server*."""
    tiers = {place.server: place.tier for place in plan.places}
    own = tiers.get(server, len(plan.places))
    return next((other for other in usable if tiers.get(other, own) < own), None)


def registered(following: Following, registration: Registration, now: float) -> Following:
    """What a REGISTER's end tells of an account. Pure."""
    code, server = registration.code, registration.server
    if registration.status:
        return replace(following, register_at=now + BUSY if registration.status == bridge.REGISTERING else None)
    if registration.removed or code in (401, 407) or server is None:
        return following
    if 200 <= code < 300:
        reason = following.reason if server in (following.trying, following.server) else f"it registered with {server}"
        return replace(following, server=server, trying=None, register_at=None, return_at=None, reason=reason)
    if server == following.trying:  # it will not have us: back to where we are, and not again at once
        later = None if following.failback is None else now + following.failback
        return replace(following, trying=None, register_at=now, return_at=later)
    if code == 503 and registration.retry_after is not None:
        return replace(following, register_at=now + min(registration.retry_after, RETRY_AFTER_CEILING))
    return following


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the follower asks the worker for."""

    plan: Callable[[Target], Plan | None]
    health: Callable[[], Mapping[Server, Health]]
    tell: Callable[[events.Event], object]


class Follower:
    """The followed accounts. Worker only."""

    def __init__(self, surroundings: Surroundings, random: Random) -> None:
        self._around = surroundings
        self._random = random
        self._followed: dict[int, Following] = {}

    def follow(self, following: Following, now: float) -> None:
        self._set(following)
        self.review(now)

    def unfollow(self, account: int) -> None:
        following = self._followed.pop(account, None)
        if following is not None:
            bridge.drop_pin(following.pin)

    def server(self, account: int) -> Server | None:
        following = self._followed.get(account)
        return None if following is None else following.server

    def __contains__(self, account: int) -> bool:
        return account in self._followed

    def __bool__(self) -> bool:
        return bool(self._followed)

    def servers(self) -> Mapping[Server, str]:
        """The servers that accounts live on, each with a host name that its accounts know it by."""
        return {each.server: each.next_hop.host for each in self._followed.values() if each.server is not None}

    def heed(self, registration: Registration, now: float) -> None:
        following = self._followed.get(registration.account)
        if following is None:
            return
        if registration.status == bridge.NOT_FOUND:
            log.info("account %d (%s) is gone, and not followed any more", following.account, following.aor)
            self.unfollow(following.account)
            return
        self._set(registered(following, registration, now))

    def review(self, now: float) -> None:
        """Has done what is due; after every change of health, and every now and then."""
        if not self._followed:
            return
        health = self._around.health()
        for following in list(self._followed.values()):
            if not bridge.account_exists(following.account):
                log.info("account %d (%s) is gone, and not followed any more", following.account, following.aor)
                self.unfollow(following.account)
                continue
            plan = self._around.plan(following.next_hop)
            order = bridge.draw(following.next_hop, self._random.getrandbits(32)) if plan is not None else []
            after = decide(following, plan, order, health, now, self._random)
            if after.register_at is not None and after.register_at <= now:
                self._set(replace(after, register_at=None))
                bridge.register(after.account, after.aor)
            else:
                self._set(after)

    def _set(self, following: Following) -> None:
        before = self._followed.get(following.account)
        self._followed[following.account] = following
        if before is None or before.pin != following.pin:
            bridge.set_pin(following.pin)
        was = None if before is None else before.server
        if following.server != was:
            moved = events.AccountMoved(following.account, following.aor, following.server, was, following.reason)
            log.info("account %d (%s): %s after %s: %s", moved.account, moved.aor, moved.server, was, moved.reason)
            self._around.tell(moved)
