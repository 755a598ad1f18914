"""Probes: an OPTIONS that asks a server whether it is alive.

A probe is one request to exactly one server. The C core sees its answer as it sees every answer, and makes an outcome
of it. :class:`Prober` owns the probes under way. Worker only.
"""

from __future__ import annotations

import asyncio
import enum
import math
import time
from collections.abc import Callable, Mapping
from random import Random

from ._validation import is_amount
from ._values import dataclass
from .errors import PjfailError, RequestTimeout
from .model import Outcome, OutcomeKind, Server
from .request import Requests

PROBE = " (probe)"  # what follows the method in an outcome of a probe
# So long after another answer an OPTIONS without one is not the work of a server that has died since (seconds).
NEARBY = 10.0
# Answers that do not show that the server works (RFC 3261 section 21).
REQUEST_TIMEOUT = 408
TOLD_BY_THE_CORE = frozenset({500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Probe:
    """When servers are asked whether they are alive. Times are in seconds.

    Each second, whatever is set here, pjfail asks the servers in doubt (suspect, half-open), and those that are down
    and that followed and pinned accounts would go back to.

    ``interval``: a server in use that has said nothing for so long is asked; None: it is not. ``accounts``: the same
    for one that a pinned account lives on; for followed accounts :class:`pjfail.Follow` says so. Both give or take the
    share ``jitter``. A target that no request went to for ``idle`` seconds is idle: ``interval`` asks none of its
    servers.
    ``timeout``: how long a server has to answer; the default allows three sends over UDP, so that one lost packet takes
    no server down. A server that ignores OPTIONS and answers other requests is not taken down for that, and not asked
    by OPTIONS any more; a log line says so once. Raises ValueError for what is not a valid time.
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


class OptionsVerdict(enum.Enum):
    """What an OPTIONS that a server left unanswered, or answered with 408, tells of it."""

    FAILED = enum.auto()  # as any other request that fails
    UNPROVEN = enum.auto()  # it has answered other requests, and no OPTIONS ever: another request must tell
    FOUND_OUT = enum.auto()  # it ignores OPTIONS, as is known from now on
    IGNORED = enum.auto()  # as is known


class IgnoredOptions:
    """Finds out which servers ignore OPTIONS, or answer it with 408, and answer other requests meanwhile.

    Such a server has left an OPTIONS unanswered, has answered another request since, and leaves another OPTIONS
    unanswered within ``NEARBY`` seconds; or it answers the other request while the OPTIONS waits. Pure, but for what it
    keeps: no more servers than it is told of and not told to forget.
    """

    def __init__(self) -> None:
        self._ignoring: set[Server] = set()
        self._unanswered: dict[Server, float] = {}

    def __contains__(self, server: Server) -> bool:
        return server in self._ignoring

    def note(self, server: Server, began: float, options: float | None, other: float | None) -> OptionsVerdict:
        """After an OPTIONS sent at *began* that has failed.

        *options* and *other* tell when the server last answered an OPTIONS, and another request.
        """
        if server in self._ignoring:
            return OptionsVerdict.IGNORED
        first = self._unanswered.get(server)
        if first is None or (options is not None and options > first):
            self._unanswered[server] = first = began
        if other is not None and other > first and began - other < NEARBY:
            self._ignoring.add(server)
            return OptionsVerdict.FOUND_OUT
        if options is not None or other is None:
            return OptionsVerdict.FAILED
        return OptionsVerdict.UNPROVEN

    def is_suspect(self, server: Server) -> bool:
        """Whether *server* has left an OPTIONS unanswered, and is not known to ignore them."""
        return server in self._unanswered and server not in self._ignoring

    def forget(self, server: Server) -> None:
        self._ignoring.discard(server)
        self._unanswered.pop(server, None)


async def probe(requests: Requests, server: Server, host: str, timeout: float, aor: str = "") -> Outcome | None:
    """Asks *server* with an OPTIONS for *host*, and returns the outcome.

    With *aor* that is a REGISTER which asks for the bindings of that account, and changes none (RFC 3261 10.2.3); that
    it may have no credentials is an answer, too.

    Returns None for what the C core reports itself (failed connections too), and if the request could not be sent.
    """
    parameter = "" if server.transport == "udp" else f";transport={server.transport}"
    where = f"[{host}]" if ":" in host else host
    method, headers = ("REGISTER", [(name, f"<sip:{aor}>") for name in ("From", "To")]) if aor else ("OPTIONS", [])
    began = time.monotonic()

    def seen(what: OutcomeKind, code: int = 0) -> Outcome:
        since = None if what is OutcomeKind.ANSWERED else began
        return Outcome(server, what, time.monotonic(), method=method + PROBE, code=code, began=since, probe=True)

    try:
        future = requests.send(method, f"sip:{where}{parameter}", server, headers)
        try:
            response = await requests.response(future, timeout)
        finally:
            requests.forget(future)
    except RequestTimeout:
        return seen(OutcomeKind.SILENT)
    except (PjfailError, ValueError):
        return None  # detached, no connection, or a host or an account that makes no URI
    if response.code in TOLD_BY_THE_CORE:
        return None
    return seen(OutcomeKind.SILENT if response.code == REQUEST_TIMEOUT else OutcomeKind.ANSWERED, response.code)


class Prober:
    """Sends probes, one of each method at a time to a server; *done* is told the server, and what was seen of it."""

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
        self._under_way: dict[tuple[Server, str], asyncio.Task[None]] = {}
        self._next: dict[Server, float] = {}

    def forget(self) -> None:
        """Forgets the probes under way: their loop is gone."""
        self._under_way.clear()

    def start(self, server: Server, host: str, aor: str = "") -> None:
        """Asks *server*, known as *host*, as :func:`probe` does, unless it is being asked so."""
        key = server, "REGISTER" if aor else "OPTIONS"
        if key not in self._under_way:
            self._under_way[key] = asyncio.get_running_loop().create_task(self._ask(key, host, aor))

    def is_asking(self, server: Server, method: str) -> bool:
        return (server, method) in self._under_way

    async def _ask(self, key: tuple[Server, str], host: str, aor: str) -> None:
        server, _ = key
        try:
            outcome = await probe(self._requests, server, host, self.settings.timeout, aor)
        finally:
            self._under_way.pop(key, None)
        self._done(server, outcome)

    def watch(
        self, servers: Mapping[Server, Watched], last_answer: Callable[[Server], float | None], now: float
    ) -> float:
        """Probes those of *servers* that have been quiet for too long, and returns when to call it again."""
        jitter = self.settings.jitter
        before, self._next = self._next, {}
        for server, watched in servers.items():
            wait = watched.interval * self._random.uniform(1 - jitter, 1 + jitter)
            due = min(before.get(server, now + wait), now + watched.interval * (1 + jitter))
            due = max(due, (last_answer(server) or 0.0) + watched.interval * (1 - jitter))
            if due <= now:
                self.start(server, watched.host)
                due = now + wait
            self._next[server] = due
        return min(self._next.values(), default=math.inf)
