"""Shares what this process learns of servers, and takes to heart what others have learnt. On the worker only."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from .. import events
from .._values import dataclass
from ..bridge import counts
from ..health import HealthTable
from ..model import Health, Server, State
from ..monitor import Monitor
from ..news import News
from ..policy import Policy, told_up
from ..targets import Targets
from .board import CEILING_S, MAX_VOICES, RECOVERY_S, Belief, Board, Heard, missing
from .entries import MAX_REASON, Entry, Kind, printable
from .link import Link
from .settings import Shared
from .stores import store_of

log = logging.getLogger("pjfail")

TICK_S = 1.0
UNSURE_S = 3.0
"""Who has had no answer of another server either waits so long before it tells: its own network may be the one."""
LEASE_S = 3.0
"""Longer than a probe takes (2.2 s)."""
STAND_BACK_S = 2.0
"""Whose probe has failed lets others go first, for so long after the next hold-down."""
CONTRADICT_S = 0.3
"""Within so long one of the many who know better says so, and the others have heard it."""
STUBBORN_S = 60.0
"""A server that fails again so soon after another process has found it well is judged by this process alone."""
FIRST_READ_S = 1.0
"""``attach()`` waits so long for the first reading, so that a new process knows before its first request."""


@dataclass(frozen=True, slots=True)
class SharedStatus:
    """The shared memory of an attached pjfail: where it is, whether it is there, and what has been counted.

    ``written``: entries told; ``heard``: entries of others that were new; ``believed``: servers that are down because
    others told so, now; ``contradicted``: times that an own success outranked others; ``dropped``: entries that could
    not be told; ``strangers``: entries in the store that this pjfail cannot read; ``commands``: operations on the
    store; ``entries``: those of others that are known now.
    """

    store: str
    connected: bool
    written: int
    heard: int
    believed: int
    contradicted: int
    dropped: int
    strangers: int
    commands: int
    entries: int


@dataclass(slots=True)
class _Said:
    """An own word that holds until a time."""

    kind: Kind
    since: float
    until: float
    reason: str = ""
    failures: int = 0
    sure: bool = False
    sequence: int = 0  # 0: it has not been told
    tell_at: float = 0.0


class Sharing:
    """A listener that tells other processes, and hears them. *health*, *targets* and *monitor* are the worker's."""

    def __init__(
        self,
        settings: Shared,
        policy: Policy,
        health: HealthTable,
        targets: Targets,
        monitor: Monitor,
        news: News,
        random: Random,
    ) -> None:
        trust = 1 if settings.trust is None and not settings.is_redis else settings.trust
        self._settings = settings
        self._policy = policy
        self._health = health
        self._targets = targets
        self._monitor = monitor
        self._news = news
        self._random = random
        self._writer = secrets.token_hex(6)
        self._host = printable(socket.gethostname())
        self._board = Board(self._writer, trust)
        store_of(settings)  # here, not on the worker: the first time imports redis-py, which takes its time
        self._link = Link(lambda: store_of(settings), self, random)
        self._said: dict[Server, _Said] = {}
        self._sequence = 0
        self._believed: dict[Server, Belief] = {}
        self._raised: dict[Server, float] = {}  # by another's word, when
        self._alone: dict[Server, float] = {}  # judged by this process alone, until
        self._ordered: dict[Server, Heard] = {}
        self._leases: dict[Server, float] = {}
        self._asking: set[Server] = set()
        self._stand_back: dict[Server, float] = {}
        self._heard = self._contradicted = 0
        self._contradicting: set[Server] = set()
        self._down_since: float | None = None
        self._once = False
        self._ticking: asyncio.TimerHandle | None = None
        self._first_read = threading.Event()

    async def serve(self) -> None:
        """Runs until it is cancelled."""
        self._asking.clear()
        self._contradicting.clear()
        self._ticking = None
        self._tick_soon()
        await self._link.serve()

    def wait_for_first_read(self) -> None:
        """Any thread but the worker. Waits until the store has been read, or cannot be, for a limited time."""
        self._first_read.wait(FIRST_READ_S)

    def status(self) -> SharedStatus:
        """Any thread."""
        link = self._link
        return SharedStatus(
            store=self._settings.label,
            connected=link.is_up,
            written=link.written,
            heard=self._heard,
            believed=len(self._believed),
            contradicted=self._contradicted,
            dropped=link.dropped,
            strangers=link.strangers,
            commands=link.commands,
            entries=len(self._board),
        )

    # --- telling ------------------------------------------------------------------------------------------------------

    def __call__(self, event: events.Event) -> None:
        self._tick_soon()
        match event:
            case events.ServerDown(server, health, outcome) if outcome is not None:
                self._believed.pop(server, None)
                began = outcome.at if outcome.began is None else outcome.began
                self._convicted(server, health, began, time.monotonic())
            case events.ServerUp(server, health):
                self._believed.pop(server, None)
                if health.last_answer is not None and health.last_answer == health.since:
                    self._answered(server, health.since, time.monotonic())
                elif (said := self._said.get(server)) is not None and said.kind == "down":
                    now = time.monotonic()
                    self._say(server, _Said("gone", now, now + RECOVERY_S))

    def _convicted(self, server: Server, health: Health, began: float, now: float) -> None:
        if self._leases.pop(server, 0.0) and health.until is not None:
            self._stand_back[server] = health.until + STAND_BACK_S
        if now - self._raised.pop(server, -STUBBORN_S) < STUBBORN_S and health.until is not None:
            self._alone[server] = health.until
        if self._every_server_fails() or self._board.voices(server, now) >= MAX_VOICES:
            return
        until = now + CEILING_S if health.until is None else min(health.until, now + CEILING_S)
        said = _Said("down", began, until, printable(health.reason)[:MAX_REASON], health.failures)
        said.sure = self._others_answer(server, began)
        if said.sure:
            self._say(server, said)
        else:
            self._said[server] = replace(said, tell_at=now + UNSURE_S)

    def _answered(self, server: Server, at: float, now: float) -> None:
        self._alone.pop(server, None)
        said = self._said.get(server)
        if self._board.voices(server, now) or (said is not None and said.kind == "down"):
            self._say(server, _Said("up", at, now + RECOVERY_S))

    def _say(self, server: Server, said: _Said) -> None:
        self._sequence += 1
        said.sequence = self._sequence
        self._said[server] = said
        self._link.say(self._entry(server, said, time.monotonic()))

    def _entry(self, server: Server, said: _Said, now: float) -> Entry:
        return Entry(
            server=server,
            writer=self._writer,
            kind=said.kind,
            sequence=said.sequence,
            left=max(said.until - now, 0.0),
            age=max(now - said.since, 0.0),
            host=self._host,
            reason=said.reason,
            failures=said.failures,
            sure=said.sure,
        )

    def _every_server_fails(self) -> bool:
        now = time.monotonic()
        return all(
            self._health.get(server, now).state is not State.UP and server not in self._believed
            for server in self._targets.servers()
        )

    def _others_answer(self, server: Server, since: float) -> bool:
        others = itertools.islice(self._targets.servers(), MAX_OTHERS)
        return any((_last_answer(other) or 0.0) > since for other in others if other != server)

    # --- hearing ------------------------------------------------------------------------------------------------------

    def on_entry(self, entry: Entry) -> None:
        self._tick_soon()
        if self._board.hear(entry, time.monotonic()):
            self._heard += 1
            self._review({entry.server})

    def on_read(self, entries: Sequence[Entry], began: float) -> None:
        now = time.monotonic()
        changed = self._board.take(entries, began, now)
        if changed:
            self._tick_soon()
        self._heard += len(changed)
        if self._link.is_up or self._once:  # what the store has lost is told again
            own = [
                self._entry(server, said, now)
                for server, said in self._said.items()
                if said.until > now and said.sequence
            ]
            for entry in missing(own, entries):
                self._link.say(entry)
        self._review(changed)
        self._first_read.set()

    def on_up(self) -> None:
        if self._down_since is not None:
            after = time.monotonic() - self._down_since
            log.info("the shared memory %s is there again, after %.0f s", self._settings.label, after)
            self._news.tell(events.SharedUp(self._settings.label, after))
            self._news.deliver()
        elif not self._once:
            log.info("what is learnt of servers is shared by %s", self._settings.label)
        self._down_since, self._once = None, True

    def on_down(self, reason: str) -> None:
        self._first_read.set()
        if self._down_since is None:
            self._down_since = time.monotonic()
            log.warning(
                "the shared memory %s cannot be used: %s; pjfail goes on with its own health, and keeps trying",
                self._settings.label, reason,
            )  # fmt: skip
            self._news.tell(events.SharedDown(self._settings.label, reason))
            self._news.deliver()

    def _tick_soon(self) -> None:
        """Has time bring what it brings as long as there is something that it may change."""
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._ticking = None
        try:
            self.tick(time.monotonic())
        except Exception:
            log.exception("what other processes told of servers cannot be looked through just now")
        if any((self._board, self._said, self._alone, self._leases, self._stand_back, self._believed, self._ordered)):
            self._tick_soon()

    def tick(self, now: float) -> None:
        """What time brings: words that end, an own success, a lost network."""
        changed = self._board.expire(now)
        self._said = {server: said for server, said in self._said.items() if said.until > now}
        for kept in (self._alone, self._leases, self._stand_back):
            for server in [server for server, until in kept.items() if until <= now]:
                del kept[server]
        alone = self._every_server_fails()
        for server, said in list(self._said.items()):
            if said.kind != "down":
                continue
            if alone and said.sequence:
                self._say(server, _Said("gone", now, now + RECOVERY_S))
            elif alone:
                del self._said[server]
            elif not said.sure and self._others_answer(server, said.since):
                self._say(server, replace(said, sure=True))
            elif not said.sequence and said.tell_at <= now:
                self._say(server, said)
        self._review({*changed, *self._believed, *self._ordered})

    def _review(self, servers: set[Server]) -> None:
        now = time.monotonic()
        for server in servers:
            order = self._board.order(server, now)
            if order is not None or server in self._ordered:
                self._obey(server, order)
            if order is None:
                self._weigh(server, now)
        self._news.deliver()

    def _weigh(self, server: Server, now: float) -> None:
        health = self._health.get(server, now)
        if health.state is State.DRAINING or (health.held and health.state is State.DOWN):
            return  # the application, or the server itself, has said so
        before = self._believed.get(server)
        own_doubt = before is None and health.state in (State.DOWN, State.HALF_OPEN)
        verdict = self._board.weigh(server, now, _last_answer(server), doubted=own_doubt)
        if verdict.contradicted and server not in self._contradicting:
            self._contradicting.add(server)
            wait = self._random.uniform(0, CONTRADICT_S)
            asyncio.get_running_loop().call_later(wait, self._contradict, server)
        if verdict.down is not None and self._alone.get(server, 0.0) <= now:
            self._believe(server, health, verdict.down, before)
        elif before is not None:
            del self._believed[server]
            if verdict.contradicted or verdict.recovered is not None:
                self._raise(server, verdict.recovered)
            elif self._targets.host_of(server) is None:
                self._health.drop(server)
            elif health.state is State.DOWN:  # taken back: nobody knows, so a probe is to tell
                self._put(server, lambda known, at: replace(known, until=at))
            else:
                self._monitor.probe_if_in_doubt(server)
        elif (
            own_doubt
            and verdict.recovered is not None
            and verdict.recovered.since > (health.failed_at or health.since)
            and self._alone.get(server, 0.0) <= now
        ):
            self._raise(server, verdict.recovered)

    def _contradict(self, server: Server) -> None:
        """Tells the own success, unless another process has told one meanwhile."""
        self._contradicting.discard(server)
        now, last_answer = time.monotonic(), _last_answer(server)
        if last_answer is not None and self._board.weigh(server, now, last_answer, doubted=False).contradicted:
            self._contradicted += 1
            self._say(server, _Said("up", last_answer, now + RECOVERY_S))

    def _believe(self, server: Server, health: Health, belief: Belief, before: Belief | None) -> None:
        self._believed[server] = belief
        if health.state is State.DOWN:
            if before is None:  # taken down by this process, for as long as it says
                del self._believed[server]
            elif before.voices != belief.voices:
                self._health.put(server, replace(health, reason=belief.reason, told=belief.voices))
            if before is None or (health.until or 0.0) >= belief.until - 0.5:
                return
        self._put(
            server,
            lambda known, now: replace(
                known,
                state=State.DOWN,
                since=now,
                until=belief.until,
                reason=belief.reason,
                failures=max(known.failures, belief.failures),
                told=belief.voices,
                held=False,
                generation=known.generation + 1,
                returning=False,
                returns_at=None,
            ),
        )

    def _raise(self, server: Server, heard: Heard | None) -> None:
        """*server* is up, because another process had an answer, or this one had (None)."""
        if heard is not None:
            self._raised[server] = time.monotonic()
            while len(self._raised) > MAX_RAISED:
                del self._raised[next(iter(self._raised))]
        where = "here" if heard is None else f"{heard.entry.host or 'another process'}"
        reason = f"it has answered at {where}"
        self._put(server, lambda known, now: told_up(known, reason, self._policy, now, self._random))

    def _put(self, server: Server, change: Callable[[Health, float], Health]) -> None:
        if self._targets.host_of(server) is not None:
            self._monitor.set_health([server], change)
            return
        now = time.monotonic()  # no plan has it yet: a plan of it shall know
        after = change(self._health.get(server, now), now)
        if after.usable:
            self._health.drop(server)
        else:
            self._health.put(server, after)

    def _obey(self, server: Server, order: Heard | None) -> None:
        """Does what an operator has said of *server*, or ends it (None)."""
        before = self._ordered.pop(server, None)
        if order is not None:
            self._ordered[server] = order
            if before is order:
                return
            log.info("%s: %s, says %s to the fleet", server, order.entry.kind, order.entry.host or "an operator")
        if order is None or order.entry.kind == "restore":
            if order is not None or (before is not None and before.entry.kind != "restore"):
                self._believed.pop(server, None)
                self._put(server, lambda known, now: told_up(known, "restored", _AT_ONCE, now, self._random))
            return
        self._believed.pop(server, None)
        kind, author = order.entry.kind, order.entry.host or "an operator"
        state, words = (State.DRAINING, "drained") if kind == "drain" else (State.DOWN, "marked down")
        self._put(
            server,
            lambda known, now: replace(
                known,
                state=state,
                since=now,
                until=None if state is State.DRAINING else order.until,
                reason=f"{words} for the fleet by {author}",
                held=True,
                generation=known.generation + 1,
                returning=False,
                returns_at=None,
            ),
        )

    # --- one prober ---------------------------------------------------------------------------------------------------

    def may_probe(self, server: Server) -> bool:
        """Whether this process is the one to probe *server*, which is down; else it may be soon, and is called then."""
        now = time.monotonic()
        if not self._link.is_up or self._leases.get(server, 0.0) > now:
            return True
        stand_back = self._stand_back.get(server, 0.0) > now
        if server not in self._asking and not (stand_back and self._health.get(server, now).state is State.HALF_OPEN):
            self._asking.add(server)

            def got(ours: bool) -> None:
                self._asking.discard(server)
                if ours:
                    self._leases[server] = time.monotonic() + LEASE_S
                    self._tick_soon()
                    self._monitor.probe_if_in_doubt(server)

            self._link.ask_lease(server, self._writer, LEASE_S, got)
        return False


MAX_RAISED = 1000
MAX_OTHERS = 1000
_AT_ONCE = Policy(slow_start=0)


def _last_answer(server: Server) -> float | None:
    stats = counts.stats(server)
    return None if stats is None else stats.last_answer
