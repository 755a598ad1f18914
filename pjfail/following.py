"""Followed accounts: each stays on the server it registered with, moves to the next when that fails, and back in time.

:func:`decide` is pure and says what should happen to an account; :class:`Follower` does it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from random import Random
from typing import NamedTuple

from . import events
from .bridge import accounts, pins, plans
from .bridge.pins import Pin, Registration
from .bridge.status import INVALID_OPERATION, NOT_FOUND, REGISTERING
from .follow_settings import Follow
from .model import Health, Plan, Server, Target
from .reconnection import Reconnections

log = logging.getLogger("pjfail")

# Seconds until a REGISTER is tried again that pjsua did not send: because another is under way; for any other reason.
RETRY_WHEN_BUSY = 1.0
RETRY_UNSENT = 10.0
# Bounds for a Retry-After (seconds): with 0 the account would register without a pause.
RETRY_AFTER_FLOOR = 1.0
RETRY_AFTER_CEILING = 300.0
# Seconds until an account tries a better server again that has refused it, however short its failback.
MIN_REFUSED_HOLD = 10.0
# Of the final responses to a REGISTER some tell nothing of the server: that it wants credentials, or a longer interval,
# which pjsip then gives it; and those about the account itself.
CHALLENGES = frozenset({401, 407})
INTERVAL_TOO_BRIEF = 423
OF_THE_ACCOUNT = frozenset({403, 404, *range(600, 700)})
# How long an account without failback leaves a server alone that failed it twice in a row (seconds).
REFUSAL_HOLD = 60.0
MAX_REFUSALS = 16  # that an account keeps; of more servers than these the one that failed it longest ago goes
# An account moves back up to this share of its failback later, at random, so that a fleet does not move at once.
FAILBACK_SPREAD = 0.5
# At each review, one account in so many is checked: the application may have deleted it.
INQUIRY_SHARE = 4


class Refusal(NamedTuple):
    """A server that failed two registrations of an account in a row, and when that is forgotten."""

    server: Server
    until: float
    code: int


@dataclass(frozen=True, slots=True)
class FollowedAccount:
    """One followed account, at one moment.

    ``server`` gets the account's requests; None: its plan decides. ``trying`` gets its REGISTERs, if not None, and the
    other requests too once it has answered. ``lost``: no server of the plan has been up so far. ``register_at`` is when
    pjfail's next REGISTER is due, ``return_at`` when the account goes back to a better server; ``reason`` explains the
    last move. ``failed_at`` is the server of its last registration if that failed, and ``refused`` has those that
    failed it twice in a row: whatever they are to others, it goes to the others first.
    """

    account: int
    aor: str
    next_hop: Target
    settings: Follow
    server: Server | None = None
    trying: Server | None = None
    lost: bool = False
    register_at: float | None = None
    return_at: float | None = None
    reason: str = ""
    failed_at: Server | None = None
    refused: tuple[Refusal, ...] = ()

    def refusals(self, now: float) -> Mapping[Server, Refusal]:
        """Those in force at *now*."""
        return {refusal.server: refusal for refusal in self.refused if refusal.until > now}

    @property
    def pin(self) -> Pin:
        return Pin(
            self.account,
            self.aor,
            self.next_hop,
            self.server,
            self.trying,
            self.server is None,
            followed=True,
            keepalive=self.settings.keepalive,
        )


def decide(
    followed: FollowedAccount,
    plan: Plan | None,
    order: Sequence[Server],
    health: Mapping[Server, Health],
    now: float,
    random: Random,
) -> FollowedAccount:
    """Returns the account's next state, given its target's plan and *order*, a draw of that plan. Pure.

    A server that is not usable, or that failed two registrations in a row while there is another, is left at once, for
    the first usable one in *order*, with a REGISTER within ``spread`` seconds. One in a better tier, well for
    ``failback`` seconds, is registered with first.
    """
    refusals = followed.refusals(now)
    usable = [server for server in order if health.get(server, Health()).usable]
    usable.sort(key=lambda server: refusals[server].until if server in refusals else 0.0)
    soon = now + random.uniform(0, followed.settings.spread)
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
        refused = bool(usable and refusals) and usable[0] not in refusals
        if usable and followed.trying is None and (followed.lost or refused):
            reason = _describe(followed.refused[-1]) if refused else f"{usable[0]} is healthy"
            return replace(followed, server=usable[0], lost=False, register_at=soon, reason=reason)
        return followed
    if followed.server in refusals and usable and usable[0] != followed.server:
        reason = _describe(refusals[followed.server])
        return replace(followed, server=usable[0], trying=None, register_at=soon, return_at=None, reason=reason)
    if followed.settings.failback is None or plan is None or followed.trying is not None:
        return followed
    better = _better(plan, followed.server, [server for server in usable if server not in refusals])
    if better is None:
        overdue = followed.return_at is not None and followed.return_at <= now
        return replace(followed, return_at=None) if overdue else followed
    due = health.get(better, Health()).since + followed.settings.failback
    if followed.return_at is None or followed.return_at < due:
        due = max(due, now) + random.uniform(0, FAILBACK_SPREAD * followed.settings.failback)
        followed = replace(followed, return_at=due)
        if now < due:
            return followed
    elif now < followed.return_at:
        return followed
    reason = f"{better} is healthy again"
    return replace(followed, trying=better, register_at=now, return_at=None, reason=reason)


def _better(plan: Plan, server: Server, usable: Sequence[Server]) -> Server | None:
    """Returns the first usable server in a tier before that of *server*; None if there is none."""
    tiers = {entry.server: entry.tier for entry in plan.entries}
    own = tiers.get(server, len(plan.entries))
    return next((other for other in usable if tiers.get(other, own) < own), None)


def _describe(refusal: Refusal) -> str:
    return f"{refusal.server} has failed two registrations of it in a row, with {refusal.code}"


def settled(
    followed: FollowedAccount, tiers: Mapping[Server, int], health: Mapping[Server, Health], now: float
) -> bool:
    """Returns whether :func:`decide` would change nothing, by the tiers of the plan's usable servers. Pure and fast."""
    refusals = followed.refusals(now) if followed.refused else {}
    if followed.server is None:
        return followed.trying is None and not ((followed.lost or refusals) and tiers)
    own = tiers.get(followed.server)
    if followed.trying is not None or own is None:  # own is None: the server is down, or no longer in the plan
        return False
    if refusals:
        if followed.server in refusals:
            return False
        tiers = {server: tier for server, tier in tiers.items() if server not in refusals}
    if followed.settings.failback is None:
        return True
    at = followed.return_at
    if at is None:
        return own <= min(tiers.values())
    waits = (
        health.get(server, Health()).since + followed.settings.failback <= at for server in tiers if tiers[server] < own
    )
    return now < at and all(waits)


def registered(followed: FollowedAccount, registration: Registration, now: float) -> FollowedAccount:
    """Returns the account's state after one of its REGISTERs was sent or has ended. Pure."""
    code, server = registration.code, registration.server
    if registration.status:
        return _unsent(followed, registration.status, now)
    if server is None:
        # It was registered before it was followed; only another REGISTER shows with which server.
        unknown = followed.server is None and followed.trying is None and not followed.lost
        return replace(followed, register_at=now) if registration.registered and unknown else followed
    if code in CHALLENGES:
        return followed
    if registration.removed:  # as soon as it is sent, whatever the answer: pjfail must not register again
        given = followed.account, followed.aor, followed.next_hop, followed.settings
        return FollowedAccount(*given, reason="it unregisters")
    if code == 0:  # where its first one goes
        return replace(followed, trying=server) if followed.server is None else followed
    if 200 <= code < 300:
        if server == followed.server and followed.trying not in (None, server):
            return followed  # a refresh that was on its way when the better server's turn came
        moving = followed.server is not None and server in (followed.trying, followed.server)
        reason = followed.reason if moving else f"it registered with {server}"
        return_at = followed.return_at if server == followed.server else None
        return replace(
            followed,
            server=server,
            trying=None,
            lost=False,
            register_at=None,
            return_at=return_at,
            reason=reason,
            failed_at=None,
            refused=tuple(refusal for refusal in followed.refused if refusal.server != server),
        )
    if server == followed.trying and followed.server is not None:
        # The better server refuses the account: it stays where it is, and tries again later.
        later = None if followed.settings.failback is None else now + max(followed.settings.failback, MIN_REFUSED_HOLD)
        return replace(followed, trying=None, register_at=now, return_at=later)
    followed = _failed(followed, server, code, now)
    if followed.server is None:
        lost = followed.lost or code == 503
        return _with_retry_after(replace(followed, trying=None, lost=lost), registration, now)
    return _with_retry_after(followed, registration, now) if server == followed.server else followed


def _failed(followed: FollowedAccount, server: Server, code: int, now: float) -> FollowedAccount:
    """After a registration that *server*, where the account is, has failed: the second in a row is a refusal."""
    if code == INTERVAL_TOO_BRIEF or followed.server not in (None, server):
        return followed
    if code in OF_THE_ACCOUNT:
        return replace(followed, failed_at=None)
    if followed.failed_at != server:
        return replace(followed, failed_at=server)
    hold = REFUSAL_HOLD if followed.settings.failback is None else max(followed.settings.failback, MIN_REFUSED_HOLD)
    others = [refusal for refusal in followed.refused if refusal.server != server and refusal.until > now]
    refused = (*others[-MAX_REFUSALS + 1 :], Refusal(server, now + hold, code))
    return replace(followed, failed_at=None, refused=refused)


def _unsent(followed: FollowedAccount, status: int, now: float) -> FollowedAccount:
    """Returns the account's state after pjsua did not send a REGISTER because of *status*."""
    if status == REGISTERING:
        return replace(followed, register_at=now + RETRY_WHEN_BUSY)
    if status == INVALID_OPERATION:  # the account has no registrar any more
        return replace(followed, trying=None, register_at=None)
    return replace(followed, trying=None, register_at=now + RETRY_UNSENT)


def _with_retry_after(followed: FollowedAccount, registration: Registration, now: float) -> FollowedAccount:
    """Puts the next REGISTER off by the Retry-After of the response, if there is no better server to register with."""
    asked = registration.retry_after
    if asked is None or not 500 <= registration.code < 600 or followed.register_at is not None:
        return followed
    return replace(followed, register_at=now + min(max(asked, RETRY_AFTER_FLOOR), RETRY_AFTER_CEILING))


@dataclass(frozen=True, slots=True)
class FollowerContext:
    """What the follower asks the worker for; ``at`` is a function to call, and when; ``label`` names a server."""

    plan: Callable[[Target], Plan | None]
    health: Callable[[], Mapping[Server, Health]]
    tell: Callable[[events.Event], object]
    at: Callable[[float, Callable[[], None]], object]
    label: Callable[[Server], str] = str


class _Review:
    """What one review has worked out about servers; accounts of one target share it."""

    def __init__(self, context: FollowerContext) -> None:
        self.health = context.health()
        self._context = context
        self._targets: dict[Target, tuple[Plan | None, Mapping[Server, int]]] = {}

    def of(self, target: Target) -> tuple[Plan | None, Mapping[Server, int]]:
        """Returns the target's plan, and the tiers of its usable servers."""
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
        self._moved: list[tuple[events.AccountMoved, int]] = []
        self._reconnections = Reconnections(random)

    def follow(self, followed: FollowedAccount, now: float) -> None:
        before = self._followed.get(followed.account)
        if before is not None and (before.aor, before.next_hop) == (followed.aor, followed.next_hop):
            followed = replace(before, settings=followed.settings, return_at=None)
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
        self._reconnections.forget(account)

    def server(self, account: int) -> Server | None:
        followed = self._followed.get(account)
        return None if followed is None else followed.server

    def get(self, account: int, aor: str) -> FollowedAccount | None:
        """The account with this number and AOR, if it is followed."""
        followed = self._followed.get(account)
        return followed if followed is not None and followed.aor == aor else None

    def __contains__(self, account: int) -> bool:
        return account in self._followed

    def __bool__(self) -> bool:
        return bool(self._followed)

    def next_hops(self) -> frozenset[Target]:
        """Where the followed accounts send."""
        return frozenset(each.next_hop for each in self._followed.values())

    def followed(self) -> list[FollowedAccount]:
        """Any thread. The accounts as they are now."""
        return list(self._followed.values())

    def servers(self) -> Mapping[Server, str]:
        """Returns the servers that accounts are on, each with a host name that the accounts know it by."""
        return {each.server: each.next_hop.host for each in self._followed.values() if each.server is not None}

    def aor_of(self, targets: Container[Target]) -> str:
        """The address of record of an account with one of *targets* as its next hop; empty where none has."""
        return next((each.aor for each in self._followed.values() if each.next_hop in targets), "")

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
        elif registration.closed:
            self._reconnect(followed, now)
        else:
            self._set(registered(followed, registration, now))

    def _reconnect(self, followed: FollowedAccount, now: float) -> None:
        """Has an account register again, as the connection that its last REGISTER was answered over has ended.

        One that is moving registers anyway.
        """
        if followed.server is None or followed.trying is not None or followed.register_at is not None:
            return
        due = self._reconnections.due(followed.account, followed.settings.spread, now)
        at = self._context.label(followed.server)
        log.info(
            "account %d (%s): its connection to %s has ended; it registers again in %.2f s",
            followed.account, followed.aor, at, due - now,
        )  # fmt: skip
        self._set(replace(followed, register_at=due))

    def review(self, now: float) -> None:
        """Does what is due. The worker calls it after every change of health, and every 0.25 s."""
        if not self._followed:
            return
        self._inquire_after_some()
        view = _Review(self._context)
        for followed in list(self._followed.values()):
            self._update(followed, view, now)
        self.tell_moved()

    def _due(self, account: int, now: float) -> None:
        """Called when the account's time has come, which lies between two reviews, so that accounts do not move in
        step.
        """
        followed = self._followed.get(account)
        if followed is not None:
            self._update(followed, _Review(self._context), now)
            self.tell_moved()

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
        """Checks some accounts in turn: whether they exist, and for one at a time whether its id belongs to another
        account now.

        The second check takes pjsua's lock, so it runs on pjsip's own thread.
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
        """Ends the following of those accounts of *numbers* that no longer exist."""
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
            self._moved.append((moved, logging.WARNING if followed.lost else logging.INFO))

    def tell_moved(self) -> None:
        """Logs and tells of the accounts that have moved; call it once what moved them has been told."""
        moved, self._moved = self._moved, []
        for event, level in moved:
            label = self._context.label
            to = "no server" if event.server is None else label(event.server)
            came = "" if event.before is None else f", after {label(event.before)}"
            log.log(level, "account %d (%s) is on %s%s: %s", event.account, event.aor, to, came, event.reason)
            self._context.tell(event)
