"""What the observer takes of each message, within pjsip's own handling of it."""

from __future__ import annotations

from typing import Any

REQUESTS, WINDOW = 20_000, 48


def cost(lib: Any, ffi: Any, uri: str) -> dict[str, float]:
    """p50 and p99 (microseconds) of a request and of a response to *uri*, all in an attached program."""
    sending, receiving = ffi.new("double[]", REQUESTS), ffi.new("double[]", REQUESTS)
    clock = min(lib.bench_clock(1_000) for _ in range(100))
    assert lib.bench_time_observer(sending, receiving, REQUESTS), "pjfail is not attached"
    assert lib.bench_requests(uri.encode(), REQUESTS, WINDOW) > 0, "a request was not answered 200"
    timed = lib.bench_observer_timed()
    assert timed >= REQUESTS, f"{timed} of {REQUESTS} messages came by the observer"
    figures = {}
    for name, seconds in (("sending", sending), ("receiving", receiving)):
        ordered = sorted(max(0.0, each - clock) * 1e6 for each in seconds)
        figures[f"{name}_p50_us"] = ordered[REQUESTS // 2]
        figures[f"{name}_p99_us"] = ordered[REQUESTS * 99 // 100]
    return figures
