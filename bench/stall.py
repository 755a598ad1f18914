"""pjfail's worker held up for ten seconds by a listener, with traffic running."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable

import pjfail
from pjfail.events import Event, ServerDown

SECONDS = 10.0
NOWHERE = "udp:127.0.90.250:5060"


def measure(attach: Callable[..., pjfail.Failover], requests: Callable[[], float]) -> dict[str, float]:
    """Requests a second before and during the stall, and how many were sent during it; all were answered 200.

    *requests* sends a fixed number of them, and gives the rate; it is called again and again.
    """
    held, freed = threading.Event(), threading.Event()

    def hold_up(event: Event) -> None:
        if isinstance(event, ServerDown):
            held.set()
            time.sleep(SECONDS)
            freed.set()

    with attach(hold_up) as failover:
        well = _rates(requests, SECONDS / 2)
        before = failover.counters()
        # It waits for the worker, which is about to be held up.
        threading.Thread(target=_mark_down, args=(failover,), daemon=True).start()
        assert held.wait(5), "the listener was not told"
        stalled = []
        while not freed.is_set():
            stalled.append(requests())
        after = failover.counters()
        well += _rates(requests, SECONDS / 2)  # on both sides, for a machine that others use too
        assert after.failed == before.failed, "a question was not answered"
        return {
            "seconds": SECONDS,
            "well_per_second": statistics.median(well),
            "stalled_per_second": statistics.median(stalled),
            "requests": float(after.resolved - before.resolved),
        }


def _rates(requests: Callable[[], float], seconds: float) -> list[float]:
    until = time.monotonic() + seconds
    rates = [requests()]
    while time.monotonic() < until:
        rates.append(requests())
    return rates


def _mark_down(failover: pjfail.Failover) -> None:
    try:
        failover.mark_down(NOWHERE, 60)
    except TimeoutError:  # said by the listener's sleep
        return
