"""What one process has learnt of a server, another knows: real pjsua2 programs with one store."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from rig import shared_app
from rig.app import App
from rig.shared_app import started, until, went_to

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
        before = len(first.requests)
        told = until(idle, "down")
        assert told["told"] == 1
        assert told["reason"].startswith("silent to OPTIONS at ")
        assert told["reason"].endswith(", told by 1")
        assert went_to(idle, "INVITE") == SECOND
        with app_with(store) as late:
            started(late)
            assert went_to(late, "INVITE") == SECOND
            assert "told by 1" in late.ask("plan")["plan"]
            assert len(first.requests) == before  # none of the two has sent it anything


def test_the_memory_outlives_the_process(first: Registrar, store: Path) -> None:
    first.fault = SILENT
    with app_with(store) as one:
        assert went_to(started(one)) == SECOND
        until(one, "down")
        time.sleep(0.3)  # it tells soon, not at once
    before = len(first.requests)
    with app_with(store) as again:
        assert went_to(started(again)) == SECOND
    assert len(first.requests) == before


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
