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

from typing import TYPE_CHECKING

from .protocol import Adaptive, Caching, Lookup, NamesFiles, ReadsFiles, ServesStale

if TYPE_CHECKING:
    from .chain import ChainLookup
    from .dns import DnsLookup
    from .pjsip_dns import PjsipDnsLookup
    from .static import StaticLookup
    from .system import SystemLookup

__all__ = [
    "Adaptive",
    "Caching",
    "ChainLookup",
    "DnsLookup",
    "Lookup",
    "NamesFiles",
    "PjsipDnsLookup",
    "ReadsFiles",
    "ServesStale",
    "StaticLookup",
    "SystemLookup",
]


if not TYPE_CHECKING:  # type checkers shall know of no other names than these

    def __getattr__(name: str) -> object:
        # Imported when asked for: each process needs one or two of them.
        if name == "ChainLookup":
            from .chain import ChainLookup as found
        elif name == "DnsLookup":
            from .dns import DnsLookup as found
        elif name == "PjsipDnsLookup":
            from .pjsip_dns import PjsipDnsLookup as found
        elif name == "StaticLookup":
            from .static import StaticLookup as found
        elif name == "SystemLookup":
            from .system import SystemLookup as found
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
