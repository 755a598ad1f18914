"""What changes on this machine while pjfail is attached: addresses, routes, and files that the lookup reads."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from .lookup import Lookup, ReadsFiles

log = logging.getLogger("pjfail")

# How often is looked (seconds).
INTERVAL = 2.0

# linux/rtnetlink.h: RTMGRP_IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE
_GROUPS = 0x10 | 0x40 | 0x100 | 0x400
_NETLINK_ROUTE = 0


class MachineWatch:
    """Calls *changed* when an address or a route of this machine has changed, or a file that *lookup* reads.

    Worker only. Where the kernel tells nothing of addresses (a container may forbid that), only files are watched.
    """

    def __init__(self, lookup: Lookup, changed: Callable[[], object]) -> None:
        self._lookup = lookup
        self._changed = changed
        self._news: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Looks every two seconds from now on, in *loop*, until :meth:`end`."""
        try:
            self._news = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
            self._news.setblocking(False)
            self._news.bind((0, _GROUPS))
        except OSError as error:
            log.info("changes of this machine's addresses are not noticed: %s", error)
        self._timer = loop.call_later(INTERVAL, self._look, loop)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._news is not None:
            self._news.close()
        self._news = self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(INTERVAL, self._look, loop)
        try:
            network = self._network_changed()
            files = isinstance(self._lookup, ReadsFiles) and self._lookup.files_changed()
            if network or files:
                log.info("%s changed: every name is looked up again", "the network has" if network else "a file has")
                self._changed()
        except Exception:
            log.exception("what has changed on this machine cannot be looked after just now")

    def _network_changed(self) -> bool:
        """Takes what the kernel has told since the last time."""
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
        return told
