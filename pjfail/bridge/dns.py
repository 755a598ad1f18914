"""pjsip's own DNS resolver; its answers come through :func:`pjfail.bridge.queue.dns_answers`."""

from __future__ import annotations

from collections.abc import Sequence

from .. import errors
from .._native import ffi, lib
from .._values import dataclass
from .status import check


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """A record as pjsip's DNS resolver has parsed it; ``type`` is the number of the RR type, ``address`` a numeric
    address.
    """

    name: str
    type: int
    ttl: int
    priority: int
    weight: int
    port: int
    target: str
    address: str


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """The answer of pjsip's DNS resolver to question ``number``; ``problem`` says what went wrong, "" if nothing."""

    number: int
    exists: bool
    problem: str
    records: tuple[DnsRecord, ...]


def dns_open(servers: Sequence[tuple[str, int]]) -> int:
    """Returns a handle to a DNS resolver of pjsip that asks *servers* (address, port); without any, to pjsua's own.

    The handle is valid until the detach. Worker. Raises :class:`pjfail.PjfailError`.
    """
    texts = [ffi.new("char[]", address.encode()) for address, _ in servers]
    handle = ffi.new("int *")
    ports = [port for _, port in servers]
    result = lib.pf_dns_open(ffi.new("char *[]", texts), ffi.new("unsigned short[]", ports), len(texts), handle)
    if result == lib.PF_NO_RESOLVER:
        raise errors.NoEndpoint(
            "pjsip has no DNS resolver of its own; set uaConfig.nameserver before libInit(), or give nameservers="
        )
    check(result)
    return int(handle[0])


def dns_ask(handle: int, name: str, kind: int, number: int) -> bool:
    """Asks for the records of type *kind* at *name*; the answer comes by the queue, with *number*.

    Returns False if the resolver of *handle* no longer exists. Worker. Raises :class:`pjfail.PjfailError`.
    """
    result = lib.pf_dns_ask(handle, name.encode("ascii"), kind, number)
    if result == lib.PF_NO_RESOLVER:
        return False
    check(result)
    return True
