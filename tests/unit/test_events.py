"""Events as data: every kind has its keys, which the documentation names, and JSON takes what they hold."""

from __future__ import annotations

import importlib.util
import json
import logging
import re
from types import ModuleType
from typing import Any, get_args

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from rig.pages import DOCS, program

from pjfail import events
from pjfail.model import (
    Candidate,
    CertificateProblem,
    Health,
    Outcome,
    OutcomeKind,
    Plan,
    PlanEntry,
    Server,
    State,
    Target,
)

ONE, OTHER = Server("192.0.2.1", 5060), Server("2001:db8::2", 5061, "tls")
TARGET = Target("voip.example", transport="tcp")
DOWN = Health(State.DOWN, 2, since=100.0, until=131.5, reason="silent to REGISTER")
SILENT = Outcome(ONE, OutcomeKind.SILENT, 100.0, "REGISTER")
PLAN = Plan(TARGET, (PlanEntry(Candidate(ONE, "one"), 0, "up"), PlanEntry(Candidate(OTHER, "other"), 1, "up")), 200.0)
BAD = CertificateProblem.OUT_OF_DATE | CertificateProblem.WRONG_NAME

EVENTS: list[events.Event] = [
    events.ServerSuspected(ONE, Health(State.SUSPECT), SILENT),
    events.ServerDown(ONE, DOWN, SILENT),
    events.ServerDown(ONE, Health(State.DOWN, reason="marked down by the application"), None),
    events.ServerUp(ONE, Health(reason="restored")),
    events.ProbeFailed(ONE, SILENT),
    events.CertificateRejected(OTHER, "is wrong", Outcome(OTHER, OutcomeKind.CERTIFICATE, 1.0, certificate=BAD)),
    events.PlanChanged(PLAN, PLAN),
    events.AccountMoved(3, "alice@voip.example", OTHER, None, "it registered with it"),
    events.LookupFailed(TARGET, "no answer", temporary=True),
    events.LookupStale(TARGET, "no answer"),
    events.SharedDown("redis://192.0.2.9:6379/0", "no answer within 2 s"),
    events.SharedUp("redis://192.0.2.9:6379/0", 11.5),
    events.FailedOver("REGISTER", "1@here", ONE, OTHER, events.Reason.SILENT, 0.5),
    events.CallRefreshed(3, 1, "1@here", ONE),
    events.CallStranded(3, 1, "1@here", ONE, "it is down: silent to REGISTER"),
]


def documented() -> dict[str, set[str]]:
    """The keys of each kind of event, as the page has them."""
    found = {}
    page = (DOCS / "howto" / "metrics.md").read_text("utf-8")
    for kinds, keys in re.findall(r"^\| ((?:`[A-Z]\w+`(?:, )?)+) \| (.*) \|$", page, re.MULTILINE):
        names = set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", keys)))
        found.update(dict.fromkeys(re.findall(r"\w+", kinds), names | {"event"}))
    return found


def snippet(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / "snippets" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_kind_of_event_is_tried_here_and_documented() -> None:
    kinds = {kind.__name__ for kind in get_args(events.Event)}
    assert {type(event).__name__ for event in EVENTS} == kinds
    assert set(documented()) == kinds


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_has_the_keys_that_are_documented(event: events.Event) -> None:
    told = event.as_dict()
    assert set(told) == documented()[type(event).__name__]
    assert json.loads(json.dumps(told)) == told


def test_what_the_keys_hold() -> None:
    down, marked = EVENTS[1].as_dict(), EVENTS[2].as_dict()
    assert down == {
        "event": "ServerDown",
        "server": "udp:192.0.2.1:5060",
        "state": "down",
        "reason": "silent to REGISTER",
        "failures": 2,
        "hold": 31.5,
        "outcome": "silent",
        "method": "REGISTER",
        "code": 0,
        "detail": "",
        "certificate": [],
    }
    assert (marked["hold"], marked["outcome"]) == (None, None)
    assert EVENTS[5].as_dict()["certificate"] == ["OUT_OF_DATE", "WRONG_NAME"]
    assert EVENTS[6].as_dict()["servers"] == ["udp:192.0.2.1:5060", "tls:[2001:db8::2]:5061"]
    assert EVENTS[12].as_dict()["why"] == "silent"


def test_the_recipe_for_logging(caplog: pytest.LogCaptureFixture) -> None:
    source = re.search(r"^def to_logging.*?(?=^\S)", program(DOCS / "howto" / "metrics.md"), re.MULTILINE | re.DOTALL)
    assert source is not None
    names: dict[str, Any] = {"logging": logging}
    exec(f"from __future__ import annotations\n{source[0]}", names)
    with caplog.at_level(logging.INFO, "voip"):
        for event in EVENTS:
            names["to_logging"](event)
    assert [record.getMessage() for record in caplog.records] == [type(event).__name__ for event in EVENTS]
    assert caplog.records[1].__dict__["server"] == "udp:192.0.2.1:5060"


def test_the_recipe_for_structlog() -> None:
    with structlog.testing.capture_logs() as logged:
        for event in EVENTS:
            snippet("structlog_listener").to_structlog(event)
    assert [{**line, "log_level": "info"} for line in logged] == [
        {**event.as_dict(), "log_level": "info"} for event in EVENTS
    ]


def test_the_recipe_for_opentelemetry(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    listener = snippet("opentelemetry_listener")
    for event in EVENTS:
        listener.to_opentelemetry(event)
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == [f"pjfail {type(event).__name__}" for event in EVENTS]
    assert dict(spans[1].attributes or {})["pjfail.server"] == "udp:192.0.2.1:5060"
    assert caplog.records == []  # OpenTelemetry warns of a value that is not one of its kinds
