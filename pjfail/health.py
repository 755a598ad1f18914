"""The table of what is known about each server. Only the worker writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from .model import Health, Server, State

MAX_SERVERS = 20_000
"""The most servers whose health is kept; as many as there may be targets (``targets.MOST_TARGETS``)."""


def at(health: Health, now: float) -> Health:
    """Returns *health* as it is at *now*: after its hold-down a server is half-open; after ``returns_at`` it has its
    tier back.
    """
    if health.methods:
        health = _with_methods_at(health, now)
    if health.state is State.DOWN and health.until is not None and health.until <= now:
        return replace(
            health,
            state=State.HALF_OPEN,
            since=health.until,
            until=None,
            held=False,
            generation=health.generation + 1,
        )
    if health.returning and health.returns_at is not None and health.returns_at <= now:
        return replace(health, returning=False)
    return health


def _with_methods_at(health: Health, now: float) -> Health:
    """Returns *health* with the methods' hold-downs up to *now* ended: a method is then up, since a probe (OPTIONS)
    says nothing of it.
    """
    ended = {
        method: replace(own, state=State.UP, since=own.until, until=None, held=False)
        for method, own in health.methods.items()
        if own.until is not None and own.until <= now
    }
    return replace(health, methods=MappingProxyType({**health.methods, **ended})) if ended else health


class _AsOf(Mapping[Server, Health]):
    """A table as it is at a time. It works each health out when it is read, since few of many are."""

    def __init__(self, table: Mapping[Server, Health], now: float) -> None:
        self._table = table
        self._now = now

    def __getitem__(self, server: Server) -> Health:
        return at(self._table[server], self._now)

    def __iter__(self) -> Iterator[Server]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return repr(dict(self))


class HealthTable:
    """The health of every server that something is known about, of at most *most* servers.

    One more server pushes out, of the servers that no plan has, the one that was put there or released
    (:meth:`release`) longest ago; if plans have all of them (:meth:`hold`), the one put there longest ago. Only the
    worker writes; any thread may call :meth:`snapshot`.
    """

    def __init__(self, most: int = MAX_SERVERS) -> None:
        self._most = most
        self._table: dict[Server, Health] = {}
        self._in_plans: set[Server] = set()
        # The table's servers that plans have, and the others; in each, the one put there longest ago comes first.
        self._planned: dict[Server, None] = {}
        self._others: dict[Server, None] = {}

    def get(self, server: Server, now: float) -> Health:
        """Returns the health of *server* at *now*; a server that nothing is known about is up."""
        return at(self._table.get(server, Health()), now)

    def put(self, server: Server, health: Health) -> None:
        """Worker only."""
        self._table[server] = health
        order = self._planned if server in self._in_plans else self._others
        order.pop(server, None)
        order[server] = None
        if len(self._table) > self._most:
            self.drop(next(iter(self._others or self._planned)))

    def drop(self, server: Server) -> None:
        """Worker only. Forgets the health of *server*."""
        self._table.pop(server, None)
        self._planned.pop(server, None)
        self._others.pop(server, None)

    def hold(self, server: Server) -> None:
        """Worker only. Called when a plan has *server*."""
        self._in_plans.add(server)
        if server in self._others:
            del self._others[server]
            self._planned[server] = None

    def release(self, server: Server) -> None:
        """Worker only. Called when no plan has *server* any more; its health is kept while there is room."""
        self._in_plans.discard(server)
        if server in self._planned:
            del self._planned[server]
            self._others[server] = None

    def snapshot(self, now: float) -> Mapping[Server, Health]:
        """Returns what is known at *now*, as a value that never changes."""
        return _AsOf(self._table.copy(), now)
