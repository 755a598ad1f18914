"""A fleet of clients in virtual time: what load do their policies make for the servers? Nothing sleeps, all is seeded.

Each client has what a process with pjfail has: a table of health, a plan, judgements by :func:`pjfail.policy.judge`; no
client knows of another. A request that a server leaves unanswered goes on to the next one after half a second, as
a retry policy has it; a client whose first server changes registers there, as a followed account does.

With ``Fleet.sharing`` the clients have a memory that they share: each has the board of :mod:`pjfail.shared`, and
messages take their time and get lost. A clock that is wrong changes nothing, because no message has one in it.
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
from pjfail.policy import Policy, judge, told_up
from pjfail.shared.board import MAX_VOICES, RECOVERY_S, Board
from pjfail.shared.entries import Entry, Kind
from pjfail.shared.sharing import LEASE_S, STAND_BACK_S, UNSURE_S

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
class Sharing:
    """A memory that all clients share: how long a message takes at the most, the share of them that is lost, after how
    many seconds each client reads all anew, and when the store is out.
    """

    delay: float = 0.05
    loss: float = 0.05
    read_again: float = 10.0
    out: Callable[[float], bool] = lambda _: False


@dataclass(frozen=True)
class Fleet:
    """What is simulated. ``period``: seconds between two requests of one client, give or take a fifth.

    *poisoned*: so many clients get no answer of the first server, whoever else does.
    """

    behaviours: Sequence[Behaviour]
    policy: Policy
    priorities: Sequence[int] = (1, 1, 1, 1, 1)
    clients: int = 1000
    period: float = 10.0
    duration: float = 420.0
    seed: int = 3261
    sharing: Sharing | None = None
    poisoned: int = 0


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
    told: int = 0  # entries that were written to the store

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
    poisoned: bool = False
    number: int = 0
    board: Board = field(default_factory=lambda: Board("", None))
    believed: set[Server] = field(default_factory=set)
    said: int = 0
    raised: dict[Server, float] = field(default_factory=dict)
    stand_back: dict[Server, float] = field(default_factory=dict)


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
        self._clients: list[Client] = []
        self._store: dict[tuple[Server, str], tuple[float, Entry]] = {}
        self._leases: dict[Server, float] = {}

    def after(self, seconds: float, event: Callable[[], object]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), event))

    def run(self) -> Load:
        for number in range(self.fleet.clients):
            client = Client(Random(self.random.getrandbits(64)), poisoned=number < self.fleet.poisoned, number=number)
            self._clients.append(client)
            if self.fleet.sharing is not None:
                client.board = Board(str(number), None)
                self.after(client.random.uniform(0, self.fleet.sharing.read_again), self._reading(client))
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
        if self._arrives(client, server):
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

    def _arrives(self, client: Client, server: Server) -> bool:
        """A request gets to *server*: does it answer?"""
        number = self.number[server]
        self.load.seen[number][int(self.now)] += 1
        return self.fleet.behaviours[number].answers(self.now) and not (client.poisoned and number == 0)

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
        self._share(client, outcome, before, after)
        if after.state is not before.state:
            self._replan(client)
        if after.state is State.DOWN and before.state is not State.DOWN and after.until is not None:
            self.after(after.until - self.now + 0.01, lambda: self._probe(client, server))

    def _probe(self, client: Client, server: Server) -> None:
        if at(client.health[server], self.now).state is not State.HALF_OPEN:
            return
        if self.fleet.sharing is not None and not self._may_probe(client, server):
            self.after(client.random.uniform(0.8, 1.2), lambda: self._probe(client, server))
            return
        self.load.probes[self.number[server]][int(self.now)] += 1
        if self._arrives(client, server):
            rtt = self.fleet.behaviours[self.number[server]].rtt(self.now)
            self.after(rtt, lambda: self._answered(client, server, rtt, probe=True))
        else:
            silent = OutcomeKind.SILENT
            self.after(PROBE_TIMEOUT, lambda: self._judge(client, Outcome(server, silent, self.now, probe=True)))

    # --- a client's shared memory -------------------------------------------------------------------------------------

    def _share(self, client: Client, outcome: Outcome, before: Health, after: Health) -> None:
        """Tells what a client has found out, as pjfail.shared.sharing does."""
        if self.fleet.sharing is None:
            return
        server = outcome.server
        if after.state is State.DOWN and before.state is not State.DOWN and after.until is not None:
            client.believed.discard(server)
            client.stand_back[server] = after.until + STAND_BACK_S
            began = outcome.at if outcome.began is None else outcome.began
            sure = any(last > began for other, (_, last) in client.measured.items() if other != server)
            self.after(0 if sure else UNSURE_S, lambda: self._tell_down(client, server, after, began, sure=sure))
        elif after.state is State.UP and before.state is not State.UP:
            client.believed.discard(server)
            self._tell(client, server, "up", RECOVERY_S)

    def _tell_down(self, client: Client, server: Server, health: Health, began: float, *, sure: bool) -> None:
        if client.health[server] is health and client.board.voices(server, self.now) < MAX_VOICES:
            self._tell(client, server, "down", (health.until or 0.0) - self.now, self.now - began, sure=sure)

    def _tell(
        self, client: Client, server: Server, kind: Kind, left: float, age: float = 0.0, sure: bool = False
    ) -> None:
        sharing = self.fleet.sharing
        assert sharing is not None
        client.said += 1
        entry = Entry(server, str(client.number), kind, client.said, left, age, "host", kind, 1, sure)
        if sharing.out(self.now):
            return
        self.load.told += 1
        self._store[server, entry.writer] = self.now, entry
        for other in self._clients:
            if self.random.random() >= sharing.loss:
                self.after(self.random.uniform(0, sharing.delay), lambda to=other: self._hear(to, entry))

    def _hear(self, client: Client, entry: Entry) -> None:
        if client.board.hear(entry, self.now):
            self._weigh(client, entry.server)

    def _reading(self, client: Client) -> Callable[[], object]:
        sharing = self.fleet.sharing
        assert sharing is not None

        def read() -> None:
            self.after(sharing.read_again, read)
            if not sharing.out(self.now):
                there = [
                    replace(entry, left=entry.left - (self.now - at), age=entry.age + self.now - at)
                    for at, entry in self._store.values()
                    if entry.left > self.now - at
                ]
                client.board.expire(self.now)
                for server in client.board.take(there, self.now, self.now):
                    self._weigh(client, server)

        return read

    def _weigh(self, client: Client, server: Server) -> None:
        health = at(client.health.get(server, Health()), self.now)
        doubted = server not in client.believed and health.state in (State.DOWN, State.HALF_OPEN)
        last_answer = client.measured.get(server, (0.0, None))[1]
        verdict = client.board.weigh(server, self.now, last_answer, doubted=doubted)
        if verdict.contradicted:
            self._tell(client, server, "up", RECOVERY_S, self.now - (last_answer or 0.0))
        if verdict.down is not None:
            if health.state is State.DOWN and (
                server not in client.believed or (health.until or 0) >= verdict.down.until
            ):
                return
            client.believed.add(server)
            down = replace(health, state=State.DOWN, since=self.now, until=verdict.down.until, told=verdict.down.voices)
            client.health[server] = replace(down, returning=False, returns_at=None)
            self.after(verdict.down.until - self.now + 0.01, lambda: self._probe(client, server))
        elif verdict.recovered is not None and health.state in (State.DOWN, State.HALF_OPEN):
            if verdict.recovered.since <= (health.failed_at or health.since) and server not in client.believed:
                return
            client.believed.discard(server)
            client.health[server] = told_up(health, "told", self.fleet.policy, self.now, client.random)
        else:
            return
        self._replan(client)

    def _may_probe(self, client: Client, server: Server) -> bool:
        sharing = self.fleet.sharing
        if sharing is None or sharing.out(self.now):
            return True
        if client.stand_back.get(server, 0.0) > self.now or self._leases.get(server, 0.0) > self.now:
            return False
        self._leases[server] = self.now + LEASE_S
        return True

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


def shared_scenarios(clients: int = 1000) -> dict[str, Fleet]:
    """Outages with and without a shared memory, drawn in ``docs/shared.svg``."""
    one_first = (1, 2, 2, 2, 2)
    out, shared = [outage(60, 180), *[WELL] * 4], Sharing()
    store_out = Sharing(out=lambda now: 50 <= now < 200)
    return {
        "each for itself: one of five equals is out from 60 to 180 s": Fleet(out, Policy(), clients=clients),
        "shared: the same": Fleet(out, Policy(), clients=clients, sharing=shared),
        "each for itself: the primary is out": Fleet(out, Policy(failback=30.0), one_first, clients=clients),
        "shared: the primary is out": Fleet(out, Policy(failback=30.0), one_first, clients=clients, sharing=shared),
        "shared: nobody is out, but the first never answers one client, which says so": Fleet(
            [WELL] * 5, Policy(), clients=clients, sharing=shared, poisoned=1
        ),
        "shared: one of five equals is out, and the store is out from 50 to 200 s": Fleet(
            out, Policy(), clients=clients, sharing=store_out
        ),
    }


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
