"""In a program of a test: which requests it has sent, and how each of them has ended."""

from __future__ import annotations

import threading
import time
from collections import Counter

from rig.prelude import emit


class Ledger:
    """What is owed an answer, and how often it was given one."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.sent: dict[str, float] = {}
        self.answers: Counter[str] = Counter()
        self.unasked: list[str] = []

    def send(self, key: str) -> None:
        with self.changed:
            self.sent[key] = time.monotonic()

    def answer(self, key: str, code: int) -> None:
        with self.changed:
            if key not in self.sent:
                self.unasked.append(f"{key} {code}")
                return
            self.answers[key] += 1
            self.changed.notify()
        if code != 200:
            emit(lost=key, code=code, sent=self.sent[key], told=time.monotonic())

    @property
    def under_way(self) -> int:
        return len(self.sent) - len(self.answers)

    def wait(self, at_most: int, timeout: float) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.under_way <= at_most, timeout), "requests have no end"
