"""Turns the core's results into exceptions, and a ``pj_status_t`` into words."""

from __future__ import annotations

from .. import errors
from .._native import ffi, lib
from .values import text_of

# pj_status_t (pj/errno.h, pjsip/sip_errno.h): PJ_ENOTFOUND, PJ_ETIMEDOUT, PJ_EINVALIDOP, PJ_ERESOLVE, PJSIP_EBUSY
NOT_FOUND = 70006
TIMED_OUT = 70009
INVALID_OPERATION = 70013
UNRESOLVED = 70018
REGISTERING = 171001


def strerror(status: int) -> str:
    """Returns pjsip's text for a ``pj_status_t``."""
    text = ffi.new("char[128]")
    lib.pf_strerror(status, text, 128)
    return text_of(text) or f"status {status}"


def check(result: int) -> None:
    """Raises the exception for a result of the core that is not PF_OK."""
    if result == lib.PF_OK:
        return
    problem = text_of(lib.pf_problem())
    if result == lib.PF_NO_OBJECT:
        raise errors.NoPjsip(f"{problem} is not loaded into this process; import it first")
    if result == lib.PF_NO_SYMBOL:
        raise errors.UnsupportedVersion(
            f"the pjsip in this process does not export {problem}(), which pjfail needs: it is older than 2.14, or the "
            "object that carries it hides some of its functions; take pjsip 2.14 or later, built without hidden symbols"
        )
    if result == lib.PF_NO_ENDPOINT:
        raise errors.NoEndpoint(
            "pjsip has no initialised endpoint in this process; call libCreate() and libInit() before pjfail.attach()"
        )
    if result == lib.PF_BAD_LAYOUT:
        version = text_of(lib.pf_host_version())
        if problem.endswith("()"):
            raise errors.LayoutMismatch(
                f"pjfail cannot compare the layout of this process's pjsip {version} with the one that it knows: "
                f"{problem} failed"
            )
        raise errors.LayoutMismatch(
            f"{problem} has another layout in this process's pjsip {version} than in the one that pjfail knows; "
            f"{errors.WHAT_TO_DO}"
        )
    if result == lib.PF_ALREADY_ATTACHED:
        raise errors.AlreadyAttached(errors.ATTACHED_ALREADY)
    if result == lib.PF_NO_ACCOUNT:
        unmade = "; an Account has its id from create() on" if problem == "-1" else ""
        raise errors.UnknownAccount(f"pjsua has no account {problem}{unmade}")
    if result == lib.PF_BAD_URI:
        raise errors.BadURI(f"pjsip cannot parse {problem!r}; write sip:host or sip:user@host:port")
    if result == lib.PF_BAD_HEADER:
        raise ValueError(f"pjsip cannot parse the header {problem!r}; write a value that its RFC allows")
    status = lib.pf_status()
    raise errors.PjsipError(problem, status, strerror(status))
