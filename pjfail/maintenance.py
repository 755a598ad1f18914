"""Keeps followed and pinned accounts on their servers, and has quiet servers probed.

That is done in rounds: one begins soon after something has happened, and when something is due; between them nothing
runs. Moments that concern one account alone have timers of their own, so that accounts do not move in step.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from random import Random

from .affinity import Pins, Routes
from .bridge import plans
from .bridge.accounts import Account
from .bridge.pins import Registration
from .bridge.standby import StandbyResult
from .errors import NotAttached
from .finder import Finder, FinderContext
from .follow_settings import Follow
from .following import FollowedAccount, Follower, FollowerContext
from .health import HealthTable
from .model import Health, Server
from .monitor import Monitor
from .news import News
from .probe import Probe, Watched
from .resolution import Resolution
from .standby import Standbys
from .targets import Targets

log = logging.getLogger("pjfail")

# Seconds from one round over the followed and pinned accounts to the next, at least.
PAUSE = 0.25
# The same, at the most, where an account may be gone that pjfail leaves alone or pins, or a round has failed.
LONGEST_PAUSE = 10.0


class Maintenance:
    """Keeps accounts on their servers. Worker only, except :meth:`wake` and ``pins``.

    *follow*: how accounts are followed without being asked for; None: they are not. ``settings`` are those of a
    followed account that has none of its own. *news* gets the events of accounts that move.
    """

    def __init__(
        self,
        probe: Probe,
        follow: Follow | None,
        health: HealthTable,
        targets: Targets,
        resolution: Resolution,
        news: News,
        random: Random,
    ) -> None:
        self.pins = Pins()
        self.settings = Follow() if follow is None else follow
        context = FollowerContext(resolution.plan_of, self._health_now, news.tell, self._at, targets.label)
        self.follower = Follower(context, random)
        self.standbys = Standbys(resolution.plan_of, self._at, targets.label, random)
        self.routes = Routes()
        self.finder = Finder(follow, self.follower, FinderContext(self._is_kept_otherwise, self._at))
        self._probe = probe
        self._health = health
        self._targets = targets
        self._resolution = resolution
        self._news = news
        self._monitor: Monitor | None = None
        self._in_use: dict[Server, Watched] = {}
        self._in_use_until = 0.0
        self._last = -math.inf  # when the last round began
        self._next: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, loop: asyncio.AbstractEventLoop, monitor: Monitor) -> None:
        """Maintains accounts and quiet servers in *loop* from now on; *monitor* sends the probes."""
        self._loop = loop
        self._monitor = monitor
        self._next = None
        self.follower.begin()
        self.finder.begin()
        self.maintain_soon()

    def on_registration(self, registration: Registration) -> None:
        """Takes a REGISTER, or its response, of an account that is followed, or that may be found by it."""
        if registration.account < 0:
            self.finder.on_registration(registration, time.monotonic())
        else:
            self.follower.on_registration(registration, time.monotonic())
            self.standbys.on_registration(registration, time.monotonic())
        self.maintain_soon()

    def on_found(self, found: Iterable[tuple[int, Account | None]]) -> None:
        """Takes accounts that the finder has had read."""
        for number, account in found:
            self.follower.on_found(number, account)
            self.finder.on_found(number, account, time.monotonic())
            self.maintain_soon()
        self._resolution.follow(self.follower.next_hops())

    def follow(self, account: FollowedAccount) -> None:
        """Keeps an account on a working server from now on."""
        self.finder.on_follow(account)
        self.standbys.follow(account)  # before the follower has it register
        self.follower.follow(account, time.monotonic())
        self._resolution.follow(self.follower.next_hops())
        self.maintain_soon()

    def unfollow(self, account: int) -> None:
        """Ends the following of *account*, if it is followed."""
        self.follower.unfollow(account)
        self._resolution.follow(self.follower.next_hops())
        self.maintain_soon()

    def wake(self) -> None:
        """Any thread. Has a round begin soon."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has crashed, and the next one begins with a round
                self._loop.call_soon_threadsafe(self.maintain_soon)

    def maintain_soon(self) -> None:
        """Has a round begin soon, because something has happened."""
        self._maintain_at(0.0)

    def on_health(self) -> None:
        """Moves the accounts whose servers' health has changed, at once."""
        self._review()
        self.maintain_soon()

    def _review(self) -> None:
        with contextlib.suppress(NotAttached):
            self.pins.review(self._health_now())
            self.follower.review(time.monotonic())
            self.standbys.review(self.follower.followed(), self._health_now(), time.monotonic())
            self.finder.review()
            self._resolution.follow(self.follower.next_hops())

    def on_standby(self, result: StandbyResult) -> None:
        """Takes how a standby's REGISTER, or its connection, ended."""
        followed = self.follower.get(result.account)
        if followed is not None and followed.aor == result.aor:
            self.standbys.on_result(result, followed, time.monotonic())
            self.maintain_soon()

    def aor_for(self, server: Server) -> str:
        """The address of record of a followed account that *server* may serve; empty where there is none."""
        return self.follower.aor_of(self._targets.of(server))

    def _maintain_at(self, when: float) -> None:
        """Has the next round begin at *when*, unless one begins earlier."""
        when = max(when, self._last + PAUSE)
        if self._loop is None or when == math.inf or (self._next is not None and self._next.when() <= when):
            return
        if self._next is not None:
            self._next.cancel()
        self._next = self._loop.call_at(when, self._maintain)

    def _maintain(self) -> None:
        """One round: does what is due, and has the next one begin when something is due again."""
        self._next, self._last = None, time.monotonic()
        if self._targets.ended or self._monitor is None:
            return
        due = self._last + LONGEST_PAUSE
        try:
            self._review()
            self._monitor.probe_wanted({**self.pins.servers(), **self.follower.wanted()})
            quiet = self._monitor.probe_quiet(self._watched())
            due = min(quiet, self._due())
        except Exception:
            log.exception("accounts and quiet servers cannot be looked after just now")
        self._news.deliver()
        self._maintain_at(due)

    def _due(self) -> float:
        """Returns when accounts are to be looked after again, and servers in use, if nothing happens."""
        due = min(
            self.follower.due(self._last),
            self.standbys.due(self._last),
            self._resolution.renew_at(self.follower.next_hops()),
        )
        if self._probe.interval is not None:
            due = min(due, self._in_use_until)
        if self.pins or self.finder:
            due = min(due, self._last + LONGEST_PAUSE)
        return due

    def _watched(self) -> dict[Server, Watched]:
        """Returns the servers to probe when they are quiet: those in use, and after a shorter time those that accounts
        are on.
        """
        now = time.monotonic()
        if self._probe.interval is not None and now >= self._in_use_until:
            self._in_use_until = now + self._probe.interval / 4
            self._in_use = {
                server: Watched(target.host, self._probe.interval)
                for target, known in self._targets
                if (used_at := plans.used_at(target)) is not None and now - used_at < self._probe.idle
                for server in known.servers
            }
        watched = dict(self._in_use)
        if self._probe.accounts is not None:
            for server, host in self.pins.servers().items():
                watched[server] = Watched(host, self._probe.accounts)
        for server, each in self.follower.servers().items():
            if server not in watched or each.interval < watched[server].interval:
                watched[server] = each
        return watched

    def _is_kept_otherwise(self, account: Account) -> bool:
        return self.pins.pinned(account) is not None or self.routes.has(account)

    def _health_now(self) -> Mapping[Server, Health]:
        return self._health.snapshot(time.monotonic())

    def _at(self, when: float, function: Callable[[], None]) -> None:
        """Calls *function* at *when*, unless pjfail has been detached by then; a round follows."""

        def run() -> None:
            with contextlib.suppress(NotAttached):
                function()
            self.maintain_soon()

        if self._loop is not None:
            self._loop.call_at(when, run)
