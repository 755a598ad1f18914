"""What is known of each server: one table, one writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from .model import Health, Server, State


def at(health: Health, now: float) -> Health:
    """*health* as it is at *now*: a hold-down that has ended leaves the server half-open."""
    if health.state is State.DOWN and health.until is not None and health.until <= now:
        return replace(health, state=State.HALF_OPEN, since=health.until, until=None, held=False)
    return health


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
        """What is known at *now*, as one immutable value."""
        return MappingProxyType({server: at(health, now) for server, health in list(self._table.items())})
