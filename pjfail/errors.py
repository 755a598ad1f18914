"""What can go wrong, each with the way out in its message.

What goes wrong is a :class:`PjfailError`; errors in what the caller wrote (a URI, a server) are a ValueError too.
"""

from __future__ import annotations


class PjfailError(Exception):
    """Base of all errors of pjfail."""


class BadURI(PjfailError, ValueError):
    """A SIP URI that does not parse, or that names a transport pjfail does not speak."""


class BadServer(PjfailError, ValueError):
    """A server that is no ``Server`` and no ``"address:port"`` with a numeric address."""


class HostError(PjfailError):
    """The pjsip in this process cannot be used."""


class ControlError(PjfailError):
    """The control socket cannot be made; or, for who asks at one, nothing answers there."""


class NoPjsip(HostError):
    """No object loaded into this process carries pjsip."""


WHERE_PJSUA2_IS_FROM = (
    'in a clone of pjfail "make setup" builds it into .venv, elsewhere "pip install pjsua2-python" installs a '
    "ready-made one for CPython up to 3.12"
)


class UnusablePjsip(NoPjsip):
    """An object carries pjsip, but in a way that pjfail cannot work with: out of sight, or without pjsua."""


class TwoPjsips(HostError):
    """More than one loaded object carries a pjsip of its own."""


class NoEndpoint(HostError):
    """pjsip is there, but its endpoint has not been created and initialised."""


class UnsupportedVersion(HostError):
    """The host's pjsip is of a version that pjfail does not know."""


class LayoutMismatch(HostError):
    """The host's pjsip is of a known version, but its structures lie otherwise in memory."""


WHAT_TO_DO = (
    "build pjfail with PJPROJECT_DIR set to the configured pjproject tree of that pjsip, and send us the output of "
    "'python -m pjfail doctor'"
)


class AlreadyAttached(HostError):
    """pjfail is attached to this process's pjsip already."""


ATTACHED_ALREADY = (
    "pjfail is attached to this process's pjsip already; pjfail.attached() returns that Failover: use it, or detach() "
    "it first"
)


class NotAttached(PjfailError):
    """This ``Failover`` has been detached, or belongs to the parent of a forked process."""


DETACHED = "pjfail has been detached, by detach() or with its endpoint; pjfail.attach() attaches it again"


class PjsipError(PjfailError):
    """A pjsip function failed; ``status`` is its ``pj_status_t``."""

    def __init__(self, what: str, status: int, reason: str) -> None:
        super().__init__(f"{what}: {reason} (pjsip status {status})")
        self.status = status


class UnknownAccount(PjfailError, ValueError):
    """pjsua has no such account (any more)."""


class AffinityError(PjfailError):
    """This account cannot be kept on a server in this way; the message says why, and what can be done."""


class AffinityDisabled(AffinityError):
    """pjsip's own server affinity is not enabled on the account; see :meth:`pjfail.Failover.enable_affinity`."""


class RouteRefused(AffinityError):
    """The address of a server must not stand in this account's Route."""


class RequestFailed(PjfailError):
    """A request found no answer: it could not be sent, or its connection was lost."""


class RequestTimeout(RequestFailed):
    """No final answer to a request came in time."""


class LookupFailed(PjfailError):
    """No candidates for a target.

    ``temporary`` tells a name service that did not answer (the last good answer may still serve) from one that
    answered "there is none".
    """

    def __init__(self, reason: str, *, temporary: bool = False) -> None:
        super().__init__(reason)
        self.temporary = temporary


class UnknownTarget(LookupFailed):
    """This lookup knows nothing of the target; another one may."""
