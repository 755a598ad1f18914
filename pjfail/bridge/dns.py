"""pjsip's own DNS resolver; its answers come through :func:`pjfail.bridge.queue.dns_answers`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .. import errors
from .._native import ffi, lib
from .status import check


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """A record as pjsip's DNS resolver has parsed it; ``type`` is the DNS's number, ``address`` numeric text."""

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
    """What pjsip's DNS resolver said to question ``number``; ``problem`` is empty when all went well."""

    number: int
    exists: bool
    problem: str
    records: tuple[DnsRecord, ...]


def dns_open(servers: Sequence[tuple[str, int]]) -> int:
    """A DNS resolver of pjsip's that asks *servers* (address, port); with none, the one that pjsua was configured with.

    What this returns is of use until the detach. Worker. Raises :class:`pjfail.PjfailError`.
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

    False when there is no such resolver any more. Worker. Raises :class:`pjfail.PjfailError`.
    """
    result = lib.pf_dns_ask(handle, name.encode("ascii"), kind, number)
    if result == lib.PF_NO_RESOLVER:
        return False
    check(result)
    return True
