"""Changes of this machine's network, as far as they matter to the servers that accounts are on.

:func:`compare`, :func:`due` and :func:`suspended` are pure; :class:`NetworkWatch` listens to the kernel.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import logging
import math
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from typing import NamedTuple

from ._values import dataclass
from .model import Outcome, OutcomeKind, Server

log = logging.getLogger("pjfail")

# The kernel tells of one change in several messages: seconds of quiet that are waited for, and how long at the most.
QUIET = 0.25
MAX_WAIT = 2.0
# Seconds from one change that was acted on to the next look: each has every account register, and addresses flap.
PAUSE = 2.0
# For so long after a change was acted on (seconds), what fails is put down to the change: pjsip closes connections.
SETTLING = 1.0
# Seconds by which CLOCK_BOOTTIME gains on CLOCK_MONOTONIC when the machine was suspended.
SUSPENDED = 1.0

# A source that differs from every other.
UNKNOWN = ""

# linux/rtnetlink.h: RTMGRP_IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE
_GROUPS = 0x10 | 0x40 | 0x100 | 0x400
_NETLINK_ROUTE = 0

# What a lost network looks like. Every other outcome is something that the server sent.
_UNHEARD = (OutcomeKind.SILENT, OutcomeKind.REFUSED, OutcomeKind.DISCONNECTED)


class Change(enum.Enum):
    """What has become of the network."""

    NONE = "nothing that matters"
    LOST = "no route to any server"
    BACK = "the same addresses as before it was lost"
    CUT = "no route to a server, but to others"
    MOVED = "another address, or a resumed machine"


class Clocks(NamedTuple):
    """Two clocks that differ by how long the machine was suspended."""

    monotonic: float
    boottime: float

    @classmethod
    def now(cls) -> Clocks:
        return cls(time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))


def suspended(before: Clocks, after: Clocks) -> bool:
    """Returns whether the machine was suspended between the two readings. Pure."""
    return (after.boottime - before.boottime) - (after.monotonic - before.monotonic) > SUSPENDED


def due(first: float, last: float, acted: float) -> float:
    """Returns when to look after changes, told from *first* to *last*; *acted*: when one was acted on. Pure."""
    return max(min(last + QUIET, first + MAX_WAIT), acted + PAUSE)


@dataclass(frozen=True, slots=True)
class Network:
    """The network at one moment: the address that this machine sends from, by that of the server.

    ``since`` is when something changed that was not acted on, None while all is well. ``lost``: no server could be
    reached. ``resumed``: the machine was suspended since the last change that was acted on.
    """

    sources: Mapping[str, str] = field(default_factory=dict)
    since: float | None = None
    lost: bool = False
    resumed: bool = False


def compare(network: Network, found: Mapping[str, str | None], elsewhere: bool) -> tuple[Network, Change]:
    """Returns the network after a look that *found* these sources (None: no route), and what has changed. Pure.

    *elsewhere*: there is a route to another server that accounts may go to. A server that was not known before has no
    address to differ from.
    """
    if not found:
        return Network(), Change.NONE
    reached = {server: source for server, source in found.items() if source is not None}
    if not reached and not elsewhere:
        return replace(network, lost=True), Change.NONE if network.lost else Change.LOST
    moved = any(network.sources.get(server, source) != source for server, source in reached.items())
    if moved or network.resumed:
        return Network(reached), Change.MOVED
    if any(server in network.sources for server in found.keys() - reached.keys()):
        return Network(reached), Change.CUT
    return Network(reached), Change.BACK if network.lost else Change.NONE


def source_towards(server: str) -> str | None:
    """Returns the address that this machine sends from to the address *server*; None without a route. Sends nothing."""
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((server, 9))
        except OSError:
            return None
        source: str = asking.getsockname()[0]
        return source


class NetworkWatch:
    """Looks after changes of addresses and routes, and of the machine's sleep. Worker only.

    *stirred* is called once the kernel's news have ended; then *changed* with what that means to *servers*, the
    addresses that matter, and since when. *others* are those of servers that accounts may go to. Where the kernel tells
    nothing (a container may forbid that), only sleep is
    noticed.
    """

    def __init__(
        self,
        servers: Callable[[], Iterable[str]],
        others: Callable[[], Iterable[str]],
        stirred: Callable[[], object],
        changed: Callable[[Change, float], object],
    ) -> None:
        self._servers = servers
        self._others = others
        self._stirred = stirred
        self._changed = changed
        self._network = Network()
        self._gap = (math.inf, -math.inf)
        self._acted = -math.inf
        self._clocks = Clocks.now()
        self._first: float | None = None
        self._news: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listens from now on, in *loop*, until :meth:`end`."""
        self._loop = loop
        self._clocks = Clocks.now()
        try:
            self._news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
            self._news.setblocking(False)
            self._news.bind((0, _GROUPS))
        except OSError as error:
            log.info("changes of this machine's addresses are not noticed: %s", error)
        else:
            loop.add_reader(self._news, self._read)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._news is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._news)
            self._news.close()
        self._news = self._timer = self._loop = self._first = None

    def remember(self, server: Server) -> None:
        """Notes the source towards *server*, which an account is on from now on.

        While there is news that has not been looked at, nobody knows from which address the account has registered.
        """
        if server.address not in self._network.sources:
            self._read()
            source = source_towards(server.address) if self._network.since is None else UNKNOWN
            if source is not None:
                sources = {**self._network.sources, server.address: source}
                self._network = replace(self._network, sources=sources)

    def tick(self, clocks: Clocks) -> None:
        """Looks at the clocks; call it every few seconds."""
        if suspended(self._clocks, clocks):
            log.info("this machine was suspended")
            self._network = replace(self._network, resumed=True)
            self._stir(self._clocks.monotonic, clocks.monotonic)
        self._clocks = clocks

    def excuses(self, outcome: Outcome) -> bool:
        """Returns whether *outcome* tells of the network, not of its server."""
        began = outcome.at if outcome.began is None else outcome.began
        return outcome.seen in _UNHEARD and self._gap[0] <= outcome.at and began < self._gap[1]

    def _read(self) -> None:
        """Takes what the kernel has told, if anything."""
        told = False
        while self._news is not None:
            try:
                told = bool(self._news.recv(65536)) or told
            except BlockingIOError:
                break
            except OSError as error:
                told = True
                if error.errno != errno.ENOBUFS:  # which says that more has changed than there was room for
                    break
        if told:
            now = time.monotonic()
            self._stir(now, now)

    def _stir(self, since: float, now: float) -> None:
        """Has the network looked at soon; something may have changed at *since*."""
        self._first = now if self._first is None else self._first
        if self._network.since is None:
            self._network = replace(self._network, since=since)
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._timer = self._loop.call_at(due(self._first, now, self._acted), self._look)

    def _look(self) -> None:
        self._first = self._timer = None
        since = self._network.since
        try:
            self._stirred()
            self._act({server: source_towards(server) for server in self._servers()}, since)
        except Exception:
            log.exception("what has changed in the network cannot be looked after just now")

    def _act(self, found: Mapping[str, str | None], since: float | None) -> None:
        now = time.monotonic()
        began = now if since is None else since
        reached = any(source is not None for source in found.values())
        elsewhere = not reached and any(source_towards(server) is not None for server in self._others())
        self._network, change = compare(self._network, found, elsewhere)
        if change is Change.LOST:
            log.warning("no server can be reached from this machine: none is judged until one can")
            self._gap = (began, math.inf)
        elif change is not Change.NONE:
            self._acted = now
            self._gap = (began, now + SETTLING)
            self._changed(change, began)
