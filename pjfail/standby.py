"""Standby registrations: a followed account is registered at the next servers of its plan too, all the time.

:func:`decide` and :func:`heard` are pure and say what should happen; :class:`Standbys` does it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random

from ._values import dataclass
from .bridge import pins, plans
from .bridge import standby as bridge
from .bridge.pins import Registration
from .bridge.standby import StandbyResult
from .bridge.status import NOT_FOUND, strerror
from .following import FollowedAccount
from .model import Health, Plan, Server, Target

log = logging.getLogger("pjfail")

# Seconds until a standby that failed registers again: doubled with each failure in a row.
FIRST_RETRY = 2.0
LAST_RETRY = 120.0
# The same for one that refuses the account's credentials, or the account.
REFUSED_RETRY = 300.0
REFUSED = frozenset({401, 403, 404, 407, *range(600, 700)})
RETRY_AFTER_CEILING = 300.0
# One that lasted for less than so many seconds, as where a server closes every connection, continues the row.
BRIEF_REGISTRATION = 30.0
# Seconds between two datagrams that keep a NAT's binding; pjsua keeps the account's own as often.
KEEP_ALIVE = 15.0
# RFC 5626: the account's own binding is 1.
FIRST_NUMBER = 2


@dataclass(frozen=True, slots=True)
class Standby:
    """An account's standby registration at ``server``; ``number`` is its reg-id.

    ``due`` is when its next REGISTER of ours is, ``alive_at`` when a NAT's binding needs its next datagram.
    ``since``: since when it is registered, None where it is not. ``failures``: how often it failed in a row;
    ``code``: with which response it was refused. ``waits``: for a REGISTER of the account, to copy it.
    """

    server: Server
    number: int
    due: float | None
    since: float | None = None
    alive_at: float | None = None
    failures: int = 0
    code: int = 0
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """What :func:`decide` wants done: the servers to register with, to remove the binding from, and to let go of."""

    standbys: tuple[Standby, ...]
    register: tuple[Standby, ...] = ()
    end: tuple[Server, ...] = ()
    let_go: tuple[Server, ...] = ()
    keep_alive: tuple[Server, ...] = ()


def decide(
    followed: FollowedAccount,
    standbys: Sequence[Standby],
    order: Sequence[Server],
    health: Mapping[Server, Health],
    now: float,
    random: Random,
) -> Changes:
    """What becomes of an account's standbys, given a draw (*order*) of its target's plan. Pure.

    As many servers as the account wants have one: those that have it already stay, the first usable ones of *order*
    come after them. The account's own server has none; the one that it tries keeps its standby until it has answered.
    A server of another transport has none, for the account's Contact names its own.
    """
    if followed.server is None and not followed.lost:  # it is not registered
        return Changes((), end=tuple(each.server for each in standbys))
    if followed.server is not None:
        order = [server for server in order if server.transport == followed.server.transport]
    usable = {server for server in order if health.get(server, Health()).usable}
    end: list[Server] = []
    let_go: list[Server] = []
    kept: list[Standby] = []
    for each in standbys:
        if each.server == followed.server or (each.server not in order):
            end.append(each.server)
        elif each.server not in usable and each.server != followed.trying:
            let_go.append(each.server)
        elif len(kept) == followed.settings.standby:
            end.append(each.server)
        else:
            kept.append(each)
    taken = {followed.server, followed.trying, *(each.server for each in kept)}
    free = iter(server for server in order if server in usable and server not in taken)
    numbers = (number for number in range(FIRST_NUMBER, FIRST_NUMBER + len(order) + len(kept)))
    unused = iter([number for number in numbers if number not in {each.number for each in kept}])
    for server in free:
        if len(kept) >= followed.settings.standby:
            break
        kept.append(Standby(server, next(unused), now + random.uniform(0, followed.settings.spread)))
    register = tuple(each for each in kept if each.due is not None and each.due <= now)
    alive = tuple(each.server for each in kept if each.alive_at is not None and each.alive_at <= now)
    later = tuple(_done(each, now, random) for each in kept)
    return Changes(later, register, tuple(end), tuple(let_go), alive)


def settled(followed: FollowedAccount, standbys: Sequence[Standby], usable: Container[Server], now: float) -> bool:
    """Returns whether :func:`decide` would change nothing, by the usable servers of the plan. Pure and fast."""
    return len(standbys) == followed.settings.standby and all(
        each.server in usable
        and each.server != followed.server
        and (each.due is None or each.due > now)
        and (each.alive_at is None or each.alive_at > now)
        for each in standbys
    )


def _done(standby: Standby, now: float, random: Random) -> Standby:
    """Returns *standby* after what was due at *now*."""
    if standby.due is not None and standby.due <= now:
        standby = replace(standby, due=None)
    if standby.alive_at is not None and standby.alive_at <= now:
        standby = replace(standby, alive_at=_next_alive(now, random))
    return standby


def _next_alive(now: float, random: Random) -> float:
    return now + KEEP_ALIVE * random.uniform(0.8, 1.0)


def heard(standby: Standby, result: StandbyResult, spread: float, now: float, random: Random) -> Standby:
    """Returns *standby* after its REGISTER, or its connection, ended. Pure."""
    if result.unknown:
        return replace(standby, waits=True)
    if 200 <= result.code < 300:
        alive_at = _next_alive(now, random) if standby.server.transport == "udp" else None
        since = now if standby.since is None else standby.since
        return replace(standby, due=None, since=since, alive_at=alive_at, code=0)
    lasted = standby.since is not None and now - standby.since >= BRIEF_REGISTRATION
    failures = 0 if lasted else standby.failures
    failed = replace(standby, since=None, alive_at=None, failures=failures + 1)
    if result.lost and lasted:
        return replace(failed, due=now + random.uniform(0, min(spread, FIRST_RETRY)))
    if result.code in REFUSED:
        return replace(failed, due=now + REFUSED_RETRY * random.uniform(0.8, 1.2), code=result.code)
    wait = min(FIRST_RETRY * 2 ** min(failures, 10), LAST_RETRY) * random.uniform(0.5, 1.0)
    if result.retry_after is not None:
        wait = max(wait, min(result.retry_after, RETRY_AFTER_CEILING))
    return replace(failed, due=now + wait)


class Standbys:
    """The standbys of all followed accounts. Worker only, except :meth:`end`."""

    def __init__(
        self,
        plan: Callable[[Target], Plan | None],
        at: Callable[[float, Callable[[], None]], object],
        label: Callable[[Server], str],
        random: Random,
    ) -> None:
        self._plan = plan
        self._at = at
        self._label = label
        self._random = random
        self._standbys: dict[tuple[int, str], tuple[Standby, ...]] = {}
        self._asked: set[tuple[int, str]] = set()
        self._warned = False
        self._ended = False

    def follow(self, followed: FollowedAccount) -> None:
        """Keeps a copy of each REGISTER of the account from now on, if it wants standbys."""
        key = followed.account, followed.aor
        if followed.settings.standby and self._is_possible():
            bridge.watch(*key, followed.settings.keepalive)
            self._standbys.setdefault(key, ())

    def review(self, accounts: Iterable[FollowedAccount], health: Mapping[Server, Health], now: float) -> None:
        """Does what is due. The worker calls it after every change of health, and in every round."""
        if self._ended:
            return
        wanted = {(each.account, each.aor): each for each in accounts if each.settings.standby and self._is_possible()}
        for key in [key for key in self._standbys if key not in wanted]:
            del self._standbys[key]
            self._asked.discard(key)
            bridge.forget(*key)
        usable: dict[Target, frozenset[Server]] = {}  # accounts of one target share it
        for key, followed in wanted.items():
            target = followed.next_hop
            if target not in usable:
                plan = self._plan(target)
                servers = () if plan is None else plan.servers
                usable[target] = frozenset(each for each in servers if health.get(each, Health()).usable)
            if (followed.server is None and not followed.lost) or not settled(
                followed, self._standbys.get(key, ()), usable[target], now
            ):
                self._review(key, followed, health, now)

    def due(self, now: float) -> float:
        """Returns when :meth:`review` is to be called again, if nothing happens."""
        every = (due for standbys in self._standbys.values() for each in standbys for due in (each.due, each.alive_at))
        return min((due for due in every if due is not None and due > now), default=math.inf)

    def on_registration(self, registration: Registration, now: float) -> None:
        """After a REGISTER of an account: its standbys take over its Contact, or end with it."""
        key = registration.account, registration.aor
        standbys = self._standbys.get(key, ())
        if registration.removed and not registration.code and standbys:
            self._standbys[key] = ()  # the core has ended them, as that REGISTER was sent
        if not (standbys and 200 <= registration.code < 300) or registration.removed:
            return
        for standby in standbys:
            if not standby.waits:
                bridge.update(*key, standby.server, standby.number)
        self._set(key, tuple(replace(each, waits=False, due=now) if each.waits else each for each in standbys))

    def on_result(self, result: StandbyResult, followed: FollowedAccount, now: float) -> None:
        key = result.account, result.aor
        before = {each.server: each for each in self._standbys.get(key, ())}
        standby = before.get(result.server)
        if standby is None:
            return
        if result.status == NOT_FOUND:  # the account is gone, and the follower will see that, too
            return
        if result.unknown and key not in self._asked:
            self._asked.add(key)  # once: a copy can be made of the next one that it sends
            pins.register(*key)
        after = heard(standby, result, followed.settings.spread, now, self._random)
        self._tell(key, standby, after, result)
        self._set(key, tuple({**before, result.server: after}.values()))

    def end(self) -> None:
        """Any thread, at a detach. Removes the bindings of all standbys, within half a second."""
        self._ended = True
        if self._standbys:
            bridge.end_all()

    def _is_possible(self) -> bool:
        possible = bridge.is_possible()
        if not possible and not self._warned:
            self._warned = True
            log.warning("no standby: the layout of pjsua_acc_config in this pjsip is not known ('pjfail doctor' tells)")
        return possible

    def _review(
        self, key: tuple[int, str], followed: FollowedAccount, health: Mapping[Server, Health], now: float
    ) -> None:
        if key not in self._standbys:
            self.follow(followed)
        before = self._standbys[key]
        plan = self._plan(followed.next_hop)
        if plan is None:
            return
        order: Sequence[Server] = plan.servers
        if len(before) < min(followed.settings.standby, len(order) - 1):
            order = plans.draw(followed.next_hop, self._random.getrandbits(32)) or order
        changes = decide(followed, before, order, health, now, self._random)
        for server in changes.end:
            bridge.end(*key, server)
        for server in changes.let_go:
            bridge.let_go(*key, server)
        for standby in changes.register:
            bridge.register(*key, standby.server, standby.number)
        for server in changes.keep_alive:
            bridge.keep_alive(*key, server)
        self._set(key, changes.standbys)

    def _set(self, key: tuple[int, str], standbys: tuple[Standby, ...]) -> None:
        known = {each.due for each in self._standbys.get(key, ())}
        self._standbys[key] = standbys
        for standby in standbys:
            if standby.due is not None and standby.due not in known:
                self._at(standby.due, partial(self._due, key, standby.due))

    def _due(self, key: tuple[int, str], due: float) -> None:
        """Called when a standby's time has come, which lies between two reviews: accounts do not register in step."""
        standbys = () if self._ended else self._standbys.get(key, ())
        for standby in standbys:
            if standby.due == due:
                bridge.register(*key, standby.server, standby.number)
        if standbys:
            self._standbys[key] = tuple(replace(each, due=None) if each.due == due else each for each in standbys)

    def _tell(self, key: tuple[int, str], before: Standby, after: Standby, result: StandbyResult) -> None:
        number, aor = key
        server = self._label(after.server)
        if after.since is not None and before.since is None:
            log.info("account %d (%s) has a standby at %s", number, aor, server)
        elif after.code and not before.code:
            log.warning(
                "account %d (%s) gets no standby at %s, which answers its REGISTER with %d; next tried in %.0f s",
                *(number, aor, server, after.code, REFUSED_RETRY),
            )
        elif before.since is not None and after.since is None:
            why = "its connection has ended" if result.lost else result.code or strerror(result.status)
            log.info("account %d (%s) has lost its standby at %s: %s", number, aor, server, why)
