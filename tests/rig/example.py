"""A program as its user runs it, with words on its standard output: those of examples/, copies of them, built ones."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from types import TracebackType

from .app import PYTHON

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"

# Of the domain that the examples are run at: voip.example.
ZONE = """
$TTL 60
@          SOA  ns hostmaster 1 3600 600 86400 60
@          NS   ns
ns         A    127.0.88.53
_sip._udp  SRV  10 0 5060 first
_sip._udp  SRV  20 0 5060 second
first      A    127.0.88.1
second     A    127.0.88.2
"""


class Example:
    """The program under way, from `with` to its end; `lines` are what it has printed, standard error among it."""

    def __init__(self, program: Path, *args: str) -> None:
        self.program = program
        self.lines: list[str] = []
        self._printed = threading.Condition()
        self._command = [*([PYTHON] if program.suffix == ".py" else []), str(program), *args]

    def __enter__(self) -> Example:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        if error is not None:
            error.add_note("\n".join([f"{self.program.name} has printed:", *self.lines]))

    def wait_for(self, pattern: str, count: int = 1, timeout: float = 10) -> list[str]:
        """The lines with *pattern* in them, once there are *count*; AssertionError after *timeout* seconds."""
        with self._printed:
            assert self._printed.wait_for(lambda: len(self.seen(pattern)) >= count, timeout), (
                f"{self.program.name} printed {pattern!r} {len(self.seen(pattern))} of {count} times in {timeout:g} s"
            )
            return self.seen(pattern)

    def seen(self, pattern: str) -> list[str]:
        return [line for line in self.lines if re.search(pattern, line)]

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def finish(self, timeout: float = 20) -> int:
        """Waits for its end: its status."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.program.name} did not end within {timeout:g} s") from None
        self._reader.join()
        return status

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._printed:
                self.lines.append(line.rstrip())
                self._printed.notify_all()
        self._process.stdout.close()
