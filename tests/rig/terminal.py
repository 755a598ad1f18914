"""A command on a terminal of its own: what is on its screen, keys for it, and other sizes of the terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import pyte


class Terminal:
    """*command* under way, on a screen of *columns* and *lines*."""

    def __init__(
        self,
        command: Sequence[str],
        columns: int = 100,
        lines: int = 30,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.raw = b""
        self.status: int | None = None
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._child, self._terminal = pty.fork()
        if self._child == 0:
            try:
                _set_size(0, columns, lines)
                os.execvpe(command[0], command, {**os.environ, "TERM": "xterm-256color", **(environment or {})})
            finally:
                os._exit(127)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note("on the screen:\n" + "\n".join(self.screen()))
        if self.status is None:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
        os.close(self._terminal)

    @property
    def pid(self) -> int:
        return self._child

    def press(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self._screen.resize(lines, columns)
        _set_size(self._terminal, columns, lines)

    def screen(self) -> list[str]:
        """The lines of the screen, as far as it has been drawn."""
        return [line.rstrip() for line in self._screen.display]

    def wait_for(self, *texts: str, timeout: float = 20) -> list[str]:
        """Waits until all *texts* are on the screen, and returns its lines."""
        deadline = time.monotonic() + timeout
        while not all(text in "\n".join(self.screen()) for text in texts):
            assert time.monotonic() < deadline, f"{texts} not on the screen:\n" + "\n".join(self.screen())
            assert self._read(0.1) or self.status is None, "the command ended:\n" + "\n".join(self.screen())
        return self.screen()

    def wait_until_gone(self, text: str, timeout: float = 20) -> list[str]:
        """Waits until *text* is not on the screen any more."""
        deadline = time.monotonic() + timeout
        while text in "\n".join(self.screen()):
            assert time.monotonic() < deadline, f"{text} stays on the screen"
            self._read(0.1)
        return self.screen()

    def finish(self, timeout: float = 20) -> int:
        """Waits for the command's end, and returns its exit status."""
        deadline = time.monotonic() + timeout
        while self.status is None:
            assert time.monotonic() < deadline, "the command does not end"
            self._read(0.1)
        return self.status

    def _read(self, seconds: float) -> bool:
        if not select.select([self._terminal], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # EIO: the command has closed its end
            if self.status is None:
                self.status = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
            return False
        self.raw += data
        self._stream.feed(data)
        return True


def _set_size(terminal: int, columns: int, lines: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
