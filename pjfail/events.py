"""What listeners are told: frozen values, delivered on pjfail's worker after the new plans are in force.

A listener is a callable that takes one event. One that raises is logged, and stays. It must not hold up the worker, nor
call :meth:`pjfail.Failover.resolve`, which waits for it. Each event has a method ``as_dict()``: the event as plain
values with stable keys, for logs and traces.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

from .model import Health, Outcome, Plan, Server, Target

__all__ = [
    "AccountMoved",
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
    """A server did badly and is not down for it (yet); told once, until it answers or goes down."""

    server: Server
    health: Health
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ServerDown(_Told):
    """A server was taken down; ``outcome`` is None when the application itself marked it down."""

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
    """A probe of pjfail's own had no answer."""

    server: Server
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class CertificateRejected(_Told):
    """A server showed a certificate that was not accepted: for each handshake once, and it stays up all the same.

    ``reason`` says what is wrong in words, ``outcome.certificate`` for programs.
    """

    server: Server
    reason: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class PlanChanged(_Told):
    """Requests for a target go elsewhere, or in another order, from now on."""

    plan: Plan
    before: Plan


@dataclass(frozen=True, slots=True)
class AccountMoved(_Told):
    """A followed account (a pjsua account id, and its ``user@host``) has been sent to another server.

    ``before`` is None for its first one; ``server`` is None while none is well, or once the account unregisters: then
    its plan decides.
    """

    account: int
    aor: str
    server: Server | None
    before: Server | None
    reason: str


@dataclass(frozen=True, slots=True)
class LookupFailed(_Told):
    """A lookup found nothing for a target."""

    target: Target
    reason: str
    temporary: bool


@dataclass(frozen=True, slots=True)
class LookupStale(_Told):
    """A target begins to live on old answers, because its name service is out of order; told once an outage."""

    target: Target
    reason: str


class Reason(enum.Enum):
    """Why a request failed over to another server; the value says it of the server that it left."""

    SILENT = "no response"
    SLOW = "later than its round trips so far"
    CODE = "answered"
    LOST = "closed the connection"
    RACE = "connected later than another"
    REFUSED = "port unreachable"


@dataclass(frozen=True, slots=True)
class FailedOver(_Told):
    """A request under way failed over from the server ``left`` to the server ``taken``, ``after`` so many seconds.

    ``code`` is that of the response which the application did not see (``Reason.CODE``), else 0. The server that was
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
    | LookupFailed
    | LookupStale
    | FailedOver
)
Listener = Callable[[Event], object]
