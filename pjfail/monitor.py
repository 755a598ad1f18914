"""From outcomes to health: what changes, which events that causes, and the probes of servers in doubt."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random
from types import MappingProxyType

from . import events
from .bridge import counts, plans
from .health import HealthTable
from .model import Health, Outcome, OutcomeKind, Server, State
from .news import News
from .planning import Complain
from .policy import Policy, describe, judge
from .probe import Probe, Prober, Watched
from .request import Requests
from .targets import Targets, measured

log = logging.getLogger("pjfail")

# Seconds between two probes of a suspect or half-open server, with some jitter.
PROBE_AGAIN = 1.0
PROBE_JITTER = 0.2


class Monitor:
    """Judges outcomes by the policy, and probes servers in doubt. Worker only, except :meth:`health`.

    *changed* is called after the health of servers has changed, once the new plans are in force.
    """

    def __init__(
        self,
        policy: Policy,
        probe: Probe,
        health: HealthTable,
        targets: Targets,
        requests: Requests,
        news: News,
        complain: Complain,
        changed: Callable[[], object],
        random: Random,
    ) -> None:
        self._policy = policy
        self._health = health
        self._targets = targets
        self._news = news
        self._complain = complain
        self._changed = changed
        self._random = random
        self._prober = Prober(probe, requests, self._probed, random)
        self._probe_due: set[Server] = set()
        self._suspected: set[Server] = set()  # of the servers in plans
        self._hold_downs: dict[Server, asyncio.TimerHandle] = {}
        self._said_unwatched = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watches the servers that are down or in doubt, in *loop*; timers and probes of an earlier loop are gone."""
        self._loop = loop
        self._hold_downs.clear()
        self._prober.forget()
        for server, health in self._health.snapshot(time.monotonic()).items():
            self._watch(server, health)

    def health(self) -> Mapping[Server, Health]:
        """Any thread. Returns what is known of each server, with the core's newest measurements."""
        unheard_of = dict.fromkeys(self._targets.servers(), Health())
        snapshot = unheard_of | dict(self._health.snapshot(time.monotonic()))
        return MappingProxyType({server: measured(server, health) for server, health in snapshot.items()})

    def servers_at(self, endpoint: str) -> list[Server]:
        """Returns the servers in any plan whose ``address:port`` is *endpoint*."""
        return sorted(server for server in self._targets.servers() if server.endpoint == endpoint)

    # --- outcomes -----------------------------------------------------------------------------------------------------

    def judge(self, outcomes: Sequence[Outcome]) -> None:
        """Updates the health of servers by *outcomes*, replans where it changed, and tells the listeners."""
        if not outcomes:
            return
        changed: set[Server] = set()
        for outcome in map(self._as_probed, outcomes):
            now = time.monotonic()
            before = self._health.get(outcome.server, now)
            after = self._judged(before, outcome, now)
            self._health.put(outcome.server, after)
            self._suspect(outcome, after)
            if outcome.seen is OutcomeKind.CERTIFICATE:
                reason = describe(outcome)
                log.warning("%s %s", outcome.server, reason)
                self._news.tell(events.CertificateRejected(outcome.server, reason, outcome))
            if after.state is State.DOWN and before.state is not State.DOWN:
                changed.add(outcome.server)
                self._went_down(outcome.server, after, outcome, now)
            elif after.state is State.DOWN and after.until != before.until:
                self._watch(outcome.server, after)
            elif after.state is State.UP and before.state is not State.UP:
                changed.add(outcome.server)
                log.info("%s is up again: it %s", outcome.server, describe(outcome))
                self._news.tell(events.ServerUp(outcome.server, after))
            elif after.state is not before.state:
                changed.add(outcome.server)
                log.info("%s is %s: %s", outcome.server, after.state.value, after.reason)
                self._watch(outcome.server, after)
        self._health_changed(changed)
        for outcome in outcomes:
            plans.clear_suspect(outcome.server, outcome.sequence)

    def note_failovers(self, failovers: Iterable[events.FailedOver]) -> None:
        """Logs each failover, and tells the listeners."""
        for event in failovers:
            code = f" {event.code}" if event.code else ""
            log.info(
                "%s failed over from %s to %s after %.3f s: %s%s",
                event.method, event.left, event.taken, event.after, event.why.value, code,
            )  # fmt: skip
            self._news.tell(event)

    def note_unwatched(self) -> None:
        """Logs, once, that more requests are under way than the core can watch."""
        if not self._said_unwatched and counts.unwatched():
            self._said_unwatched = True
            log.warning(
                "%d requests are under way, which is the limit: pjsip sends further ones, and they do not fail over",
                counts.counters().outstanding,
            )

    def set_health(self, servers: Sequence[Server], change: Callable[[Health, float], Health]) -> None:
        """Replaces the health of *servers* by what *change* returns for it and the time, as the application asked."""
        now = time.monotonic()
        for server in servers:
            before = self._health.get(server, now)
            after = change(before, now)
            self._health.put(server, after)
            if after.state is State.DOWN:
                self._went_down(server, after, None, now)
            elif after.state is State.UP and before.state is not State.UP:
                log.info("%s is up again: %s", server, after.reason)
                self._news.tell(events.ServerUp(server, after))
            else:
                log.info("%s is %s: %s", server, after.state.value, after.reason)
        self._health_changed(set(servers))
        self._news.deliver()

    def forget(self, server: Server) -> None:
        """Called when no plan has *server* any more; its health is kept."""
        self._suspected.discard(server)
        if self._health.get(server, time.monotonic()).state is State.UP:
            self._health.drop(server)

    def _suspect(self, outcome: Outcome, health: Health) -> None:
        """Tells the listeners of a server that failed and is not taken down."""
        server = outcome.server
        if outcome.seen is OutcomeKind.ANSWERED or health.state in (State.DOWN, State.DRAINING):
            self._suspected.discard(server)
            return
        own_doing = outcome.seen is not OutcomeKind.CERTIFICATE and not outcome.after_provisional
        if own_doing and server not in self._suspected:
            if self._targets.host_of(server) is not None:
                self._suspected.add(server)
            self._news.tell(events.ServerSuspected(server, health, outcome))

    def _as_probed(self, outcome: Outcome) -> Outcome:
        """Returns *outcome*, marked if it is that of a probe: the core cannot tell a probe from another OPTIONS."""
        probed = outcome.method == "OPTIONS" and self._prober.is_asking(outcome.server)
        return replace(outcome, probe=True) if probed and outcome.seen is not OutcomeKind.ANSWERED else outcome

    def _judged(self, before: Health, outcome: Outcome, now: float) -> Health:
        try:
            return judge(before, outcome, self._policy, now, self._random)
        except Exception as error:
            self._complain(f"raised {type(error).__name__} when it judged {outcome.seen.name}", error)
            return judge(before, outcome, Policy(), now, self._random)

    def _went_down(self, server: Server, health: Health, outcome: Outcome | None, now: float) -> None:
        tried = "until the application restores it"
        if health.until is not None:
            tried = f"next tried in {health.until - now:.0f} s"
        failure = f" (failure {health.failures})" if health.failures else ""
        log.info("%s is down, %s: %s%s", server, tried, health.reason, failure)
        self._watch(server, health)
        self._news.tell(events.ServerDown(server, health, outcome))

    def _health_changed(self, servers: set[Server]) -> None:
        self._targets.replan_all(servers)
        if servers:
            self._changed()

    # --- hold-downs and probes ----------------------------------------------------------------------------------------

    def probe_quiet(self, servers: Mapping[Server, Watched]) -> None:
        """Probes those of *servers* that have been quiet for too long; call it often."""
        self._prober.watch(servers, _last_answer, time.monotonic())

    def _watch(self, server: Server, health: Health) -> None:
        """Has *server* probed: now if it is suspect or half-open, otherwise when its hold-down ends."""
        if self._loop is None:
            return
        if _in_doubt(health):
            self._loop.call_soon(self._probe, server)
        elif health.state is State.DOWN and health.until is not None:
            if (before := self._hold_downs.pop(server, None)) is not None:
                before.cancel()  # each 503 with a Retry-After moves the end
            left = health.until - time.monotonic() + 0.01
            self._hold_downs[server] = self._loop.call_later(left, self._hold_down_ended, server)

    def _hold_down_ended(self, server: Server) -> None:
        self._hold_downs.pop(server, None)
        if self._health.get(server, time.monotonic()).state is not State.HALF_OPEN:
            return
        self._health_changed({server})  # for the reasons in its plans
        self._news.deliver()
        self._probe(server)

    def _probe(self, server: Server) -> None:
        """Sends one probe, if *server* is in doubt and in use."""
        self._probe_due.discard(server)
        host = self._targets.host_of(server)
        if host is not None and not self._targets.ended and self._is_in_doubt(server):
            self._prober.start(server, host)

    def _probed(self, server: Server, outcome: Outcome | None) -> None:
        """Judges what the core has not seen of a probe, and probes again soon while the server is in doubt."""
        if self._targets.ended or self._loop is None:
            return
        if outcome is not None and outcome.seen is not OutcomeKind.ANSWERED:
            self._news.tell(events.ProbeFailed(server, outcome))
        health = self._health.get(server, time.monotonic())
        if outcome is not None and (outcome.seen is OutcomeKind.ANSWERED or not _knows(health, outcome)):
            self.judge([outcome])
        self._news.deliver()
        if self._is_in_doubt(server) and server not in self._probe_due:
            self._probe_due.add(server)
            soon = PROBE_AGAIN * self._random.uniform(1 - PROBE_JITTER, 1 + PROBE_JITTER)
            self._loop.call_later(soon, self._probe, server)

    def _is_in_doubt(self, server: Server) -> bool:
        return _in_doubt(self._health.get(server, time.monotonic()))


def _knows(health: Health, failure: Outcome) -> bool:
    """Returns whether the core has reported this failed probe already."""
    told = health.failed_at is not None and failure.began is not None and health.failed_at >= failure.began
    return told or health.state is State.DOWN


def _in_doubt(health: Health) -> bool:
    return health.state in (State.SUSPECT, State.HALF_OPEN)


def _last_answer(server: Server) -> float | None:
    stats = counts.stats(server)
    return None if stats is None else stats.last_answer
