"""The demo's scenario: two registrars behind one domain, of which the first falls silent, and the programs that use
them.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from ...testing.name_server import NameServer
from ...testing.registrar import SILENT, Registrar
from ...testing.sip import Request
from .program import Program, Transaction

DOMAIN = "voip.example"
ZONE = """
$TTL 60
@          SOA  ns hostmaster 1 3600 600 86400 60
@          NS   ns
ns         A    127.0.77.53
_sip._udp  SRV  10 0 5060 first
_sip._udp  SRV  20 0 5060 second
first      A    127.0.77.1
second     A    127.0.77.2
"""
_READY_WITHIN = 15.0
_TOLD_WITHIN = 40.0  # a request to the silent server, sent 2 s after its death, is given up after 32 s
_TOLD_WITHIN_FAST = 12.0
_LINGER = 1.5  # seconds, so that the table shows requests that still wait at the end


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


class Scenario:
    """The servers and the programs, within a ``with`` block. Raises OSError if a server's address is taken."""

    def __init__(self, *, fast: bool) -> None:
        self.first = Registrar("127.0.77.1", 5060, transports=("udp",))
        self.second = Registrar("127.0.77.2", 5060, transports=("udp",))
        self.programs = [Program("pjfail", DOMAIN, "127.0.77.53", stock=False)]
        if not fast:
            self.programs.insert(0, Program("stock", DOMAIN, "127.0.77.53", stock=True))
        self.started_at = time.monotonic()
        self.died_at: float | None = None
        self._told_at: float | None = None
        self._told_within = _TOLD_WITHIN_FAST if fast else _TOLD_WITHIN
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for server in (NameServer(ZONE, DOMAIN, "127.0.77.53"), self.first, self.second):
                stack.enter_context(server)
            for program in self.programs:
                stack.enter_context(program)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def advance(self, now: float) -> bool:
        """Makes the first registrar silent when it is time; returns False once everything has been shown.

        Raises :class:`DemoFailed` if a program has ended, or gets no answer while both registrars work.
        """
        for program in self.programs:
            if not program.running:
                raise DemoFailed("\n".join([f"the program {program.title} has ended by itself:", *program.log]))
        if self.died_at is None:
            if all(_calm(program) for program in self.programs):
                self.first.fault = SILENT
                self.died_at = now
            elif now > self.started_at + _READY_WITHIN:
                raise DemoFailed(f"all servers work, but not all programs got an answer within {_READY_WITHIN:g} s")
            return True
        if self._told_at is None and all(self._told(program) for program in self.programs):
            self._told_at = now
        over_at = self.died_at + self._told_within if self._told_at is None else self._told_at + _LINGER
        return now < over_at

    def since_death(self, program: Program) -> list[Transaction]:
        """Returns what *program* has sent since the first registrar fell silent."""
        return [one for one in program.transactions if self.died_at is not None and one.sent_at >= self.died_at]

    def route(self, program: Program, transaction: Transaction) -> list[Registrar]:
        """Returns the registrars that the request of *transaction* reached, in order, by the registrars' records."""
        reached: dict[tuple[str, int], list[Registrar]] = {}
        arrivals = [(request, server) for server in (self.first, self.second) for request in server.requests]
        for request, server in sorted(arrivals, key=lambda arrival: arrival[0].at):
            if request.method == transaction.method and _is_from(program, request):
                servers = reached.setdefault((request.call_id, request.cseq), [])
                if server not in servers:
                    servers.append(server)
        routes = list(reached.values())
        return routes[transaction.number] if transaction.number < len(routes) else []

    def outlived(self) -> bool:
        """Whether a request of the program with pjfail has been answered since the first registrar fell silent."""
        return any(one.succeeded for program in self.programs if not program.stock for one in self.since_death(program))

    def name(self, server: Registrar) -> str:
        return "first" if server is self.first else "second"

    def _told(self, program: Program) -> bool:
        sent = self.since_death(program)
        return all(
            any(one.method == method and (one.succeeded or (program.stock and one.code)) for one in sent)
            for method in ("REGISTER", "MESSAGE")
        )


def _is_from(program: Program, request: Request) -> bool:
    """Whether *program* itself has sent it, not pjfail: that asks with a REGISTER that binds no Contact."""
    binds = request.method != "REGISTER" or request.header("contact") != ""
    return binds and f"sip:{program.user}@" in request.from_


def _calm(program: Program) -> bool:
    """Returns whether the first MESSAGE of *program* has been answered, and no request waits."""
    sent = program.transactions
    return any(one.method == "MESSAGE" and one.succeeded for one in sent) and all(one.code for one in sent)
