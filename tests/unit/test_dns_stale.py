"""Who hears of old answers, and how often."""

from __future__ import annotations

import asyncio
import logging

import dns.name
import dns.rdata
import pytest

from pjfail.lookup import stale
from pjfail.lookup.resolver import Answer, Kind
from pjfail.lookup.stale import StaleRecorder, StaleTargets
from pjfail.model import Target

HOST = dns.name.from_text("h.example")
RECORD = dns.rdata.from_text("IN", "A", "192.0.2.1")
FRESH = Answer(HOST, (RECORD,), 60.0)
OLD = Answer(HOST, (RECORD,), 30.0, stale="SERVFAIL")
OLD_NONE = Answer(HOST, (), 30.0, stale="SERVFAIL")
TARGET, OTHER = Target("example.com"), Target("other.example")


@pytest.fixture
def told() -> list[tuple[Target, str]]:
    return []


@pytest.fixture
def targets(told: list[tuple[Target, str]]) -> StaleTargets:
    targets = StaleTargets()
    targets.on_stale(lambda target, reason: told.append((target, reason)))
    return targets


def test_an_outage_is_said_once_a_target(
    targets: StaleTargets, told: list[tuple[Target, str]], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        targets.found(TARGET, [OLD, OLD])
        targets.found(OTHER, [OLD])
    assert told == [(TARGET, "SERVFAIL"), (OTHER, "SERVFAIL")]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "sip:example.com" in caplog.messages[0]


def test_its_end_is_logged_and_the_next_one_told_again(
    targets: StaleTargets, told: list[tuple[Target, str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for answers in ([], [OLD], [], [], [OLD]):
        targets.found(TARGET, answers)
    assert told == [(TARGET, "SERVFAIL")] * 2
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING"]


def test_an_old_there_is_none_gave_no_candidate(targets: StaleTargets, told: list[tuple[Target, str]]) -> None:
    targets.found(TARGET, [OLD_NONE])
    assert told == []


def test_nobody_need_listen(caplog: pytest.LogCaptureFixture) -> None:
    StaleTargets().found(TARGET, [OLD])
    assert len(caplog.records) == 1


def test_it_does_not_grow_for_ever(
    targets: StaleTargets, told: list[tuple[Target, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stale, "MAX_TARGETS", 2)
    for name in ("a", "b", "c", "c", "a"):
        targets.found(Target(name), [OLD])
    assert [target.host for target, _ in told] == ["a", "b", "c", "a"]


def test_a_recorder_passes_on_and_keeps_what_is_old() -> None:
    class Both:
        async def resolve(self, name: dns.name.Name, kind: Kind) -> Answer:
            assert name == HOST
            return OLD if kind == "A" else FRESH

    recorder = StaleRecorder(Both())
    assert asyncio.run(recorder.resolve(HOST, "A")) is OLD
    assert asyncio.run(recorder.resolve(HOST, "AAAA")) is FRESH
    assert recorder.stale == [OLD]
