"""Active OPTIONS: is this server alive?

A probe is one request to exactly one server; an answer is an outcome like any other's, which the C core has seen.
:class:`Prober` owns the probes under way. All of it belongs to the worker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from random import Random

from .errors import PjfailError, RequestTimeout
from .model import Outcome, Seen, Server
from .request import Requests

# How long a server has to answer: three sends over UDP, so that one lost packet convicts nobody (seconds).
TIMEOUT = 2.2
METHOD = "OPTIONS (probe)"
# Answers that are no sign of life, or less than that (RFC 3261 section 21).
REQUEST_TIMEOUT = 408
TOLD_BY_THE_CORE = frozenset({500, 502, 503, 504})
# A server that accounts live on is asked when it has said nothing for so long, give or take a share (seconds).
WATCH = 4.0
WATCH_JITTER = 0.2


async def probe(requests: Requests, server: Server, host: str) -> Outcome | None:
    """Asks *server* with an OPTIONS for *host*: what was seen of it.

    None for what the C core tells by itself, failed connections too, and where nothing could be asked.
    """
    parameter = "" if server.transport == "udp" else f";transport={server.transport}"
    where = f"[{host}]" if ":" in host else host
    began = time.monotonic()

    def seen(what: Seen, code: int = 0) -> Outcome:
        since = None if what is Seen.ANSWERED else began
        return Outcome(server, what, time.monotonic(), method=METHOD, code=code, began=since, probe=True)

    try:
        future = requests.send("OPTIONS", f"sip:{where}{parameter}", server)
        try:
            response = await asyncio.wait_for(asyncio.wrap_future(future), TIMEOUT)
        finally:
            requests.forget(future)
    except (TimeoutError, RequestTimeout):
        return seen(Seen.SILENT)
    except PjfailError:
        return None  # detached, no connection, or a host that makes no URI
    if response.code in TOLD_BY_THE_CORE:
        return None
    return seen(Seen.SILENT if response.code == REQUEST_TIMEOUT else Seen.ANSWERED, response.code)


class Prober:
    """Sends probes, one at a time to a server; *done* is told the server, and what was seen of it if anything."""

    def __init__(self, requests: Requests, done: Callable[[Server, Outcome | None], object], random: Random) -> None:
        self._requests = requests
        self._done = done
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

    def is_asking(self, server: Server) -> bool:
        return server in self._under_way

    async def _ask(self, server: Server, host: str) -> None:
        try:
            outcome = await probe(self._requests, server, host)
        finally:
            self._under_way.pop(server, None)
        self._done(server, outcome)

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
