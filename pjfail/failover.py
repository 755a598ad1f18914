"""Attaching to the pjsip in this process, and what an attached application can ask and say."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, TracebackType

from . import bridge
from . import host as hosts
from .errors import BadServer, NotAttached
from .events import Listener
from .lookup import DnsLookup, Lookup
from .model import Health, Plan, Server, State, Target
from .policy import Order, Policy
from .steering import Steering
from .worker import Worker

log = logging.getLogger("pjfail")

# How long a question may wait for the worker before an old plan, or the system's resolver, answers it (seconds). The
# lookup's own budget of 3 s lies below, and both together below the 5 s after which users give up.
QUESTION_DEADLINE = 3.5


def attach(
    lookup: Lookup | None = None,
    policy: Policy | Order | None = None,
    steering: Steering | None = None,
    listeners: Sequence[Listener] = (),
    host: str | Path | ModuleType | None = None,
) -> Failover:
    """Makes the pjsip of this process ask pjfail where its requests go, and watch what becomes of them.

    Call it once, after ``libInit()`` (after ``libStart()`` is fine), from a Python thread. From then on the servers
    of a SIP domain are found by *lookup* (default: :class:`pjfail.DnsLookup` with the system's name servers) and
    ordered by *policy* (a :class:`pjfail.Policy`, or a plain function ``(candidates, health) -> candidates``).
    *steering* says when a request under way goes on to the next server (default: :class:`pjfail.Steering`, as it is).
    *listeners* are called with :mod:`pjfail.events`. *host* names the loaded object that carries pjsip, where that
    cannot be found out.

    Detaching happens with :meth:`Failover.detach`, at the end of a ``with`` block, when the endpoint is destroyed,
    and at interpreter exit. Raises :class:`pjfail.HostError`.
    """
    if policy is None:
        policy = Policy()
    elif not isinstance(policy, Policy):
        if not callable(policy) or isinstance(policy, type):
            raise TypeError(f"policy is {policy!r}; give a Policy or a function (candidates, health) -> candidates")
        policy = Policy(order=policy)
    if steering is not None and not isinstance(steering, Steering):
        raise TypeError(f"steering is {steering!r}; give a Steering, or Steering.off()")
    if callable(listeners):
        raise TypeError("listeners is one function; give a list of them")
    if lookup is not None and (not isinstance(lookup, Lookup) or isinstance(lookup, type)):
        raise TypeError(f"lookup is {lookup!r}; give an object with a method: async def lookup(self, target)")
    for listener in listeners:
        if not callable(listener):
            raise TypeError(f"{listener!r} is no listener; give functions that take an event")
    return Failover(DnsLookup() if lookup is None else lookup, policy, steering or Steering(), tuple(listeners), host)


class Failover:
    """pjfail, attached. Made by :func:`attach`; all methods may be called from any thread but where they say not."""

    def __init__(
        self,
        lookup: Lookup,
        policy: Policy,
        steering: Steering,
        listeners: Sequence[Listener],
        host: str | Path | ModuleType | None,
    ) -> None:
        self.pjsip_version = hosts.bind(host)
        self._process = os.getpid()
        self._once = threading.Lock()
        self._ended = False
        self._worker = Worker(lookup, policy, listeners, self._end)
        bridge.attach(QUESTION_DEADLINE, steering)
        try:
            self._worker.start()
        except BaseException:
            bridge.detach()
            raise
        atexit.register(_detach_at_exit, weakref.ref(self))
        log.info("pjfail is attached to pjsip %s", self.pjsip_version)

    def __enter__(self) -> Failover:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    @property
    def attached(self) -> bool:
        """Whether pjsip asks us: not after a detach, nor in a forked child."""
        return not self._ended and os.getpid() == self._process and bridge.attached()

    def detach(self) -> None:
        """Leaves pjsip as it was found, requests in flight answered by pjsip's own resolver. May be called again.

        Not while holding a lock that one of your pjsua2 callbacks takes. Waits for the worker, two seconds at the most.
        """
        if self._end():
            log.info("pjfail is detached")

    def _end(self) -> bool:
        """Whether it was us who detached: once, and never in a forked child, whose worker is the parent's."""
        if os.getpid() != self._process:
            return False
        with self._once:
            if self._ended:
                return False
            self._ended = True
        bridge.detach()
        self._worker.stop()
        return True

    def _require_attached(self) -> None:
        if os.getpid() != self._process:
            raise NotAttached("pjfail is attached in the parent process, not in this forked child")
        if not self.attached:
            raise NotAttached("pjfail has been detached")

    def resolve(self, uri: str, timeout: float = 5.0) -> Plan:
        """The plan for requests to *uri*: the servers in order, each with the reason of its place.

        The one in force where there is one, else looked up now. Blocks up to *timeout* seconds; not from a listener.
        Raises :class:`pjfail.BadURI`, :class:`pjfail.LookupFailed`, :class:`pjfail.NotAttached`.
        """
        self._require_attached()
        target = Target.parse(uri)
        if target.secure and target.transport is None:
            target = replace(target, transport="tls")  # as pjsip asks for a sips URI
        return self._worker.resolve(target, timeout)

    def servers(self) -> Mapping[Server, Health]:
        """What is known of each server at this moment. Never blocks."""
        self._require_attached()
        return self._worker.health()

    def mark_down(self, server: Server | str, seconds: float | None = None) -> None:
        """Puts *server* behind the others for *seconds*, or until :meth:`restore`; answers do not lift it.

        *server* is a ``Server``, "tls:address:port", or "address:port" for whatever transport it has in our plans.
        In force when this returns. Raises :class:`pjfail.BadServer`.
        """
        if seconds is not None and seconds <= 0:
            raise ValueError(f"seconds is {seconds}; give a positive number, or None for until restored")

        def down(health: Health, now: float) -> Health:
            return replace(
                health,
                state=State.DOWN,
                since=now,
                until=None if seconds is None else now + seconds,
                reason="marked down by the application",
                held=True,
            )

        self._set_health(server, down)

    def drain(self, server: Server | str) -> None:
        """Sends new requests elsewhere until :meth:`restore`; dialogs stay with *server* (as in :meth:`mark_down`)."""

        def draining(health: Health, now: float) -> Health:
            return replace(
                health, state=State.DRAINING, since=now, until=None, reason="drained by the application", held=True
            )

        self._set_health(server, draining)

    def restore(self, server: Server | str) -> None:
        """Takes *server* (as in :meth:`mark_down`) for up, whatever was known against it."""

        def up(health: Health, now: float) -> Health:
            return Health(since=now, reason="restored", rtt=health.rtt, last_answer=health.last_answer)

        self._set_health(server, up)

    def _set_health(self, server: Server | str, change: Callable[[Health, float], Health]) -> None:
        self._require_attached()

        def apply() -> None:
            self._worker.set_health(self._named(server), change)

        self._worker.call(apply)

    def _named(self, server: Server | str) -> list[Server]:
        """Worker. The servers that the application means."""
        if isinstance(server, Server):
            return [server]
        parsed = Server.parse(server)
        if server.strip().lower().startswith(f"{parsed.transport}:"):
            return [parsed]
        found = self._worker.servers_at(parsed.endpoint)
        if not found:
            raise BadServer(f'{server!r} is in no plan so far; to name it before its first use, write "udp:{server}"')
        return found

    def counters(self) -> bridge.Counters:
        """What the C core has counted: questions, where their answers came from, what it holds. Never blocks."""
        return bridge.counters()


def _detach_at_exit(reference: weakref.ref[Failover]) -> None:
    failover = reference()
    if failover is not None:
        failover.detach()
