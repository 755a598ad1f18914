"""pjsip's questions, and the lookups that answer them with plans."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace

from . import events
from ._validation import FAILURES
from .bridge import core, plans
from .errors import LookupFailed, UnknownTarget
from .lookup import Lookup
from .lookup.optional import OptionalMethods
from .lookup.rfc3263 import numeric_candidate
from .model import DEFAULT_PORT, Candidate, Family, Plan, Question, Request, Target, Transport, canonical_host
from .news import News
from .targets import TargetEntry, Targets

log = logging.getLogger("pjfail")

# Seconds that a lookup may take: an application's lookup that never ends must not block its target for ever.
LOOKUP_TIMEOUT = 10.0
# Seconds between two lookups of a target that only followed accounts use, at least.
MIN_LOOKUP_INTERVAL = 5.0

# Of the hosts whose URIs name a port so many are looked after: does the port keep SRV records from being used?
MAX_PORTS_TOLD = 100


def asked_target(uri: str) -> Target:
    """The target that pjsip asks for to send to *uri*. Raises BadURI."""
    target = Target.parse(uri)
    if target.secure and target.transport is None:
        return replace(target, transport="tls")
    return target


class Resolution:
    """Answers questions from the plans in force, or by a lookup, one at a time for each target. Worker only."""

    def __init__(self, lookup: Lookup, targets: Targets, news: News) -> None:
        self._lookup = lookup
        self._methods = OptionalMethods(lookup)
        self._targets = targets
        self._news = news
        self._lookups: dict[Target, asyncio.Task[Plan]] = {}
        self._waiting: dict[Target, list[Question]] = {}
        self._not_before: dict[Target, float] = {}
        self._endpoint_has: tuple[Sequence[Transport], Sequence[Family]] = (), ()
        self._preparing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # Of the hosts that are addresses, plans answer for those in a table and those that accounts are followed at.
        self._numeric = threading.Lock()
        self._ported: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._listed: frozenset[tuple[str, int]] = frozenset()
        self._next_hops: frozenset[Target] = frozenset()
        self._methods.on_stale(lambda target, reason: news.tell(events.LookupStale(target, reason)))

    def begin(self) -> None:
        """Prepares the lookup; looks up again what was being looked up when the worker's last event loop crashed."""
        self._loop = asyncio.get_running_loop()
        self._methods.on_table(self._on_table)
        if self._preparing is None:
            self._preparing = asyncio.get_running_loop().create_task(self._prepare())
        unanswered = list(self._lookups)
        self._lookups.clear()
        for target in unanswered:
            self._look_up(target)

    def follow(self, next_hops: frozenset[Target]) -> None:
        """Accounts are followed at *next_hops*: each is one with the same host, its usual port named or not."""
        if self._next_hops == next_hops:
            return
        before = {target: self._next_hop(target) for target, _ in self._targets}
        with self._numeric:
            self._next_hops = next_hops
            self._answer_for_numeric()
        for target, next_hop in before.items():
            if self._next_hop(target) != next_hop:
                self._look_up(target)

    def _on_table(self, listed: frozenset[tuple[str, int]]) -> None:
        """Any thread. The table has these hosts now, maybe with other servers."""
        with self._numeric:
            hosts = {host for host, _ in self._listed | listed}
            self._listed = listed
            self._answer_for_numeric()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                self._loop.call_soon_threadsafe(self._look_again, hosts)

    def _answer_for_numeric(self) -> None:
        """Under the lock: no thread has an older set in force after a newer one."""
        if not self._targets.ended:
            followed = {(canonical_host(each.host), each.port) for each in self._next_hops}
            usual = {0, *DEFAULT_PORT.values()}
            plans.answer_for(
                (host, each)
                for host, port in self._listed | followed
                if Target(host).is_numeric and "%" not in host
                for each in (usual if port in usual else {port})
            )

    def _look_again(self, hosts: set[str]) -> None:
        """Has the targets of these hosts looked up, whatever is known of them."""
        for target in [target for target, _ in self._targets if canonical_host(target.host) in hosts]:
            self._look_up(target)

    def answer(self, question: Question) -> None:
        """Answers *question* now if its target has a valid plan, otherwise once a lookup has ended."""
        known, now = self._targets.get(question.target), time.monotonic()
        too_old = known is None or known.valid_until <= now or (question.refresh and known.refresh_at <= now)
        if question.number:
            if known is None or too_old:
                self._waiting.setdefault(question.target, []).append(question)
                self._look_up(question.target)
            else:
                self._answer_request(question, known)
        elif known is not None and not too_old:
            # The plan was published while the question was on its way, or is due for a review.
            self._targets.replan(question.target, known)
        else:
            self._look_up(question.target)

    async def plan(self, target: Target) -> Plan:
        """Returns the plan of *target*; looks it up if there is none or it is too old. Raises LookupFailed."""
        known = self._targets.get(target)
        if known is not None and known.valid_until > time.monotonic():
            return self._targets.replan(target, known)
        return await asyncio.shield(self._look_up(target))

    def refresh(self, target: Target | None) -> None:
        """Looks *target* up again, or all that are known, with nothing from a cache; the plans in force serve on."""
        self._methods.ask_anew()
        for each in [known for known, _ in self._targets] if target is None else [target]:
            self._look_up(each)

    def plans(self, most: int) -> list[Plan]:
        """Returns the newest *most* plans in force, the newest first."""
        return [known.plan for _, known in list(self._targets)[: -most - 1 : -1]]

    def plan_of(self, target: Target) -> Plan | None:
        """Returns the plan in force for *target*, made anew where that is due; if there is none or it is old, starts a
        lookup for the next call, at :meth:`renew_at`.

        For followed accounts: their requests do not use that plan, so pjsip never asks for a new one.
        """
        known, now = self._targets.get(target), time.monotonic()
        if (known is None or known.refresh_at <= now) and now >= self._not_before.get(target, now):
            self._not_before = {other: due for other, due in self._not_before.items() if due > now}
            self._not_before[target] = now + MIN_LOOKUP_INTERVAL
            self._look_up(target)
        if known is not None and known.replan_at <= now:
            return self._targets.replan(target, known)
        return None if known is None else known.plan

    def renew_at(self, targets: Iterable[Target]) -> float:
        """Returns when :meth:`plan_of` is to be called again, so that the plans of *targets* stay new."""
        due = math.inf
        for target in targets:
            known, not_before = self._targets.get(target), self._not_before.get(target, 0.0)
            if known is None:
                due = min(due, not_before)
            else:
                due = min(due, known.replan_at, max(known.refresh_at, not_before))
        return due

    def _answer_request(self, question: Question, known: TargetEntry) -> None:
        """Answers one request's own question with a plan made for that request."""
        request = Request(question.target, question.method, question.from_uri, question.call_id)
        plan = self._targets.make(question.target, known.candidates, known.valid_until, request)
        plans.answer(question.number, plan)
        if known.refresh_at <= time.monotonic():
            self._look_up(question.target)

    def _look_up(self, target: Target) -> asyncio.Task[Plan]:
        """Starts a lookup of *target*, or returns the one under way."""
        task = self._lookups.get(target)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._looked_up(target))
            self._lookups[target] = task
            task.add_done_callback(lambda done: self._ended(target, done))
        return task

    def _ended(self, target: Target, task: asyncio.Task[Plan]) -> None:
        answered = not task.cancelled() and isinstance(task.exception(), Exception | None)
        if answered and self._lookups.get(target) is task:
            del self._lookups[target]  # else a crash took the task down, and begin() asks again

    async def _looked_up(self, target: Target) -> Plan:
        """Does one lookup, and answers all questions that wait for it. Raises LookupFailed."""
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
            self._ask_for_srv(target, candidates)
            return self._learn(target, candidates)
        except TimeoutError:
            error = LookupFailed(f"{target}: the lookup did not end within {LOOKUP_TIMEOUT:g} s", temporary=True)
            log.warning("%s", error)
            self._pass_on(target)
            raise error from None
        except UnknownTarget as error:
            log.info("%s; the system's resolver is asked", _of(target, error))
            self._pass_on(target)
            raise
        except LookupFailed as error:
            log.warning("%s", _of(target, error))
            for number in self._take_waiting(target):
                plans.fail(target, stale=error.temporary, number=number)
            self._news.tell(events.LookupFailed(target, str(error), error.temporary))
            raise
        except FAILURES as error:
            log.exception("%s: the lookup failed; the system's resolver is asked", target)
            self._pass_on(target)
            raise LookupFailed(f"{target}: the lookup failed: {error!r}", temporary=True) from error
        finally:
            self._news.deliver()

    def _ask_for_srv(self, target: Target, found: Sequence[Candidate]) -> None:
        """Has somebody look, once, what SRV records the port of *target* keeps from being used."""
        listed = any(host == canonical_host(target.host) for host, _ in self._listed)
        named = (target.host, target.port)
        if not target.port or target.is_numeric or listed or self._next_hop(target) != target or named in self._ported:
            return
        if len(self._ported) < MAX_PORTS_TOLD:
            self._ported[named] = asyncio.get_running_loop().create_task(self._tell_of_srv(target, found))

    async def _tell_of_srv(self, target: Target, found: Sequence[Candidate]) -> None:
        """Tells of the servers of *target*'s SRV records that are not *found* because it names a port."""
        plain = replace(target, port=0)
        try:
            candidates = await self._lookup.lookup(plain)
        except FAILURES:  # there are none, or nobody knows just now
            return
        known = {each.server for each in found}
        unused = [str(each.server) for each in candidates if each.query.endswith(" SRV") and each.server not in known]
        if unused:
            log.warning(
                "%s names a port, so its SRV records are not asked (RFC 3263 section 4.2); they lead to %s: "
                "write %s or attach(servers={%r: [...]})",
                target,
                ", ".join(dict.fromkeys(unused)),
                plain,
                f"{target.host}:{target.port}",
            )

    async def _prepare(self) -> None:
        self._adapt()
        await self._methods.prepare()

    def _adapt(self) -> None:
        """Tells the lookup which transports the endpoint has: an application may create transports at any time."""
        endpoint_has = core.transports()
        if endpoint_has != self._endpoint_has:
            self._endpoint_has = endpoint_has
            self._methods.adapt(*endpoint_has)

    async def _find(self, target: Target) -> tuple[Candidate, ...]:
        """Returns what the lookup finds. Raises CancelledError, whatever it finds, if pjfail has ended meanwhile.

        The lookup may be the application's: raises TypeError for an invalid result, in words for its author.
        """
        name = f"{type(self._lookup).__name__}.lookup()"
        try:
            answer = self._lookup.lookup(self._next_hop(target))
            if not isinstance(answer, Awaitable):
                raise TypeError(f"{name} cannot be awaited; write it as async def lookup(self, target)")
            async with asyncio.timeout(
                LOOKUP_TIMEOUT
            ):  # wait_for() would have SystemExit end the loop, up to Python 3.11
                answered = await answer
            if not isinstance(answered, Iterable):
                raise TypeError(f"{name} has returned {answered!r}, which is not a sequence of pjfail.Candidate")
            found = tuple(answered)
            for each in found:
                if not isinstance(each, Candidate):
                    raise TypeError(f"{name} has returned {each!r}, which is not a pjfail.Candidate")
            return allowed(target, found)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._targets.ended or (task is not None and task.cancelling()):
                raise
            raise RuntimeError(f"{name} was cancelled, and not by pjfail") from None
        finally:
            if self._targets.ended:
                raise asyncio.CancelledError

    def _next_hop(self, target: Target) -> Target:
        """The next hop of followed accounts that *target* is but for naming the usual port, or not; else itself."""
        other = replace(target, port=0 if target.port == target.usual_port else target.port or target.usual_port)
        return other if other in self._next_hops and target not in self._next_hops else target

    def _learn(self, target: Target, candidates: tuple[Candidate, ...]) -> Plan:
        known = self._targets.learn(target, candidates)
        for question in self._waiting.pop(target, []):
            self._answer_request(question, known)
        return known.plan

    def _pass_on(self, target: Target) -> None:
        for number in self._take_waiting(target):
            plans.pass_on(target, number)

    def _take_waiting(self, target: Target) -> list[int]:
        """Returns the numbers of the questions that wait for *target*: 0 for the target's own, and those of single
        requests.
        """
        return [0, *(question.number for question in self._waiting.pop(target, []))]


def allowed(target: Target, found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Returns those of *found* that *target* allows and a plan has room for. Raises LookupFailed if none is left.

    A lookup may return more than the target allows, and no request may leave TLS.
    """
    fit = tuple(each for each in found if target.allows(each.server.transport))
    if len(fit) > plans.MAX_SERVERS:
        log.info("%s: of %d servers the first %d are used", target, len(fit), plans.MAX_SERVERS)
        fit = tuple(sorted(fit, key=lambda candidate: candidate.priority))[: plans.MAX_SERVERS]
    if found and not fit:
        wanted = "tls" if target.secure else target.transport
        raise LookupFailed(f"{target}: the lookup found no server over {wanted}, only {found[0].server}")
    return fit


def _of(target: Target, error: LookupFailed) -> str:
    """Returns the error in words that begin with its target."""
    words = str(error)
    return words if words.startswith(str(target)) else f"{target}: {words}"
