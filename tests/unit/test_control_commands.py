"""The bounds of what the control socket remembers and answers, without pjsip."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from pjfail import events
from pjfail.bridge.counts import Counters
from pjfail.control import commands, journal
from pjfail.lookup import StaticLookup
from pjfail.model import Health, Server, State, Target
from pjfail.policy import Policy
from pjfail.probe import Probe
from pjfail.shared import Shared
from pjfail.worker import Worker


class Known:
    """What the commands need of a Failover, with more servers than an answer has room for."""

    pjsip_version = "2.17"

    def servers(self) -> Mapping[Server, Health]:
        up = {Server(f"198.51.{number // 250}.{number % 250}", 5060): Health() for number in range(commands.MAX_ROWS)}
        return {**up, Server("203.0.113.1", 5060): Health(State.DOWN, reason="silent")}

    def mark_down(self, server: Server | str, seconds: float | None = None) -> None: ...

    def drain(self, server: Server | str) -> None: ...

    def restore(self, server: Server | str) -> None: ...

    def counters(self) -> Counters:
        return Counters(*[0] * len(Counters.__dataclass_fields__))


@pytest.fixture
def known() -> commands.Commands:
    worker = Worker(StaticLookup({}), Policy(), Probe(), None, (), lambda: True)
    return commands.Commands(Known(), worker, journal.Journal(), "1.0")


def test_an_answer_has_no_more_than_so_many_rows(known: commands.Commands) -> None:
    rows = known.servers()
    assert len(rows) == commands.MAX_ROWS
    assert (rows[0]["server"], rows[0]["state"], rows[0]["reason"]) == ("udp:203.0.113.1:5060", "down", "silent")


def test_no_more_than_so_many_events_and_moves_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_MOVED", 5)
    kept = journal.Journal()
    for number in range(journal.MAX_EVENTS + 50):
        kept.note(events.AccountMoved(number % 10, "alice@voip.example", Server("192.0.2.1", 5060), None, str(number)))
    told = kept.last(1000)
    assert [row["reason"] for row in told] == [str(number) for number in range(50, journal.MAX_EVENTS + 50)]
    assert [row["reason"] for row in kept.last(2)] == [row["reason"] for row in told[-2:]]
    assert [account for account in range(10) if kept.moved(account) is not None] == [5, 6, 7, 8, 9]
    assert kept.last(0) == []


def test_many_events_of_one_kind_leave_those_of_another() -> None:
    kept = journal.Journal()
    server = Server("192.0.2.1", 5060)
    kept.note(events.ServerUp(server, Health(reason="before")))
    for number in range(journal.MAX_EVENTS + 50):
        kept.note(events.FailedOver("INVITE", str(number), server, server, events.Reason.SLOW, 0.1))
    kept.note(events.ServerUp(server, Health(reason="after")))
    told = [row.get("reason", row["event"]) for row in kept.last(3)]
    assert told == ["before", "FailedOver", "FailedOver", "FailedOver", "after"]


def test_a_refresh_is_passed_on(known: commands.Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(Known, "refresh", lambda _, uri: asked.append(uri), raising=False)
    assert asyncio.run(known.answer("refresh", {"uri": "sip:voip.example"}, "a test")) == []
    assert asked == ["sip:voip.example"]


def test_a_target_of_a_sips_uri_is_that_which_pjsip_asks_for() -> None:
    assert commands.asked_target("sips:voip.example") == Target("voip.example", 0, "tls", secure=True)


def test_the_shared_memory_is_told_of_where_there_is_one(known: commands.Commands, tmp_path: Path) -> None:
    assert known.shared() is None
    worker = Worker(
        StaticLookup({}), Policy(), Probe(), None, (), lambda: True, shared=Shared(str(tmp_path / "shared.db"), trust=3)
    )
    told = commands.Commands(Known(), worker, journal.Journal(), "1.0").shared()
    assert told is not None
    assert (told["store"], told["connected"]) == (str(tmp_path / "shared.db"), False)
