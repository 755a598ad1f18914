"""An operator's order to a whole fleet, written into its store by a process that runs no pjsip."""

from __future__ import annotations

import asyncio

from .._validation import is_amount
from ..model import Server
from .board import MAX_ORDER_S, RECOVERY_S
from .entries import FLEET, MAX_HOST, ORDERS, Entry, Kind, printable
from .link import OPERATION_S
from .settings import Shared
from .store import StoreFailed
from .stores import store_of

DEFAULT_ORDER_S = 3600.0


def give(settings: Shared, kind: Kind, server: Server, author: str, seconds: float | None = None) -> float:
    """Tells all processes to do *kind* of *server*, and returns for how many seconds that holds.

    Raises StoreFailed, and ValueError for *seconds* that are not valid.
    """
    if kind not in ORDERS:
        raise ValueError(f"{kind!r} is not for a fleet; use one of {', '.join(ORDERS)}")
    holds = RECOVERY_S if kind == "restore" else DEFAULT_ORDER_S if seconds is None else seconds
    if not (is_amount(holds, most=MAX_ORDER_S) and holds > 0):
        raise ValueError(f"{seconds!r} is not valid; an order to a fleet holds from 1 to {MAX_ORDER_S:g} seconds")
    asyncio.run(_give(settings, Entry(server, FLEET, kind, 0, holds, host=printable(author)[:MAX_HOST])))
    return holds


async def _give(settings: Shared, order: Entry) -> None:
    store = store_of(settings)
    try:
        async with asyncio.timeout(2 * OPERATION_S):
            await store.open()
            before = (
                each.sequence for each in await store.read() if each.server == order.server and each.writer == FLEET
            )
            sequence = max(before, default=0) + 1  # numbered by the store, since operators' clocks differ
            await store.write([_numbered(order, sequence)])
    except TimeoutError:
        raise StoreFailed(f"no answer within {2 * OPERATION_S:g} s") from None
    except OSError as error:
        raise StoreFailed(str(error)) from error
    finally:
        await store.close()


def _numbered(order: Entry, sequence: int) -> Entry:
    return Entry(order.server, order.writer, order.kind, sequence, order.left, host=order.host)
