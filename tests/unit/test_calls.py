"""Calls under way: which are refreshed, which are stranded, and which connection each is on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig.core import library

from pjfail import Follow, Health, Server, State, Target, events
from pjfail.bridge.calls import Call
from pjfail.calls import MAX_LEFT, MAX_STRANDED, REVIEW_DELAY, Calls, Verdict, decide
from pjfail.following import FollowedAccount

SERVER = Server("192.0.2.1", 5060, "tcp")
OTHER = Server("192.0.2.2", 5060, "tcp")
FOLLOWED = FollowedAccount(0, "alice@b", Target("b"), Follow(calls="refresh"), server=OTHER)
CORE = Path(__file__).resolve().parents[2] / "pjfail/_core"


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("may_move", [False, True])
def test_what_becomes_of_a_call(state: State, ended: bool, may_move: bool) -> None:
    """Never a request to a server that is down; never one without need."""
    verdict = decide(ended, Health(state), may_move)
    if state in (State.DOWN, State.HALF_OPEN) and not may_move:
        assert verdict is Verdict.STRANDED
    else:
        assert verdict is (Verdict.REFRESH if ended else Verdict.LEAVE)


def test_so_many_stranded_calls_are_remembered() -> None:
    """Each is told of once."""
    told: list[events.Event] = []
    calls = Calls(lambda _: Health(State.DOWN), lambda _: False, told.append, lambda *_: None)
    for number in range(MAX_STRANDED + 1):
        for _ in range(2):
            calls.on_call(Call(0, 1, f"{number}", SERVER, True, False), FOLLOWED)
    assert len(told) == MAX_STRANDED + 1
    calls.on_call(Call(0, 1, "1", SERVER, True, False), FOLLOWED)
    assert len(told) == MAX_STRANDED + 1
    calls.on_call(Call(0, 1, "0", SERVER, True, False), FOLLOWED)
    assert len(told) == MAX_STRANDED + 2
    assert isinstance(told[0], events.CallStranded)


def test_calls_that_an_account_has_left_are_looked_at_once_their_server_is_down() -> None:
    """Of so many accounts. Those whose own server that is move when it is down, and are looked at then."""
    after: list[float] = []
    calls = Calls(lambda _: Health(), lambda _: False, lambda _: None, lambda seconds, _: after.append(seconds))
    down = events.ServerDown(SERVER, Health(State.DOWN), None)
    calls.on_event(down)
    for number in range(MAX_LEFT + 1):
        calls.on_call(Call(number, 1, f"{number}", SERVER, False, False), FOLLOWED)
    calls.on_call(Call(1, 1, "1", OTHER, False, False), FOLLOWED)
    calls.on_event(events.ServerDown(OTHER, Health(State.DOWN), None))
    assert after == []
    calls.on_event(down)
    assert after == [REVIEW_DELAY] * MAX_LEFT
    calls.on_event(down)
    assert len(after) == MAX_LEFT


def test_only_accounts_that_ask_for_it_have_their_calls_looked_at() -> None:
    after: list[float] = []
    calls = Calls(lambda _: Health(), lambda _: False, lambda _: None, lambda seconds, _: after.append(seconds))
    calls.on_registered(FollowedAccount(0, "a@b", Target("b"), Follow()))
    assert after == []
    calls.on_registered(FollowedAccount(0, "a@b", Target("b"), Follow(calls="refresh")))
    assert after == [REVIEW_DELAY]


# --- the core's table, whose transports are numbers ------------------------------------------------------------------

DECLARATIONS = """
    int set_up(const char *call_id, const char *method, int code, long connection);
    void end(long connection);
    int ended(const char *call_id);
    int count(void);
    void calls_clear(void);
"""
SOURCE = """
#include "calls.c"

/* A transport of that number: its type is what calls.c reads. */
static pjsip_transport transports[8];

int set_up(const char *call_id, const char *method, int code, long connection)
{
    pj_str_t text = { (char *)call_id, (pj_ssize_t)strlen(call_id) };
    pjsip_method sent = { !strcmp(method, "INVITE") ? PJSIP_INVITE_METHOD : PJSIP_OTHER_METHOD,
                          { (char *)method, (pj_ssize_t)strlen(method) } };
    pf_address server = { .family = 4, .transport = PF_TCP };

    transports[connection].key.type = connection ? PJSIP_TRANSPORT_TCP : PJSIP_TRANSPORT_UDP;
    calls_on_accepted(&text, &sent, code, &transports[connection], &server);
    return 0;
}

void end(long connection) { calls_on_transport_state(&transports[connection], PJSIP_TP_STATE_DISCONNECTED); }

/* -1: not known */
int ended(const char *call_id)
{
    pj_str_t text = { (char *)call_id, (pj_ssize_t)strlen(call_id) };
    struct call *call = calls_find_locked(&text);

    return call ? call->ended : -1;
}

int count(void) { return (int)calls.table.count; }
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("calls")
    (folder / "table.c").write_text(SOURCE)
    return library(folder / "calls.so", f"{folder / 'table.c'} hash_table.c host.c layout.c", DECLARATIONS)[1]


@pytest.fixture
def table(built: Any) -> Iterator[Any]:
    yield built
    built.calls_clear()


def test_a_call_is_on_the_connection_of_its_last_2xx(table: Any) -> None:
    table.set_up(b"a", b"INVITE", 200, 1)
    table.set_up(b"b", b"INVITE", 200, 1)
    table.set_up(b"c", b"INVITE", 200, 2)
    table.set_up(b"d", b"INVITE", 200, 0)  # over UDP
    table.set_up(b"e", b"INVITE", 180, 1)
    table.set_up(b"f", b"MESSAGE", 200, 1)
    table.set_up(b"b", b"UPDATE", 200, 2)
    table.end(1)
    assert [table.ended(each) for each in (b"a", b"b", b"c", b"d", b"e", b"f")] == [1, 0, 0, 0, -1, -1]
    table.set_up(b"a", b"INVITE", 200, 3)
    assert table.ended(b"a") == 0
    table.end(1)
    table.end(2)
    assert [table.ended(each) for each in (b"a", b"b", b"c", b"d")] == [0, 1, 1, 0]


def test_at_the_bound_the_call_of_longest_ago_goes(table: Any) -> None:
    [most] = map(int, re.findall(r"MAX_CALLS = (\d+)", (CORE / "calls.c").read_text("utf-8")))
    for number in range(most):
        table.set_up(str(number).encode(), b"INVITE", 200, 1 + number % 3)
    table.set_up(b"0", b"UPDATE", 200, 1)
    table.set_up(b"one more", b"INVITE", 200, 1)
    assert table.count() == most
    assert [table.ended(each) for each in (b"0", b"1", b"2", b"one more")] == [0, -1, 0, 0]
    table.end(1)
    assert table.ended(b"one more") == 1
