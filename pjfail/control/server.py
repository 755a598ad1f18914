"""One control socket and its clients, in the worker's loop: a line of JSON for a line of JSON.

No client is waited for: what it may send, how long it may take, and how many there are, has a bound.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
import weakref
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import ControlError, PjfailError
from .place import answers, require_short

log = logging.getLogger("pjfail")

PROTOCOL = 1
"""The version of the protocol; every line has it."""

LEVELS = ("debug", "info", "warning", "error", "critical")
"""What the command "log" takes."""

MAX_CLIENTS = 8
BACKLOG = 128
"""Connections that may wait to be taken, or to be told that there are too many."""
MAX_LINE = 8192
"""Octets of a request."""
MAX_UNREAD_EVENTS = 1000
"""Of a client that follows events and does not read them."""
IDLE_TIMEOUT = 60.0
"""Seconds after which a client goes that asks nothing."""
SEND_TIMEOUT = 5.0
"""Seconds after which a client goes that does not read its answer."""
COMMAND_TIMEOUT = 10.0
"""Seconds that a command may take."""
PAUSE = 0.01
"""Seconds between two requests of one client: so that the worker has its time, whatever a client does."""

# An answer: a command and its arguments, and who asks, in words.
Answer = Callable[[str, Mapping[str, Any], str], Awaitable[object]]

_open: weakref.WeakSet[ControlSocket] = weakref.WeakSet()


class ControlSocket:
    """A socket at *path* that this user's processes (and root's) may connect to, from the call on.

    Raises ControlError when a process listens there already, or when nothing can. A socket that a dead process has left
    is replaced.
    """

    def __init__(self, path: Path) -> None:
        require_short(path)
        self.path = path
        self._sockets: set[socket.socket] = set()
        self._clients: set[asyncio.Task[None]] = set()
        self._feeds: set[asyncio.Queue[dict[str, Any]]] = set()
        self._socket = _bound(path)
        self._sockets.add(self._socket)
        found = path.lstat()
        self._file = found.st_dev, found.st_ino
        _open.add(self)

    def close(self) -> None:
        """Any thread. Removes the socket; clients are let go of by the end of :meth:`serve`."""
        with suppress(OSError):
            found = self.path.lstat()
            if (found.st_dev, found.st_ino) == self._file:
                self.path.unlink()
        self._forget(self._socket)

    def close_in_child(self) -> None:
        """In a forked child: the socket is its parent's, and ends with that one."""
        for one in list(self._sockets):
            self._forget(one)

    def tell(self, event: dict[str, Any]) -> None:
        """Worker. Passes *event* to the clients that follow events; one that does not read is let go of."""
        for feed in self._feeds:
            if not feed.full():
                feed.put_nowait(event)

    async def serve(self, answer: Answer) -> None:
        """Serves clients until it is cancelled; may be called again."""
        loop = asyncio.get_running_loop()
        listening = self._socket.dup()  # ours lives until we close it, whoever detaches
        listening.setblocking(False)
        self._sockets.add(listening)
        try:
            while True:
                try:
                    client, _ = await loop.sock_accept(listening)
                except OSError as error:
                    log.warning("the control socket cannot take a client: %s", error.strerror)
                    await asyncio.sleep(1)
                    continue
                self._admit(client, answer)
                await asyncio.sleep(0)  # to the worker's own work, however many connect
        finally:
            for task in self._clients:
                task.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)
            self._forget(listening)

    def _admit(self, client: socket.socket, answer: Answer) -> None:
        client.setblocking(False)
        _, user, _ = peer(client)
        refusal = ""
        if user not in (0, os.geteuid()):
            refusal = f"this socket is for user {os.geteuid()}, not for user {user}"
        elif len(self._clients) >= MAX_CLIENTS:
            refusal = f"{MAX_CLIENTS} clients are connected, which is the most; close one"
        if refusal:
            with suppress(OSError):
                client.send(_line({"ok": False, "error": refusal}))
            client.close()
            return
        self._sockets.add(client)
        task = asyncio.get_running_loop().create_task(self._serve(client, answer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, client: socket.socket, answer: Answer) -> None:
        try:
            await self._talk(client, answer)
        except (OSError, TimeoutError):
            pass  # it has gone, or does nothing
        except Exception:
            log.exception("a client of the control socket cannot be served")
        finally:
            self._forget(client)

    async def _talk(self, client: socket.socket, answer: Answer) -> None:
        buffer = bytearray()
        process, user, _ = peer(client)
        who = f"process {process} of user {user}"
        # With timeout(), not wait_for(): that of Python 3.11 loses a cancellation now and then.
        while True:
            async with asyncio.timeout(IDLE_TIMEOUT):
                line = await _read_line(client, buffer)
            if line is None:
                return
            try:
                command, arguments = _parsed(line)
            except ValueError as error:
                await _send(client, {"ok": False, "error": str(error)})
                return
            follows = command == "events" and arguments.pop("follow", False) is True
            try:
                async with asyncio.timeout(COMMAND_TIMEOUT):
                    result = await answer(command, arguments, who)
            except TimeoutError:
                said: dict[str, Any] = {"ok": False, "error": f"{command} took more than {COMMAND_TIMEOUT:g} s"}
            except (PjfailError, ValueError, TypeError) as error:
                said = {"ok": False, "error": str(error)}
            else:
                said = {"ok": True, "result": result}
            if follows and said["ok"]:
                await self._follow(client, said)
                return
            await _send(client, said)
            await asyncio.sleep(PAUSE)

    async def _follow(self, client: socket.socket, first: dict[str, Any]) -> None:
        """Sends *first* and then every event, until the client says anything, goes, or leaves too many unread."""
        feed: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_UNREAD_EVENTS)
        self._feeds.add(feed)
        loop = asyncio.get_running_loop()
        ended = loop.create_task(loop.sock_recv(client, 1))
        event = loop.create_task(feed.get())
        try:
            await _send(client, first)
            while not ended.done() and not feed.full():
                await asyncio.wait((ended, event), return_when=asyncio.FIRST_COMPLETED)
                if event.done():
                    await _send(client, {"event": event.result()})
                    event = loop.create_task(feed.get())
        finally:
            self._feeds.discard(feed)
            ended.cancel()
            event.cancel()
            await asyncio.gather(ended, event, return_exceptions=True)

    def _forget(self, one: socket.socket) -> None:
        self._sockets.discard(one)
        one.close()


def _bound(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(bound.fileno(), 0o600)  # the file has it from its first moment
        if path.is_symlink() or path.exists():
            if answers(path):
                raise ControlError(f"another process listens at {path}; choose another path")
            path.unlink(missing_ok=True)
        bound.bind(str(path))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise ControlError(f"the control socket {path} cannot be made: {error.strerror}") from None
    except ControlError:
        bound.close()
        raise
    return bound


def peer(connected: socket.socket) -> tuple[int, int, int]:
    """The process, user and group at the other end of a UNIX socket, as the kernel has them."""
    size = struct.calcsize("3i")
    process, user, group = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return process, user, group


async def _read_line(client: socket.socket, buffer: bytearray) -> bytes | None:
    """The next line; None at the client's end. A line that is too long is returned as far as it has come."""
    loop = asyncio.get_running_loop()
    while (end := buffer.find(b"\n")) < 0 and len(buffer) <= MAX_LINE:
        data = await loop.sock_recv(client, 4096)
        if not data:
            return None
        buffer += data
    line = bytes(buffer if end < 0 else buffer[:end])
    del buffer[: len(line) + 1]
    return line


def _parsed(line: bytes) -> tuple[str, dict[str, Any]]:
    """The command and the arguments of a request. Raises ValueError."""
    if len(line) > MAX_LINE:
        raise ValueError(f"a request has {MAX_LINE} octets at the most")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError('this is not JSON; send lines such as {"pjfail": 1, "command": "servers"}') from None
    if not isinstance(request, dict) or not isinstance(request.get("command"), str):
        raise ValueError('this is not a request; send lines such as {"pjfail": 1, "command": "servers"}')
    version = request.pop("pjfail", PROTOCOL)
    if version != PROTOCOL:
        raise ValueError(f"this pjfail speaks version {PROTOCOL} of the protocol, not {version!r}")
    return request.pop("command"), request


async def _send(client: socket.socket, said: Mapping[str, Any]) -> None:
    async with asyncio.timeout(SEND_TIMEOUT):
        await asyncio.get_running_loop().sock_sendall(client, _line(said))


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps({"pjfail": PROTOCOL, **said}).encode() + b"\n"


def _close_in_child() -> None:
    for one in list(_open):
        one.close_in_child()


os.register_at_fork(after_in_child=_close_in_child)
