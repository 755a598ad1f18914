"""Followed accounts: on the server they registered with, on the next when it fails, back on a better one in time.

What should become of an account is a pure function, :func:`decide`; :class:`Follower` has it done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from random import Random

from . import events
from .bridge import accounts, pins, plans
from .bridge.pins import Pin, Registration
from .bridge.status import INVALID_OPERATION, NOT_FOUND, REGISTERING
from .model import Health, Plan, Server, Target

log = logging.getLogger("pjfail")

# How long after a REGISTER that pjsua would not send it is tried again: another is under way; anything else (seconds).
BUSY = 1.0
UNSENT = 10.0
# A Retry-After is brought to between these (seconds): 0 would have us ask without a pause.
RETRY_AFTER_FLOOR = 1.0
RETRY_AFTER_CEILING = 300.0
# A better server that would not have an account is left alone for so long, however short its failback (seconds).
REFUSED = 10.0
# How much later than asked an account moves back at the most, so that a fleet does not come at once (a share).
FAILBACK_SPREAD = 0.5
# At each review one account in so many is asked after: has the application deleted it?
ASKED_AFTER = 4


@dataclass(frozen=True, slots=True)
class FollowedAccount:
    """One followed account, at one moment.

    ``server`` has its requests, None while its plan decides; its REGISTERs go to ``trying``, if any, which takes the
    others over once it has answered. ``lost``: it wants a server, and none was well so far. ``register_at`` is when the
    next REGISTER of ours is due, ``return_at`` when the account goes back to a better server; ``reason`` tells of the
    last move.
    """

    account: int
    aor: str
    next_hop: Target
    failback: float | None
    spread: float
    server: Server | None = None
    trying: Server | None = None
    lost: bool = False
    register_at: float | None = None
    return_at: float | None = None
    reason: str = ""

    @property
    def pin(self) -> Pin:
        return Pin(self.account, self.aor, self.next_hop, self.server, self.trying, self.server is None, followed=True)


def decide(
    following: FollowedAccount,
    plan: Plan | None,
    order: Sequence[Server],
    health: Mapping[Server, Health],
    now: float,
    random: Random,
) -> FollowedAccount:
    """What becomes of an account, given its target's plan and a draw (*order*) of it. Pure.

    A server that is not usable is left at once, for the first usable one in *order*, with a REGISTER within ``spread``
    seconds. One in a better tier, well for ``failback`` seconds, is registered with first.
    """
    usable = [server for server in order if health.get(server, Health()).usable]
    soon = now + random.uniform(0, following.spread)
    if following.trying is not None and following.trying not in usable:
        due = soon if usable else following.register_at
        following = replace(following, trying=None, lost=following.server is None, register_at=due, return_at=None)
    if following.server is not None and not health.get(following.server, Health()).usable:
        lost = health[following.server]
        reason = f"{following.server} is {lost.state.value}: {lost.reason}"
        following = replace(following, server=None, trying=None, return_at=None, reason=reason)
        if usable:
            return replace(following, server=usable[0], register_at=soon)
        return replace(following, lost=True)
    if following.server is None:
        if usable and following.lost and following.trying is None:
            reason = f"{usable[0]} is well"
            return replace(following, server=usable[0], lost=False, register_at=soon, reason=reason)
        return following
    if following.failback is None or plan is None or following.trying is not None:
        return following
    better = _better(plan, following.server, usable)
    if better is None:
        overdue = following.return_at is not None and following.return_at <= now
        return replace(following, return_at=None) if overdue else following
    due = health.get(better, Health()).since + following.failback
    if following.return_at is None or following.return_at < due:
        due = max(due, now) + random.uniform(0, FAILBACK_SPREAD * following.failback)
        following = replace(following, return_at=due)
        if now < due:
            return following
    elif now < following.return_at:
        return following
    reason = f"{better} is well again"
    return replace(following, trying=better, register_at=now, return_at=None, reason=reason)


def _better(plan: Plan, server: Server, usable: Sequence[Server]) -> Server | None:
    """The first usable server in a tier before that of *server*."""
    tiers = {place.server: place.tier for place in plan.entries}
    own = tiers.get(server, len(plan.entries))
    return next((other for other in usable if tiers.get(other, own) < own), None)


def settled(
    following: FollowedAccount, tiers: Mapping[Server, int], health: Mapping[Server, Health], now: float
) -> bool:
    """Whether :func:`decide` has nothing to say, told from the tiers of the plan's usable servers. Pure, and quick."""
    if following.server is None:
        return following.trying is None and not (following.lost and tiers)
    own = tiers.get(following.server)
    if following.trying is not None or own is None:  # it is down, or in no plan any more
        return False
    if following.failback is None:
        return True
    at = following.return_at
    if at is None:
        return own <= min(tiers.values())
    waits = (health.get(server, Health()).since + following.failback <= at for server in tiers if tiers[server] < own)
    return now < at and all(waits)


def registered(following: FollowedAccount, registration: Registration, now: float) -> FollowedAccount:
    """What a REGISTER's end, or its sending, tells of an account. Pure."""
    code, server = registration.code, registration.server
    if registration.status:
        return _unsent(following, registration.status, now)
    if server is None:
        # It was registered before it was followed: where, only another REGISTER tells.
        unknown = following.server is None and following.trying is None and not following.lost
        return replace(following, register_at=now) if registration.registered and unknown else following
    if code in (401, 407):
        return following
    if registration.removed:  # from when it is sent, whatever is answered: it is not ours to register again
        reason = "it unregisters"
        return replace(following, server=None, trying=None, lost=False, register_at=None, return_at=None, reason=reason)
    if code == 0:  # where its first one goes
        return replace(following, trying=server) if following.server is None else following
    if 200 <= code < 300:
        if server == following.server and following.trying not in (None, server):
            return following  # a refresh that was on its way when the better server's turn came
        moving = following.server is not None and server in (following.trying, following.server)
        reason = following.reason if moving else f"it registered with {server}"
        return_at = following.return_at if server == following.server else None
        return replace(
            following, server=server, trying=None, lost=False, register_at=None, return_at=return_at, reason=reason
        )
    if server == following.trying and following.server is not None:
        # It will not have us: back to where we are, and not again at once.
        later = None if following.failback is None else now + max(following.failback, REFUSED)
        return replace(following, trying=None, register_at=now, return_at=later)
    if following.server is None:
        lost = following.lost or code == 503
        return _told_when(replace(following, trying=None, lost=lost), registration, now)
    return _told_when(following, registration, now) if server == following.server else following


def _unsent(following: FollowedAccount, status: int, now: float) -> FollowedAccount:
    """After a REGISTER that pjsua would not send, for *status*."""
    if status == REGISTERING:
        return replace(following, register_at=now + BUSY)
    if status == INVALID_OPERATION:  # the account has no registrar any more
        return replace(following, trying=None, register_at=None)
    return replace(following, trying=None, register_at=now + UNSENT)


def _told_when(following: FollowedAccount, registration: Registration, now: float) -> FollowedAccount:
    """Heeds the Retry-After of the server that the account has no better one for."""
    asked = registration.retry_after
    if asked is None or not 500 <= registration.code < 600 or following.register_at is not None:
        return following
    return replace(following, register_at=now + min(max(asked, RETRY_AFTER_FLOOR), RETRY_AFTER_CEILING))


@dataclass(frozen=True, slots=True)
class FollowerContext:
    """What the follower asks the worker for; ``at`` is a function to call, and when."""

    plan: Callable[[Target], Plan | None]
    health: Callable[[], Mapping[Server, Health]]
    tell: Callable[[events.Event], object]
    at: Callable[[float, Callable[[], None]], object]


class _View:
    """What one review knows of servers; accounts of one target share what is known of it."""

    def __init__(self, around: FollowerContext) -> None:
        self.health = around.health()
        self._around = around
        self._targets: dict[Target, tuple[Plan | None, Mapping[Server, int]]] = {}

    def of(self, target: Target) -> tuple[Plan | None, Mapping[Server, int]]:
        """The target's plan, and the tiers of its usable servers."""
        if target not in self._targets:
            plan = self._around.plan(target)
            places = () if plan is None else plan.entries
            usable = {each.server: each.tier for each in places if self.health.get(each.server, Health()).usable}
            self._targets[target] = plan, usable
        return self._targets[target]


class Follower:
    """The followed accounts. Worker only."""

    def __init__(self, surroundings: FollowerContext, random: Random) -> None:
        self._around = surroundings
        self._random = random
        self._followed: dict[int, FollowedAccount] = {}
        self._turns: Iterator[int] = iter(())
        self._asked_after: FollowedAccount | None = None

    def follow(self, following: FollowedAccount, now: float) -> None:
        before = self._followed.get(following.account)
        if before is not None and (before.aor, before.next_hop) == (following.aor, following.next_hop):
            following = replace(before, failback=following.failback, spread=following.spread, return_at=None)
        elif before is not None:
            self.unfollow(following.account)  # the id was another account's, or it has another registrar now
        self._let_go(each for each in list(self._followed) if self._followed[each].aor == following.aor)
        self._set(following)
        self._asked_after = following  # once: asked twice it would register twice
        pins.ask_after(following.account, following.aor)  # is it registered? A REGISTER may be ending just now
        self.review(now)

    def unfollow(self, account: int) -> None:
        following = self._followed.pop(account, None)
        if following is not None:
            pins.drop_pin(following.pin)

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

    def on_registration(self, registration: Registration, now: float) -> None:
        asked_after, following = self._asked_after, self._followed.get(registration.account)
        if asked_after is not None and (asked_after.account, asked_after.aor) == (
            registration.account,
            registration.aor,
        ):
            self._asked_after = None
        if following is None or registration.aor != following.aor:  # the id is another account's now
            return
        if registration.status == NOT_FOUND:
            self._gone(following)
        else:
            self._set(registered(following, registration, now))

    def review(self, now: float) -> None:
        """Has done what is due; after every change of health, and every now and then."""
        if not self._followed:
            return
        self._ask_after_some()
        view = _View(self._around)
        for following in list(self._followed.values()):
            self._update(following, view, now)

    def _due(self, account: int, now: float) -> None:
        """Its time has come: between two reviews, so that accounts do not come in step with those."""
        following = self._followed.get(account)
        if following is not None:
            self._update(following, _View(self._around), now)

    def _update(self, following: FollowedAccount, view: _View, now: float) -> None:
        plan, tiers = view.of(following.next_hop)
        if not settled(following, tiers, view.health, now):
            order = plans.draw(following.next_hop, self._random.getrandbits(32)) if plan is not None else []
            following = decide(following, plan, order, view.health, now, self._random)
            self._set(following)
        if following.register_at is not None and following.register_at <= now:
            self._set(replace(following, register_at=None))
            pins.register(following.account, following.aor)

    def _ask_after_some(self) -> None:
        """Looks in turn whether accounts are there, and, for one at a time, whether an id is another account's by now.

        The latter takes pjsua's lock, and so is left to pjsip's own thread.
        """
        some = list(islice(self._turns, 1 + len(self._followed) // ASKED_AFTER))
        if not some:
            self._turns = iter(list(self._followed))
        self._let_go(some)
        following = next((self._followed[each] for each in some if each in self._followed), None)
        if self._asked_after is None and following is not None:
            self._asked_after = following
            pins.ask_after(following.account, following.aor)

    def _let_go(self, numbers: Iterable[int]) -> None:
        """The accounts of these *numbers* that are gone are not followed any more."""
        for number in numbers:
            following = self._followed.get(number)
            if following is not None and not accounts.account_exists(number):
                self._gone(following)

    def _gone(self, following: FollowedAccount) -> None:
        log.info("account %d (%s) is gone, and not followed any more", following.account, following.aor)
        self.unfollow(following.account)

    def _set(self, following: FollowedAccount) -> None:
        before = self._followed.get(following.account)
        self._followed[following.account] = following
        if before is None or before.pin != following.pin:
            pins.set_pin(following.pin)
        known = () if before is None else (before.register_at, before.return_at)
        for due in (following.register_at, following.return_at):
            if due is not None and due not in known:
                self._around.at(due, partial(self._due, following.account, due))
        was = None if before is None else before.server
        if following.server != was:
            moved = events.AccountMoved(following.account, following.aor, following.server, was, following.reason)
            to = moved.server or "no server"
            came = "" if was is None else f", after {was}"
            log.info("account %d (%s) is on %s%s: %s", moved.account, moved.aor, to, came, moved.reason)
            self._around.tell(moved)
