"""Asks at a control socket. Blocking, and without the compiled core: for the command line, and for tests."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import ControlError
from .place import VARIABLE, answers, folders, live_sockets, wanted_by_environment
from .server import PROTOCOL, peer

NOTHING = (
    f"no program of yours has a control socket. Start it with {VARIABLE}=1 in its environment, or let it call "
    "pjfail.attach(control=True)"
)


class Client:
    """A connection to the socket at *path*, whose process must be this user's or root's. A context manager.

    Every method raises ControlError when the process has gone, or says nothing for *timeout* seconds: ``connected`` is
    False then.
    """

    def __init__(self, path: Path, timeout: float = 15.0) -> None:
        self.path = path
        self.timeout = timeout
        self.connected = True
        self._buffer = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
            self.pid, user, _ = peer(self._socket)
        except BlockingIOError:
            self._socket.close()
            raise ControlError(f"too many wait to be served at {path}; is its process stopped?") from None
        except OSError as error:
            self._socket.close()
            raise ControlError(f"nothing answers at {path}: {error.strerror or error}") from None
        if user not in (0, os.geteuid()) and os.geteuid() != 0:
            self._socket.close()
            raise ControlError(f"{path} is served by user {user}, not by you")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def ask(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """The result of *command*. Raises ControlError with the words of a refusal."""
        try:
            self._socket.sendall(
                json.dumps({"pjfail": PROTOCOL, "command": command, **(arguments or {})}).encode() + b"\n"
            )
        except TimeoutError:
            raise self._silent() from None
        except OSError:
            pass  # it may have told why it hangs up
        said = self._next()
        if not said.get("ok"):
            raise ControlError(str(said.get("error", "the program gave an answer that is not one")))
        return said.get("result")

    def events(self) -> Iterator[dict[str, Any]]:
        """The last events, which are asked for at once, and then every one as it comes."""
        return chain(self.ask("events", {"follow": True}), self._coming_events())

    def _coming_events(self) -> Iterator[dict[str, Any]]:
        self._socket.settimeout(None)
        while True:
            yield self._next()["event"]

    def _next(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise self._silent() from None
            except OSError:
                data = b""
            if not data:
                self.connected = False
                raise ControlError(f"process {self.pid} has gone, or has detached pjfail")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict) or said.get("pjfail") != PROTOCOL:
            raise ControlError(f"process {self.pid} speaks another protocol; use the pjfail that it uses")
        return said

    def _silent(self) -> ControlError:
        self.connected = False
        return ControlError(f"process {self.pid} says nothing: it is stopped, or a listener, policy or lookup holds it")


def find(to: str | None) -> list[Path]:
    """The sockets that *to* means: a process id, a path, "all"; None: the one that there is. Raises ControlError."""
    if to is None and isinstance(there := wanted_by_environment(), str):
        to = there
    if to in (None, "all"):
        found = list(live_sockets(os.geteuid()))
        if not found:
            raise ControlError(NOTHING)
        if len(found) > 1 and to is None:
            raise ControlError(f"several programs have a control socket; name one: {', '.join(map(_named, found))}")
        return found
    assert to is not None
    if not to.isdigit():
        return [Path(to).expanduser().absolute()]
    try:
        user = Path("/proc", to).stat().st_uid
    except OSError:
        raise ControlError(f"there is no process {to}") from None
    path = next((each for folder in folders(user) if (each := folder / f"{to}.sock").is_socket()), None)
    if path is None or not answers(path):
        raise ControlError(
            f"process {to} has no control socket in {' or '.join(map(str, folders(user)))}: if it has one elsewhere, "
            f"name its path; if it has none, start it with {VARIABLE}=1 in its environment, or let it call "
            "pjfail.attach(control=True)"
        )
    return [path]


def _named(path: Path) -> str:
    """Which process *path* is of, with the beginning of its command line."""
    try:
        told = Path("/proc", path.stem, "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return path.stem
    return f"{path.stem} ({told[:60]})"
