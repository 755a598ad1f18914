"""Followed accounts: each stays on the server it registered with, moves to the next when that fails, and back in time.

:func:`decide` is pure and says what should happen to an account; :class:`Follower` does it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import NamedTuple

from . import events
from ._values import dataclass
from .bridge import accounts, pins, plans
from .bridge.accounts import Account
from .bridge.pins import Pin, Registration
from .bridge.status import INVALID_OPERATION, NOT_FOUND, REGISTERING
from .follow_settings import GENTLE_WATCH, Follow
from .model import Health, Plan, Server, Target
from .network import Change, source_towards
from .probe import Watched
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
# Seconds after a change of the network until an account registers for which pjsip has not; it does so at once.
REGISTER_AFTER_MOVE = 1.0
# pjsua gives the id of a deleted account to the next one, and tells of neither. So many accounts, in turn, are asked
# after every so many seconds: while one is not registered, as no un-REGISTER would tell of its end; else in rounds that
# begin anyway.
MAX_ASKED = 64
ASK_AGAIN = 10.0


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
    failed it twice in a row: whatever they are to others, it goes to the others first. ``bound`` has its binding: that
    server accepted its last REGISTER, at ``bound_at``. ``automatic``: nobody has called ``follow()`` for it.
    ``over_tls``: its last REGISTER went over TLS, which none of ours leaves.
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
    bound: Server | None = None
    bound_at: float = 0.0
    automatic: bool = False
    over_tls: bool = False

    def may_use(self, server: Server) -> bool:
        """Whether pjfail may have it register with *server*, without the application."""
        return server.transport == "tls" or not self.over_tls

    @property
    def due(self) -> tuple[float, ...]:
        """When there is something to do for it, whatever happens."""
        refusals = (refusal.until for refusal in self.refused)
        return tuple(each for each in (self.register_at, self.return_at, *refusals) if each is not None)

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
    usable = [server for server in order if health.get(server, Health()).usable and followed.may_use(server)]
    usable.sort(key=lambda server: refusals[server].until if server in refusals else 0.0)
    soon = now + random.uniform(0, followed.settings.spread)
    bound = followed.bound if followed.bound in usable and followed.bound not in refusals else None
    if bound is not None and health.get(bound, Health()).since <= followed.bound_at:
        usable.insert(0, bound)  # a REGISTER was hedged there, and need not be sent again
    else:
        bound = None
    if followed.trying is not None and plan is not None and followed.trying not in usable:
        due = soon if usable else followed.register_at
        followed = replace(followed, trying=None, lost=followed.server is None, register_at=due, return_at=None)
    if followed.server is not None and not health.get(followed.server, Health()).usable:
        lost = health[followed.server]
        reason = f"{followed.server} is {lost.state.value}: {lost.reason}"
        followed = replace(followed, server=None, trying=None, return_at=None, reason=reason)
        if usable:
            return replace(followed, server=usable[0], register_at=None if usable[0] == bound else soon)
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
    well_since = health.get(better, Health()).since
    due = well_since + followed.settings.failback
    if followed.return_at is None or followed.return_at < due:
        due = max(due, now) + random.uniform(0, FAILBACK_SPREAD * followed.settings.failback)
        followed = replace(followed, return_at=due)
        if now < due:
            return followed
    elif now < followed.return_at:
        return followed
    reason = f"{better} is healthy again" if well_since else f"{better} comes before it in the plan"
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
    if followed.over_tls:
        tiers = {server: tier for server, tier in tiers.items() if followed.may_use(server)}
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
        unknown = followed.server is None and followed.trying is None and not (followed.lost or followed.automatic)
        unregisters = followed.reason == events.UNREGISTERS  # which may be under way
        ask = registration.registered and unknown and not unregisters
        return replace(followed, register_at=now) if ask else followed
    if code in CHALLENGES or (registration.removed and code):
        return followed
    followed = replace(followed, over_tls=server.transport == "tls")
    if registration.removed:  # it was just sent, and whatever the answer, pjfail must not register again
        given = followed.account, followed.aor, followed.next_hop, followed.settings
        return FollowedAccount(*given, reason=events.UNREGISTERS, automatic=followed.automatic)
    if code == 0:  # where its first one goes
        return replace(followed, trying=server) if followed.server is None else followed
    if 200 <= code < 300:
        if followed.lost:  # *server* was known to be down: the account has no server to stay with
            server = registration.answered or server
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
            bound=registration.answered or server,
            bound_at=now,
        )
    followed = replace(followed, bound=None)  # pjsua has dropped its registration
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


def _has_arrived(before: FollowedAccount | None, after: FollowedAccount) -> bool:
    """Returns whether the account is registered with the server that it is on, and was not before."""
    was = (
        before is not None and before.bound is not None and (before.server, before.bound) == (after.server, after.bound)
    )
    return after.server is not None and after.bound == after.server and not was


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


def on_another_network(followed: FollowedAccount, change: Change, now: float, random: Random) -> FollowedAccount:
    """Returns the account's state after a change of the network: it registers, and holds nothing against servers. Pure.

    Where pjsip has been told of new addresses, it registers by itself at once; a REGISTER of ours is due in case that
    one fails, or pjsip sends none.
    """
    if not followed.settings.network or not (followed.server or followed.trying or followed.lost):
        return followed  # the application does not have it registered
    wait = REGISTER_AFTER_MOVE if change is Change.MOVED else random.uniform(0, followed.settings.spread)
    return replace(followed, failed_at=None, refused=(), register_at=now + wait)


@dataclass(frozen=True, slots=True)
class FollowerContext:
    """What the follower asks the worker for; ``at`` is a function to call, and when; ``label`` names a server."""

    plan: Callable[[Target], Plan | None]
    health: Callable[[], Mapping[Server, Health]]
    tell: Callable[[events.Event], object]
    at: Callable[[float, Callable[[], None]], object]
    label: Callable[[Server], str] = str


def watched_servers(followed: Iterable[FollowedAccount]) -> Mapping[Server, Watched]:
    """Which servers are asked after how much quiet (:attr:`pjfail.Follow.watch`). Pure."""
    found: dict[Server, Watched] = {}
    for each in followed:
        server, watch = each.server, each.settings.watch
        if server is None or watch is None or (server.transport != "udp" and watch >= GENTLE_WATCH):
            continue
        if server not in found or watch < found[server].interval:
            found[server] = Watched(each.next_hop.host, watch)
    return found


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
    """The followed accounts. Worker only. ``on_server`` is called with each server that an account comes to,
    ``on_registered`` with each account that has been registered or moved."""

    def __init__(self, context: FollowerContext, random: Random) -> None:
        self._context = context
        self._random = random
        self.on_server: Callable[[Server], object] = lambda _: None
        self.on_registered: Callable[[FollowedAccount], object] = lambda _: None
        self._followed: dict[int, FollowedAccount] = {}
        self._moved: list[tuple[events.AccountMoved, Target, bool]] = []  # whether it has no server any more
        self._reconnections = Reconnections(random)
        self._asked_after: set[int] = set()  # once at a time: an account that is asked after twice may register twice
        self._to_ask: list[int] = []
        self._ask_at = 0.0
        self._told_of_subscriptions = False
        self._of_aor: dict[str, set[int]] = {}
        self._next_hops: frozenset[Target] | None = None
        self._servers: Mapping[Server, Watched] | None = None

    def begin(self) -> None:
        """Asks after each account again in its turn: an answer that was on its way to an earlier loop may be lost."""
        self._asked_after.clear()

    def add(self, followed: FollowedAccount) -> None:
        """Follows an account of which nothing is known yet but what its REGISTERs will show."""
        self._tell_of_subscriptions(followed.settings)
        self._set(followed)

    def _tell_of_subscriptions(self, settings: Follow) -> None:
        if settings.subscriptions and not (self._told_of_subscriptions or pins.can_resubscribe()):
            log.info("this pjsip hides functions that pjfail needs to move subscriptions: they stay with their server")
            self._told_of_subscriptions = True

    def follow(self, followed: FollowedAccount, now: float) -> None:
        """Follows an account as the application has asked for: one that is registered somewhere registers again."""
        before = self._followed.get(followed.account)
        if before is not None and (before.aor, before.next_hop) == (followed.aor, followed.next_hop):
            followed = replace(before, settings=followed.settings, return_at=None, automatic=False)
        elif before is not None:
            self.unfollow(followed.account)  # the id was another account's, or it has another registrar now
        self._unfollow_deleted(list(self._of_aor.get(followed.aor, ())))
        self._tell_of_subscriptions(followed.settings)
        self._set(followed)
        self._ask_after(followed)  # is it registered? A REGISTER may be ending just now
        self.review(now)

    def unfollow(self, account: int) -> None:
        followed = self._followed.pop(account, None)
        if followed is not None:
            self._next_hops = self._servers = None
            self._of_aor[followed.aor].discard(account)
            if not self._of_aor[followed.aor]:
                del self._of_aor[followed.aor]
            pins.drop_pin(followed.pin)
        self._asked_after.discard(account)
        self._reconnections.forget(account)

    def server(self, account: int) -> Server | None:
        followed = self._followed.get(account)
        return None if followed is None else followed.server

    def get(self, account: int) -> FollowedAccount | None:
        """Any thread."""
        return self._followed.get(account)

    def find(self, aor: str, next_hop: Target | None) -> int | None:
        """The account with this address of record and next hop; None as the next hop: it may be any, if one has it."""
        found = [each for each in self._of_aor.get(aor, ()) if next_hop in (None, self._followed[each].next_hop)]
        return found[0] if len(found) == 1 or (found and next_hop is not None) else None

    def due(self, now: float) -> float:
        """Returns when :meth:`review` is to be called again, if nothing happens."""
        due = min((due for each in self._followed.values() for due in each.due if due > now), default=math.inf)
        return min(due, self._ask_at) if any(each.bound is None for each in self._followed.values()) else due

    def next_hops(self) -> frozenset[Target]:
        """Where the followed accounts send."""
        if self._next_hops is None:
            self._next_hops = frozenset(each.next_hop for each in self._followed.values())
        return self._next_hops

    def followed(self) -> list[FollowedAccount]:
        """Any thread. The accounts as they are now, without those that pjsua has deleted."""
        return [each for each in list(self._followed.values()) if accounts.account_exists(each.account)]

    def servers(self) -> Mapping[Server, Watched]:
        """Returns the servers to be asked that accounts are on, as often as the account wants that wants it most."""
        if self._servers is None:
            self._servers = watched_servers(self._followed.values())
        return self._servers

    def wanted(self) -> Mapping[Server, str]:
        """Returns the servers that accounts would go to if they worked, each with a host name to probe it by.

        They have a better priority than the account's own; an account that is on none would go to any.
        """
        ways = {(each.next_hop, each.server, each.settings.failback is None) for each in self._followed.values()}
        wanted: dict[Server, str] = {}
        for next_hop, server, stays in ways:
            plan = self._context.plan(next_hop)
            if plan is None or (server is not None and stays):
                continue
            own = next((each.candidate.priority for each in plan.entries if each.server == server), None)
            for each in plan.entries:
                if server is None or own is None or each.candidate.priority < own:
                    wanted[each.server] = next_hop.host
        return wanted

    def addresses(self) -> frozenset[str]:
        """The addresses of the servers of accounts that follow changes of the network; of all that may be the next one
        where an account has lost its server.
        """
        kept = [each for each in self._followed.values() if each.settings.network]
        own = {each.server.address for each in kept if each.server is not None}
        lost = {each.next_hop for each in kept if each.server is None and (each.lost or each.trying is not None)}
        return frozenset(own.union(*map(self._addresses_of, lost)))

    def other_addresses(self) -> Iterator[str]:
        """All addresses that accounts which follow changes of the network may go to."""
        for target in {each.next_hop for each in self._followed.values() if each.settings.network}:
            yield from self._addresses_of(target)

    def _addresses_of(self, target: Target) -> frozenset[str]:
        plan = self._context.plan(target)
        return frozenset() if plan is None else frozenset(server.address for server in plan.servers)

    def network_changed(self, change: Change, now: float) -> None:
        """Has the accounts that follow changes of the network register: those whose server is cut off, or all."""
        for followed in list(self._followed.values()):
            own = followed.server
            if change is Change.CUT and (own is None or source_towards(own.address) is not None):
                continue
            self._set(on_another_network(followed, change, now, self._random))
        self.review(now)

    def aor_of(self, targets: Container[Target]) -> str:
        """The address of record of an account with one of *targets* as its next hop; empty where none has."""
        return next((each.aor for each in self._followed.values() if each.next_hop in targets), "")

    def on_registration(self, registration: Registration, now: float) -> None:
        self._asked_after.discard(registration.account)
        followed = self._followed.get(registration.account)
        if followed is None or registration.aor != followed.aor:  # the id is another account's now
            return
        if registration.status == NOT_FOUND:
            self._unfollow_gone(followed)
        elif registration.closed:
            self._reconnect(followed, now)
        else:
            self._set(registered(followed, registration, now))
            if registration.removed and not registration.code:  # pjsua does so, too, when it deletes the account
                accounts.read_soon(followed.account)
            if 200 <= registration.code < 300 and not registration.removed:
                self.on_registered(followed)

    def on_found(self, number: int, account: Account | None) -> None:
        """Takes an account that was read: what was followed by its number may be gone, or another account now."""
        followed = self._followed.get(number)
        if followed is not None and (account is None or account.aor != followed.aor):
            self._unfollow_gone(followed)

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
        """Does what is due. The worker calls it after every change of health, and in every round."""
        if not self._followed:
            return
        self._unfollow_deleted(list(self._followed))
        if self._ask_at <= now:
            self._ask_at = now + ASK_AGAIN
            self._ask_after_some()
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

    def _ask_after_some(self) -> None:
        """Asks after the next accounts in turn."""
        numbers = self._to_ask or list(self._followed)
        self._to_ask = numbers[MAX_ASKED:]
        for followed in filter(None, map(self._followed.get, numbers[:MAX_ASKED])):
            self._ask_after(followed)

    def _ask_after(self, followed: FollowedAccount) -> None:
        """Has pjsip's thread look whether the account is still there, with its AOR, and registered."""
        if followed.account not in self._asked_after:
            self._asked_after.add(followed.account)
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
        if before is None:
            self._of_aor.setdefault(followed.aor, set()).add(followed.account)
            self._next_hops = None
        if before is None or (before.server, before.settings) != (followed.server, followed.settings):
            self._servers = None
        if before is None or before.pin != followed.pin:
            pins.set_pin(followed.pin)
        if followed.server is not None and (
            before is None or (before.server, before.settings) != (followed.server, followed.settings)
        ):
            self.on_server(followed.server)
        known = () if before is None else before.due
        for due in followed.due:
            if due not in known:
                self._context.at(due, partial(self._due, followed.account, due))
        if _has_arrived(before, followed) and followed.settings.subscriptions and followed.server is not None:
            pins.resubscribe(followed.account, followed.aor, followed.server)
        was = None if before is None else before.server
        if followed.server != was:
            moved = events.AccountMoved(followed.account, followed.aor, followed.server, was, followed.reason)
            if was is not None:
                self.on_registered(followed)
            self._moved.append((moved, followed.next_hop, followed.lost))

    def tell_moved(self) -> None:
        """Logs and tells of the accounts that have moved; call it once what moved them has been told."""
        moved, self._moved = self._moved, []
        lost: dict[Target, list[events.AccountMoved]] = {}
        for event, next_hop, is_lost in moved:
            if is_lost:
                lost.setdefault(next_hop, []).append(event)
            else:
                log.info("%s", self._in_words(event))
        for next_hop, each in lost.items():  # one line, however many accounts there are
            others = f"; with it {len(each) - 1} more of {next_hop}" if len(each) > 1 else ""
            log.warning("%s%s", self._in_words(each[0]), others)
        for event, *_ in moved:
            self._context.tell(event)

    def _in_words(self, event: events.AccountMoved) -> str:
        label = self._context.label
        to = "no server" if event.server is None else label(event.server)
        came = "" if event.before is None else f", after {label(event.before)}"
        return f"account {event.account} ({event.aor}) is on {to}{came}: {event.reason}"
