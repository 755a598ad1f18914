"""Lookups: from a target to its candidates.

A lookup is anything with one async method, so an application can bring its own (a database table, Consul)::

    class TableLookup:
        async def lookup(self, target: pjfail.Target) -> list[pjfail.Candidate]:
            rows = await self.table.servers_of(target.host)
            if not rows:
                raise pjfail.UnknownTarget(f"{target.host} is not in the table")
            return [pjfail.Candidate(pjfail.Server(row.address, row.port, "tcp"), target.host, ttl=60) for row in rows]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ..model import Candidate, Target
from .dns import DnsLookup
from .static import StaticLookup
from .system import SystemLookup

__all__ = ["DnsLookup", "Lookup", "StaticLookup", "SystemLookup"]


@runtime_checkable
class Lookup(Protocol):
    """Finds the candidates of a target."""

    async def lookup(self, target: Target) -> Sequence[Candidate]:
        """The candidates of *target*, at least one. Runs on pjfail's worker, in its asyncio loop; must not block it.

        Raises :class:`pjfail.LookupFailed`; :class:`pjfail.UnknownTarget` says that another lookup may know more.
        Anything else it raises is logged, and the system's resolver is asked instead.
        """
        ...
