"""Probes: an OPTIONS that asks a server whether it is alive.

A probe is one request to exactly one server. The C core sees its answer as it sees every answer, and makes an outcome
of it. :class:`Prober` owns the probes under way. Worker only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from ._validation import is_amount
from .errors import PjfailError, RequestTimeout
from .model import Outcome, OutcomeKind, Server
from .request import Requests

METHOD = "OPTIONS (probe)"
# Answers that do not show that the server works (RFC 3261 section 21).
REQUEST_TIMEOUT = 408
TOLD_BY_THE_CORE = frozenset({500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Probe:
    """When pjfail asks servers whether they are alive. Servers in doubt (suspect, half-open) are asked every second.
    Times are in seconds.

    ``interval``: asks a server in use that has been quiet for this long; None: never. ``accounts``: the same for a
    server that a followed or pinned account is on. Both vary by the share ``jitter``, up and down. A target that no
    request went to for ``idle`` seconds is idle, and its servers are not asked. ``timeout``: how long pjfail waits for
    the answer; the default allows three sends over UDP, so that one lost packet does not take a server down. Raises
    ValueError for an invalid time.
    """

    interval: float | None = None
    accounts: float | None = 4.0
    jitter: float = 0.2
    idle: float = 300.0
    timeout: float = 2.2

    def __post_init__(self) -> None:
        times = [self.idle, self.timeout, *(each for each in (self.interval, self.accounts) if each is not None)]
        if not all(is_amount(each) and each > 0 for each in times) or not (is_amount(self.jitter) and self.jitter < 1):
            raise ValueError(f"{self}: its times are positive numbers of seconds, its jitter is a share below 1")


@dataclass(frozen=True, slots=True)
class Watched:
    """A server to probe when it is quiet: the host name for the request, and after how many seconds."""

    host: str
    interval: float


async def probe(requests: Requests, server: Server, host: str, timeout: float) -> Outcome | None:
    """Asks *server* with an OPTIONS for *host*, and returns the outcome.

    Returns None for what the C core reports itself (failed connections too), and if the request could not be sent.
    """
    parameter = "" if server.transport == "udp" else f";transport={server.transport}"
    where = f"[{host}]" if ":" in host else host
    began = time.monotonic()

    def seen(what: OutcomeKind, code: int = 0) -> Outcome:
        since = None if what is OutcomeKind.ANSWERED else began
        return Outcome(server, what, time.monotonic(), method=METHOD, code=code, began=since, probe=True)

    try:
        future = requests.send("OPTIONS", f"sip:{where}{parameter}", server)
        try:
            response = await asyncio.wait_for(asyncio.wrap_future(future), timeout)
        finally:
            requests.forget(future)
    except (TimeoutError, RequestTimeout):
        return seen(OutcomeKind.SILENT)
    except PjfailError:
        return None  # detached, no connection, or a host that makes no URI
    if response.code in TOLD_BY_THE_CORE:
        return None
    return seen(OutcomeKind.SILENT if response.code == REQUEST_TIMEOUT else OutcomeKind.ANSWERED, response.code)


class Prober:
    """Sends probes, one at a time to a server. *done* gets the server, and the outcome or None."""

    def __init__(
        self,
        settings: Probe,
        requests: Requests,
        done: Callable[[Server, Outcome | None], object],
        random: Random,
    ) -> None:
        self.settings = settings
        self._requests = requests
        self._done = done
        self._random = random
        self._under_way: dict[Server, asyncio.Task[None]] = {}
        self._next: dict[Server, float] = {}

    def forget(self) -> None:
        """Forgets the probes under way: their loop is gone."""
        self._under_way.clear()

    def start(self, server: Server, host: str) -> None:
        """Probes *server*, known as *host*, unless a probe is under way."""
        if server not in self._under_way:
            task = asyncio.get_running_loop().create_task(self._ask(server, host))
            self._under_way[server] = task

    def is_asking(self, server: Server) -> bool:
        return server in self._under_way

    async def _ask(self, server: Server, host: str) -> None:
        try:
            outcome = await probe(self._requests, server, host, self.settings.timeout)
        finally:
            self._under_way.pop(server, None)
        self._done(server, outcome)

    def watch(
        self, servers: Mapping[Server, Watched], last_answer: Callable[[Server], float | None], now: float
    ) -> None:
        """Probes those of *servers* that have been quiet for too long; call it often."""
        self._next = {server: due for server, due in self._next.items() if server in servers}
        jitter = self.settings.jitter
        for server, watched in servers.items():
            wait = watched.interval * self._random.uniform(1 - jitter, 1 + jitter)
            due = min(self._next.setdefault(server, now + wait), now + wait)
            quiet_since = last_answer(server) or 0.0
            if now >= max(due, quiet_since + watched.interval * (1 - jitter)):
                self._next[server] = now + wait
                self.start(server, watched.host)
