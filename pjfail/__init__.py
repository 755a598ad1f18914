"""pjfail: SIP server failover for Python programs that speak SIP through pjsip.

Quick start, in a pjsua2 program, after ``endpoint.libStart()``::

    import pjfail

    failover = pjfail.attach()

See :func:`attach` for what can be chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import events
from .detection import Consecutive, FailureRate, any_of
from .errors import (
    AffinityDisabled,
    AffinityError,
    AlreadyAttached,
    BadServer,
    BadURI,
    ControlError,
    HostError,
    LayoutMismatch,
    LookupFailed,
    NoEndpoint,
    NoPjsip,
    NotAttached,
    PjfailError,
    PjsipError,
    RequestFailed,
    RequestTimeout,
    RouteRefused,
    TwoPjsips,
    UnknownAccount,
    UnknownTarget,
    UnsupportedVersion,
    UnusablePjsip,
    WorkerBusy,
)
from .follow_settings import Follow
from .lookup.protocol import Lookup
from .model import (
    Candidate,
    CertificateProblem,
    Health,
    Outcome,
    OutcomeKind,
    Plan,
    PlanEntry,
    Request,
    Response,
    SentRequest,
    Server,
    State,
    Target,
)
from .order import MaxExcluded, Panic, PreferFastest, Sticky, by_priority, spread
from .policy import ExponentialBackoff, Policy
from .retry import RetryPolicy
from .shared import Shared

if TYPE_CHECKING:
    from . import listeners
    from .failover import Failover, attach, attached
    from .lookup import ChainLookup, DnsLookup, PjsipDnsLookup, StaticLookup, SystemLookup
    from .probe import Probe

    __version__: str

__all__ = [
    "AffinityDisabled",
    "AffinityError",
    "AlreadyAttached",
    "BadServer",
    "BadURI",
    "Candidate",
    "CertificateProblem",
    "ChainLookup",
    "Consecutive",
    "ControlError",
    "DnsLookup",
    "ExponentialBackoff",
    "Failover",
    "FailureRate",
    "Follow",
    "Health",
    "HostError",
    "LayoutMismatch",
    "Lookup",
    "LookupFailed",
    "MaxExcluded",
    "NoEndpoint",
    "NoPjsip",
    "NotAttached",
    "Outcome",
    "OutcomeKind",
    "Panic",
    "PjfailError",
    "PjsipDnsLookup",
    "PjsipError",
    "Plan",
    "PlanEntry",
    "Policy",
    "PreferFastest",
    "Probe",
    "Request",
    "RequestFailed",
    "RequestTimeout",
    "Response",
    "RetryPolicy",
    "RouteRefused",
    "SentRequest",
    "Server",
    "Shared",
    "State",
    "StaticLookup",
    "Sticky",
    "SystemLookup",
    "Target",
    "TwoPjsips",
    "UnknownAccount",
    "UnknownTarget",
    "UnsupportedVersion",
    "UnusablePjsip",
    "WorkerBusy",
    "any_of",
    "attach",
    "attached",
    "by_priority",
    "events",
    "listeners",
    "spread",
]


if not TYPE_CHECKING:  # type checkers shall know of no other names than these

    def __getattr__(name: str) -> object:
        # Imported when asked for: what needs the compiled core, which lookups and the command line do without, and what
        # is large.
        if name in ("Failover", "attach", "attached"):
            from . import failover

            return getattr(failover, name)
        if name == "Probe":
            from .probe import Probe

            return Probe
        if name in ("ChainLookup", "DnsLookup", "PjsipDnsLookup", "StaticLookup", "SystemLookup"):
            from . import lookup

            return getattr(lookup, name)
        if name == "listeners":
            import pjfail.listeners

            return pjfail.listeners
        if name == "__version__":  # the git tag's, which is in what pip has installed
            from importlib.metadata import version

            return version("pjfail")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, "__version__"})
