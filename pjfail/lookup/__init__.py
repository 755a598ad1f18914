"""Lookups: from a target to its candidates.

A lookup is anything with one async method, so an application can bring its own (a database table, Consul)::

    class TableLookup:
        async def lookup(self, target: pjfail.Target) -> list[pjfail.Candidate]:
            rows = await self.table.servers_of(target.host)
            if not rows:
                raise pjfail.UnknownTarget(f"{target.host} is not in the table")
            return [pjfail.Candidate(pjfail.Server(row.address, row.port, "tcp"), target.host, ttl=60) for row in rows]

    pjfail.attach(lookup=pjfail.ChainLookup(TableLookup(), pjfail.DnsLookup()))
"""

from __future__ import annotations

from .chain import ChainLookup
from .dns import DnsLookup
from .pjsip_dns import PjsipDnsLookup
from .protocol import Adaptive, Caching, Lookup, ReadsFiles, ServesStale
from .static import StaticLookup
from .system import SystemLookup

__all__ = [
    "Adaptive",
    "Caching",
    "ChainLookup",
    "DnsLookup",
    "Lookup",
    "PjsipDnsLookup",
    "ReadsFiles",
    "ServesStale",
    "StaticLookup",
    "SystemLookup",
]
