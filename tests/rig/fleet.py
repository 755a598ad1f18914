"""A fleet of clients in virtual time: what load do their policies make for the servers? Nothing sleeps, all is seeded.

Each client has what a process with pjfail has: a table of health, a plan, judgements by :func:`pjfail.policy.judge`; no
client knows of another. A request that a server leaves unanswered goes on to the next one after half a second, as
a retry policy has it; a client whose first server changes registers there, as a followed account does.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from pjfail.health import at
from pjfail.model import Candidate, Health, Outcome, OutcomeKind, Server, State, Target
from pjfail.order import PreferFastest
from pjfail.planning import make_plan, review_at, weighted
from pjfail.policy import Policy, judge

TARGET = Target("fleet.example")
SILENT_AFTER = 1.5  # as the core's observer has it
RETRY_AFTER = 0.5
PROBE_TIMEOUT = 2.2
RTT_GAIN, RTT_FORGET = 0.125, 60.0  # RFC 6298's alpha, and after how long the core measures anew


@dataclass(frozen=True)
class Behaviour:
    """What one server does at a time: whether it answers, and after how many seconds."""

    answers: Callable[[float], bool] = lambda _: True
    rtt: Callable[[float], float] = lambda _: 0.02


@dataclass(frozen=True)
class Fleet:
    """What is simulated. ``period``: seconds between two requests of one client, give or take a fifth."""

    behaviours: Sequence[Behaviour]
    policy: Policy
    priorities: Sequence[int] = (1, 1, 1, 1, 1)
    clients: int = 1000
    period: float = 10.0
    duration: float = 420.0
    seed: int = 3261


@dataclass
class Load:
    """What the servers saw, by server and second; and what became of the clients' requests.

    ``seen`` counts requests and probes, ``probes`` the probes alone.
    """

    seen: list[list[int]]
    probes: list[list[int]]
    sent: int = 0
    answered: int = 0
    late: int = 0  # those that had to go on to another server
    moves: int = 0

    def mean(self, server: int, begin: float, end: float) -> float:
        """Requests a second within a span of time."""
        counts = self.seen[server][int(begin) : int(end)]
        return sum(counts) / len(counts)

    def peak(self, server: int, begin: float, end: float, width: int = 5) -> float:
        """The most requests a second over any *width* seconds within a span of time."""
        last = int(end) - width
        return max(self.mean(server, start, start + width) for start in range(int(begin), last + 1))


@dataclass
class Client:
    """One process with pjfail."""

    random: Random
    health: dict[Server, Health] = field(default_factory=dict)
    measured: dict[Server, tuple[float, float]] = field(
        default_factory=dict
    )  # smoothed RTT and last answer: the core's
    told: set[Server] = field(default_factory=set)  # their next answer is no news, as the core has it
    tiers: list[list[tuple[int, Server]]] = field(default_factory=list)  # the plan: weights and servers
    review: float = 0.0
    home: Server | None = None


class Simulation:
    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.random = Random(fleet.seed)
        self.candidates = [
            Candidate(Server(f"192.0.2.{number}", 5060), f"sip{number}.fleet.example", priority)
            for number, priority in enumerate(fleet.priorities, 1)
        ]
        self.number = {candidate.server: index for index, candidate in enumerate(self.candidates)}
        seen, probes = ([[0] * int(fleet.duration + 1) for _ in self.candidates] for _ in range(2))
        self.load = Load(seen, probes)
        self.now = 0.0
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], object]]] = []

    def after(self, seconds: float, event: Callable[[], object]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), event))

    def run(self) -> Load:
        for _ in range(self.fleet.clients):
            client = Client(Random(self.random.getrandbits(64)))
            self.after(self.random.uniform(0, self.fleet.period), self._sending(client))
        while self._events and self._events[0][0] < self.fleet.duration:
            self.now, _, event = heapq.heappop(self._events)
            event()
        return self.load

    # --- a client's requests ------------------------------------------------------------------------------------------

    def _sending(self, client: Client) -> Callable[[], object]:
        def send() -> None:
            self.after(self.fleet.period * client.random.uniform(0.8, 1.2), send)
            self.load.sent += 1
            if client.review <= self.now:
                self._replan(client)
            self._try(client, _draw(client), first=True)

        return send

    def _try(self, client: Client, order: Iterator[Server], first: bool) -> None:
        server = next(order, None)
        if server is None:
            return
        if self._arrives(server):
            self.load.answered += 1
            self.load.late += not first
            rtt = self.fleet.behaviours[self.number[server]].rtt(self.now)
            self.after(rtt, lambda: self._answered(client, server, rtt))
            return
        began = self.now
        self.after(
            SILENT_AFTER, lambda: self._judge(client, Outcome(server, OutcomeKind.SILENT, self.now, began=began))
        )
        self.after(RETRY_AFTER, lambda: self._try(client, order, first=False))

    def _arrives(self, server: Server) -> bool:
        """A request gets to *server*: does it answer?"""
        number = self.number[server]
        self.load.seen[number][int(self.now)] += 1
        return self.fleet.behaviours[number].answers(self.now)

    def _answered(self, client: Client, server: Server, rtt: float, probe: bool = False) -> None:
        before, last = client.measured.get(server, (rtt, self.now))
        smoothed = rtt if self.now - last > RTT_FORGET else before + RTT_GAIN * (rtt - before)
        client.measured[server] = smoothed, self.now
        if probe or server not in client.told:
            client.told.add(server)
            self._judge(client, Outcome(server, OutcomeKind.ANSWERED, self.now, "OPTIONS", 200, probe=probe))

    # --- a client's worker --------------------------------------------------------------------------------------------

    def _judge(self, client: Client, outcome: Outcome) -> None:
        server = outcome.server
        before = at(client.health.get(server, Health()), self.now)
        after = judge(before, outcome, self.fleet.policy, self.now, client.random)
        client.health[server] = after
        if outcome.seen is not OutcomeKind.ANSWERED:
            client.told.discard(server)
        if after.state is not before.state:
            self._replan(client)
        if after.state is State.DOWN and before.state is not State.DOWN and after.until is not None:
            self.after(after.until - self.now + 0.01, lambda: self._probe(client, server))

    def _probe(self, client: Client, server: Server) -> None:
        if at(client.health[server], self.now).state is not State.HALF_OPEN:
            return
        self.load.probes[self.number[server]][int(self.now)] += 1
        if self._arrives(server):
            rtt = self.fleet.behaviours[self.number[server]].rtt(self.now)
            self.after(rtt, lambda: self._answered(client, server, rtt, probe=True))
        else:
            silent = OutcomeKind.SILENT
            self.after(PROBE_TIMEOUT, lambda: self._judge(client, Outcome(server, silent, self.now, probe=True)))

    def _replan(self, client: Client) -> None:
        policy, now = self.fleet.policy, self.now
        health: dict[Server, Health] = {}
        for server, known in client.health.items():
            rtt, last_answer = client.measured.get(server, (None, None))
            health[server] = replace(at(known, now), rtt=rtt, last_answer=last_answer)
        plan = make_plan(
            TARGET, self.candidates, health, policy.order, now + 3600, now, _fail, slow_start=policy.slow_start
        )
        client.tiers = []
        for place, weight in zip(plan.entries, weighted(plan.entries), strict=True):
            if place.tier == len(client.tiers):
                client.tiers.append([])
            client.tiers[place.tier].append((weight or 1, place.server))  # in a tier all are 0, or none is
        client.review = review_at(plan, health, now, policy)
        if client.home is None:
            client.home = next(_draw(client))
        elif not any(server == client.home for _, server in client.tiers[0]):
            self._move(client)

    def _move(self, client: Client) -> None:
        """A client's account follows: it registers with the server that its requests go to from now on."""
        home = client.home = next(_draw(client))
        self.load.moves += 1
        self.load.sent += 1
        self.after(client.random.uniform(0, 1), lambda: self._try(client, iter([home]), first=True))


def _draw(client: Client) -> Iterator[Server]:
    """RFC 2782's order of one use of the plan."""
    for tier in client.tiers:
        left = list(tier)
        while left:
            mark = client.random.random() * sum(weight for weight, _ in left)
            chosen = 0
            while chosen < len(left) - 1 and mark >= left[chosen][0]:
                mark -= left[chosen][0]
                chosen += 1
            yield left.pop(chosen)[1]


def _fail(problem: str, error: Exception | None) -> None:
    raise AssertionError(problem) from error


def simulate(fleet: Fleet) -> Load:
    return Simulation(fleet).run()


# --- what happens to the servers --------------------------------------------------------------------------------------


def outage(begin: float, end: float) -> Behaviour:
    return Behaviour(answers=lambda now: not begin <= now < end)


def flapping(begin: float, end: float, every: float) -> Behaviour:
    """Between two times it is silent for *every* seconds, well for as long, and so on."""
    return Behaviour(answers=lambda now: not begin <= now < end or int((now - begin) / every) % 2 == 1)


def slow(begin: float, end: float, rtt: float) -> Behaviour:
    return Behaviour(rtt=lambda now: rtt if begin <= now < end else 0.02)


WELL = Behaviour()


def scenarios() -> dict[str, Fleet]:
    """Those that are tested, and drawn in ``docs/fleet.svg``; times are seconds."""
    one_first = (1, 2, 2, 2, 2)
    return {
        "one of five equals is out from 60 to 180 s": Fleet([outage(60, 180), *[WELL] * 4], Policy()),
        "the primary is out from 60 to 180 s; clients go back once it has been up for 30 s": Fleet(
            [outage(60, 180), *[WELL] * 4], Policy(failback=30.0), one_first
        ),
        "one of five flaps from 60 to 220 s, every 20 s": Fleet([flapping(60, 220, 20), *[WELL] * 4], Policy()),
        "one of five takes 0.8 s to answer from 60 to 180 s; clients prefer the fastest": Fleet(
            [slow(60, 180, 0.8), *[WELL] * 4], Policy(order=PreferFastest(), replan=10.0)
        ),
    }
