"""The events that listeners get: frozen values, delivered on pjfail's worker once the new plans are in force.

A listener is a callable that takes one event. If it raises, pjfail logs that and goes on calling it. A listener must
not block the worker, and must not call :meth:`pjfail.Failover.resolve`, which waits for the worker.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class ServerSuspected:
    """A server failed, but not badly enough to be taken down. Sent once, until the server answers or goes down."""

    server: Server
    health: Health
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class ServerDown:
    """A server was taken down; ``outcome`` is None if the application marked it down."""

    server: Server
    health: Health
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class ServerUp:
    """A server that was down answers again, or was restored by the application."""

    server: Server
    health: Health


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """A server did not answer a probe of pjfail's."""

    server: Server
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class CertificateRejected:
    """A server's certificate was not accepted: sent once for each handshake. The server stays up.

    ``reason`` says in words what is wrong, ``outcome.certificate`` as flags.
    """

    server: Server
    reason: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class PlanChanged:
    """From now on requests for a target go to other servers, or in another order."""

    plan: Plan
    before: Plan


@dataclass(frozen=True, slots=True)
class AccountMoved:
    """A followed account (a pjsua account id, and its ``user@host``) was moved to another server.

    ``before`` is None for the account's first server. ``server`` is None while no server is up, and once the account
    unregisters: the account's plan then decides.
    """

    account: int
    aor: str
    server: Server | None
    before: Server | None
    reason: str


@dataclass(frozen=True, slots=True)
class LookupFailed:
    """A lookup found nothing for a target."""

    target: Target
    reason: str
    temporary: bool


@dataclass(frozen=True, slots=True)
class LookupStale:
    """A target uses old answers from now on, because its name service does not answer; sent once for each outage."""

    target: Target
    reason: str


class Reason(enum.Enum):
    """Why a request failed over to another server; the value says what the server did that the request left."""

    SILENT = "no response"
    SLOW = "later than its round trips so far"
    CODE = "answered"
    LOST = "closed the connection"
    RACE = "connected later than another"
    REFUSED = "port unreachable"


@dataclass(frozen=True, slots=True)
class FailedOver:
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
    | LookupFailed
    | LookupStale
    | FailedOver
)
Listener = Callable[[Event], object]
