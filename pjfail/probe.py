"""Active OPTIONS: is this server alive?

A probe is one request to exactly one server; an answer is an outcome like any other's, which the C core has seen.
:class:`Prober` owns the probes under way. All of it belongs to the worker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from random import Random

from .errors import PjfailError, RequestFailed, RequestTimeout
from .model import Outcome, Seen, Server
from .request import Requests

# How long a server has to answer: three sends over UDP, so that one lost packet convicts nobody (seconds).
TIMEOUT = 2.2
METHOD = "OPTIONS (probe)"
# A server that accounts live on is asked when it has said nothing for so long, give or take a share (seconds).
WATCH = 4.0
WATCH_JITTER = 0.2


async def probe(requests: Requests, server: Server, host: str) -> Outcome | None:
    """Asks *server* with an OPTIONS for *host*.

    None when it answers, whatever it answers, or fails in a way that the C core has seen; else what was seen of it.
    """
    parameter = "" if server.transport == "udp" else f";transport={server.transport}"
    where = f"[{host}]" if ":" in host else host
    try:
        future = requests.send("OPTIONS", f"sip:{where}{parameter}", server)
    except RequestFailed as error:
        return Outcome(server, Seen.REFUSED, time.monotonic(), method=METHOD, detail=str(error))
    except PjfailError:
        return None  # detached, or a host that makes no URI: nothing is known of the server
    try:
        await asyncio.wait_for(asyncio.wrap_future(future), TIMEOUT)
    except (TimeoutError, RequestTimeout):
        return Outcome(server, Seen.SILENT, time.monotonic(), method=METHOD)
    except PjfailError:
        return None
    finally:
        requests.forget(future)
    return None


class Prober:
    """Sends probes, one at a time to a server, and reports the bad outcomes to *judge*."""

    def __init__(self, requests: Requests, judge: Callable[[Outcome], object], random: Random) -> None:
        self._requests = requests
        self._judge = judge
        self._random = random
        self._under_way: dict[Server, asyncio.Task[None]] = {}
        self._next: dict[Server, float] = {}

    def forget(self) -> None:
        """The loop that the probes ran in is gone."""
        self._under_way.clear()

    def start(self, server: Server, host: str) -> None:
        """Asks *server*, known as *host*, unless it is being asked."""
        if server not in self._under_way:
            task = asyncio.get_running_loop().create_task(self._ask(server, host))
            self._under_way[server] = task

    async def _ask(self, server: Server, host: str) -> None:
        try:
            outcome = await probe(self._requests, server, host)
        finally:
            self._under_way.pop(server, None)
        if outcome is not None:
            self._judge(outcome)

    def watch(self, servers: Mapping[Server, str], last_answer: Callable[[Server], float | None], now: float) -> None:
        """Asks those of *servers*, each with its host name, that have said nothing for a while; call it often."""
        self._next = {server: due for server, due in self._next.items() if server in servers}
        for server, host in servers.items():
            wait = WATCH * self._random.uniform(1 - WATCH_JITTER, 1 + WATCH_JITTER)
            due = self._next.setdefault(server, now + wait)
            quiet_since = last_answer(server) or 0.0
            if now >= max(due, quiet_since + WATCH * (1 - WATCH_JITTER)):
                self._next[server] = now + wait
                self.start(server, host)
