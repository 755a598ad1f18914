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
from ._validation import FAILURES
from .bridge import counts, plans
from .health import HealthTable
from .model import Health, Outcome, OutcomeKind, Server, State, Target, Transport
from .news import News
from .planning import Complain
from .policy import Policy, describe, is_pardonable, judge, left_to_traffic, pardoned, suspected
from .probe import PROBE, IgnoredOptions, OptionsVerdict, Probe, Prober, Watched
from .recovery import Recoveries
from .request import Requests
from .targets import Targets, measured

log = logging.getLogger("pjfail")

# Seconds between two probes of a suspect or half-open server, with some jitter.
PROBE_AGAIN = 1.0
PROBE_JITTER = 0.2
# A half-open server that has answered requests, but never an OPTIONS, is left to its traffic after so many hold-downs.
TRAFFIC_AFTER = 3

# So many servers are named where none of a target answers.
MAX_NAMED = 4


class Monitor:
    """Judges outcomes by the policy, and probes servers in doubt. Worker only, except :meth:`health`.

    *changed* is called after the health of servers has changed, once the new plans are in force. *aor_for* tells of
    an account that a server may serve, so that it can be asked by that. ``excuses``: which outcomes judge no server.
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
        aor_for: Callable[[Server], str],
        random: Random,
    ) -> None:
        self._policy = policy
        self._health = health
        self._targets = targets
        self._news = news
        self._complain = complain
        self._changed = changed
        self._aor_for = aor_for
        self._random = random
        self._prober = Prober(probe, requests, self._probed, random)
        self._probe_due: dict[Server, asyncio.TimerHandle] = {}
        self._options = IgnoredOptions()
        self._recoveries = Recoveries(policy.rise)
        self._wanted: Mapping[Server, str] = {}
        self._suspected: set[Server] = set()  # of the servers in plans
        self._hold_downs: dict[Server, asyncio.TimerHandle] = {}
        self._down_since: dict[Server, float] = {}  # of those that plans have
        self._unanswered: set[Target] = set()  # targets without a server that answers
        self._said_unwatched = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.excuses: Callable[[Outcome], bool] = lambda _: False
        self.may_probe: Callable[[Server], bool] = lambda _: True  # of those that are down

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watches the servers that are down or in doubt, in *loop*; timers and probes of an earlier loop are gone."""
        self._loop = loop
        self._hold_downs.clear()
        self._probe_due.clear()
        self._prober.forget()
        for server, health in self._health.snapshot(time.monotonic()).items():
            self._watch(server, health)

    def health(self) -> Mapping[Server, Health]:
        """Any thread. Returns what is known of each server, with the core's newest measurements."""
        unheard_of = dict.fromkeys(self._targets.servers(), Health())
        snapshot = unheard_of | dict(self._health.snapshot(time.monotonic()))
        return MappingProxyType({server: measured(server, health) for server, health in snapshot.items()})

    def find(self, transport: Transport | None, host: str, port: int) -> list[Server]:
        """Any thread. The servers in any plan at this address or of this name (:meth:`Targets.find`)."""
        return self._targets.find(transport, host, port)

    def down_since(self, server: Server) -> float | None:
        """Worker. When *server* was first taken down, if it has not come back since; None for others."""
        return self._down_since.get(server)

    # --- outcomes -----------------------------------------------------------------------------------------------------

    def judge(self, outcomes: Sequence[Outcome]) -> None:
        """Updates the health of servers by *outcomes*, replans where it changed, and tells the listeners."""
        if not outcomes:
            return
        changed: set[Server] = set()
        for outcome in map(self._as_probed, outcomes):
            if self.excuses(outcome):
                continue
            now = time.monotonic()
            before = self._health.get(outcome.server, now)
            if self._is_options_alone(outcome, before) or self._is_early(outcome, before):
                continue
            if outcome.seen is not OutcomeKind.ANSWERED:
                before = self._recoveries.remembered(outcome.server, before, now)
            after = self._judged(before, outcome, now)
            self._health.put(outcome.server, after)
            self._suspect(outcome, after)
            if outcome.seen is OutcomeKind.CERTIFICATE:
                reason = describe(outcome)
                log.warning("%s %s", self._targets.label(outcome.server), reason)
                self._news.tell(events.CertificateRejected(outcome.server, reason, outcome))
            if after.state is State.DOWN and before.state is not State.DOWN:
                changed.add(outcome.server)
                self._recoveries.went_down(outcome.server, after, outcome)
                self._went_down(outcome.server, after, outcome, now)
            elif after.state is State.DOWN and after.until != before.until:
                self._recoveries.went_down(outcome.server, after, outcome)
                self._watch(outcome.server, after)
            elif after.state is State.UP and before.state is not State.UP:
                changed.add(outcome.server)
                self._came_back(outcome.server, f"it {describe(outcome)}", now)
                self._news.tell(events.ServerUp(outcome.server, after))
                self._ask_whether_it_ignores_options(outcome.server)
            elif after.state is not before.state:
                changed.add(outcome.server)
                log.info("%s is %s: %s", self._targets.label(outcome.server), after.state.value, after.reason)
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
                event.method, self._targets.label(event.left), self._targets.label(event.taken), event.after,
                event.why.value, code,
            )  # fmt: skip
            self._news.tell(event)
            if event.why is events.Reason.RACE and event.left.transport == "udp":
                self._doubt(event.left)

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
            self._options.forget(server)
            self._recoveries.forget(server)
            if after.state is State.DOWN:
                self._went_down(server, after, None, now)
            elif after.state is State.UP and before.state is not State.UP:
                self._came_back(server, after.reason, now)
                self._news.tell(events.ServerUp(server, after))
            else:
                log.info("%s is %s: %s", self._targets.label(server), after.state.value, after.reason)
        self._health_changed(set(servers))
        self._news.deliver()

    def pardon(self, began: float) -> None:
        """Takes back what servers have been judged for since *began*, when this machine's network failed."""
        now = time.monotonic()
        judged = [server for server, health in self._health.snapshot(now).items() if is_pardonable(health, began)]
        self.set_health(judged, pardoned)

    def probe_if_in_doubt(self, server: Server) -> None:
        """Probes *server* now, if it is in doubt; when its hold-down ends, if it is down."""
        self._watch(server, self._health.get(server, time.monotonic()))

    def _doubt(self, server: Server) -> None:
        """Has *server* probed over UDP, because no TCP connection to it came about, as a large request needs one."""
        health = self._health.get(server, time.monotonic())
        if health.state is State.UP:
            health = suspected(health, time.monotonic(), "accepted no TCP connection for a large request")
            self._health.put(server, health)
            log.info("%s is %s: %s", server, health.state.value, health.reason)
            self._watch(server, health)
            self._health_changed({server})

    def forget(self, server: Server) -> None:
        """Called when no plan has *server* any more; its health is kept."""
        self._suspected.discard(server)
        self._down_since.pop(server, None)
        self._options.forget(server)
        self._recoveries.forget(server)
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
        """*outcome*, marked as a probe's if it is one: the core cannot tell a probe from another request."""
        probed = self._prober.is_asking(outcome.server, outcome.method)
        return replace(outcome, probe=True) if probed and outcome.seen is not OutcomeKind.ANSWERED else outcome

    def _is_options_alone(self, outcome: Outcome, health: Health) -> bool:
        """Whether *outcome* is an OPTIONS without an answer that tells nothing of the server, which answers others.

        A server of which that is not proven yet, or that is in doubt, is asked by an account's REGISTER. Where no
        account is at hand it fails by its OPTIONS a few times in a row, and then is left to its traffic.
        """
        server = outcome.server
        if outcome.seen is not OutcomeKind.SILENT or outcome.method not in ("OPTIONS", f"OPTIONS{PROBE}"):
            return False
        stats = counts.stats(server)
        if stats is None:  # no plan has it
            return False
        began = outcome.at if outcome.began is None else outcome.began
        verdict = self._options.note(server, began, stats.answered_options, stats.answered_other)
        if verdict is OptionsVerdict.FOUND_OUT:
            log.warning("%s ignores OPTIONS, and answers other requests: it is sent none any more", server)
        if verdict is OptionsVerdict.FAILED or not (health.usable or _in_doubt(health)):
            return False
        proven = server in self._options
        if (_in_doubt(health) or not proven) and self._ask_by_account(server):
            return True
        if not proven and health.failures < TRAFFIC_AFTER:
            return False
        self._leave_to_traffic(server)
        return True

    def _ask_whether_it_ignores_options(self, server: Server) -> None:
        """Asks a server that has left an OPTIONS unanswered while it is known to be there: then silence tells."""
        host = self._targets.host_of(server)
        if host is not None and self._options.is_suspect(server):
            self._prober.start(server, host)

    def _ask_by_account(self, server: Server) -> bool:
        """Sends one probe that is a REGISTER, and changes no binding; False where no account is known."""
        host, aor = self._targets.host_of(server), self._aor_for(server)
        if host is None or not aor:
            return False
        self._prober.start(server, host, aor)
        return True

    def _leave_to_traffic(self, server: Server) -> None:
        """Ends the doubt about *server*, which no probe can end."""
        now = time.monotonic()
        health = self._health.get(server, now)
        if _in_doubt(health):
            after = left_to_traffic(health, self._policy, now, self._random)
            self._health.put(server, after)
            self._recoveries.came_back(server, now)
            log.info("%s is up again: %s", server, after.reason)
            self._news.tell(events.ServerUp(server, after))
            self._health_changed({server})
            self._news.deliver()

    def _judged(self, before: Health, outcome: Outcome, now: float) -> Health:
        try:
            return judge(before, outcome, self._policy, now, self._random)
        except FAILURES as error:
            self._complain(f"raised {type(error).__name__} when it judged {outcome.seen.name}", error)
            return judge(before, outcome, Policy(), now, self._random)

    def _went_down(self, server: Server, health: Health, outcome: Outcome | None, now: float) -> None:
        tried = "until the application restores it"
        if health.until is not None:
            tried = f"next tried within {health.until - now:.0f} s"
        failure = f" (failure {health.failures})" if health.failures else ""
        is_new = server not in self._down_since
        if is_new and self._targets.host_of(server) is not None:
            self._down_since[server] = now
        level = logging.WARNING if is_new and outcome is not None else logging.INFO
        still = "" if is_new else "still "
        log.log(level, "%s is %sdown, %s: %s%s", self._targets.label(server), still, tried, health.reason, failure)
        self._watch(server, health)
        self._news.tell(events.ServerDown(server, health, outcome))

    def _came_back(self, server: Server, reason: str, now: float) -> None:
        since = self._down_since.pop(server, None)
        self._recoveries.came_back(server, now)
        out = "" if since is None else f" after {in_words(now - since)}"
        log.info("%s is up again%s: %s", self._targets.label(server), out, reason)

    def _health_changed(self, servers: set[Server]) -> None:
        self._targets.replan_all(servers)
        for target in self._targets.with_any(servers):
            self._look_whether_any_answers(target)
        if servers:
            self._changed()

    def _look_whether_any_answers(self, target: Target) -> None:
        """Tells of *target*, once, that none of its servers answers; of one transport, where there are several."""
        known, now = self._targets.get(target), time.monotonic()
        healths = {} if known is None else {server: self._health.get(server, now) for server in known.servers}
        if any(health.state not in (State.DOWN, State.HALF_OPEN) for health in healths.values()):
            self._unanswered.discard(target)
        elif target not in self._unanswered and any(health.failures for health in healths.values()):
            self._unanswered = {each for each in self._unanswered if self._targets.get(each) is not None}
            if not any(each.host == target.host for each in self._unanswered):
                each = [f"{self._targets.label(server)}: {health.reason}" for server, health in healths.items()]
                more = f", and {len(each) - MAX_NAMED} more" if len(each) > MAX_NAMED else ""
                log.error("no server of %s answers (%s%s)", target, "; ".join(sorted(each)[:MAX_NAMED]), more)
            self._unanswered.add(target)

    # --- hold-downs and probes ----------------------------------------------------------------------------------------

    def probe_quiet(self, servers: Mapping[Server, Watched]) -> float:
        """Probes those of *servers* that have been quiet for too long, and returns when to call it again."""
        asked = {server: watched for server, watched in servers.items() if server not in self._options}
        return self._prober.watch(asked, _last_answer, time.monotonic())

    def probe_wanted(self, servers: Mapping[Server, str]) -> None:
        """From now on probes those of *servers*, each with its host name, that are down or in doubt, so that they are
        up soon after they work again. No plan need have them.
        """
        self._wanted = servers
        for server in servers:
            if self._is_wanted(server) or self._is_in_doubt(server):
                self._probe_soon(server)

    def _is_early(self, outcome: Outcome, before: Health) -> bool:
        """Whether *outcome* is the answer of a server that is down to a probe, of which one is not enough."""
        server = outcome.server
        if before.state is not State.DOWN or outcome.seen is not OutcomeKind.ANSWERED or not self._is_wanted(server):
            return False
        return outcome.probe or self._prober.is_asking(server, outcome.method)

    def _is_wanted(self, server: Server) -> bool:
        return server in self._wanted and self._recoveries.may_end_early(server)

    def _probed_early(self, server: Server, health: Health, outcome: Outcome) -> bool:
        """Takes note of a probe of a server that is down and wanted. Returns whether the server is down still."""
        recovering = self._recoveries.probed(server, health, outcome)
        if recovering is not None:
            self._health.put(server, recovering)
        return recovering is None

    def _watch(self, server: Server, health: Health) -> None:
        """Has *server* probed: now if it is suspect or half-open, soon if it is down and wanted back, otherwise when
        its hold-down ends.
        """
        if self._loop is None:
            return
        if _in_doubt(health):
            self._loop.call_soon(self._probe, server)
        elif health.state is State.DOWN and self._is_wanted(server):
            self._probe_soon(server)
        if health.state is State.DOWN and health.until is not None:
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
        """Sends one probe, if *server* is in doubt and in use, or wanted back."""
        if (due := self._probe_due.pop(server, None)) is not None:
            due.cancel()  # it is sent now, not twice
        state = self._health.get(server, time.monotonic()).state
        is_wanted = state is State.DOWN and self._is_wanted(server)
        host = self._wanted.get(server) or self._targets.host_of(server)
        if host is None or self._targets.ended or not (is_wanted or self._is_in_doubt(server)):
            return
        if state is not State.SUSPECT and not self.may_probe(server):
            self._probe_soon(server)
        elif server not in self._options:
            self._prober.start(server, host)
        elif not self._ask_by_account(server):
            if is_wanted:
                self._probe_soon(server)
            else:
                self._leave_to_traffic(server)

    def _probed(self, server: Server, outcome: Outcome | None) -> None:
        """Judges what the core has not seen of a probe, and probes again soon while the server is in doubt."""
        if self._targets.ended or self._loop is None:
            return
        health = self._health.get(server, time.monotonic())
        if outcome is not None and health.state is State.DOWN and self._is_wanted(server):
            if self._probed_early(server, health, outcome):
                self._probe_soon(server)
                return
        elif outcome is not None and outcome.seen is not OutcomeKind.ANSWERED:
            self._news.tell(events.ProbeFailed(server, outcome))
        if outcome is not None and (outcome.seen is OutcomeKind.ANSWERED or not _knows(health, outcome)):
            self.judge([outcome])
        self._news.deliver()
        if self._is_in_doubt(server) or self._is_wanted(server):
            self._probe_soon(server)

    def _probe_soon(self, server: Server) -> None:
        if self._loop is None or server in self._probe_due:
            return
        soon = PROBE_AGAIN * self._random.uniform(1 - PROBE_JITTER, 1 + PROBE_JITTER)
        self._probe_due[server] = self._loop.call_later(soon, self._probe, server)

    def _is_in_doubt(self, server: Server) -> bool:
        return _in_doubt(self._health.get(server, time.monotonic()))


def in_words(seconds: float) -> str:
    """``31 s``, ``12 min``, ``5 h``."""
    size, unit = (1, "s") if seconds < 120 else (60, "min") if seconds < 7200 else (3600, "h")
    return f"{seconds / size:.0f} {unit}"


def _knows(health: Health, failure: Outcome) -> bool:
    """Returns whether the core has reported this failed probe already."""
    told = health.failed_at is not None and failure.began is not None and health.failed_at >= failure.began
    return told or health.state is State.DOWN


def _in_doubt(health: Health) -> bool:
    return health.state in (State.SUSPECT, State.HALF_OPEN)


def _last_answer(server: Server) -> float | None:
    stats = counts.stats(server)
    return None if stats is None else stats.last_answer
