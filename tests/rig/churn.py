"""Servers that die and return at random while a program sends requests."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pjfail.testing import DYING, REFUSING, SILENT, UNAVAILABLE, WELL, Fault, Registrar

DEATHS = (REFUSING, SILENT, DYING, UNAVAILABLE)


class Churn:
    """Lets servers die and return, one at a time, and remembers when; one of them is always alive."""

    def __init__(self, servers: list[Registrar], seed: int, deaths: Sequence[Fault] = DEATHS) -> None:
        self.deaths = 0
        self.changes: list[tuple[float, Registrar, Fault]] = []
        self._deaths = deaths
        self._servers = servers
        self._random = random.Random(seed)
        self._lives: dict[int, list[tuple[float, float]]] = {number: [] for number in range(len(servers))}
        self._alive_since = dict.fromkeys(self._lives, 0.0)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            for number in self._lives.keys() - self._alive_since.keys():
                self._raise(number)

    def lived(self, since: float, until: float) -> bool:
        """Whether one server was alive all that time."""
        still = [(number, alive_since, float("inf")) for number, alive_since in self._alive_since.items()]
        past = [(number, *life) for number, lives in self._lives.items() for life in lives]
        return any(born <= since and until <= died for _, born, died in still + past)

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(self._random.uniform(0.1, 0.8)):
            number = self._random.randrange(len(self._servers))
            if number not in self._alive_since:
                self._raise(number)
            elif len(self._alive_since) > 1:
                self._lives[number].append((self._alive_since.pop(number), time.monotonic()))
                self._change(number, self._random.choice(self._deaths))
                self.deaths += 1

    def _raise(self, number: int) -> None:
        self._change(number, WELL)
        self._alive_since[number] = time.monotonic()

    def _change(self, number: int, fault: Fault) -> None:
        self._servers[number].fault = fault
        self.changes.append((time.monotonic(), self._servers[number], fault))
