"""Runs the example program as a child process, and makes transactions of what it prints."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self

EXAMPLE = Path(__file__).with_name("keep_registered.py")


@dataclass(frozen=True, slots=True)
class Transaction:
    """A request of a program and how it ended: ``code`` is 0 while there is no answer, ``took`` is in seconds.

    ``number`` counts the program's requests of that method, from 0; ``sent_at`` is a ``time.monotonic()``.
    """

    method: str
    number: int
    sent_at: float
    code: int = 0
    reason: str = ""
    took: float = 0.0

    @property
    def succeeded(self) -> bool:
        return self.code // 100 == 2


class Program:
    """The example program, run as *user*; it lives from ``with`` to its end."""

    def __init__(self, user: str, domain: str, nameserver: str, *, stock: bool) -> None:
        self.user = user
        self.stock = stock
        self.title = "with stock pjsip" if stock else "with pjfail"
        self._command = [sys.executable, str(EXAMPLE), f"{user}@{domain}", "--nameserver", nameserver]
        self._command += ["--stock"] * stock
        self._transactions: list[Transaction] = []
        self._numbers: Counter[str] = Counter()
        self._log: list[str] = []

    @property
    def transactions(self) -> tuple[Transaction, ...]:
        """The program's requests so far, in the order in which they were sent."""
        return tuple(self._transactions)

    @property
    def log(self) -> tuple[str, ...]:
        """The lines of the program's standard error so far, pjfail's log included."""
        return tuple(self._log)

    @property
    def running(self) -> bool:
        """False once the program has ended; then ``log`` is complete."""
        if self._process.poll() is None:
            return True
        for reader in self._readers:
            reader.join()
        return False

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C must reach the demo only
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = (
            threading.Thread(target=self._read_output, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_log, args=(self._process.stderr,), daemon=True),
        )
        for reader in self._readers:
            reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()

    def _read_output(self, output: IO[str]) -> None:
        for line in output:
            if found := re.fullmatch(r"([A-Z]+) \.\.\.\n", line):
                self._sent(found[1])
            elif found := re.fullmatch(r"([A-Z]+) (\d{3}) (.*) after ([\d.]+) s\n", line):
                self._ended(found[1], int(found[2]), found[3], float(found[4]))

    def _read_log(self, log: IO[str]) -> None:
        self._log.extend(line.rstrip() for line in log)

    def _sent(self, method: str) -> None:
        self._transactions.append(Transaction(method, self._numbers[method], time.monotonic()))
        self._numbers[method] += 1

    def _ended(self, method: str, code: int, reason: str, took: float) -> None:
        under_way = self._under_way(method)
        if under_way is not None:
            transaction = self._transactions[under_way]
            self._transactions[under_way] = replace(transaction, code=code, reason=reason, took=took)

    def _under_way(self, method: str) -> int | None:
        for index, transaction in enumerate(self._transactions):
            if transaction.method == method and not transaction.code:
                return index
        return None
