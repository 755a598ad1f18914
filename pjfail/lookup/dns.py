"""The lookup over the DNS: RFC 3263, answered by given name servers or the system's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import get_args

from ..errors import LookupFailed
from ..model import TRANSPORTS, Candidate, Target, Transport
from .cache import Cache
from .nameservers import NameServer, NameServers, system_nameservers
from .reachability import has_route
from .rfc3263 import Client, Family, UseOfNaptr, locate


class DnsLookup:
    """Finds servers by RFC 3263: NAPTR, SRV, A and AAAA.

    *nameservers* are ``"192.0.2.53"``, ``"192.0.2.54:5353"``, ``"[2001:db8::53]:5353"``; None takes those of
    ``/etc/resolv.conf``. *transports* and *families* are what the client has, in its order of preference. *naptr* "on"
    asks for NAPTR records where RFC 3263 does, "off" never, "always" also where the URI names a transport.

    A lookup ends within *timeout* seconds. An answer of the DNS is kept for its TTL, at least *ttl_floor* and at most
    *ttl_ceiling* seconds of *clock*. A name that goes through more than *cname_limit* CNAMEs (16 at most) is not
    followed. *has_route* tells of a numeric address whether packets can reach it; those that cannot stand behind.

    Raises :class:`pjfail.BadServer` for a name server that is none, :class:`ValueError` for another argument, and
    :class:`pjfail.LookupFailed` where the system names no name server.
    """

    def __init__(
        self,
        nameservers: Sequence[str] | None = None,
        *,
        transports: Sequence[Transport] = TRANSPORTS,
        families: Sequence[Family] = ("ipv4", "ipv6"),
        naptr: UseOfNaptr = "on",
        timeout: float = 3.0,
        ttl_floor: float = 1.0,
        ttl_ceiling: float = 86400.0,
        cname_limit: int = 16,
        clock: Callable[[], float] = time.monotonic,
        has_route: Callable[[str], bool] = has_route,
    ) -> None:
        _check("transports", transports, TRANSPORTS)
        _check("families", families, get_args(Family))
        _check("naptr", [naptr], get_args(UseOfNaptr))
        if timeout <= 0:
            raise ValueError(f"timeout is {timeout}; give the seconds that a lookup may take")
        servers = system_nameservers() if nameservers is None else [NameServer.parse(each) for each in nameservers]
        if not servers:
            raise ValueError("nameservers is empty; give at least one, or None for the system's")
        self._timeout = timeout
        self._client = Client(tuple(transports), tuple(families), naptr, timeout / 3, has_route)
        # A question ends a little before the lookup does, for its error tells more: who was asked what.
        wire = NameServers(servers, timeout=0.9 * timeout, cname_limit=cname_limit, clock=clock)
        self._resolver = Cache(wire, floor=ttl_floor, ceiling=ttl_ceiling, clock=clock)

    async def lookup(self, target: Target) -> list[Candidate]:
        """The candidates of *target*, at least one, by priority; weights are left to whoever uses them.

        A numeric host is one candidate, and nothing is asked. Runs in the asyncio loop of the caller, and in one loop
        at a time. Raises :class:`pjfail.LookupFailed`: temporary where name servers were silent or failed, for good
        where they said that there is no such name or service.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await locate(target, self._resolver, self._client)
        except TimeoutError:
            reason = f"{target}: the name servers did not give all answers within {self._timeout:g} s"
            raise LookupFailed(reason, temporary=True) from None


def _check(name: str, given: Sequence[str], known: Sequence[str]) -> None:
    """ValueError unless *given* is some of *known*, each once."""
    if isinstance(given, str) or not given or len(set(given)) < len(given) or not set(given) <= set(known):
        raise ValueError(f"{name} {', '.join(given)!r}: choose among {', '.join(known)}, each once")
