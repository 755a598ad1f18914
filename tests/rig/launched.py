"""A program of `tests/apps`, as people write them, run unmodified by `python -m pjfail run` or with `PJFAIL=1`."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from .app import PYTHON
from .daemon import group_lives

APPS = Path(__file__).resolve().parent.parent / "apps"


def environment(**variables: str) -> dict[str, str]:
    """This process's variables, with *variables* as the only ones of pjfail's settings."""
    return {**{name: value for name, value in os.environ.items() if name != "PJFAIL_CONFIG"}, **variables}


class Launched:
    """A command under way, and its whole process group, gone when the `with` block ends."""

    def __init__(self, command: Sequence[str], folder: Path = APPS, **variables: str) -> None:
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__()
        self._process = subprocess.Popen(
            [PYTHON, *command],
            stdin=subprocess.PIPE,
            stdout=self._printed,
            stderr=self._printed,
            cwd=folder,
            env=environment(**variables),
            start_new_session=True,
        )

    def __enter__(self) -> Launched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        while group_lives(self._process.pid):
            time.sleep(0.005)
        if error is not None:
            error.add_note(f"the program has printed:\n{self.output()[-6000:]}")
        self._printed.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def output(self) -> str:
        """What it has printed so far, standard error among it."""
        return os.pread(self._printed.fileno(), 1 << 24, 0).decode("utf-8", "replace")

    def wait_for(self, text: str, timeout: float = 20) -> None:
        """Waits until it has printed *text*."""
        until = time.monotonic() + timeout
        while text not in self.output():
            assert time.monotonic() < until, f"{text!r} was not printed within {timeout:g} s"
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def finish(self, given: str = "", timeout: float = 30) -> int:
        """Gives it *given* on standard input, and waits for its end: its status."""
        self._process.communicate(given.encode(), timeout)
        return self._process.returncode
