"""The events that listeners get: frozen values, delivered on pjfail's worker once the new plans are in force.

A listener is a callable that takes one event. If it raises, pjfail logs that and goes on calling it. A listener must
not block the worker, and must not call :meth:`pjfail.Failover.resolve` or :meth:`pjfail.Failover.request`, which wait
for the worker. Each event has a method ``as_dict()``: the event as plain values with stable keys, for logs and traces.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar, Protocol

from ._values import dataclass
from .model import Health, Outcome, Plan, Server, Target

__all__ = [
    "AccountMoved",
    "CallRefreshed",
    "CallStranded",
    "CertificateRejected",
    "Event",
    "FailedOver",
    "Listener",
    "LookupFailed",
    "LookupStale",
    "PlanChanged",
    "ProbeFailed",
    "Reason",
    "ServerDown",
    "ServerSuspected",
    "ServerUp",
    "SharedDown",
    "SharedUp",
]


class _Told:
    """What all events can do."""

    __slots__ = ()

    def as_dict(self: _Dataclass) -> dict[str, Any]:
        """The event as text, numbers, lists of text and None, which JSON has too; ``event`` is its name.

        The keys of each kind of event are always the same ones, and stay: a later version may only add some.
        """
        told: dict[str, Any] = {"event": type(self).__name__}
        for each in fields(self):
            told |= _plain(each.name, getattr(self, each.name))
        return told


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


def _plain(name: str, value: object) -> dict[str, Any]:
    """The keys of the field *name*."""
    match value:
        case Health():
            hold = None if value.until is None else round(value.until - value.since, 3)
            return {"state": value.state.value, "reason": value.reason, "failures": value.failures, "hold": hold}
        case Outcome():
            told = {"outcome": value.seen.name.lower(), "method": value.method, "code": value.code}
            return told | {"detail": value.detail, "certificate": [each.name for each in value.certificate]}
        case None if name == "outcome":
            return {"outcome": None, "method": "", "code": 0, "detail": "", "certificate": []}
        case Plan():
            servers = list(map(str, value.servers))
            return {"target": str(value.target), "servers": servers} if name == "plan" else {name: servers}
        case Server() | Target():
            return {name: str(value)}
        case Reason():
            return {name: value.name.lower()}
    return {name: value}


@dataclass(frozen=True, slots=True)
class ServerSuspected(_Told):
    """A server failed, but not badly enough to be taken down. Sent once, until the server answers or goes down."""

    server: Server
    health: Health
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ServerDown(_Told):
    """A server was taken down; ``outcome`` is None if the application marked it down, or if other processes told so
    (``health.told``).
    """

    server: Server
    health: Health
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class ServerUp(_Told):
    """A server that was down answers again, or was restored by the application."""

    server: Server
    health: Health


@dataclass(frozen=True, slots=True)
class ProbeFailed(_Told):
    """A server did not answer a probe of pjfail's."""

    server: Server
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class CertificateRejected(_Told):
    """A server's certificate was not accepted: sent once for each handshake. The server stays up.

    ``reason`` says in words what is wrong, ``outcome.certificate`` as flags.
    """

    server: Server
    reason: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class PlanChanged(_Told):
    """From now on requests for a target go to other servers, or in another order."""

    plan: Plan
    before: Plan


UNREGISTERS = "it unregisters"
"""The ``reason`` of an :class:`AccountMoved` where the application itself has the account unregister."""


@dataclass(frozen=True, slots=True)
class AccountMoved(_Told):
    """A followed account (a pjsua account id, and its ``user@host``) was moved to another server.

    ``before`` is None for the account's first server. ``server`` is None while no server is up, and once the account
    unregisters (``reason`` is :data:`UNREGISTERS` then): the account's plan then decides.
    """

    account: int
    aor: str
    server: Server | None
    before: Server | None
    reason: str


@dataclass(frozen=True, slots=True)
class CallRefreshed(_Told):
    """The connection of a call under way had ended, and its server knows the new one, by a re-INVITE of pjfail's.

    ``account`` and ``call`` are pjsua's ids, ``call_id`` is the Call-ID header.
    """

    account: int
    call: int
    call_id: str
    server: Server


@dataclass(frozen=True, slots=True)
class CallStranded(_Told):
    """The server that has a call's dialog is down. Media may go on, but nobody can end, hold or transfer the call.

    Sent once for each call. An application that wants to can place the call anew.
    """

    account: int
    call: int
    call_id: str
    server: Server
    reason: str


@dataclass(frozen=True, slots=True)
class LookupFailed(_Told):
    """A lookup found nothing for a target."""

    target: Target
    reason: str
    temporary: bool


@dataclass(frozen=True, slots=True)
class LookupStale(_Told):
    """A target uses old answers from now on, because its name service does not answer; sent once for each outage."""

    target: Target
    reason: str


@dataclass(frozen=True, slots=True)
class SharedDown(_Told):
    """The memory that processes share cannot be used; pjfail goes on with its own health. Sent once for each outage.

    ``store`` is its place, without user name and password.
    """

    store: str
    reason: str


@dataclass(frozen=True, slots=True)
class SharedUp(_Told):
    """The memory that processes share is there again after ``after`` seconds; what still holds is told again."""

    store: str
    after: float


class Reason(enum.Enum):
    """Why a request failed over to another server; the value says it of the server that the request left."""

    SILENT = "no response"
    SLOW = "later than its round trips so far"
    CODE = "answered"
    LOST = "closed the connection"
    RACE = "another connected first"
    REFUSED = "port unreachable"


@dataclass(frozen=True, slots=True)
class FailedOver(_Told):
    """A request under way failed over from the server ``left`` to the server ``taken``, ``after`` seconds after it was
    first sent.

    ``code`` is that of the response that the application did not see (``Reason.CODE``), else 0. The server that was
    left may still answer; the first answer wins.
    """

    method: str
    call_id: str
    left: Server
    taken: Server
    why: Reason
    after: float
    code: int = 0


Event = (
    ServerSuspected
    | ServerDown
    | ServerUp
    | ProbeFailed
    | CertificateRejected
    | PlanChanged
    | AccountMoved
    | CallRefreshed
    | CallStranded
    | LookupFailed
    | LookupStale
    | FailedOver
    | SharedDown
    | SharedUp
)
Listener = Callable[[Event], object]
