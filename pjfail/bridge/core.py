"""The core goes into the endpoint, and comes out; and what that endpoint can send over."""

from __future__ import annotations

from .._native import ffi, lib
from ..model import FAMILIES, TRANSPORTS, Family, Transport
from ..retry import RetryPolicy
from .status import check


def _configure(retry: RetryPolicy) -> None:
    c = ffi.new("pf_retry_policy *")
    c.enabled = retry.enabled
    for index, (method, seconds) in enumerate(retry.timeouts.items()):
        c.timeouts[index].method = method.encode("ascii")
        c.timeouts[index].seconds = seconds
    c.timeout_count = len(retry.timeouts)
    for index, code in enumerate(retry.codes):
        c.codes[index] = code
    c.code_count = len(retry.codes)
    c.connection_attempt_delay = -1.0 if retry.connection_attempt_delay is None else retry.connection_attempt_delay
    c.hedge_budget = retry.hedge_budget
    c.port_check = retry.port_check
    c.attempts = retry.attempts
    lib.pf_set_retry_policy(c)


def attach(deadline: float, retry: RetryPolicy) -> int:
    """Plugs the core into the endpoint and returns the attachment's number, which is not 0.

    *deadline*: seconds a question may wait for :func:`pjfail.bridge.plans.publish`.
    """
    _configure(retry)
    number = ffi.new("int *")
    check(lib.pf_attach(deadline, number))
    return int(number[0])


def detach(number: int) -> None:
    """Takes the core out again; harmless when that attachment is over. May wait two seconds for pjsip to let go."""
    lib.pf_detach(number)


def attachment() -> int:
    """The number of the attachment in force, 0 for none: one ends with its endpoint, and another may follow."""
    return int(lib.pf_attached())


def foreign() -> bool:
    """Whether this is a forked child of the process that attached."""
    return bool(lib.pf_is_forked_child())


def sendable() -> frozenset[tuple[Transport, Family]]:
    """What the endpoint can send over, empty when that is not known. Not from a SIP thread."""
    found = ffi.new("unsigned *")
    if lib.pf_transports(found) != lib.PF_OK:
        return frozenset()
    return frozenset(
        (transport, family)
        for number, transport in enumerate(TRANSPORTS, 1)
        for bit, family in enumerate(FAMILIES)
        if found[0] & 1 << (2 * number + bit)
    )


def transports() -> tuple[tuple[Transport, ...], tuple[Family, ...]]:
    """The endpoint's transports and its address families, both empty when that is not known. Not from a SIP thread."""
    over = sendable()
    return (
        tuple(transport for transport in TRANSPORTS if any(transport == each for each, _ in over)),
        tuple(family for family in FAMILIES if any(family == each for _, each in over)),
    )
