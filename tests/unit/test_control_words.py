"""What ctl and watch print of an event."""

from __future__ import annotations

from typing import Any

import pytest

from pjfail import events
from pjfail.cli.control import words
from pjfail.model import Health, Outcome, OutcomeKind, Plan, Server, State, Target

ONE, OTHER = Server("192.0.2.1", 5060), Server("192.0.2.2", 5060)
DOWN = Health(State.DOWN, reason="silent to MESSAGE")
SILENT = Outcome(ONE, OutcomeKind.SILENT, 0.0, method="MESSAGE")
AOR = "alice@voip.example"


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (events.ServerDown(ONE, DOWN, SILENT), "udp:192.0.2.1:5060: silent to MESSAGE"),
        (events.ServerDown(ONE, DOWN, None), "udp:192.0.2.1:5060: silent to MESSAGE"),
        (events.ProbeFailed(ONE, SILENT), "udp:192.0.2.1:5060: silent to MESSAGE"),
        (
            events.FailedOver("INVITE", "a", ONE, OTHER, events.Reason.SLOW, 0.1),
            "INVITE from udp:192.0.2.1:5060 to udp:192.0.2.2:5060: later than its round trips so far",
        ),
        (
            events.FailedOver("INVITE", "a", ONE, OTHER, events.Reason.CODE, 0.1, 503),
            "INVITE from udp:192.0.2.1:5060 to udp:192.0.2.2:5060: answered 503",
        ),
        (events.AccountMoved(0, AOR, ONE, None, "registered"), f"{AOR} to udp:192.0.2.1:5060: registered"),
        (
            events.AccountMoved(0, AOR, OTHER, ONE, "it is down"),
            f"{AOR} from udp:192.0.2.1:5060 to udp:192.0.2.2:5060: it is down",
        ),
        (
            events.AccountMoved(0, AOR, None, ONE, "it is down"),
            f"{AOR} from udp:192.0.2.1:5060 to no server: it is down",
        ),
        (
            events.PlanChanged(Plan(Target("voip.example"), (), 0.0), Plan(Target("voip.example"), (), 0.0)),
            "sip:voip.example: now no server; was no server",
        ),
        (events.LookupFailed(Target("voip.example"), "no answer", temporary=True), "sip:voip.example: no answer"),
    ],
)
def test_an_event_is_one_sentence(event: Any, said: str) -> None:
    assert words.event_cells({"at": 0.0, **event.as_dict()})[1:] == (type(event).__name__, said)


def test_an_event_of_a_later_version_is_told_by_what_it_has() -> None:
    assert words.event_cells({"at": 0.0, "event": "New", "seconds": 3})[2] == "seconds 3"
