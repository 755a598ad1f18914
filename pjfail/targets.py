"""The targets: the candidates of each, how long they are valid, and the plan in force."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from . import events
from ._validation import FAILURES
from ._values import dataclass
from .bridge import counts, plans
from .health import HealthTable
from .model import Candidate, Health, Plan, Request, Server, Target, Transport
from .planning import Complain, make_plan, review_at
from .policy import Policy

log = logging.getLogger("pjfail")

# A plan is valid for its shortest TTL, but at least this long (seconds), so that not every request causes a lookup.
PLAN_FLOOR = 1.0
REFRESH_AT = 0.8
# The most targets, and the most candidates in all, that are kept; the target not asked for longest is dropped first.
MOST_TARGETS = 20_000
MOST_CANDIDATES = 100_000


@dataclass(frozen=True, slots=True)
class TargetEntry:
    """What a lookup found for a target, and until when it is valid.

    ``replan_at`` is when the plan is to be made of the same candidates anew, before ``refresh_at`` or not at all.
    """

    candidates: tuple[Candidate, ...]
    refresh_at: float
    valid_until: float
    plan: Plan
    replan_at: float = math.inf

    @property
    def servers(self) -> frozenset[Server]:
        """The servers of all candidates, also of those that the policy left out."""
        return frozenset(candidate.server for candidate in self.candidates)


class Targets:
    """The targets that requests went to; the first is the one that has not been asked for longest.

    Only the worker writes; any thread may call the methods that say so. Once ``ended`` is true, no plan comes into
    force. *tell* gets each change of a plan, *gone* each server that no plan has any more, *complain* what the policy
    did wrong. ``on_plan`` is called when a plan is in force, or is to be renewed at another time.
    """

    def __init__(
        self,
        policy: Policy,
        health: HealthTable,
        tell: Callable[[events.PlanChanged], object],
        gone: Callable[[Server], object],
        complain: Complain,
    ) -> None:
        self._policy = policy
        self._health = health
        self._tell = tell
        self._gone = gone
        self._complain = complain
        self._known: dict[Target, TargetEntry] = {}
        self._candidates = 0
        self._of: dict[Server, set[Target]] = {}
        self.on_plan: Callable[[], object] = lambda: None
        self.ended = False

    def end(self) -> None:
        """Any thread. From now on no plan comes into force: the core may belong to the next attachment already."""
        self.ended = True

    def get(self, target: Target) -> TargetEntry | None:
        return self._known.get(target)

    def __iter__(self) -> Iterator[tuple[Target, TargetEntry]]:
        return iter(self._known.items())

    def servers(self) -> list[Server]:
        """Returns the servers of all plans, also those that the policy left out."""
        return list(self._of)

    def find(self, transport: Transport | None, host: str, port: int) -> list[Server]:
        """The servers in any plan at this address, or found by this host name; port 0 and transport None: at any.

        Any thread. Those of the plan that was made first come first, each once.
        """
        return list(
            dict.fromkeys(
                each.server
                for known in list(self._known.values())
                for each in known.candidates
                if host in (each.server.address, each.name.lower())
                and port in (0, each.server.port)
                and transport in (None, each.server.transport)
            )
        )

    def of(self, server: Server) -> frozenset[Target]:
        """The targets that *server* was found for."""
        return frozenset(self._of.get(server, ()))

    def host_of(self, server: Server) -> str | None:
        """Returns a host name by which *server* was found; None if no plan has it."""
        return next((target.host for target in self._of.get(server, ())), None)

    def label(self, server: Server) -> str:
        """*server*, with its host name where a plan has one (:attr:`Candidate.label`)."""
        known = (self._known[target].candidates for target in self._of.get(server, ()))
        found = (candidate.label for candidates in known for candidate in candidates if candidate.server == server)
        return next(found, str(server))

    def with_any(self, servers: Iterable[Server]) -> set[Target]:
        """The targets that have any of *servers*."""
        return {target for server in servers for target in self._of.get(server, ())}

    def learn(self, target: Target, candidates: tuple[Candidate, ...]) -> TargetEntry:
        """Makes a plan of *candidates*, newly looked up, and puts it in force."""
        now = time.monotonic()
        ttl = max(PLAN_FLOOR, min(candidate.ttl for candidate in candidates))
        plan = self.make(target, candidates, now + ttl)
        known = TargetEntry(candidates, now + ttl * REFRESH_AT, now + ttl, plan)
        before = self._known.pop(target, None)  # put back at the end: the first has not been asked for longest
        self._known[target] = known
        self._candidates += len(candidates) - (len(before.candidates) if before is not None else 0)
        for server in known.servers:
            if server not in self._of:
                self._of[server] = set()
                self._health.hold(server)
            self._of[server].add(target)
        self._publish(known)  # last: an application that has its answer may call servers()
        if before is not None:
            self._unlink(target, before.servers - known.servers)
        self._changed(before.plan if before is not None else None, plan)
        while len(self._known) > MOST_TARGETS or (self._candidates > MOST_CANDIDATES and len(self._known) > 1):
            self._forget(next(iter(self._known)))
        return known

    def replan(self, target: Target, known: TargetEntry) -> Plan:
        """Makes a plan of the same candidates, by their present health, and puts it in force."""
        plan = self.make(target, known.candidates, known.valid_until)
        self._publish(replace(known, plan=plan))
        self._changed(known.plan, plan)
        return plan

    def outdate(self) -> None:
        """Has each target looked up again at its next use; its plan serves meanwhile."""
        now = time.monotonic()
        for known in list(self._known.values()):
            self._publish(replace(known, refresh_at=min(known.refresh_at, now)))

    def replan_all(self, servers: Iterable[Server]) -> None:
        """Replans the targets that have any of *servers*, whose health has changed; a plan that cannot be made stays as
        it is.
        """
        for target in self.with_any(servers):
            try:
                self.replan(target, self._known[target])
            except FAILURES:
                log.exception("%s: its plan cannot be made anew, and stays", target)

    def make(
        self, target: Target, candidates: Sequence[Candidate], valid_until: float, request: Request | None = None
    ) -> Plan:
        """Returns the plan for *request*; None: for any request, where the core has one plan for all requests to a
        target.
        """
        now = time.monotonic()
        servers = {candidate.server for candidate in candidates}
        health = {server: measured(server, self._health.get(server, now)) for server in servers}
        return make_plan(
            target,
            candidates,
            health,
            self._policy.order,
            valid_until,
            now,
            self._complain,
            request=request,
            slow_start=self._policy.slow_start,
            wall=time.time() - now,
        )

    def _publish(self, known: TargetEntry) -> None:
        now = time.monotonic()
        health = {server: self._health.get(server, now) for server in known.plan.servers}
        due = review_at(known.plan, health, now, self._policy)
        self._known[known.plan.target] = replace(known, replan_at=due if due < known.refresh_at else math.inf)
        if not self.ended:
            plans.publish(known.plan, min(known.refresh_at, due), known.servers - set(known.plan.servers))
            self.on_plan()

    def _changed(self, before: Plan | None, plan: Plan) -> None:
        if before is None:
            log.info("%s: %s", plan.target, plan)
        elif _order(before) != _order(plan):
            log.info("%s: now %s", plan.target, plan)
            self._tell(events.PlanChanged(plan, before))

    def _forget(self, target: Target) -> None:
        known = self._known.pop(target)
        self._candidates -= len(known.candidates)
        plans.forget(target)
        self._unlink(target, known.servers)

    def _unlink(self, target: Target, servers: frozenset[Server]) -> None:
        for server in servers:
            targets = self._of.get(server, set())
            targets.discard(target)
            if not targets:
                self._of.pop(server, None)
                self._health.release(server)
                self._gone(server)


def measured(server: Server, health: Health) -> Health:
    """Returns *health* with the core's newest measurements of *server*."""
    stats = counts.stats(server)
    if stats is None:
        return health
    return replace(health, rtt=stats.rtt, rttvar=stats.rttvar, last_answer=stats.last_answer)


def _order(plan: Plan) -> list[tuple[int, Candidate]]:
    """Returns the part of a plan that decides where requests go, without the TTLs."""
    return [(place.tier, replace(place.candidate, ttl=0.0)) for place in plan.entries]
