"""Half an hour of requests and calls while servers die and return and pjfail comes and goes."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from rig.app import App, Line
from rig.churn import DEATHS, Churn

from pjfail.testing import RESETTING, Fault, Registrar

PROGRAM = Path(__file__).with_name("soaking_app.py")
SECONDS = float(os.environ.get("SOAK_SECONDS", "1800"))
SERVERS = [f"127.0.83.{number}" for number in (1, 2, 3, 4)]
# A request may try three dead servers before it finds the live one: 0.5 s each, an INVITE 1.5 s.
PATIENCE_S, PATIENCE_WITH_INVITE_S = 3.0, 6.0
GROWTH = 4_000_000  # octets, from the second round to the last


@pytest.mark.timeout(4 * SECONDS + 600)
def test_nothing_is_lost_and_nothing_is_left() -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(Registrar(address)) for address in SERVERS]
        app = stack.enter_context(App(PROGRAM, str(SECONDS), *map(str, servers)))
        churn = Churn(servers, seed=11, deaths=(*DEATHS, RESETTING, Fault(code=503, retry_after=1), Fault(latency=2.0)))
        lost: list[Line] = []
        rounds: list[Line] = []
        with churn():
            while "over" not in (line := app.next(timeout=300)):
                (lost if "lost" in line else rounds).append(line)
                if "round" in line:
                    print(line)
        app.finish(timeout=60)

    assert churn.deaths > SECONDS / 4, "so few deaths show nothing"
    for each in rounds:
        assert each["unanswered"] == each["answered_twice"] == each["unasked"] == [], each
        assert (each["transactions"], each["buffers"], each["calls_left"]) == (0, 0, 0), each
    unexcused = [line for line in lost if not line["excused"] and had_live_server(churn, line)]
    assert not unexcused, "\n".join(account_of(line, churn, servers) for line in unexcused)
    first, last = rounds[1], rounds[-1]
    assert last["memory"] - first["memory"] < GROWTH, rounds
    for what in ("handles", "keys", "threads"):
        assert last[what] == first[what], (what, rounds)


def account_of(line: Line, churn: Churn, servers: list[Registrar]) -> str:
    """A lost request: where and when it arrived, and what the servers did before and meanwhile."""
    sent, told, number = line["sent"], line["told"], line["lost"].split()[1]
    arrivals = [
        (request.at, f"{server} got it over {request.transport}")
        for server in servers
        for request in server.requests
        if request.header("subject") == number
    ]
    changes = [(at, f"{server} is {fault}") for at, server, fault in churn.changes if sent - 3 <= at <= told]
    story = "".join(f"\n    {at - sent:+.3f} s {what}" for at, what in sorted(arrivals + changes))
    return f"{line['lost']} ended with {line['code']} after {told - sent:.3f} s{story}"


def had_live_server(churn: Churn, line: Line) -> bool:
    patience = PATIENCE_WITH_INVITE_S if line["lost"].startswith("INVITE") else PATIENCE_S
    return churn.lived(line["sent"], line["sent"] + patience)
