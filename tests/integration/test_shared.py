"""What one process has learnt of a server, another knows: real pjsua2 programs with one store."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rig import shared_app
from rig.app import App
from rig.shared_app import started, until, went_to

from pjfail import Server, Shared
from pjfail.shared.entries import Entry
from pjfail.shared.sqlite import SqliteStore
from pjfail.testing import SILENT, WELL, Registrar

FIRST, SECOND = "127.0.131.1", "127.0.131.2"

pytestmark = pytest.mark.usefixtures("second")


def app_with(store: object, policy: str = "Policy()") -> App:
    return shared_app.app_with(FIRST, SECOND, store, policy)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "shared.db"


def test_a_process_that_starts_later_or_was_idle_asks_the_dead_server_nothing(first: Registrar, store: Path) -> None:
    with app_with(store) as one, app_with(store) as idle:
        started(one)
        started(idle)
        first.fault = SILENT
        assert went_to(one) == SECOND
        until(one, "down")
        told = until(idle, "down")
        assert told["told"] == 1
        assert told["reason"].startswith("silent to OPTIONS at ")
        assert told["reason"].endswith(", told by 1")
        assert went_to(idle, "INVITE") == SECOND
        with app_with(store) as late:
            started(late)
            assert went_to(late, "INVITE") == SECOND
            assert "told by 1" in late.ask("plan")["plan"]
        assert all(request.method != "INVITE" for request in first.requests)  # none of the two has sent it one


def test_the_memory_outlives_the_process(first: Registrar, store: Path) -> None:
    first.fault = SILENT
    with app_with(store) as one:
        assert went_to(started(one)) == SECOND
        until(one, "down")
        time.sleep(0.3)  # it tells soon, not at once
    with app_with(store) as again:
        assert went_to(started(again), "INVITE") == SECOND
    assert all(request.method != "INVITE" for request in first.requests)


def test_one_probes_and_all_hear_that_the_server_is_back(first: Registrar, store: Path) -> None:
    soon = "Policy(backoff=lambda failures, random: 1.0, slow_start=0)"
    first.fault = SILENT
    with app_with(store, soon) as one, app_with(store, soon) as two, app_with(store, soon) as three:
        for each in (one, two, three):
            started(each)
            each.ask("plan")
        assert went_to(one) == SECOND
        until(one, "down")
        until(two, "down")
        until(three, "down")
        before = len(first.requests)
        began = time.monotonic()
        time.sleep(8)
        probes = len({request.call_id for request in first.requests[before:]})
        assert 1 <= probes <= 1 + (time.monotonic() - began) / 2  # about one in three seconds, and not from each
        first.fault = WELL
        for each in (one, two, three):
            until(each, "up", 12)
        assert went_to(three) == FIRST


def test_a_forked_child_is_inert_and_the_parent_goes_on(first: Registrar, store: Path) -> None:
    with app_with(store) as one, app_with(store) as two:
        started(one)
        started(two)
        assert one.ask("fork") == {"status": 0}
        first.fault = SILENT
        went_to(one)
        until(one, "down")
        until(two, "down")
        assert one.ask("status")["connected"]


def ctl(store: Path, *words: str, status: int = 0) -> str:
    """What `pjfail ctl --fleet` prints."""
    command = [sys.executable, "-m", "pjfail", "ctl", "--fleet", *words]
    run = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PJFAIL_SHARED": str(store)}
    )
    assert run.returncode == status, run.stderr
    return run.stdout + run.stderr


def test_an_operators_order_is_for_all_and_for_a_time(first: Registrar, store: Path) -> None:
    server = f"udp:{FIRST}:5060"
    with app_with(store) as one, app_with(store) as two:
        started(one).ask("plan")
        started(two).ask("plan")
        assert "for 3600 s, says alice" in ctl(store, "--author", "alice", "drain", server)
        for app in (one, two):
            assert until(app, "draining")["reason"] == "drained for the fleet by alice"
            assert went_to(app) == SECOND
        with app_with(store) as late:
            assert went_to(started(late), "INVITE") == SECOND
        ctl(store, "restore", server)
        for app in (one, two):
            until(app, "up")
            assert went_to(app) == FIRST
        ctl(store, "--author", "bob", "mark-down", server, "5")
        for app in (one, two):
            assert until(app, "down")["reason"] == "marked down for the fleet by bob"
        for app in (one, two):
            until(app, "up", 20)  # by itself
            assert went_to(app) == FIRST


def test_an_order_that_cannot_be_meant_is_refused(store: Path) -> None:
    assert "--fleet is for drain, mark-down, restore, not for servers" in ctl(store, "servers", status=2)
    assert "write udp:192.0.2.1:5060" in ctl(store, "drain", "192.0.2.1:5060", status=2)
    assert "an order to a fleet holds from 1 to 86400 seconds" in ctl(
        store, "--for", "1e9", "drain", "udp:192.0.2.1:5060", status=2
    )
    assert "nowhere is missing; create" in ctl(store / "nowhere" / "x.db", "drain", "udp:192.0.2.1:5060", status=1)


def told(store: Path, entry: Entry) -> None:
    """Another process says that."""

    async def write() -> None:
        opened = SqliteStore(Shared(str(store)))
        await opened.open()
        await opened.write([entry])
        await opened.close()

    asyncio.run(write())


def said(store: Path) -> dict[str, str]:
    """What stands in the store: writers, and what they say."""
    connection = sqlite3.connect(store)
    rows = connection.execute("SELECT body FROM entries").fetchall()
    connection.close()
    return {row["writer"]: row["kind"] for row in (json.loads(body) for (body,) in rows)}


def test_an_own_fresh_success_outranks_a_stranger_and_is_told(first: Registrar, store: Path) -> None:
    down = Entry(Server(FIRST, 5060), "stranger", "down", 1, 60.0, host="host-7", reason="silent to INVITE")
    with app_with(store) as one:
        assert went_to(started(one)) == FIRST
        told(store, replace(down, age=20.0))  # its request was sent before ours, which was answered
        deadline = time.monotonic() + 8
        while "up" not in said(store).values():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert one.ask("health")["state"] == "up"
        assert one.ask("status")["contradicted"] == 1
        told(store, replace(down, sequence=2))
        assert until(one, "down")["reason"] == "silent to INVITE at host-7, told by 1"
        assert went_to(one) == SECOND
        told(store, replace(down, sequence=3, kind="gone"))
        until(one, "up")  # nobody says so any more, so a probe has told
        assert went_to(one) == FIRST


def test_when_all_are_down_by_others_words_a_request_is_answered_all_the_same(first: Registrar, store: Path) -> None:
    for address in (FIRST, SECOND):
        told(store, Entry(Server(address, 5060), "stranger", "down", 1, 60.0, host="host-7", reason="silent"))
    with app_with(store) as one:
        assert one.next() == {"ready": True}
        assert one.ask("INVITE")["code"] == 200
