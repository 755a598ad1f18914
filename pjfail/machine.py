"""What changes on this machine while pjfail is attached: its network, its sleep, and files that the lookup reads."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from .bridge.machine import drain, watch_clock, watch_files
from .lookup import Lookup
from .lookup.optional import OptionalMethods
from .network import Clocks, NetworkWatch

log = logging.getLogger("pjfail")

# How often files and clocks are looked at whose changes the system does not tell (seconds).
INTERVAL = 2.0
# A change is looked at so long after the system has told of its first part (seconds).
PAUSE = 0.1


class MachineWatch:
    """Calls *changed* when a file that *lookup* reads has changed, and has *network* look at clocks. Worker only."""

    def __init__(self, lookup: Lookup, changed: Callable[[], object], network: NetworkWatch) -> None:
        self._methods = OptionalMethods(lookup)
        self._changed = changed
        self._network = network
        self._descriptors: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Looks when the system tells of a change from now on, in *loop*, until :meth:`end`."""
        self._loop = loop
        self._network.begin(loop)
        self._look()

    def end(self) -> None:
        self._network.end()
        self._unwatch()
        self._loop = None

    def _watch(self) -> None:
        """Has the system tell of the next change; has a timer look for what it does not tell."""
        files = self._methods.files()  # None: which ones is not known
        watches = [watch_clock()] if files == () else [watch_clock(), None if files is None else watch_files(files)]
        for descriptor in watches:
            if self._loop is not None and descriptor is not None:
                self._descriptors.append(descriptor)
                self._loop.add_reader(descriptor, self._told, descriptor)
        if None in watches:
            self._look_in(INTERVAL)

    def _unwatch(self) -> None:
        for descriptor in self._descriptors:
            if self._loop is not None:
                self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._descriptors.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _told(self, descriptor: int) -> None:
        drain(descriptor)
        self._look_in(PAUSE)

    def _look_in(self, seconds: float) -> None:
        if self._loop is not None:
            when = self._loop.time() + seconds
            if self._timer is not None and self._timer.when() <= when:
                return
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        # A file may be another one now, which is watched before it is looked at: so no change is missed.
        self._unwatch()
        try:
            self._watch()
            self._network.tick(Clocks.now())
            if self._methods.files_changed():
                log.info("a file has changed: every name is looked up again")
                self._changed()
        except Exception:
            log.exception("what has changed on this machine cannot be looked after just now")
            self._look_in(INTERVAL)
