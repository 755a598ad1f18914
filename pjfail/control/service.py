"""The control socket of one attachment."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .. import events
from ..errors import ControlError
from .journal import Journal, as_row
from .place import VARIABLE, given_path, own_path, wanted_by_environment

if TYPE_CHECKING:
    from ..worker import Worker
    from .commands import Controlled
    from .server import ControlSocket

log = logging.getLogger("pjfail")


class Control:
    """A listener that keeps events for whoever asks at the socket.

    *where* is a path, or True for the default place. *required* says whether a socket that cannot be made is an error,
    or only a line in the log.
    """

    def __init__(self, where: str | os.PathLike[str] | bool, *, required: bool) -> None:
        self._where = where
        self._required = required
        self._journal = Journal()
        self._socket: ControlSocket | None = None

    @classmethod
    def wanted(cls, control: object) -> Control | None:
        """What ``attach(control=)`` asks for, or with None the environment. Raises TypeError."""
        if control is None:
            where = wanted_by_environment()
            return cls(where, required=False) if where else None
        if not isinstance(control, bool | str | Path) or control == "":
            raise TypeError(f"control is {control!r}; give True, False, or a path for the socket")
        return cls(control, required=True) if control is not False else None

    def __call__(self, event: events.Event) -> None:
        """Worker."""
        self._journal.note(event)
        if self._socket is not None:
            self._socket.tell(as_row(time.time(), event))

    @property
    def path(self) -> Path | None:
        """Where the socket is, None when it could not be made."""
        return None if self._socket is None else self._socket.path

    def open(self, failover: Controlled, worker: Worker, version: str) -> None:
        """Makes the socket, which *worker* serves once it is started. Raises ControlError."""
        from .commands import Commands
        from .server import ControlSocket

        try:
            path = own_path() if self._where is True else given_path(str(self._where))
            self._socket = opened = ControlSocket(path)
        except ControlError as error:
            if self._required:
                raise
            log.warning("%s asks for a control socket, which there will not be: %s", VARIABLE, error)
            return
        commands = Commands(failover, worker, self._journal, version)
        worker.run_beside(lambda: opened.serve(commands.answer))
        log.info("the control socket is %s", path)

    def close(self) -> None:
        """Any thread. Removes the socket."""
        if self._socket is not None:
            self._socket.close()
