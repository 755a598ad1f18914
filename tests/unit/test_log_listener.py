"""Events as lines: every kind of them in words, and those that a newer pjfail adds."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import get_args

import pytest

from pjfail import events
from pjfail.listeners import LogListener
from pjfail.model import Candidate, Health, Outcome, OutcomeKind, Plan, PlanEntry, Server, State, Target

ONE, OTHER = Server("192.0.2.1", 5060), Server("192.0.2.2", 5061, "tls")
TARGET = Target("example.com")
SILENT = Outcome(ONE, OutcomeKind.SILENT, 100.0, method="OPTIONS")
DOWN = Health(State.DOWN, 1, 100.0, 130.0, "silent to OPTIONS")


def plan(*servers: Server) -> Plan:
    return Plan(TARGET, tuple(PlanEntry(Candidate(server, "a"), tier, "") for tier, server in enumerate(servers)), 1.0)


LINES: list[tuple[events.Event, int, str]] = [
    (
        events.ServerSuspected(ONE, Health(), SILENT),
        logging.INFO,
        "udp:192.0.2.1:5060 is suspect: silent to OPTIONS",
    ),
    (
        events.ServerDown(ONE, DOWN, SILENT),
        logging.WARNING,
        "udp:192.0.2.1:5060 is down, next tried within 30 s: silent to OPTIONS",
    ),
    (
        events.ServerDown(ONE, Health(State.DOWN, 3, 100.0, None, "marked down by the application"), None),
        logging.WARNING,
        "udp:192.0.2.1:5060 is down, until the application restores it: marked down by the application (failure 3)",
    ),
    (events.ServerUp(ONE, Health()), logging.INFO, "udp:192.0.2.1:5060 is up again"),
    (events.ServerUp(ONE, Health(reason="restored")), logging.INFO, "udp:192.0.2.1:5060 is up again: restored"),
    (
        events.ProbeFailed(OTHER, Outcome(OTHER, OutcomeKind.REFUSED, 1.0, detail="no route")),
        logging.INFO,
        "tls:192.0.2.2:5061 failed a probe: refused the connection (no route)",
    ),
    (
        events.CertificateRejected(OTHER, "showed a certificate for another name", SILENT),
        logging.WARNING,
        "tls:192.0.2.2:5061 showed a certificate for another name",
    ),
    (
        events.SharedDown("/var/lib/pjfail.db", "the disk is full"),
        logging.WARNING,
        "the shared memory /var/lib/pjfail.db cannot be used: the disk is full",
    ),
    (
        events.SharedUp("/var/lib/pjfail.db", 11.5),
        logging.INFO,
        "the shared memory /var/lib/pjfail.db is there again, after 12 s",
    ),
    (
        events.FailedOver("REGISTER", "1@here", ONE, OTHER, events.Reason.SILENT, 0.52),
        logging.INFO,
        "REGISTER failed over from udp:192.0.2.1:5060 to tls:192.0.2.2:5061 after 0.5 s: no response",
    ),
    (
        events.FailedOver("OPTIONS", "1@here", ONE, OTHER, events.Reason.CODE, 0.0, 503),
        logging.INFO,
        "OPTIONS failed over from udp:192.0.2.1:5060 to tls:192.0.2.2:5061 after 0.0 s: answered 503",
    ),
    (
        events.PlanChanged(plan(OTHER, ONE), plan(ONE, OTHER)),
        logging.INFO,
        "sip:example.com goes to tls:192.0.2.2:5061, then udp:192.0.2.1:5060",
    ),
    (
        events.AccountMoved(3, "alice@example.com", ONE, None, "it registered there"),
        logging.INFO,
        "account 3 (alice@example.com) is on udp:192.0.2.1:5060, after none: it registered there",
    ),
    (
        events.AccountMoved(3, "alice@example.com", None, ONE, ""),
        logging.WARNING,
        "account 3 (alice@example.com) has no healthy server",
    ),
    (
        events.AccountMoved(3, "alice@example.com", None, ONE, events.UNREGISTERS),
        logging.INFO,
        "account 3 (alice@example.com) unregisters",
    ),
    (events.CallRefreshed(3, 1, "1@here", ONE), logging.INFO, "call 1 of account 3 is refreshed at udp:192.0.2.1:5060"),
    (
        events.CallStranded(3, 1, "1@here", ONE, "udp:192.0.2.1:5060 is down: silent"),
        logging.WARNING,
        "call 1 of account 3 is stranded: udp:192.0.2.1:5060 is down: silent",
    ),
    (
        events.LookupFailed(TARGET, "sip:example.com: no record", False),
        logging.WARNING,
        "sip:example.com: no record (for good)",
    ),
    (
        events.LookupFailed(TARGET, "all are silent", True),
        logging.WARNING,
        "sip:example.com: all are silent (for now)",
    ),
    (
        events.LookupStale(TARGET, "all are silent"),
        logging.WARNING,
        "sip:example.com uses old answers: all are silent",
    ),
]


@pytest.mark.parametrize(("event", "level", "line"), LINES, ids=lambda value: type(value).__name__)
def test_an_event_is_one_line_in_words(
    event: events.Event, level: int, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pjfail.events")
    LogListener()(event)
    assert caplog.record_tuples == [("pjfail.events", level, line)]


def test_every_event_that_there_is_has_its_line() -> None:
    assert {type(event) for event, _level, _line in LINES} == set(get_args(events.Event))


@dataclass(frozen=True, slots=True)
class ServerPraised:
    """From a pjfail of the future."""

    server: Server
    health: Health
    outcome: Outcome
    last_words: str


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            ServerPraised(ONE, DOWN, SILENT, "100% well"),
            "server praised: server udp:192.0.2.1:5060, health down (silent to OPTIONS), outcome silent to OPTIONS, "
            "last words 100% well",
        ),
        (Exception("odd"), "exception: odd"),
    ],
)
def test_an_event_of_which_it_has_not_heard_is_a_line_too(
    event: events.Event, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("its.own")
    caplog.set_level(logging.INFO, "its.own")
    LogListener(logger)(event)
    assert caplog.record_tuples == [("its.own", logging.INFO, line)]
