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
RETRY_WHEN_BUSY = 1.0
RETRY_UNSENT = 10.0
# A Retry-After is brought to between these (seconds): 0 would have us ask without a pause.
RETRY_AFTER_FLOOR = 1.0
RETRY_AFTER_CEILING = 300.0
# A better server that would not have an account is left alone for so long, however short its failback (seconds).
MIN_REFUSED_HOLD = 10.0
# How much later than asked an account moves back at the most, so that a fleet does not come at once (a share).
FAILBACK_SPREAD = 0.5
# At each review one account in so many is asked after: has the application deleted it?
INQUIRY_SHARE = 4


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
    followed: FollowedAccount,
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
    soon = now + random.uniform(0, followed.spread)
    if followed.trying is not None and followed.trying not in usable:
        due = soon if usable else followed.register_at
        followed = replace(followed, trying=None, lost=followed.server is None, register_at=due, return_at=None)
    if followed.server is not None and not health.get(followed.server, Health()).usable:
        lost = health[followed.server]
        reason = f"{followed.server} is {lost.state.value}: {lost.reason}"
        followed = replace(followed, server=None, trying=None, return_at=None, reason=reason)
        if usable:
            return replace(followed, server=usable[0], register_at=soon)
        return replace(followed, lost=True)
    if followed.server is None:
        if usable and followed.lost and followed.trying is None:
            reason = f"{usable[0]} is healthy"
            return replace(followed, server=usable[0], lost=False, register_at=soon, reason=reason)
        return followed
    if followed.failback is None or plan is None or followed.trying is not None:
        return followed
    better = _better(plan, followed.server, usable)
    if better is None:
        overdue = followed.return_at is not None and followed.return_at <= now
        return replace(followed, return_at=None) if overdue else followed
    due = health.get(better, Health()).since + followed.failback
    if followed.return_at is None or followed.return_at < due:
        due = max(due, now) + random.uniform(0, FAILBACK_SPREAD * followed.failback)
        followed = replace(followed, return_at=due)
        if now < due:
            return followed
    elif now < followed.return_at:
        return followed
    reason = f"{better} is healthy again"
    return replace(followed, trying=better, register_at=now, return_at=None, reason=reason)


def _better(plan: Plan, server: Server, usable: Sequence[Server]) -> Server | None:
    """The first usable server in a tier before that of *server*."""
    tiers = {entry.server: entry.tier for entry in plan.entries}
    own = tiers.get(server, len(plan.entries))
    return next((other for other in usable if tiers.get(other, own) < own), None)


def settled(
    followed: FollowedAccount, tiers: Mapping[Server, int], health: Mapping[Server, Health], now: float
) -> bool:
    """Whether :func:`decide` has nothing to say, told from the tiers of the plan's usable servers. Pure, and quick."""
    if followed.server is None:
        return followed.trying is None and not (followed.lost and tiers)
    own = tiers.get(followed.server)
    if followed.trying is not None or own is None:  # it is down, or in no plan any more
        return False
    if followed.failback is None:
        return True
    at = followed.return_at
    if at is None:
        return own <= min(tiers.values())
    waits = (health.get(server, Health()).since + followed.failback <= at for server in tiers if tiers[server] < own)
    return now < at and all(waits)


def registered(followed: FollowedAccount, registration: Registration, now: float) -> FollowedAccount:
    """What a REGISTER's end, or its sending, tells of an account. Pure."""
    code, server = registration.code, registration.server
    if registration.status:
        return _unsent(followed, registration.status, now)
    if server is None:
        # It was registered before it was followed: where, only another REGISTER tells.
        unknown = followed.server is None and followed.trying is None and not followed.lost
        return replace(followed, register_at=now) if registration.registered and unknown else followed
    if code in (401, 407):
        return followed
    if registration.removed:  # from when it is sent, whatever is answered: it is not ours to register again
        reason = "it unregisters"
        return replace(followed, server=None, trying=None, lost=False, register_at=None, return_at=None, reason=reason)
    if code == 0:  # where its first one goes
        return replace(followed, trying=server) if followed.server is None else followed
    if 200 <= code < 300:
        if server == followed.server and followed.trying not in (None, server):
            return followed  # a refresh that was on its way when the better server's turn came
        moving = followed.server is not None and server in (followed.trying, followed.server)
        reason = followed.reason if moving else f"it registered with {server}"
        return_at = followed.return_at if server == followed.server else None
        return replace(
            followed, server=server, trying=None, lost=False, register_at=None, return_at=return_at, reason=reason
        )
    if server == followed.trying and followed.server is not None:
        # It will not have us: back to where we are, and not again at once.
        later = None if followed.failback is None else now + max(followed.failback, MIN_REFUSED_HOLD)
        return replace(followed, trying=None, register_at=now, return_at=later)
    if followed.server is None:
        lost = followed.lost or code == 503
        return _with_retry_after(replace(followed, trying=None, lost=lost), registration, now)
    return _with_retry_after(followed, registration, now) if server == followed.server else followed


def _unsent(followed: FollowedAccount, status: int, now: float) -> FollowedAccount:
    """After a REGISTER that pjsua would not send, for *status*."""
    if status == REGISTERING:
        return replace(followed, register_at=now + RETRY_WHEN_BUSY)
    if status == INVALID_OPERATION:  # the account has no registrar any more
        return replace(followed, trying=None, register_at=None)
    return replace(followed, trying=None, register_at=now + RETRY_UNSENT)


def _with_retry_after(followed: FollowedAccount, registration: Registration, now: float) -> FollowedAccount:
    """Heeds the Retry-After of the server that the account has no better one for."""
    asked = registration.retry_after
    if asked is None or not 500 <= registration.code < 600 or followed.register_at is not None:
        return followed
    return replace(followed, register_at=now + min(max(asked, RETRY_AFTER_FLOOR), RETRY_AFTER_CEILING))


@dataclass(frozen=True, slots=True)
class FollowerContext:
    """What the follower asks the worker for; ``at`` is a function to call, and when."""

    plan: Callable[[Target], Plan | None]
    health: Callable[[], Mapping[Server, Health]]
    tell: Callable[[events.Event], object]
    at: Callable[[float, Callable[[], None]], object]


class _Review:
    """What one review knows of servers; accounts of one target share what is known of it."""

    def __init__(self, context: FollowerContext) -> None:
        self.health = context.health()
        self._context = context
        self._targets: dict[Target, tuple[Plan | None, Mapping[Server, int]]] = {}

    def of(self, target: Target) -> tuple[Plan | None, Mapping[Server, int]]:
        """The target's plan, and the tiers of its usable servers."""
        if target not in self._targets:
            plan = self._context.plan(target)
            entries = () if plan is None else plan.entries
            usable = {each.server: each.tier for each in entries if self.health.get(each.server, Health()).usable}
            self._targets[target] = plan, usable
        return self._targets[target]


class Follower:
    """The followed accounts. Worker only."""

    def __init__(self, context: FollowerContext, random: Random) -> None:
        self._context = context
        self._random = random
        self._followed: dict[int, FollowedAccount] = {}
        self._turns: Iterator[int] = iter(())
        self._inquired: FollowedAccount | None = None

    def follow(self, followed: FollowedAccount, now: float) -> None:
        before = self._followed.get(followed.account)
        if before is not None and (before.aor, before.next_hop) == (followed.aor, followed.next_hop):
            followed = replace(before, failback=followed.failback, spread=followed.spread, return_at=None)
        elif before is not None:
            self.unfollow(followed.account)  # the id was another account's, or it has another registrar now
        self._unfollow_deleted(each for each in list(self._followed) if self._followed[each].aor == followed.aor)
        self._set(followed)
        self._inquired = followed  # once: asked twice it would register twice
        pins.ask_after(followed.account, followed.aor)  # is it registered? A REGISTER may be ending just now
        self.review(now)

    def unfollow(self, account: int) -> None:
        followed = self._followed.pop(account, None)
        if followed is not None:
            pins.drop_pin(followed.pin)

    def server(self, account: int) -> Server | None:
        followed = self._followed.get(account)
        return None if followed is None else followed.server

    def __contains__(self, account: int) -> bool:
        return account in self._followed

    def __bool__(self) -> bool:
        return bool(self._followed)

    def followed(self) -> list[FollowedAccount]:
        """Any thread. The accounts as they are now."""
        return list(self._followed.values())

    def servers(self) -> Mapping[Server, str]:
        """The servers that accounts live on, each with a host name that its accounts know it by."""
        return {each.server: each.next_hop.host for each in self._followed.values() if each.server is not None}

    def on_registration(self, registration: Registration, now: float) -> None:
        inquired, followed = self._inquired, self._followed.get(registration.account)
        if inquired is not None and (inquired.account, inquired.aor) == (
            registration.account,
            registration.aor,
        ):
            self._inquired = None
        if followed is None or registration.aor != followed.aor:  # the id is another account's now
            return
        if registration.status == NOT_FOUND:
            self._unfollow_gone(followed)
        else:
            self._set(registered(followed, registration, now))

    def review(self, now: float) -> None:
        """Has done what is due; after every change of health, and every now and then."""
        if not self._followed:
            return
        self._inquire_after_some()
        view = _Review(self._context)
        for followed in list(self._followed.values()):
            self._update(followed, view, now)

    def _due(self, account: int, now: float) -> None:
        """Its time has come: between two reviews, so that accounts do not come in step with those."""
        followed = self._followed.get(account)
        if followed is not None:
            self._update(followed, _Review(self._context), now)

    def _update(self, followed: FollowedAccount, view: _Review, now: float) -> None:
        plan, tiers = view.of(followed.next_hop)
        if not settled(followed, tiers, view.health, now):
            order = plans.draw(followed.next_hop, self._random.getrandbits(32)) if plan is not None else []
            followed = decide(followed, plan, order, view.health, now, self._random)
            self._set(followed)
        if followed.register_at is not None and followed.register_at <= now:
            self._set(replace(followed, register_at=None))
            pins.register(followed.account, followed.aor)

    def _inquire_after_some(self) -> None:
        """Looks in turn whether accounts are there, and, for one at a time, whether an id is another account's by now.

        The latter takes pjsua's lock, and so is left to pjsip's own thread.
        """
        some = list(islice(self._turns, 1 + len(self._followed) // INQUIRY_SHARE))
        if not some:
            self._turns = iter(list(self._followed))
        self._unfollow_deleted(some)
        followed = next((self._followed[each] for each in some if each in self._followed), None)
        if self._inquired is None and followed is not None:
            self._inquired = followed
            pins.ask_after(followed.account, followed.aor)

    def _unfollow_deleted(self, numbers: Iterable[int]) -> None:
        """The accounts of these *numbers* that are gone are not followed any more."""
        for number in numbers:
            followed = self._followed.get(number)
            if followed is not None and not accounts.account_exists(number):
                self._unfollow_gone(followed)

    def _unfollow_gone(self, followed: FollowedAccount) -> None:
        log.info("account %d (%s) is gone, and not followed any more", followed.account, followed.aor)
        self.unfollow(followed.account)

    def _set(self, followed: FollowedAccount) -> None:
        before = self._followed.get(followed.account)
        self._followed[followed.account] = followed
        if before is None or before.pin != followed.pin:
            pins.set_pin(followed.pin)
        known = () if before is None else (before.register_at, before.return_at)
        for due in (followed.register_at, followed.return_at):
            if due is not None and due not in known:
                self._context.at(due, partial(self._due, followed.account, due))
        was = None if before is None else before.server
        if followed.server != was:
            moved = events.AccountMoved(followed.account, followed.aor, followed.server, was, followed.reason)
            to = moved.server or "no server"
            came = "" if was is None else f", after {was}"
            log.info("account %d (%s) is on %s%s: %s", moved.account, moved.aor, to, came, moved.reason)
            self._context.tell(moved)
