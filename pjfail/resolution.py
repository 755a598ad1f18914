"""Lookups: pjsip's questions, and the lookups that answer them with plans."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import replace

from . import events
from .bridge import core, plans
from .errors import LookupFailed, UnknownTarget
from .lookup import Adaptive, Lookup, ServesStale
from .lookup.rfc3263 import numeric_candidate
from .model import Candidate, Family, Plan, Question, Request, Target, Transport
from .news import News
from .targets import TargetEntry, Targets

log = logging.getLogger("pjfail")

# A lookup of the user's that never comes back must not stand in the way of the next question for its target (seconds).
LOOKUP_TIMEOUT = 10.0
# How often the plan of a target that only a followed account needs is looked up at the most (seconds).
MIN_LOOKUP_INTERVAL = 5.0


def asked_target(uri: str) -> Target:
    """The target that pjsip asks for to send to *uri*. Raises BadURI."""
    target = Target.parse(uri)
    if target.secure and target.transport is None:
        return replace(target, transport="tls")
    return target


class Resolution:
    """Answers questions: from the plans in force, else by a lookup, one at a time for each target. Worker only."""

    def __init__(self, lookup: Lookup, targets: Targets, news: News) -> None:
        self._lookup = lookup
        self._targets = targets
        self._news = news
        self._lookups: dict[Target, asyncio.Task[Plan]] = {}
        self._waiting: dict[Target, list[Question]] = {}
        self._not_before: dict[Target, float] = {}
        self._endpoint_has: tuple[Sequence[Transport], Sequence[Family]] = (), ()
        if isinstance(lookup, ServesStale):
            lookup.on_stale(lambda target, reason: news.tell(events.LookupStale(target, reason)))

    def begin(self) -> None:
        """Looks up again what was being looked up when the worker's last event loop crashed."""
        unanswered = list(self._lookups)
        self._lookups.clear()
        for target in unanswered:
            self._look_up(target)

    def answer(self, question: Question) -> None:
        """Answers *question* now where its target has a plan that holds, else once a lookup has ended."""
        known, now = self._targets.get(question.target), time.monotonic()
        too_old = known is None or known.valid_until <= now or (question.refresh and known.refresh_at <= now)
        if question.number:
            if known is None or too_old:
                self._waiting.setdefault(question.target, []).append(question)
                self._look_up(question.target)
            else:
                self._answer_request(question, known)
        elif known is not None and not too_old:
            # Published while the question was on its way, or due for a review.
            self._targets.replan(question.target, known)
        else:
            self._look_up(question.target)

    async def plan(self, target: Target) -> Plan:
        """The plan of *target*, looked up when there is none or it is too old. Raises LookupFailed."""
        known = self._targets.get(target)
        if known is not None and known.valid_until > time.monotonic():
            return self._targets.replan(target, known)
        return await asyncio.shield(self._look_up(target))

    def plans(self, most: int) -> list[Plan]:
        """The plans in force, *most* at the most, the newest first."""
        return [known.plan for _, known in list(self._targets)[: -most - 1 : -1]]

    def plan_of(self, target: Target) -> Plan | None:
        """The plan in force for *target*; has it looked up, for the next time, where there is none or it is old.

        For followed accounts: their requests do not use that plan, so that no question asks for a new one.
        """
        known, now = self._targets.get(target), time.monotonic()
        if (known is None or known.refresh_at < now) and now >= self._not_before.get(target, now):
            self._not_before = {other: due for other, due in self._not_before.items() if due > now}
            self._not_before[target] = now + MIN_LOOKUP_INTERVAL
            self._look_up(target)
        return None if known is None else known.plan

    def _answer_request(self, question: Question, known: TargetEntry) -> None:
        """Answers one request's own question with a plan made for that request."""
        request = Request(question.target, question.method, question.from_uri, question.call_id)
        plan = self._targets.make(question.target, known.candidates, known.valid_until, request)
        plans.answer(question.number, plan)
        if known.refresh_at <= time.monotonic():
            self._look_up(question.target)

    def _look_up(self, target: Target) -> asyncio.Task[Plan]:
        """Looks *target* up, once for all that ask meanwhile."""
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
        """One lookup, and the answers to all questions that wait for it. Raises LookupFailed."""
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
        except Exception as error:
            log.exception("%s: the lookup failed; the system's resolver is asked", target)
            self._pass_on(target)
            raise LookupFailed(f"{target}: the lookup failed: {error!r}", temporary=True) from error
        finally:
            self._news.deliver()

    def _adapt(self) -> None:
        """Tells the lookup what the endpoint has: an application may create transports at any time."""
        if isinstance(self._lookup, Adaptive):
            endpoint_has = core.transports()
            if endpoint_has != self._endpoint_has:
                self._endpoint_has = endpoint_has
                self._lookup.adapt(*endpoint_has)

    async def _find(self, target: Target) -> tuple[Candidate, ...]:
        """What the lookup finds; cancelled, whatever it finds, when it comes after the end.

        The lookup may be anybody's: TypeError where it is not one, in words for its author.
        """
        name = f"{type(self._lookup).__name__}.lookup()"
        try:
            answer = self._lookup.lookup(target)
            if not isinstance(answer, Awaitable):
                raise TypeError(f"{name} cannot be awaited; write it as async def lookup(self, target)")
            answered = await asyncio.wait_for(answer, LOOKUP_TIMEOUT)
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

    def _learn(self, target: Target, candidates: tuple[Candidate, ...]) -> Plan:
        known = self._targets.learn(target, candidates)
        for question in self._waiting.pop(target, []):
            self._answer_request(question, known)
        return known.plan

    def _pass_on(self, target: Target) -> None:
        for number in self._take_waiting(target):
            plans.pass_on(target, number)

    def _take_waiting(self, target: Target) -> list[int]:
        """The numbers of the questions that wait for *target*: its own, 0, and those of single requests."""
        return [0, *(question.number for question in self._waiting.pop(target, []))]


def allowed(target: Target, found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those of *found* that *target* allows, and that a plan has room for. Raises LookupFailed where none is left.

    A lookup may have given all it knows, and no request may leave TLS.
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
    """The error in words that begin with its target."""
    words = str(error)
    return words if words.startswith(str(target)) else f"{target}: {words}"
