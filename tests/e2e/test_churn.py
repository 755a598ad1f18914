"""Thousands of requests while their servers die and return: none is lost, answered twice, or left over in pjsip."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from rig.app import App, Line

from pjfail.demo.registrar import DYING, REFUSING, SILENT, UNAVAILABLE, WELL, Registrar

PROGRAM = Path(__file__).with_name("churning_app.py")
SEED = 5
SERVERS = [f"127.0.81.{number}" for number in (1, 2, 3, 4)]
DEATHS = (REFUSING, SILENT, DYING, UNAVAILABLE)
REQUESTS, AT_ONCE, A_SECOND = 10_000, 40, 400
PATIENCE = 3.0  # a request may try three dead servers, half a second each, before it finds the live one


class Churn:
    """Lets servers die and return, one at a time, and remembers when; one of them is always alive."""

    def __init__(self, servers: list[Registrar], seed: int) -> None:
        self.deaths = 0
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
                self._servers[number].fault = self._random.choice(DEATHS)
                self.deaths += 1

    def _raise(self, number: int) -> None:
        self._servers[number].fault = WELL
        self._alive_since[number] = time.monotonic()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_churn(transport: str) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(Registrar(address)) for address in SERVERS]
        words = [transport, *map(str, (REQUESTS, AT_ONCE, A_SECOND, *servers))]
        app = stack.enter_context(App(PROGRAM, *words))
        assert app.next() == {"started": True}
        churn = Churn(servers, SEED)
        lost: list[Line] = []
        with churn():
            while "lost" in (line := app.next(timeout=60)):
                lost.append(line)
        [*_, sums] = app.finish(timeout=90).lines

    assert churn.deaths > 10, "so few deaths show nothing"
    assert sums["unanswered"] == sums["answered_twice"] == sums["unasked"] == []
    assert [line for line in lost if churn.lived(line["sent"], line["sent"] + PATIENCE)] == []
    assert len(lost) <= REQUESTS / 1000, lost  # and few had no such server
    left_over(transport, sums["before"], sums["after"])


def left_over(transport: str, before: Line, after: Line) -> None:
    """Nothing is, by pjsip's own account: connections may stay open, but nobody but the accounts uses them."""
    assert (after["transactions"], after["buffers"]) == (0, 0), after["text"]
    assert after["users"] <= before["users"], after["text"]
    if transport == "udp":
        assert after["pools"] == before["pools"], after["text"]
    else:
        assert not {"tsx", "tdta"} & after["pools"].keys(), after["text"]
