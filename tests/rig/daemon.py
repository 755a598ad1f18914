"""A real server under test: started in a folder of its own, waited for, and gone with its children in the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path


def find(program: str) -> str:
    """The path of a daemon, which Debian keeps where ordinary users do not look."""
    path = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if path is None:
        raise FileNotFoundError(f'"{program}" is not installed; `make test` installs what the tests need')
    return path


def group_lives(group: int) -> bool:
    """Whether a process of the group is still there. One that is dead, reaped or not, holds nothing any more."""
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):  # it is gone
            state, _parent, its_group = Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                return True
    return False


class Daemon:
    """A server process with its folder `run`; its log is in `log()`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._folder = tempfile.TemporaryDirectory(prefix=f"pjfail-{name}-", dir="/tmp")
        self.run = Path(self._folder.name)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str], ready: Callable[[], bool], timeout: float = 20) -> None:
        """Starts the server and waits until it is *ready*; AssertionError with its log if it does not get there."""
        with open(self.run / "log", "ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.run, start_new_session=True
            )
        deadline = time.monotonic() + timeout
        while not ready():
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                what = f"ended with status {self._process.returncode}" if ended else f"not ready after {timeout:g} s"
                log_text = self.log()
                self.stop()
                raise AssertionError(f"{self.name}: {what}\n{log_text}")
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the server and its children."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def pause(self) -> None:
        """Stops its processes where they stand: the kernel still accepts connections, and nothing is answered."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends the server and its children at once; a second time does nothing."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self._process.wait()
        while group_lives(self._process.pid):  # its children hold the same sockets
            time.sleep(0.005)
        self._process = None

    def close(self) -> None:
        """Stops the server and removes its folder."""
        self.stop()
        self._folder.cleanup()

    def log(self) -> str:
        return (self.run / "log").read_text(errors="replace")
