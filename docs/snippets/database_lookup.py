"""The servers of a domain, from a table of a database."""

import asyncio
import sqlite3
from contextlib import closing

import pjfail
from pjfail.model import Transport


class DatabaseLookup:
    """Asks the table ``servers (domain, address, port, transport, priority, weight)``."""

    def __init__(self, path: str) -> None:
        self._path = path

    def _rows(self, domain: str) -> list[tuple[str, int, Transport, int, int]]:
        query = "SELECT address, port, transport, priority, weight FROM servers WHERE domain = ?"
        with closing(sqlite3.connect(self._path)) as database:
            return database.execute(query, (domain,)).fetchall()

    async def lookup(self, target: pjfail.Target) -> list[pjfail.Candidate]:
        rows = await asyncio.to_thread(self._rows, target.host)
        if not rows:
            raise pjfail.UnknownTarget(f"{target.host} is not in the table")
        return [
            pjfail.Candidate(pjfail.Server(address, port, transport), address, priority, weight, ttl=30)
            for address, port, transport, priority, weight in rows
            if target.allows(transport)
        ]
