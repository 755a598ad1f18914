"""The lookup with pjsip's own DNS resolver, its cache and its sockets: RFC 3263 without NAPTR.

pjsip's resolver parses no NAPTR records, drops truncated answers, and limits the names in one packet.
:class:`pjfail.DnsLookup` has none of these limits. This lookup sends no question that the application's own resolver
would not send.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import dns.name
import dns.rdata
from dns.name import Name
from dns.rdata import Rdata
from dns.rdataclass import IN
from dns.rdatatype import RdataType

from ..errors import LookupFailed, PjfailError
from ..model import FAMILIES, TRANSPORTS, Candidate, Family, Target, Transport
from .dns import in_common, require_client
from .nameservers import NameServer
from .reachability import has_route
from .resolver import Answer, Kind
from .rfc3263 import Client, locate

if TYPE_CHECKING:
    from ..bridge.dns import DnsAnswer, DnsRecord

_TYPES: dict[Kind, int] = {"A": RdataType.A, "AAAA": RdataType.AAAA, "SRV": RdataType.SRV}
_NEGATIVE_TTL = 30.0  # seconds; pjsip does not pass on the SOA of a negative answer
_CNAME_LIMIT = 16

_numbers = itertools.count(1)
_waiting: dict[int, asyncio.Future[DnsAnswer]] = {}
"""The futures that wait for an answer of pjsip's resolver, by number. Worker only: all of this runs in its loop."""


def deliver(answer: DnsAnswer) -> None:
    """Worker. Passes an answer that the C core has fetched to the future that waits for it."""
    future = _waiting.pop(answer.number, None)
    if future is not None and not future.done():
        future.set_result(answer)


class PjsipDnsLookup:
    """Finds servers by RFC 3263 section 4 (SRV, A and AAAA), asking pjsip's DNS resolver.

    *nameservers* None uses the resolver that pjsua was configured with (``uaConfig.nameserver``), which pjfail saves
    while it is attached; otherwise pjfail makes a resolver of pjsip's that asks these, written as for
    :class:`pjfail.DnsLookup`. *transports* and *families* are those that may be used, in order of preference; None
    takes those of the endpoint. A lookup ends within *timeout* seconds. Works only while pjfail is attached.

    Raises :class:`pjfail.BadServer` for an invalid name server, and ValueError for another invalid argument.
    """

    def __init__(
        self,
        nameservers: Sequence[str] | None = None,
        *,
        transports: Sequence[Transport] | None = None,
        families: Sequence[Family] | None = None,
        timeout: float = 3.0,
    ) -> None:
        require_client(transports, families, timeout)
        servers = () if nameservers is None else tuple(NameServer.parse_all(nameservers))
        if nameservers is not None and not servers:
            raise ValueError("nameservers is empty; give at least one, or None for pjsua's")
        self._timeout = timeout
        self._transports = None if transports is None else tuple(transports)
        self._families = None if families is None else tuple(families)
        self._client = Client(self._transports or TRANSPORTS, self._families or FAMILIES, "off", timeout / 3, has_route)
        self._resolver = _PjsipResolver(servers)

    async def lookup(self, target: Target) -> list[Candidate]:
        """Returns the candidates of *target*, at least one, by priority. Runs on pjfail's worker.

        Raises :class:`pjfail.LookupFailed`.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await locate(target, self._resolver, self._client)
        except TimeoutError:
            reason = f"{target}: pjsip's DNS resolver did not give all answers within {self._timeout:g} s"
            raise LookupFailed(reason, temporary=True) from None

    def adapt(self, transports: Sequence[Transport], families: Sequence[Family]) -> None:
        """From now on finds only what the endpoint can use, like :meth:`pjfail.DnsLookup.adapt`. Called by the
        worker.
        """
        self._client = replace(
            self._client,
            transports=in_common(self._transports, transports or TRANSPORTS),
            families=in_common(self._families, families or FAMILIES),
        )


class _PjsipResolver:
    """A :class:`Resolver` over one ``pj_dns_resolver``, opened at the first question after each attach."""

    def __init__(self, servers: Sequence[NameServer]) -> None:
        self._servers = tuple(servers)
        self._handle: int | None = None

    async def resolve(self, name: Name, kind: Kind) -> Answer:
        asked, ttl = name, float("inf")
        for _ in range(_CNAME_LIMIT):
            answer = await self._ask(asked, kind)
            if not answer.exists:
                return Answer(asked, (), min(ttl, _NEGATIVE_TTL))
            end, records, chain_ttl = _follow(asked, kind, answer)
            ttl = min(ttl, chain_ttl)
            if records or end == asked:
                return Answer(end, records, ttl if records else min(ttl, _NEGATIVE_TTL))
            asked = end
        raise LookupFailed(f"{name.to_text(omit_final_dot=True)} leads through too many CNAMEs, or in a circle")

    async def _ask(self, name: Name, kind: Kind) -> DnsAnswer:
        from ..bridge.dns import dns_ask, dns_open

        text = name.to_text(omit_final_dot=True)
        number = next(_numbers) & 0xFFFFFFFF
        future: asyncio.Future[DnsAnswer] = asyncio.get_running_loop().create_future()
        _waiting[number] = future
        try:
            if self._handle is None or not dns_ask(self._handle, text, _TYPES[kind], number):
                self._handle = dns_open([(server.address, server.port) for server in self._servers])
                dns_ask(self._handle, text, _TYPES[kind], number)
            answer = await future
        except PjfailError as error:
            raise LookupFailed(f"{text} {kind}: {error}", temporary=True) from None
        finally:
            _waiting.pop(number, None)
        if answer.exists and answer.problem:
            raise LookupFailed(f"{text} {kind}: pjsip's DNS resolver says: {answer.problem}", temporary=True)
        return answer


def _follow(name: Name, kind: Kind, answer: DnsAnswer) -> tuple[Name, tuple[Rdata, ...], float]:
    """Returns the name that the CNAMEs of *answer* lead to from *name*, the records of *kind* there, and the least TTL
    on the way.
    """
    ttl = float("inf")
    for _ in range(_CNAME_LIMIT):
        there = [record for record in answer.records if _name(record.name) == name]
        found = [record for record in there if record.type == _TYPES[kind]]
        aliases = [record for record in there if record.type == RdataType.CNAME]
        ttl = min([ttl, *(record.ttl for record in found or aliases)])
        if found or not aliases:
            return name, tuple(_rdata(record) for record in found), ttl
        name = _name(aliases[0].target)
    return name, (), ttl


def _name(text: str) -> Name:
    return dns.name.from_text(text)


def _rdata(record: DnsRecord) -> Rdata:
    if record.type == RdataType.SRV:
        # pjsip's parser returns the root ("no service here") as an empty name.
        text = f"{record.priority} {record.weight} {record.port} {record.target or '.'}"
    else:
        text = record.address
    return dns.rdata.from_text(IN, RdataType.make(record.type), text, origin=dns.name.root, relativize=False)
