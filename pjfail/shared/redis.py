"""The store of many machines: Redis (or Valkey), by redis-py's asyncio client.

All keys have the prefix ``pjfail:{NAMESPACE}:1:``. ``entries`` is a hash: "SERVER WRITER" to an entry with the time of
its writing by Redis's own clock; ``news`` is the channel on which each entry is published, too; ``lease:SERVER`` names
who probes a server. Every key expires.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ..model import Server
from .board import MAX_ENTRIES, MAX_ORDER_S
from .entries import SCHEMA, Entry, decode, dumps, encode
from .settings import Shared
from .store import StoreFailed

try:
    import redis.asyncio as client
    from redis import exceptions
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
except ImportError as error:
    raise StoreFailed('Redis as shared memory needs redis-py: pip install "pjfail[redis]"') from error

TIMEOUT_S = 2.0
"""For connecting, and for each answer."""


class RedisStore:
    """One connection for commands, one for the channel."""

    strangers = 0

    def __init__(self, settings: Shared) -> None:
        self._url = settings.url
        prefix = f"pjfail:{{{settings.namespace}}}:{SCHEMA}:"
        self._entries, self._news, self._lease = f"{prefix}entries", f"{prefix}news", f"{prefix}lease:"
        self._redis: Any = None
        self._channel: Any = None
        self._store_time = 0.0  # Redis's clock minus ours, which is monotonic
        self._expired: list[str] = []

    async def open(self) -> None:
        try:
            self._redis = client.from_url(
                self._url,
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
                client_name="pjfail",
                max_connections=2,
            )
        except (ValueError, TypeError) as error:
            raise StoreFailed(f"its address is not valid: {error}") from error
        self._channel = self._redis.pubsub(ignore_subscribe_messages=False)
        await _checked(self._channel.subscribe(self._news))
        await _checked(self._channel.get_message(timeout=TIMEOUT_S))  # before anything is read: nothing is missed

    async def read(self) -> list[Entry]:
        if await _checked(self._redis.hlen(self._entries)) > 2 * MAX_ENTRIES:
            raise StoreFailed(f"its key {self._entries} has more entries than a fleet writes; use another namespace")
        pipe = self._redis.pipeline(transaction=False)
        pipe.time()
        pipe.hgetall(self._entries)
        (seconds, micros), rows = await _checked(pipe.execute())
        now = seconds + micros / 1e6
        self._store_time = now - time.monotonic()
        decoded = {field: decode(body, now) for field, body in rows.items()}
        self.strangers = sum(entry is None for entry in decoded.values())
        self._expired = [field for field, entry in decoded.items() if entry is not None and entry.left <= 0]
        return [entry for entry in decoded.values() if entry is not None and entry.left > 0]

    async def write(self, entries: Sequence[Entry]) -> None:
        told = round(time.monotonic() + self._store_time, 3)
        rows = {f"{entry.server} {entry.writer}": dumps({**encode(entry), "t": told}) for entry in entries}
        expired, self._expired = [field for field in self._expired if _text(field) not in rows], []
        pipe = self._redis.pipeline(transaction=True)
        pipe.hset(self._entries, mapping=rows)
        pipe.expire(self._entries, int(MAX_ORDER_S))
        if expired:
            pipe.hdel(self._entries, *expired)
        for entry in entries:
            pipe.publish(self._news, dumps(encode(entry)))
        await _checked(pipe.execute())

    async def lease(self, server: Server, holder: str, seconds: float) -> bool:
        taken = self._redis.set(f"{self._lease}{server}", holder, nx=True, px=int(seconds * 1000))
        return bool(await _checked(taken))

    async def changes(self) -> AsyncIterator[Entry | None]:
        while True:
            message = await _checked(self._channel.get_message(ignore_subscribe_messages=True, timeout=None))
            if message is not None and message["type"] == "message":
                entry = decode(message["data"])
                if entry is not None:
                    yield entry

    async def close(self) -> None:
        for one in (self._channel, self._redis):
            if one is not None:
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        await one.aclose()
                except Exception:
                    pass  # it is gone anyway
        self._channel = self._redis = None


def _text(field: bytes | str) -> str:
    return field.decode("utf-8", "replace") if isinstance(field, bytes) else field


async def _checked(awaitable: Any) -> Any:
    """Awaits an answer of Redis. Raises StoreFailed, in words, for what Redis or the network says instead."""
    try:
        return await awaitable
    except exceptions.AuthenticationError:
        raise StoreFailed("it does not accept the user name or the password") from None
    except exceptions.NoPermissionError as error:
        raise StoreFailed(f"its user may not do this: {error}") from None
    except (exceptions.TimeoutError, TimeoutError):
        raise StoreFailed(f"no answer within {TIMEOUT_S:g} s") from None
    except (exceptions.RedisError, OSError) as error:
        raise StoreFailed(str(error) or type(error).__name__) from None
