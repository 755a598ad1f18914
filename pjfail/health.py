"""What is known of each server: one table, one writer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from .model import Health, Server, State


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
    """The health of every server that something is known of.

    The worker is its only writer; :meth:`snapshot` may be called from any thread.
    """

    def __init__(self) -> None:
        self._table: dict[Server, Health] = {}

    def get(self, server: Server, now: float) -> Health:
        """The health of *server* at *now*; a server never heard of is up."""
        return at(self._table.get(server, Health()), now)

    def put(self, server: Server, health: Health) -> None:
        """Worker only."""
        self._table[server] = health

    def drop(self, server: Server) -> None:
        """Worker only. Forgets a server that no plan has any more."""
        self._table.pop(server, None)

    def snapshot(self, now: float) -> Mapping[Server, Health]:
        """What is known at *now*, as one value that never changes."""
        return _AsOf(self._table.copy(), now)
