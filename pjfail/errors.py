"""pjfail's exceptions. The message of each says what to do.

All are a :class:`PjfailError`; those for a bad argument (a URI, a server) are also a ValueError, and WorkerBusy is a
TimeoutError.
"""

from __future__ import annotations


class PjfailError(Exception):
    """Base of all errors of pjfail."""


class BadURI(PjfailError, ValueError):
    """The text is not a valid SIP URI, or names a transport that pjfail does not speak."""


class BadServer(PjfailError, ValueError):
    """What is not a valid server, or not a valid table of servers."""


class HostError(PjfailError):
    """The pjsip in this process cannot be used."""


class ControlError(PjfailError):
    """The control socket cannot be made; or, for who asks at one, nothing answers there."""


class NoPjsip(HostError):
    """No object loaded into this process carries pjsip."""


WHERE_PJSUA2_IS_FROM = (
    'in a clone of pjfail "make setup" builds it into .venv, elsewhere "pip install pjsua2-python" installs a '
    'ready-made one for CPython up to 3.12 on x86-64; for any other, "make pjsua2-wheel" in a clone makes a wheel'
)


class UnusablePjsip(NoPjsip):
    """A loaded object carries pjsip, but pjfail cannot work with it: its functions are hidden, or it has no pjsua."""


class TwoPjsips(HostError):
    """More than one loaded object carries its own pjsip."""


class NoEndpoint(HostError):
    """pjsip is loaded, but its endpoint has not been created and initialised."""


class UnsupportedVersion(HostError):
    """pjfail does not know the version of the loaded pjsip."""


class LayoutMismatch(HostError):
    """pjfail knows the version of the loaded pjsip, but that pjsip's structures lie differently in memory."""


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


class WorkerBusy(PjfailError, TimeoutError):
    """A listener, policy or lookup has held up pjfail's thread for 5 s. The call may take effect later."""


class PjsipError(PjfailError):
    """A pjsip function failed; ``status`` is its ``pj_status_t``."""

    def __init__(self, what: str, status: int, reason: str) -> None:
        super().__init__(f"{what}: {reason} (pjsip status {status})")
        self.status = status


class UnknownAccount(PjfailError, ValueError):
    """pjsua has no such account, or has deleted it."""


class AffinityError(PjfailError):
    """The account cannot be kept on a server in this way; the message says why, and what to do instead."""


class AffinityDisabled(AffinityError):
    """pjsip's own server affinity is not enabled on the account; see :meth:`pjfail.Failover.enable_affinity`."""


class RouteRefused(AffinityError):
    """A server's address must not be put into this account's Route."""


class RequestFailed(PjfailError):
    """A request got no answer: it could not be sent, or its connection was lost."""


class RequestTimeout(RequestFailed):
    """No final response to a request came in time."""


class LookupFailed(PjfailError):
    """A lookup found no candidates for a target.

    ``temporary``: the name service did not answer, so the last good answer may still be used. Otherwise the name
    service answered that there is no such name or service.
    """

    def __init__(self, reason: str, *, temporary: bool = False) -> None:
        super().__init__(reason)
        self.temporary = temporary


class UnknownTarget(LookupFailed):
    """This lookup knows nothing about the target; another lookup may."""
