"""The one Python thread: questions in, plans out, in an asyncio loop.

The worker owns what is known of each target (:mod:`pjfail.targets`) and the health table. Other threads reach it
through :meth:`Worker.call` and :meth:`Worker.resolve`; no SIP thread ever waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from random import Random
from types import MappingProxyType
from typing import Any, TypeVar

from . import events
from .affinity import Pins
from .bridge import core, counts, plans, queue
from .errors import DETACHED, LookupFailed, NotAttached, UnknownTarget
from .following import FollowedAccount, Follower, FollowerContext
from .health import HealthTable
from .lookup import Adaptive, Lookup, ServesStale, pjsip_dns
from .lookup.rfc3263 import numeric_candidate
from .model import (
    Candidate,
    Family,
    Health,
    Outcome,
    OutcomeKind,
    Plan,
    Question,
    Request,
    Server,
    State,
    Target,
    Transport,
)
from .policy import Policy, describe, judge
from .probe import Probe, Prober, Watched
from .request import Requests
from .targets import TargetEntry, Targets, measured

log = logging.getLogger("pjfail")

T = TypeVar("T")

# A lookup of the user's that never comes back must not stand in the way of the next question for its target.
LOOKUP_LIMIT = 10.0
# How often accounts that are followed or pinned are looked after (seconds).
ACCOUNTS_EVERY = 0.25
# How often a plan that only they need is asked for at the most (seconds).
ASK_AGAIN = 5.0
# How soon a server that is suspect or half-open is probed again, give or take a share (seconds).
PROBE_AGAIN = 1.0
PROBE_JITTER = 0.2
# A policy that fails in more ways than these is not told of any more.
MAX_POLICY_ERRORS = 100
# How often the worker may be brought down by an exception before pjfail gives up and detaches.
MOST_CRASHES = 3


def _knows(health: Health, failure: Outcome) -> bool:
    """Whether the core has told of a failed probe before."""
    told = health.failed_at is not None and failure.began is not None and health.failed_at >= failure.began
    return told or health.state is State.DOWN


def _in_doubt(health: Health) -> bool:
    return health.state in (State.SUSPECT, State.HALF_OPEN)


def _allowed(target: Target, found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those of *found* that *target* allows, and that a plan has room for.

    A lookup may have given all it knows, and no request may leave TLS.
    """
    allowed = tuple(each for each in found if target.allows(each.server.transport))
    if len(allowed) > plans.MAX_SERVERS:
        log.info("%s: of %d servers the first %d are used", target, len(allowed), plans.MAX_SERVERS)
        allowed = tuple(sorted(allowed, key=lambda candidate: candidate.priority))[: plans.MAX_SERVERS]
    if found and not allowed:
        wanted = "tls" if target.secure else target.transport
        raise LookupFailed(f"{target}: the lookup found no server over {wanted}, only {found[0].server}")
    return allowed


def _of(target: Target, error: LookupFailed) -> str:
    """The error in words that begin with its target."""
    words = str(error)
    return words if words.startswith(str(target)) else f"{target}: {words}"


def _last_answer(server: Server) -> float | None:
    stats = counts.stats(server)
    return None if stats is None else stats.last_answer


class Worker:
    """Makes plans of questions and health of outcomes.

    *detached* is called, on the worker, once it has ended by itself: the endpoint is gone, or it crashed too often. It
    says whether that was news: another thread may be detaching just now.
    """

    def __init__(
        self,
        lookup: Lookup,
        policy: Policy,
        probe: Probe,
        listeners: Sequence[events.Listener],
        detached: Callable[[], bool],
        random: Random | None = None,
    ) -> None:
        self._lookup = lookup
        self._policy = policy
        self._listeners = tuple(listeners)
        self._detached = detached
        self._random = random or Random()
        self._health = HealthTable()
        self._targets = Targets(policy, self._health, self._news_of, self._server_gone, self._policy_failed)
        self._asked: dict[Target, asyncio.Task[Plan]] = {}
        self._waiting: dict[Target, list[Question]] = {}
        self.requests = Requests()
        self.pins = Pins()
        surroundings = FollowerContext(self._plan_of, self._health_now, self._news_of, self._at)
        self.follower = Follower(surroundings, self._random)
        self._prober = Prober(probe, self.requests, self._probed, self._random)
        self._probe_soon: set[Server] = set()
        self._maintaining = False
        self._in_use: dict[Server, Watched] = {}
        self._in_use_until = 0.0
        self._ask_again: dict[Target, float] = {}
        self._policy_errors: set[str] = set()
        self._news: list[events.Event] = []
        self._suspected: set[Server] = set()  # of those that plans have
        self._hold_downs: dict[Server, asyncio.TimerHandle] = {}
        self._endpoint_has: tuple[Sequence[Transport], Sequence[Family]] = (), ()
        self._attachment = 0
        self._told_of_unwatched = False
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        if isinstance(lookup, ServesStale):
            lookup.on_stale(self._lives_on_old_answers)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pjfail", daemon=True)

    # --- any thread ---------------------------------------------------------------------------------------------------

    def start(self, attachment: int) -> None:
        """Starts the thread, which serves this attachment and no other."""
        self._attachment = attachment
        self._thread.start()
        self._ready.wait()

    def stop(self, timeout: float = 2.0) -> None:
        """Ends the thread; one that a policy or listener holds up longer than *timeout* is left to end by itself."""
        self._stopping = True
        self._targets.end()
        loop, end = self._loop, self._end
        if loop is not None and end is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(end.set)
        self.requests.end()
        if not self.is_current():
            self._thread.join(timeout)

    def health(self) -> Mapping[Server, Health]:
        """What is known of each server, with the core's newest measurements."""
        unheard_of = dict.fromkeys(self._targets.servers(), Health())
        snapshot = unheard_of | dict(self._health.snapshot(time.monotonic()))
        return MappingProxyType({server: measured(server, health) for server, health in snapshot.items()})

    def is_current(self) -> bool:
        """Whether the worker asks this itself, in a listener or policy: what waits for it must not."""
        return threading.current_thread() is self._thread

    def resolve(self, target: Target, timeout: float) -> Plan:
        """The plan of *target*, looked up when there is none or it is too old. Raises LookupFailed."""
        if self.is_current():
            raise RuntimeError("resolve() waits for pjfail's worker; do not call it from a listener or policy")

        async def plan() -> Plan:
            known = self._targets.get(target)
            if known is not None and known.valid_until > time.monotonic():
                return self._targets.replan(target, known)
            return await asyncio.shield(self._ask(target))

        try:
            return self._wait_for(plan(), timeout)
        except TimeoutError:
            raise LookupFailed(f"{target}: no answer within {timeout:g} s", temporary=True) from None

    def call(self, function: Callable[[], T], timeout: float = 5.0) -> T:
        """Runs *function* on the worker and returns what it returns. Raises NotAttached, TimeoutError.

        What the SIP threads have left by then comes first.
        """
        if self.is_current():
            return function()

        async def run() -> T:
            self._fetch()
            return function()

        try:
            return self._wait_for(run(), timeout)
        except TimeoutError:
            raise TimeoutError(f"a listener, policy or lookup has held up pjfail's worker for {timeout:g} s") from None

    def _wait_for(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        loop = self._loop
        if loop is None or self._stopping:
            coroutine.close()
            raise NotAttached(DETACHED)
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result(timeout)
        except CancelledError:
            if self._stopping:
                raise NotAttached(DETACHED) from None
            raise NotAttached("pjfail's worker was brought down, the log says by what; ask again") from None
        finally:
            if not loop.is_closed():
                future.cancel()

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        crashes = 0
        while not self._stopping:
            try:
                asyncio.run(self._main())
            except BaseException:
                crashes += 1
                log.exception("pjfail's worker was brought down (%d of %d times)", crashes, MOST_CRASHES)
                if crashes >= MOST_CRASHES:
                    log.critical("pjfail detaches, its worker cannot be kept alive: pjsip resolves by itself again")
                    self._give_up()
            finally:
                self._ready.set()
        self._loop = None

    def _give_up(self) -> bool:
        """Whether it was us who ended it."""
        self._stopping = True
        self._targets.end()
        return self._detached()

    async def _main(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        descriptor = os.dup(queue.event_fd())  # ours lives until we close it, whoever detaches
        unanswered = list(self._asked)  # a crash took their lookups down
        self._asked.clear()
        self._hold_downs.clear()
        self._prober.forget()
        try:
            loop.add_reader(descriptor, self._fetch)
            self._ready.set()
            for target in unanswered:
                self._ask(target)
            for server, health in self._health.snapshot(time.monotonic()).items():
                self._watch(server, health)
            self._maintaining = False
            self._maintain_now()
            self._fetch()
            if not self._stopping:
                await self._end.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def _fetch(self) -> None:
        """Takes what the SIP threads have left, outcomes before the questions whose plans they bear on.

        Nothing once stopped: a worker that was held up longer than a detach waits could take what is the next one's.
        """
        if self._stopping or core.attachment() != self._attachment:
            if not self._stopping and self._give_up():
                log.info("pjfail is detached: the endpoint has ended")
            if self._end is not None:
                self._end.set()
            return
        questions = list(queue.questions())
        for dns_answer in queue.dns_answers():
            pjsip_dns.deliver(dns_answer)
        outcomes = queue.outcomes()
        with contextlib.suppress(NotAttached):  # before the outcome of the same answer can move the account
            for registration in queue.registrations():
                self.follower.on_registration(registration, time.monotonic())
        self._judge(outcomes)
        for answer in queue.answers():
            self.requests.deliver(answer)
        self._note(queue.failovers())
        self._tell_of_unwatched()
        for question in questions:
            self._answer(question)
        self._deliver()

    def _tell_of_unwatched(self) -> None:
        if not self._told_of_unwatched and counts.unwatched():
            self._told_of_unwatched = True
            log.warning(
                "%d requests are under way: further ones are sent as pjsip sends them, and tried at no other server",
                counts.counters().outstanding,
            )

    # --- questions to plans -------------------------------------------------------------------------------------------

    def _answer(self, question: Question) -> None:
        known, now = self._targets.get(question.target), time.monotonic()
        too_old = known is None or known.valid_until <= now or (question.refresh and known.refresh_at <= now)
        if question.number:
            if known is None or too_old:
                self._waiting.setdefault(question.target, []).append(question)
                self._ask(question.target)
            else:
                self._answer_request(question, known)
        elif known is not None and not too_old:
            # Published while the question was on its way, or due for a review.
            self._targets.replan(question.target, known)
        else:
            self._ask(question.target)

    def _answer_request(self, question: Question, known: TargetEntry) -> None:
        """One request's own plan."""
        request = Request(question.target, question.method, question.from_uri, question.call_id)
        plan = self._targets.make(question.target, known.candidates, known.valid_until, request)
        plans.answer(question.number, plan)
        if known.refresh_at <= time.monotonic():
            self._ask(question.target)

    def _waiters(self, target: Target) -> list[int]:
        """The numbers of the questions that a lookup has left: the target's own, 0, and those of single requests."""
        return [0, *(question.number for question in self._waiting.pop(target, []))]

    def _ask(self, target: Target) -> asyncio.Task[Plan]:
        """Looks *target* up, once for all who ask meanwhile."""
        task = self._asked.get(target)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._look_up(target))
            self._asked[target] = task
            task.add_done_callback(lambda done: self._looked_up(target, done))
        return task

    def _looked_up(self, target: Target, task: asyncio.Task[Plan]) -> None:
        answered = not task.cancelled() and isinstance(task.exception(), Exception | None)
        if answered and self._asked.get(target) is task:
            del self._asked[target]  # else a crash took it down, and it is asked again

    def _adapt(self) -> None:
        """Tells the lookup what the endpoint has: an application may create transports at any time."""
        if isinstance(self._lookup, Adaptive):
            endpoint_has = core.transports()
            if endpoint_has != self._endpoint_has:
                self._endpoint_has = endpoint_has
                self._lookup.adapt(*endpoint_has)

    def _lives_on_old_answers(self, target: Target, reason: str) -> None:
        self._news.append(events.LookupStale(target, reason))

    async def _find(self, target: Target) -> tuple[Candidate, ...]:
        """What the lookup finds; cancelled, whatever it finds, when it comes after the end.

        The lookup may be anybody's: TypeError where it is not one, in words for who wrote it.
        """
        name = f"{type(self._lookup).__name__}.lookup()"
        try:
            answer = self._lookup.lookup(target)
            if not isinstance(answer, Awaitable):
                raise TypeError(f"{name} cannot be awaited; write it as async def lookup(self, target)")
            answered = await asyncio.wait_for(answer, LOOKUP_LIMIT)
            if not isinstance(answered, Iterable):
                raise TypeError(f"{name} has returned {answered!r}, which is not a sequence of pjfail.Candidate")
            found = tuple(answered)
            for each in found:
                if not isinstance(each, Candidate):
                    raise TypeError(f"{name} has returned {each!r}, which is not a pjfail.Candidate")
            return _allowed(target, found)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._stopping or (task is not None and task.cancelling()):
                raise
            raise RuntimeError(f"{name} was cancelled, and not by pjfail") from None
        finally:
            if self._stopping:
                raise asyncio.CancelledError

    async def _look_up(self, target: Target) -> Plan:
        try:
            self._adapt()
            try:
                candidates = await self._find(target)
            except UnknownTarget:
                if not target.is_numeric:
                    raise
                candidates = (numeric_candidate(target, "tls" if target.secure else target.transport or "udp"),)
            if not candidates:
                raise LookupFailed(f"{target}: the lookup returned no candidates")
            return self._learn(target, candidates)
        except TimeoutError:
            error = LookupFailed(f"{target}: the lookup did not end within {LOOKUP_LIMIT:g} s", temporary=True)
            log.warning("%s", error)
            self._pass_on(target)
            raise error from None
        except UnknownTarget as error:
            log.info("%s; the system's resolver is asked", _of(target, error))
            self._pass_on(target)
            raise
        except LookupFailed as error:
            log.warning("%s", _of(target, error))
            for number in self._waiters(target):
                plans.fail(target, stale=error.temporary, number=number)
            self._news.append(events.LookupFailed(target, str(error), error.temporary))
            raise
        except Exception as error:
            log.exception("%s: the lookup failed; the system's resolver is asked", target)
            self._pass_on(target)
            raise LookupFailed(f"{target}: the lookup failed: {error!r}", temporary=True) from error
        finally:
            self._deliver()

    def _pass_on(self, target: Target) -> None:
        for number in self._waiters(target):
            plans.pass_on(target, number)

    def _learn(self, target: Target, candidates: tuple[Candidate, ...]) -> Plan:
        known = self._targets.learn(target, candidates)
        for question in self._waiting.pop(target, []):
            self._answer_request(question, known)
        return known.plan

    def _policy_failed(self, problem: str, error: Exception | None) -> None:
        if problem not in self._policy_errors and len(self._policy_errors) < MAX_POLICY_ERRORS:
            self._policy_errors.add(problem)
            log.error("the policy %s; the default is used (said once)", problem, exc_info=error)

    def _server_gone(self, server: Server) -> None:
        """No plan has it any more: what is held against it is kept all the same."""
        self._suspected.discard(server)
        if self._health.get(server, time.monotonic()).state is State.UP:
            self._health.drop(server)

    # --- outcomes to health -------------------------------------------------------------------------------------------

    def _judge(self, outcomes: Sequence[Outcome]) -> None:
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
                self._news.append(events.CertificateRejected(outcome.server, reason, outcome))
            if after.state is State.DOWN and before.state is not State.DOWN:
                changed.add(outcome.server)
                self._went_down(outcome.server, after, outcome, now)
            elif after.state is State.DOWN and after.until != before.until:
                self._watch(outcome.server, after)
            elif after.state is State.UP and before.state is not State.UP:
                changed.add(outcome.server)
                log.info("%s is up again: it %s", outcome.server, describe(outcome))
                self._news.append(events.ServerUp(outcome.server, after))
            elif after.state is not before.state:
                changed.add(outcome.server)
                log.info("%s is %s: %s", outcome.server, after.state.value, after.reason)
                self._watch(outcome.server, after)
        self._health_changed(changed)
        for outcome in outcomes:
            plans.forgive(outcome.server, outcome.sequence)

    def _suspect(self, outcome: Outcome, health: Health) -> None:
        """Tells of a server that did badly and is not down for it."""
        server = outcome.server
        if outcome.seen is OutcomeKind.ANSWERED or health.state in (State.DOWN, State.DRAINING):
            self._suspected.discard(server)
        elif (
            outcome.seen is not OutcomeKind.CERTIFICATE
            and not outcome.after_provisional
            and server not in self._suspected
        ):
            if self._targets.host_of(server) is not None:
                self._suspected.add(server)
            self._news.append(events.ServerSuspected(server, health, outcome))

    def _note(self, failovers: Iterable[events.FailedOver]) -> None:
        for event in failovers:
            code = f" {event.code}" if event.code else ""
            log.info(
                "%s failed over from %s to %s after %.3f s: %s%s",
                event.method, event.left, event.taken, event.after, event.why.value, code,
            )  # fmt: skip
            self._news.append(event)

    def _as_probed(self, outcome: Outcome) -> Outcome:
        """The core does not know a probe from another OPTIONS."""
        probed = outcome.method == "OPTIONS" and self._prober.is_asking(outcome.server)
        return replace(outcome, probe=True) if probed and outcome.seen is not OutcomeKind.ANSWERED else outcome

    def _judged(self, before: Health, outcome: Outcome, now: float) -> Health:
        try:
            return judge(before, outcome, self._policy, now, self._random)
        except Exception as error:
            self._policy_failed(f"raised {type(error).__name__} when it judged {outcome.seen.name}", error)
            return judge(before, outcome, Policy(), now, self._random)

    def _went_down(self, server: Server, health: Health, outcome: Outcome | None, now: float) -> None:
        ending = (
            "until the application restores it" if health.until is None else f"next tried in {health.until - now:.0f} s"
        )
        failure = f" (failure {health.failures})" if health.failures else ""
        log.info("%s is down, %s: %s%s", server, ending, health.reason, failure)
        self._watch(server, health)
        self._news.append(events.ServerDown(server, health, outcome))

    def _health_changed(self, servers: set[Server]) -> None:
        self._targets.replan_all(servers)
        if servers:
            self._review_accounts()

    def _watch(self, server: Server, health: Health) -> None:
        """Has *server* probed: now when it is suspect or half-open, else when its hold-down ends."""
        if self._loop is None:
            return
        if _in_doubt(health):
            self._loop.call_soon(self._probe, server)
        elif health.state is State.DOWN and health.until is not None:
            if (before := self._hold_downs.pop(server, None)) is not None:
                before.cancel()  # each 503 with a Retry-After puts the end off
            left = health.until - time.monotonic() + 0.01
            self._hold_downs[server] = self._loop.call_later(left, self._hold_down_ended, server)

    def _hold_down_ended(self, server: Server) -> None:
        self._hold_downs.pop(server, None)
        if self._health.get(server, time.monotonic()).state is not State.HALF_OPEN:
            return
        self._health_changed({server})  # for the reasons in its plans
        self._deliver()
        self._probe(server)

    def _probe(self, server: Server) -> None:
        """One probe admitted, if *server* is in doubt and in use."""
        self._probe_soon.discard(server)
        host = self._targets.host_of(server)
        if host is not None and not self._stopping and _in_doubt(self._health.get(server, time.monotonic())):
            self._prober.start(server, host)

    def _probed(self, server: Server, outcome: Outcome | None) -> None:
        """What the core has not seen of a probe itself, it is told of here; again soon while there is doubt."""
        if self._stopping or self._loop is None:
            return
        if outcome is not None and outcome.seen is not OutcomeKind.ANSWERED:
            self._news.append(events.ProbeFailed(server, outcome))
        health = self._health.get(server, time.monotonic())
        if outcome is not None and (outcome.seen is OutcomeKind.ANSWERED or not _knows(health, outcome)):
            self._judge([outcome])
        self._deliver()
        if _in_doubt(self._health.get(server, time.monotonic())) and server not in self._probe_soon:
            self._probe_soon.add(server)
            soon = PROBE_AGAIN * self._random.uniform(1 - PROBE_JITTER, 1 + PROBE_JITTER)
            self._loop.call_later(soon, self._probe, server)

    # --- accounts -----------------------------------------------------------------------------------------------------

    def follow(self, following: FollowedAccount) -> None:
        """Worker. Keeps an account on a working server from now on."""
        self.follower.follow(following, time.monotonic())
        self._maintain_now()

    def maintain_soon(self) -> None:
        """Any thread. There is an account to look after."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._maintain_now)

    def _maintain_now(self) -> None:
        """Looks after followed and pinned accounts, and asks quiet servers, for as long as there is anything to do."""
        if not self._maintaining and self._loop is not None:
            self._maintaining = True
            self._loop.call_soon(self._maintain)

    def _maintain(self) -> None:
        if self._stopping or self._loop is None or not (self.follower or self.pins or self._prober.settings.interval):
            self._maintaining = False
            return
        try:
            self._review_accounts()
            self._prober.watch(self._watched(), _last_answer, time.monotonic())
        except Exception:
            log.exception("accounts and quiet servers cannot be looked after just now")
        self._deliver()
        self._loop.call_later(ACCOUNTS_EVERY, self._maintain)

    def _watched(self) -> dict[Server, Watched]:
        """The servers that are asked when they are quiet: those in use, and sooner those that accounts live on."""
        settings, now = self._prober.settings, time.monotonic()
        if settings.interval is not None and now >= self._in_use_until:
            self._in_use_until = now + settings.interval / 4
            self._in_use = {
                server: Watched(target.host, settings.interval)
                for target, known in self._targets
                if (used_at := plans.used_at(target)) is not None and now - used_at < settings.idle
                for server in known.servers
            }
        watched = dict(self._in_use)
        if settings.accounts is not None:
            for server, host in {**self.pins.servers(), **self.follower.servers()}.items():
                watched[server] = Watched(host, settings.accounts)
        return watched

    def _review_accounts(self) -> None:
        with contextlib.suppress(NotAttached):
            self.pins.review(self._health_now())
            self.follower.review(time.monotonic())

    def _plan_of(self, target: Target) -> Plan | None:
        """The plan of *target*; looked up anew, for the next time, where there is none or it is old.

        Those who follow it do not use it, and so nobody else would ask.
        """
        known, now = self._targets.get(target), time.monotonic()
        if (known is None or known.refresh_at < now) and now >= self._ask_again.get(target, now):
            self._ask_again = {other: due for other, due in self._ask_again.items() if due > now}
            self._ask_again[target] = now + ASK_AGAIN
            self._ask(target)
        return None if known is None else known.plan

    def _news_of(self, event: events.Event) -> None:
        self._news.append(event)

    def _at(self, when: float, function: Callable[[], None]) -> None:
        def run() -> None:
            with contextlib.suppress(NotAttached):
                function()

        if self._loop is not None:
            self._loop.call_at(when, run)

    def _health_now(self) -> Mapping[Server, Health]:
        return self._health.snapshot(time.monotonic())

    # --- the application's own word -----------------------------------------------------------------------------------

    def set_health(self, servers: Sequence[Server], change: Callable[[Health, float], Health]) -> None:
        """Worker. Replaces the health of *servers* by what *change* makes of it and the time."""
        now = time.monotonic()
        for server in servers:
            before = self._health.get(server, now)
            after = change(before, now)
            self._health.put(server, after)
            if after.state is State.DOWN:
                self._went_down(server, after, None, now)
            elif after.state is State.UP and before.state is not State.UP:
                log.info("%s is up again: %s", server, after.reason)
                self._news.append(events.ServerUp(server, after))
            else:
                log.info("%s is %s: %s", server, after.state.value, after.reason)
        self._health_changed(set(servers))
        self._deliver()

    def servers_at(self, endpoint: str) -> list[Server]:
        """Worker. The servers in any plan whose ``address:port`` is *endpoint*."""
        return sorted(server for server in self._targets.servers() if server.endpoint == endpoint)

    # --- listeners ----------------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Tells the listeners what is new, once the plans that come of it are in force."""
        news, self._news = self._news, []
        for event in news:
            for listener in self._listeners:
                try:
                    listener(event)
                except Exception:
                    log.exception("a listener failed on %s", type(event).__name__)
