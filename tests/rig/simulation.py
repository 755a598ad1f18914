"""Servers, a network and pjsip's client transaction in simulated time, driven by failover_decide() as failover.c is.

The model keeps to failover.c function by function; each says which. A law that is broken at once is raised at once;
check() tells of those that hold in the end.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .decision import Decider, bits, members

SLACK = 0.005
GRID = 0.01
STALL = 0.3  # a look that is so late was late because nothing ran
T1, T2, TIMER_F = 0.5, 4.0, 32.0
LATENCY = 0.01
RETRIABLE = (500, 503)
UNKNOWN = -1  # the source of a response from an address that no attempt has
SAME_LOOK = 8  # a request is looked at so often at one moment, at the most


@dataclass(frozen=True)
class Response:
    after: float
    code: int
    unknown_source: bool = False


@dataclass(frozen=True)
class Server:
    """What one server does with the request."""

    responses: tuple[Response, ...] = ()
    connects: tuple[str, ...] = ()  # ok, refused, deferred, unsendable: one for each connect, then ok
    lost_after: float = math.inf  # its connection ends so long after the request came
    port_closed: bool = False
    suspect: bool = False
    last_resort: bool = False
    deaf: int = 0  # so many of the ACKs for it are lost
    heeds_cancel: bool = True


@dataclass(frozen=True)
class Scenario:
    servers: tuple[Server, ...]
    invite: bool = False
    reliable: bool = False
    watched_only: bool = False
    timeout: float = 0.5
    max_attempts: int = 8
    hedge_after: float = math.inf
    may_hedge: bool = True
    cancel_after: float = 60.0  # the application hangs up on an INVITE
    ruling: tuple[float, bool] | None = None  # how late the application decides about other codes, and how
    room: bool = True  # to ask it
    lateness: tuple[float, ...] = (0.0,)  # of the polling thread, one for each look, in turn


@dataclass
class Connection:
    server: int
    alive: bool = True


@dataclass(eq=False)
class Served:
    """The request as one server has it, over one connection."""

    server: int
    connection: Connection
    started: bool = False
    provisional: bool = False
    final: Response | None = None
    cancelled: bool = False
    acknowledged: bool = False
    ended: bool = False  # its call
    acks: int = 0  # with those that were lost
    seen: int = 0  # the last of its responses that came while the request was known


class LawBroken(AssertionError):
    """What may never happen has happened."""


def passes(actions: Any) -> bool:
    return bool(getattr(actions, "pass"))


@dataclass
class Simulation:
    decider: Decider
    scenario: Scenario
    now: float = 0.0
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    order: Any = field(default_factory=itertools.count)
    record: list[str] = field(default_factory=list)

    # The request (struct request).
    attempts: list[Connection] = field(default_factory=list)
    justly_ended: set[int] = field(default_factory=set)  # attempts, by their own final response or connection
    forgotten_at: float = math.inf
    completed_at: float = math.inf
    held: Served | None = None
    final_tag: Served | None = None
    due: float = math.inf
    polled_since: float = -1.0

    # pjsip's transaction.
    transaction: str = "calling"
    transaction_at: Connection | None = None
    listens: bool = True
    finals: list[tuple[str, Served | None]] = field(default_factory=list)  # how it ended, and whose response did it

    # The servers.
    served: list[Served] = field(default_factory=list)
    connects: dict[int, int] = field(default_factory=dict)
    stayed: bool = False  # a response of 101 to 199 was passed
    hung_up: bool = False  # by the application
    cancelled: bool = False  # so that servers know
    looks: int = 0
    asked: int = 0  # the number of the last question to the application

    def __post_init__(self) -> None:
        lib, scenario = self.decider.lib, self.scenario
        count = len(scenario.servers)
        self.lib = lib
        self.request = self.decider.request(
            invite=scenario.invite,
            reliable=scenario.reliable,
            timeout=math.inf if scenario.watched_only else scenario.timeout,
            max_attempts=scenario.max_attempts,
            candidate_count=0 if scenario.watched_only else count,
            last_resorts=bits({i for i in range(count) if scenario.servers[i].last_resort}),
        )
        if not scenario.watched_only:
            if not scenario.invite and scenario.hedge_after < scenario.timeout:
                self.request.hedge_at = scenario.hedge_after
            if not scenario.reliable and not scenario.servers[0].suspect:
                self.request.check_port_at = 0.105

    # --- time ---------------------------------------------------------------------------------------------------

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.events, (when, next(self.order), what))

    def run(self, until: float = 2000.0) -> None:
        first = Connection(0)
        self.add_attempt(first)
        self.schedule()
        self.transaction_at = first
        self.deliver(first)
        self.retransmit_in(T1)
        self.at(TIMER_F, self.timer_f)
        if self.scenario.invite:
            self.at(self.scenario.cancel_after, self.cancel)
        while self.events and self.events[0][0] < until:
            self.now, _, what = heapq.heappop(self.events)
            what()

    def note(self, text: str) -> None:
        self.record.append(f"{self.now:8.3f} {text}")

    # --- pjsip's transaction --------------------------------------------------------------------------------------

    def is_open(self) -> bool:
        return self.transaction in ("calling", "proceeding")

    def end_transaction(self, how: str) -> None:
        if self.is_open():
            self.note(f"transaction ends: {how}")
            self.finals.append((how, None))
            self.transaction = "terminated"

    def timer_f(self) -> None:
        if self.transaction == "calling" or not self.scenario.invite:
            self.end_transaction("timer F")

    def retransmit_in(self, pause: float) -> None:
        if not self.scenario.reliable:
            self.at(self.now + pause, lambda: self.retransmit(pause))

    def retransmit(self, pause: float) -> None:
        """failover_on_tx_request(): pjsip sends the request again."""
        if not self.is_open() or (self.scenario.invite and self.transaction == "proceeding"):
            return
        assert self.transaction_at
        if self.known():
            actions = self.decider.actions()
            index = self.attempt_at(self.transaction_at.server)
            copies = self.lib.failover_resend(self.request, index, self.now, actions)
            self.schedule()
            if copies and self.scenario.invite and self.hung_up:  # failover_note_hang_up()
                self.decide(self.decider.event("CANCELLED"))
                copies = 0
            for copy in members(copies):
                self.deliver(self.attempts[copy])
        self.deliver(self.transaction_at)
        slow = not self.scenario.invite and (pause >= T2 or self.transaction == "proceeding")
        self.retransmit_in(T2 if slow else min(2 * pause, math.inf if self.scenario.invite else T2))

    def receive(self, served: Served, code: int) -> None:
        """The response is passed on to the transaction layer."""
        self.note(f"passed: {code} of server {served.server}")
        if code < 200:
            if self.is_open():
                self.transaction = "proceeding"
                self.stayed |= code > 100
                if self.hung_up:
                    self.cancel()
            return
        if self.is_open():
            self.finals.append(("response", served))
            self.transaction = "completed"
        how, first = self.finals[0]
        if how == "response" and first is not served and self.known():
            raise LawBroken("the application has its final response, and is given another")
        if self.scenario.invite and code >= 300:
            if self.transaction == "completed":
                assert self.transaction_at
                self.acknowledge(self.transaction_at)
        elif self.scenario.invite and code < 300:
            self.acknowledge(served.connection)  # by the dialog, which ends a call that the application does not want
            served.ended = first is not served or self.cancelled

    def cancel(self) -> None:
        """The application hangs up: pjsip sends its CANCEL after the first response; failover.c's on_cancel()."""
        self.hung_up = True
        if self.transaction != "proceeding" or self.cancelled:
            return
        assert self.transaction_at
        at, self.cancelled = self.transaction_at, True
        if self.known():
            actions = self.decide(self.decider.event("CANCELLED", attempt=self.attempt_at(at.server)))
            self.cancel_attempts(actions.cancel)
        self.cancel_at(at)
        self.at(self.now + TIMER_F, lambda: self.end_transaction("cancelled"))

    def move(self, connection: Connection) -> bool:
        if not self.is_open():
            return False
        self.transaction_at, self.listens = connection, True
        return True

    # --- servers --------------------------------------------------------------------------------------------------

    def serve(self, connection: Connection) -> Served:
        for served in self.served:
            if served.connection is connection:
                return served
        self.served.append(Served(connection.server, connection))
        return self.served[-1]

    def deliver(self, connection: Connection) -> None:
        """The request goes to that server."""
        served = self.serve(connection)
        server = self.scenario.servers[served.server]
        if served.started or not connection.alive:
            return
        if self.hung_up and connection is not self.transaction_at:
            raise LawBroken(f"the request goes to server {served.server} after the application has hung up")
        served.started = True
        if server.port_closed and not self.scenario.reliable:
            self.at(self.now + 2 * LATENCY, lambda: self.port_closed(served.server))
            return
        for response in server.responses:
            self.at(self.now + LATENCY + response.after, partial(self.respond, served, response))
        if self.scenario.reliable and server.lost_after < math.inf:
            self.at(self.now + LATENCY + server.lost_after, lambda: self.lose(connection))

    def respond(self, served: Served, response: Response, pause: float = T1, until: float = math.inf) -> None:
        if served.final not in (None, response) or served.acknowledged or not served.connection.alive:
            return
        if served.cancelled and response.code != 487:
            return
        if response.code < 200:
            served.provisional = True
        else:
            served.final = response
        self.at(self.now + LATENCY, lambda: self.on_response(served, response))
        until = min(until, self.now + 64 * T1)
        repeats = self.scenario.invite and response.code >= 200 and (response.code < 300 or not self.scenario.reliable)
        if repeats and self.now + pause < until:
            self.at(self.now + pause, lambda: self.respond(served, response, min(2 * pause, T2), until))

    def acknowledge(self, connection: Connection) -> None:
        served = self.serve(connection)
        served.acks += 1
        lost = served.acks <= self.scenario.servers[served.server].deaf and not self.scenario.reliable
        served.acknowledged |= served.final is not None and not lost

    def cancel_at(self, connection: Connection) -> None:
        served = self.serve(connection)
        if self.scenario.servers[served.server].heeds_cancel and served.provisional and served.final is None:
            served.cancelled = True
            self.at(self.now + 2 * LATENCY, lambda: self.respond(served, Response(0, 487)))

    def lose(self, connection: Connection) -> None:
        """failover_on_transport_state(): the connection ends; then pjsip's own listener hears of it."""
        if not connection.alive:
            return
        connection.alive = False
        self.note(f"lost: server {connection.server}")
        if self.known() and connection in self.attempts:
            self.attempt_lost(self.attempts.index(connection), connection)
        if self.transaction_at is connection and self.listens:
            self.end_transaction("transport")

    # --- requests.c -----------------------------------------------------------------------------------------------

    def known(self) -> bool:
        return self.forgotten_at == math.inf

    def forget(self) -> None:
        if self.known():
            self.note("forgotten")
            self.forgotten_at = self.now

    def attempt_at(self, server: int) -> int:
        for index in reversed(range(len(self.attempts))):
            if self.attempts[index].server == server:
                return index
        return -1

    def attempt_of_response(self, source: int) -> tuple[int, bool]:
        index = self.attempt_at(source)
        if index >= 0:
            return index, True
        if len(self.attempts) == 1:
            return 0, True
        for index in reversed(range(len(self.attempts))):
            if not self.request.attempts[index].ended:
                return index, False
        return -1, False

    def add_attempt(self, connection: Connection) -> int:
        server = connection.server
        index: int = self.lib.failover_add_attempt(
            self.request, self.attempt_at(server), 1 << server, self.scenario.servers[server].suspect, self.now
        )
        if index >= 0:
            self.attempts[index : index + 1] = [connection]
            self.justly_ended.discard(index)
        return index

    def schedule(self) -> None:
        """request_schedule_locked(), and the polling thread that comes at that time, or late."""
        due = self.lib.failover_due(self.request)
        self.due = math.ceil(due / GRID) * GRID if due < math.inf else math.inf
        if self.known() and self.due < math.inf:
            late = self.scenario.lateness[self.looks % len(self.scenario.lateness)]
            self.at(max(self.due + late, self.now), partial(self.tick, late > STALL))

    # --- failover.c -----------------------------------------------------------------------------------------------

    def decide(self, event: Any) -> Any:
        request, before = self.request, self.request.state
        actions = self.decider.decide(request, event, self.now)
        kind = self.decider.ffi.string(self.decider.ffi.cast("enum failover_event_kind", event.kind))
        self.note(
            f"{kind} attempt={event.attempt} code={event.code} heard={event.heard}: {self.decider.to_be_done(actions)}"
        )
        if before != request.state:
            self.completed_at = self.now if request.state == self.lib.REQUEST_COMPLETED else math.inf
            if before == self.lib.REQUEST_COMPLETED:
                raise LawBroken("a request that is completed is completed for good")
        if kind == "FAILOVER_CONNECTION_ENDED" or (kind == "FAILOVER_RESPONSE" and event.heard and event.code >= 200):
            self.justly_ended.add(event.attempt)
        for index in range(request.attempt_count):
            attempt = request.attempts[index]
            if attempt.ended and not attempt.guessed and index not in self.justly_ended:
                raise LawBroken(f"attempt {index} has ended for good by what another may have sent")
        return actions

    def tick(self, stalled: bool = False) -> None:
        """failover_tick(); *stalled*: the polling thread did not run before."""
        if stalled and self.known():
            self.polled_since = self.now
        for _ in range(SAME_LOOK):
            if not self.known() or self.due > self.now + SLACK:
                return
            self.looks += 1
            self.look_at()
        if self.known() and self.due <= self.now + SLACK:
            raise LawBroken(f"the polling thread looks at the request for ever: due {self.due}, now {self.now}")

    def look_at(self) -> None:
        request, lib = self.request, self.lib
        resumed = self.resume()
        trying = request.state == lib.REQUEST_TRYING and (lib.failover_has_candidate(request) or request.stranded)
        alive = lib.failover_asks_if_alive(request, self.now) and self.transaction != "terminated"
        kind = "GIVEN_UP" if trying and not self.is_open() else "TIMER"
        event = self.decider.event(kind, may_hedge=self.scenario.may_hedge, alive=bool(alive))
        actions = self.decide(event)
        self.schedule()
        if resumed & (members(actions.silent) | members(actions.suspect)):
            raise LawBroken("a server is judged by a time in which nothing was read")
        self.act_on_servers(actions)
        if actions.retry:
            retried, actions = self.retry(actions, 0)
            if retried:
                return
        if actions.deliver_held:
            if self.held:
                held, self.held = self.held, None
                assert held.final
                self.receive(held, held.final.code)
            else:
                self.end_transaction("nothing held")
        if actions.end_transaction:
            self.end_transaction("ended by us")
        if actions.forget:
            self.forget()

    def resume(self) -> set[int]:
        """failover_resume(), and the copies that follow; gives the attempts whose clock begins anew."""
        before = [self.request.attempts[index].resumed for index in range(len(self.attempts))]
        copies = self.lib.failover_resume(self.request, self.polled_since, self.now)
        for copy in members(copies) if self.is_open() and not self.hung_up else ():
            if self.scenario.reliable:
                raise LawBroken("a copy goes over UDP alone")
            self.deliver(self.attempts[copy])
        return {index for index, count in enumerate(before) if self.request.attempts[index].resumed > count}

    def act_on_servers(self, actions: Any) -> None:
        for copy in members(actions.resend):
            if self.scenario.reliable:
                raise LawBroken("a copy goes over UDP alone")
            self.deliver(self.attempts[copy])

    def retry(self, actions: Any, code: int) -> tuple[bool, Any]:
        if self.stayed:
            raise LawBroken("a request goes on after a response of 101 to 199")
        if self.scenario.invite and self.hung_up:  # failover_note_hang_up()
            self.decide(self.decider.event("CANCELLED"))
        elif self.try_next_server(actions):
            return True, actions
        actions = self.decide(self.decider.event("NOBODY_LEFT", attempt=actions.left, code=code, reason=actions.reason))
        self.schedule()
        return False, actions

    def try_next_server(self, actions: Any) -> bool:
        while True:
            suspects = {i for i, server in enumerate(self.scenario.servers) if server.suspect}
            server = self.lib.failover_next_candidate(self.request, bits(suspects), actions.reason)
            self.expect_candidate(server, suspects, actions.reason)
            if server < 0:
                return False
            self.request.tried |= 1 << server
            outcome = self.connect_to(server)
            if outcome in ("refused", "deferred"):
                noted = self.lib.failover_note_deferred if outcome == "deferred" else self.lib.failover_note_unreachable
                noted(self.request, 1 << server, self.now)
                continue
            same_socket = not self.scenario.reliable and self.attempt_at(server) >= 0
            connection = self.attempts[self.attempt_at(server)] if same_socket else Connection(server)
            at = self.add_attempt(connection)
            self.schedule()
            if actions.move_along and at >= 0:
                self.move(connection)
            if at >= 0 and outcome != "unsendable":
                self.note(f"sent to server {server}")
                self.deliver(connection)
                return True
            if at >= 0:
                self.request.attempts[at].ended = 1
                self.justly_ended.add(at)

    def expect_candidate(self, taken: int, suspects: set[int], reason: int) -> None:
        request, servers = self.request, self.scenario.servers
        left = [i for i in range(request.candidate_count) if not request.tried & 1 << i]
        if request.attempt_count >= request.max_attempts or request.cancelled:
            left = []
        if reason == self.lib.RETRY_SLOW:
            left = [i for i in left if not servers[i].last_resort]
        if taken != min(left, key=lambda i: (servers[i].last_resort, i in suspects, i), default=-1):
            raise LawBroken(f"candidate {taken} out of turn")

    def connect_to(self, server: int) -> str:
        number = self.connects[server] = self.connects.get(server, -1) + 1
        outcomes = self.scenario.servers[server].connects if self.scenario.reliable else ()
        return outcomes[number] if number < len(outcomes) else "ok"

    def cancel_attempts(self, attempts: int) -> None:
        """failover_cancel()"""
        if attempts and self.scenario.watched_only:
            raise LawBroken("there are no octets to make a CANCEL of")
        for index in members(attempts):
            self.cancel_at(self.attempts[index])

    def on_response(self, served: Served, response: Response) -> None:
        """failover_on_rx_response()"""
        if not self.known():
            self.receive(served, response.code)
            return
        acks, code = served.acks, response.code
        served.seen = code
        index, heard = self.attempt_of_response(UNKNOWN if response.unknown_source else served.server)
        same = self.request.state == self.lib.REQUEST_COMPLETED and code >= 200 and served is self.final_tag
        actions = self.decide(
            self.decider.event(
                "RESPONSE",
                attempt=index,
                heard=heard,
                code=code,
                retriable=code in RETRIABLE,
                askable=self.scenario.ruling is not None and code >= 300 and code not in (401, 407),
                same_dialog=same,
            )
        )
        if passes(actions) and code >= 200:
            self.final_tag = served
        self.schedule()
        self.act_on_servers(actions)
        sender = self.attempts[index] if index >= 0 else served.connection
        if actions.acknowledge:
            self.acknowledge(sender)
        if actions.hang_up:
            self.acknowledge(sender)
            self.serve(sender).ended = True
        retried = False
        if actions.retry:
            retried, actions = self.retry(actions, code)
        if actions.hold:
            self.held = served
        if actions.ask:
            actions = self.ask(actions, index, heard, code)
        moved = False
        if actions.move_to >= 0 and self.request.candidate_count:
            connection = self.attempts[actions.move_to]
            moved = connection.alive and self.move(connection)
        if actions.acknowledge_unmoved and not moved:
            self.acknowledge(sender)
        self.cancel_attempts(actions.cancel)
        if actions.forget:
            self.forget()
        if not retried and passes(actions):
            self.receive(served, code)
        # With one server, or once the transaction has given up, all is as pjsip has it.
        pjsips = len(self.attempts) == 1 or (passes(actions) and self.transaction == "terminated")
        if self.scenario.invite and code >= 200 and served.acks == acks and not pjsips and not self.is_hidden(served):
            raise LawBroken(f"the {code} of server {served.server} was not acknowledged")

    def ask(self, actions: Any, index: int, heard: bool, code: int) -> Any:
        """failover_ask(); without room failover_pass_on()"""
        if self.stayed or not self.lib.failover_has_candidate(self.request):
            raise LawBroken("the application is asked about what it cannot change")
        if self.scenario.room:
            assert self.scenario.ruling
            late, retry = self.scenario.ruling
            self.asked += 1
            self.at(self.now + late, partial(self.rule, self.asked, retry))
            return actions
        left = self.decider.event("NOBODY_LEFT", attempt=index, heard=heard, code=code, reason="RETRY_CODE")
        return self.decide(left)

    def rule(self, number: int, retry: bool) -> None:
        """pf_rule()"""
        if self.known() and number == self.asked:
            self.decide(self.decider.event("RULED", retriable=retry))
            self.schedule()

    def attempt_lost(self, index: int, connection: Connection) -> None:
        """on_attempt_lost()"""
        request, lib = self.request, self.lib
        open_ = request.candidate_count and request.state != lib.REQUEST_COMPLETED
        kept = False
        if open_ and lib.failover_outlives_connection(request) and self.is_open():
            kept = True
            if self.transaction_at is connection:
                self.listens = False
        if request.attempts[index].ended:
            return
        actions = self.decide(self.decider.event("CONNECTION_ENDED", attempt=index, kept=kept))
        self.schedule()
        if kept:
            self.due = 0
            self.at(self.now, self.tick)
        if actions.forget:
            self.forget()

    def port_closed(self, server: int) -> None:
        """on_port_closed()"""
        index = self.attempt_at(server)
        if self.known() and index >= 0:
            self.decide(self.decider.event("PORT_CLOSED", attempt=index))
            self.due = 0
            self.at(self.now, self.tick)

    # --- laws -----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """What holds in the end."""
        if len(self.finals) != 1:
            raise LawBroken(f"the application has {len(self.finals)} final responses")
        if self.request.attempt_count > self.scenario.max_attempts:
            raise LawBroken("more attempts than allowed")
        if self.known():
            raise LawBroken("the request is never forgotten")
        late = max(0.0, *self.scenario.lateness) + 2 * GRID
        if self.forgotten_at > self.completed_at + 33 + late:
            raise LawBroken(f"completed at {self.completed_at}, forgotten at {self.forgotten_at}")
        if self.scenario.invite:
            for served in self.served:
                self.check_served(served)

    def is_hidden(self, served: Served) -> bool:
        """Whether nobody can tell whose its responses are, or reach it."""
        unknown = any(response.unknown_source for response in self.scenario.servers[served.server].responses)
        return unknown or not served.connection.alive

    def check_served(self, served: Served) -> None:
        if self.is_hidden(served):
            return
        if 200 <= served.seen < 300 and not served.ended and self.finals[0][1] is not served:
            raise LawBroken(f"nobody has the call of server {served.server}, and it was not ended")
        rings = 100 < served.seen < 200 and not served.cancelled and served.final is None
        if rings and self.scenario.servers[served.server].heeds_cancel and len(self.attempts) > 1:
            raise LawBroken(f"server {served.server} rings on")
