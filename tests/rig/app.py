"""Runs a pjsua2 program in a process of its own and collects the JSON lines that it prints.

pjsip lives once in a process and does not like to be started twice, so every test has its own:

    result = run_app('''
        from rig.prelude import Account, Endpoint, emit
        with Endpoint() as endpoint:
            account = Account(endpoint)
            emit(**account.register("sip:alice@127.0.0.5", "sip:127.0.0.5")._asdict())
    ''')
    assert result.lines[0]["code"] == 200

A test that acts while the program runs uses App: `next()` is the program's next line, `tell()` answers its `heard()`,
and `ask()` does both.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from .daemon import group_lives

TESTS = Path(__file__).resolve().parent.parent

# tools/sanitize.sh names its own, whose sanitizer takes memory as it likes, and which runs any Python it is given.
PYTHON = os.environ.get("PJFAIL_TEST_PYTHON") or sys.executable
SANITIZED = sys.executable != PYTHON

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AppResult:
    """How a program ended, and what it printed."""

    returncode: int
    lines: list[Line]
    stderr: str


class App:
    """A program under way, run by *python*. Its whole process group is gone when the `with` block ends."""

    def __init__(self, code: str | Path, *args: str, python: str = PYTHON) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pjfail-app-")
        if isinstance(code, Path):
            script = code
        else:
            script = Path(self._folder.name, "app.py")
            script.write_text(textwrap.dedent(code))
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")])),
            "PJFAIL_SANITIZED_PYTHON": python if python != PYTHON else "",
        }
        self._process = subprocess.Popen(
            [PYTHON if SANITIZED else python, "-X", "faulthandler", str(script), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._lines: list[Line] = []
        self._stderr: list[str] = []
        self._arrived: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_stdout, self._read_stderr)]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> App:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._kill()
        if error is not None:
            error.add_note(f"the program's standard error:\n{self.stderr}")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lines(self) -> list[Line]:
        """What the program has printed so far."""
        return list(self._lines)

    @property
    def stderr(self) -> str:
        return "".join(self._stderr)

    def next(self, timeout: float = 60) -> Line:
        """The program's next line."""
        try:
            line = self._arrived.get(timeout=timeout)
        except queue.Empty:
            raise self._stuck(f"the program printed nothing for {timeout:g} s") from None
        if line is None:
            raise AssertionError(f"the program ended with status {self._process.wait()} and printed no further line")
        return line

    def tell(self, word: str) -> None:
        """Gives the program a line on its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def ask(self, word: str, timeout: float = 60) -> Line:
        """Gives the program a line, and waits for the one that it answers with."""
        self.tell(word)
        return self.next(timeout)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def finish(self, timeout: float = 60) -> AppResult:
        """Waits for the program's end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self._stuck(f"the program did not end within {timeout:g} s") from None
        for reader in self._readers:
            reader.join(2)  # a child of the program that is still there keeps the pipe open
        return AppResult(self._process.returncode, list(self._lines), self.stderr)

    def _stuck(self, what: str) -> AssertionError:
        self._process.send_signal(signal.SIGABRT)  # faulthandler writes where every thread stands
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        return AssertionError(what)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        while group_lives(self._process.pid):
            time.sleep(0.005)
        for reader in self._readers:
            reader.join(5)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        self._folder.cleanup()

    def _read_stdout(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            line: Line = json.loads(text)
            self._lines.append(line)
            self._arrived.put(line)
        self._arrived.put(None)

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        for text in self._process.stderr:
            self._stderr.append(text)


def run_app(
    code: str | Path, *args: str, timeout: float = 60, status: int | None = 0, python: str = PYTHON
) -> AppResult:
    """Runs a program, given as source or as a path, to its end, by that *python*.

    It must end within *timeout* seconds and with *status* (None: any), else an AssertionError shows its standard error,
    after a time-out with the place where each of its threads stood.
    """
    with App(code, *args, python=python) as app:
        result = app.finish(timeout)
        if status is not None:
            assert result.returncode == status, f"the program ended with status {result.returncode}, not {status}"
        return result
