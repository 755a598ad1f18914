"""What is known of each server: one table, one writer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from .model import Health, Server, State

MAX_SERVERS = 20_000
"""Of more servers than these the health of some is forgotten; as many as there are targets (targets.MOST_TARGETS)."""


def at(health: Health, now: float) -> Health:
    """*health* as it is at *now*: a hold-down that has ended leaves the server half-open; one that has been well for
    long enough has its tier back.
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
    """One method's hold-down ends in being up again: a probe, which is an OPTIONS, could tell nothing of it."""
    ended = {
        method: replace(own, state=State.UP, since=own.until, until=None, held=False)
        for method, own in health.methods.items()
        if own.until is not None and own.until <= now
    }
    return replace(health, methods=MappingProxyType({**health.methods, **ended})) if ended else health


class _AsOf(Mapping[Server, Health]):
    """A table as it is at a time; each health is worked out when it is asked for, for few of many are."""

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
    """The health of every server that something is known of, of *most* servers at the most.

    With one more, that server is forgotten which was put there, or let go of by plans (:meth:`release`), longest ago,
    among those that no plan has; where plans have all of them (:meth:`hold`), among all. The worker is its only writer;
    :meth:`snapshot` may be called from any thread.
    """

    def __init__(self, most: int = MAX_SERVERS) -> None:
        self._most = most
        self._table: dict[Server, Health] = {}
        self._in_plans: set[Server] = set()
        # Those of the table that plans have, and the others: the one put there longest ago comes first.
        self._planned: dict[Server, None] = {}
        self._others: dict[Server, None] = {}

    def get(self, server: Server, now: float) -> Health:
        """The health of *server* at *now*; a server never heard of is up."""
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
        """Worker only. Forgets what is known of *server*."""
        self._table.pop(server, None)
        self._planned.pop(server, None)
        self._others.pop(server, None)

    def hold(self, server: Server) -> None:
        """Worker only. There is a plan that has *server* from now on."""
        self._in_plans.add(server)
        if server in self._others:
            del self._others[server]
            self._planned[server] = None

    def release(self, server: Server) -> None:
        """Worker only. No plan has *server* any more: what is held against it is kept, while there is room."""
        self._in_plans.discard(server)
        if server in self._planned:
            del self._planned[server]
            self._others[server] = None

    def snapshot(self, now: float) -> Mapping[Server, Health]:
        """What is known at *now*, as one value that never changes."""
        return _AsOf(self._table.copy(), now)
