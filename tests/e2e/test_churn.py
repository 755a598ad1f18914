"""Thousands of requests while their servers die and return: none is lost, answered twice, or left over in pjsip."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from rig.app import App, Line
from rig.churn import Churn

from pjfail.testing import Registrar

PROGRAM = Path(__file__).with_name("churning_app.py")
SEED = 5
SERVERS = [f"127.0.81.{number}" for number in (1, 2, 3, 4)]
REQUESTS, AT_ONCE, A_SECOND = 10_000, 40, 400
PATIENCE = 3.0  # a request may try three dead servers, half a second each, before it finds the live one


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
