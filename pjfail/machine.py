"""What changes on this machine while pjfail is attached: its network, and files that the lookup reads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from .lookup import Lookup, ReadsFiles
from .network import Clocks, NetworkWatch

log = logging.getLogger("pjfail")

# How often files and clocks are looked at (seconds).
INTERVAL = 2.0


class MachineWatch:
    """Calls *changed* when a file that *lookup* reads has changed, and has *network* look at clocks. Worker only."""

    def __init__(self, lookup: Lookup, changed: Callable[[], object], network: NetworkWatch) -> None:
        self._lookup = lookup
        self._changed = changed
        self._network = network
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Looks every two seconds from now on, in *loop*, until :meth:`end`."""
        self._network.begin(loop)
        self._timer = loop.call_later(INTERVAL, self._look, loop)

    def end(self) -> None:
        self._network.end()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(INTERVAL, self._look, loop)
        try:
            self._network.tick(Clocks.now())
            if isinstance(self._lookup, ReadsFiles) and self._lookup.files_changed():
                log.info("a file has changed: every name is looked up again")
                self._changed()
        except Exception:
            log.exception("what has changed on this machine cannot be looked after just now")
