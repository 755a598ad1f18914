"""The store that a place means."""

from __future__ import annotations

from .settings import Shared
from .store import Store


def store_of(settings: Shared) -> Store:
    """The store for *settings*. Raises StoreFailed where redis-py is missing."""
    if settings.is_redis:
        from .redis import RedisStore

        return RedisStore(settings)
    from .sqlite import SqliteStore

    return SqliteStore(settings)
