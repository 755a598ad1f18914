"""What a store owes: it keeps entries for all processes, says when they change, and lends leases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from ..errors import PjfailError
from ..model import Server
from .entries import Entry


class StoreFailed(PjfailError):
    """The store cannot be used now; the message says why, for the log."""


class Store(Protocol):
    """The methods are coroutines of one task at a time, but for ``changes()``, which goes on beside the others.

    All may raise StoreFailed or OSError; the caller then closes the store, and opens it again later.
    """

    strangers: int
    """Entries that this pjfail cannot read, as of the last reading."""

    async def open(self) -> None: ...

    async def read(self) -> list[Entry]:
        """All entries that hold."""

    async def write(self, entries: Sequence[Entry]) -> None: ...

    async def lease(self, server: Server, holder: str, seconds: float) -> bool:
        """Whether *holder* alone may probe *server* for so long."""

    def changes(self) -> AsyncIterator[Entry | None]:
        """Each entry as another process writes it; None: something has changed, read anew."""

    async def close(self) -> None:
        """Never raises."""
