"""Which standby registrations an account has: tables, and what holds whatever happens."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail.bridge.standby import StandbyResult
from pjfail.follow_settings import Follow
from pjfail.following import FollowedAccount
from pjfail.model import Health, Server, State, Target
from pjfail.standby import (
    FIRST_NUMBER,
    FIRST_RETRY,
    KEEP_ALIVE,
    LAST_RETRY,
    REFUSED_RETRY,
    Changes,
    Standby,
    decide,
    heard,
    settled,
)

A, B, C, D = ALL = tuple(Server(f"192.0.2.{number}", 5060, "udp") for number in range(1, 5))
DOWN = Health(state=State.DOWN, since=0.0, reason="silent")
NOW = 1000.0


def account(server: Server | None = A, standby: int = 1, **fields: object) -> FollowedAccount:
    settings = Follow(standby=standby, spread=2.0)
    return replace(FollowedAccount(0, "alice@sip.test", Target("sip.test"), settings, server), **fields)  # type: ignore[arg-type]


def at(server: Server, number: int = FIRST_NUMBER, due: float | None = None) -> Standby:
    return Standby(server, number, due, since=None if due else NOW - 100)


def decided(
    followed: FollowedAccount,
    *standbys: Standby,
    order: tuple[Server, ...] = ALL,
    down: tuple[Server, ...] = (),
    now: float = NOW,
) -> Changes:
    return decide(followed, standbys, order, dict.fromkeys(down, DOWN), now, Random(1))


def result(server: Server = B, code: int = 0, **fields: object) -> StandbyResult:
    return replace(StandbyResult(0, "alice@sip.test", server, code, 0), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("followed", "standbys", "down", "kept", "end", "let_go"),
    [
        pytest.param(account(), (), (), (B,), (), (), id="the next server of the plan"),
        pytest.param(account(), (), (B,), (C,), (), (), id="one that is usable"),
        pytest.param(account(), (), (B, C, D), (), (), (), id="none is usable"),
        pytest.param(account(standby=2), (), (), (B, C), (), (), id="a number of servers"),
        pytest.param(account(standby=7), (), (), (B, C, D), (), (), id="as many as there are"),
        pytest.param(account(), (at(C),), (), (C,), (), (), id="one that is registered stays"),
        pytest.param(account(), (at(B),), (B,), (C,), (), (B,), id="its server is down"),
        pytest.param(account(B), (at(B),), (A,), (C,), (B,), (), id="the account has moved there"),
        pytest.param(account(B, trying=A), (at(A),), (), (A,), (), (), id="the account tries it"),
        pytest.param(account(B, trying=A), (), (), (C,), (), (), id="none at the one that it tries"),
        pytest.param(account(standby=1), (at(B), at(C, 3)), (), (B,), (C,), (), id="fewer are wanted now"),
        pytest.param(account(None), (at(B),), (), (), (B,), (), id="it unregistered"),
        pytest.param(account(None, trying=A), (), (), (), (), (), id="it registers for the first time"),
        pytest.param(account(None, lost=True), (at(B),), (A,), (B,), (), (), id="all others are down"),
        pytest.param(account(standby=0), (at(B),), (), (), (B,), (), id="it is switched off"),
    ],
)
def test_which_servers_have_a_standby(
    followed: FollowedAccount,
    standbys: tuple[Standby, ...],
    down: tuple[Server, ...],
    kept: tuple[Server, ...],
    end: tuple[Server, ...],
    let_go: tuple[Server, ...],
) -> None:
    changes = decided(followed, *standbys, down=down)
    assert tuple(each.server for each in changes.standbys) == kept
    assert (changes.end, changes.let_go) == (end, let_go)


def test_a_server_that_left_the_plan_has_none() -> None:
    assert decided(account(), at(D), order=(A, B)).end == (D,)


def test_a_server_of_another_transport_has_none() -> None:
    over_tcp = Server("192.0.2.9", 5060, "tcp")
    assert [each.server for each in decided(account(), order=(over_tcp, A, B)).standbys] == [B]


def test_the_first_register_is_spread() -> None:
    changes = decided(account())
    assert changes.register == ()
    due = changes.standbys[0].due
    assert due is not None
    assert NOW <= due <= NOW + 2.0
    later = decided(account(), *changes.standbys, now=due)
    assert [each.server for each in later.register] == [B]
    assert later.standbys[0].due is None
    assert decided(account(), *later.standbys, now=due).register == ()


def test_each_has_a_reg_id_of_its_own() -> None:
    changes = decided(account(standby=3), at(C, 3))
    assert [(each.server, each.number) for each in changes.standbys] == [(C, 3), (B, 2), (D, 4)]


def test_a_nat_is_kept_open_over_udp_alone() -> None:
    standby = heard(at(B, due=NOW), result(code=200), 2.0, NOW, Random(1))
    assert standby.alive_at is not None
    assert NOW < standby.alive_at <= NOW + KEEP_ALIVE
    changes = decided(account(), standby, now=standby.alive_at)
    assert changes.keep_alive == (B,)
    assert changes.standbys[0].alive_at is not None
    assert changes.standbys[0].alive_at > standby.alive_at
    over_tcp = Standby(Server("192.0.2.2", 5060, "tcp"), 2, NOW)
    assert heard(over_tcp, result(over_tcp.server, 200), 2.0, NOW, Random(1)).alive_at is None


def test_a_failure_is_tried_again_ever_later() -> None:
    standby, waits = at(B, due=NOW), []
    for _ in range(12):
        standby = heard(standby, result(code=503), 2.0, NOW, Random(1))
        assert standby.due is not None
        assert standby.since is None
        waits.append(standby.due - NOW)
    assert FIRST_RETRY / 2 <= waits[0] <= FIRST_RETRY
    assert waits == sorted(waits)
    assert waits[-1] <= LAST_RETRY


@pytest.mark.parametrize("code", [401, 403, 404, 407, 603])
def test_a_refusal_is_tried_again_slowly(code: int) -> None:
    standby = heard(at(B, due=NOW), result(code=code), 2.0, NOW, Random(1))
    assert standby.code == code
    assert standby.due is not None
    assert standby.due >= NOW + 0.8 * REFUSED_RETRY
    assert heard(standby, result(code=200), 2.0, NOW + 300, Random(1)).code == 0


def test_a_retry_after_is_honoured_within_bounds() -> None:
    waited = heard(at(B, due=NOW), result(code=503, retry_after=40.0), 2.0, NOW, Random(1)).due
    bounded = heard(at(B, due=NOW), result(code=503, retry_after=1e9), 2.0, NOW, Random(1)).due
    assert waited == NOW + 40
    assert bounded == NOW + 300


def test_a_connection_that_ends_is_replaced_at_once() -> None:
    standby = heard(at(B), result(lost=True), 2.0, NOW, Random(1))
    assert standby.due is not None
    assert standby.due <= NOW + FIRST_RETRY


def test_a_server_that_closes_every_connection_is_tried_ever_later() -> None:
    now, standby, waits = NOW, at(B, due=NOW), []
    for _ in range(8):
        standby = heard(standby, result(code=200), 2.0, now, Random(1))
        standby = heard(standby, result(lost=True), 2.0, now + 1, Random(1))
        assert standby.due is not None
        waits.append(standby.due - now)
        now = standby.due
    assert waits == sorted(waits)
    assert waits[-1] > 30


def test_nothing_is_known_to_copy_yet() -> None:
    standby = at(B, due=None)
    assert heard(standby, result(unknown=True), 2.0, NOW, Random(1)) == replace(standby, waits=True)


servers = st.sampled_from(ALL)


@given(
    own=st.none() | servers,
    trying=st.none() | servers,
    lost=st.booleans(),
    wanted=st.integers(0, 7),
    had=st.lists(servers, unique=True),
    order=st.permutations(ALL).flatmap(lambda order: st.integers(0, 4).map(lambda count: tuple(order[:count]))),
    down=st.sets(servers),
    seed=st.integers(),
)
def test_what_holds_whatever_happens(
    own: Server | None,
    trying: Server | None,
    lost: bool,
    wanted: int,
    had: list[Server],
    order: tuple[Server, ...],
    down: set[Server],
    seed: int,
) -> None:
    followed = account(own, wanted, trying=trying, lost=lost and own is None)
    standbys = [at(server, FIRST_NUMBER + number) for number, server in enumerate(had)]
    changes = decide(followed, standbys, order, dict.fromkeys(down, DOWN), NOW, Random(seed))
    kept = [each.server for each in changes.standbys]
    assert len(kept) <= wanted
    assert len(set(kept)) == len(kept)
    assert own not in kept
    assert all(server in order and (server not in down or server == trying) for server in kept)
    assert len({each.number for each in changes.standbys}) == len(kept)
    assert all(each.number >= FIRST_NUMBER for each in changes.standbys)
    assert {*changes.end, *changes.let_go} == set(had) - set(kept)
    assert all(each in changes.standbys or each.due is not None for each in changes.register)
    if own is not None and settled(followed, changes.standbys, set(order) - down, NOW + 3):
        assert decide(followed, changes.standbys, order, dict.fromkeys(down, DOWN), NOW + 3, Random(seed)) == Changes(
            changes.standbys
        )
    again = decide(followed, changes.standbys, order, dict.fromkeys(down, DOWN), NOW, Random(seed))
    assert not again.end
    assert not again.let_go
    assert [each.server for each in again.standbys] == kept
