"""Attaches the core to the endpoint and detaches it; and which transports the endpoint has."""

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
        c.codes[index] = int(code[0]) if isinstance(code, str) else code
    c.code_count = len(retry.codes)
    c.connection_attempt_delay = -1.0 if retry.connection_attempt_delay is None else retry.connection_attempt_delay
    c.hedge_budget = retry.hedge_budget
    c.port_check = retry.port_check
    c.attempts = retry.attempts
    c.decides = retry.decide is not None
    for index, name in enumerate(retry.dialogs):
        c.clusters[index] = name.encode("ascii")
    c.cluster_count = len(retry.dialogs)
    lib.pf_set_retry_policy(c)


def attach(deadline: float, retry: RetryPolicy, find_accounts: bool = False) -> int:
    """Attaches the core to the endpoint, and returns the attachment's number, which is not 0.

    *deadline*: seconds that a question may wait for :func:`pjfail.bridge.plans.publish`. *find_accounts*: the queue
    reports the REGISTERs of accounts that are not followed, too. Raises
    :class:`pjfail.HostError`.
    """
    _configure(retry)
    lib.pf_find_accounts(find_accounts)
    number = ffi.new("int *")
    check(lib.pf_attach(deadline, number))
    return int(number[0])


def detach(number: int) -> None:
    """Detaches the core. Does nothing if that attachment has ended. May wait 2 s for pjsip to leave our code."""
    lib.pf_detach(number)


def finish_at_exit() -> None:
    """Waits until those are answered who waited at the detach, two seconds at the most; who is left gets no answer.

    At the interpreter's exit, while pjsip's callbacks still reach Python: later they would hang or abort the process.
    """
    lib.pf_finish_at_exit()


def attachment() -> int:
    """Returns the number of the attachment in force, 0 for none. An attachment ends with its endpoint; another may
    follow.
    """
    return int(lib.pf_attached())


def is_forked_child() -> bool:
    """Returns whether this is a forked child of the process that attached."""
    return bool(lib.pf_is_forked_child())


def sendable() -> frozenset[tuple[Transport, Family]]:
    """Returns what the endpoint can send over; empty if that is not known. Not from a SIP thread."""
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
    """Returns the endpoint's transports and its address families, both empty if that is not known. Not from a SIP
    thread.
    """
    over = sendable()
    return (
        tuple(transport for transport in TRANSPORTS if any(transport == each for each, _ in over)),
        tuple(family for family in FAMILIES if any(family == each for _, each in over)),
    )
