"""Which accounts are followed without being named: the laws of decide(), and what the finder keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail.bridge import accounts
from pjfail.bridge.accounts import Account
from pjfail.bridge.pins import Registration
from pjfail.finder import MAX_CALLS, MAX_READS, MAX_SEEN, Finder, FinderContext, decide
from pjfail.follow_settings import GENTLE_WATCH, Follow
from pjfail.following import FollowedAccount, Follower, FollowerContext, watched_servers
from pjfail.model import Server, Target

SETTINGS, OWN = Follow(), Follow(watch=4, failback=5)
HERE, THERE = Target("sip.test"), Target("other.test")
ALICE, BOB = "alice@sip.test", "bob@sip.test"

read = st.none() | st.builds(
    lambda aor, next_hop, registers, affinity: Account(
        3, aor, next_hop, "", False, registers, False, None, affinity, ()
    ),
    st.sampled_from([ALICE, BOB]),
    st.none() | st.sampled_from([HERE, THERE]),
    st.booleans(),
    st.none() | st.booleans(),
)
followed_so_far = st.none() | st.builds(
    lambda aor, next_hop, automatic: FollowedAccount(
        3, aor, next_hop, SETTINGS if automatic else OWN, Server("192.0.2.1", 5060), automatic=automatic
    ),
    st.sampled_from([ALICE, BOB]),
    st.sampled_from([HERE, THERE]),
    st.booleans(),
)


def may_be_followed(account: Account | None) -> bool:
    return account is not None and account.registers and account.next_hop is not None


@given(read, followed_so_far, st.booleans())
def test_who_is_gone_or_has_no_registrar_is_not_followed(
    account: Account | None, before: FollowedAccount | None, hands_off: bool
) -> None:
    if not may_be_followed(account):
        assert decide(account, before, SETTINGS, hands_off=hands_off) is None


@given(read, followed_so_far, st.booleans())
def test_who_is_followed_is_that_account_at_its_own_registrar(
    account: Account | None, before: FollowedAccount | None, hands_off: bool
) -> None:
    followed = decide(account, before, SETTINGS, hands_off=hands_off)
    if followed is not None and account is not None:
        assert (followed.account, followed.aor, followed.next_hop) == (account.id, account.aor, account.next_hop)
        anew = FollowedAccount(3, followed.aor, followed.next_hop, followed.settings, automatic=followed.automatic)
        assert followed in (before, anew)


@given(read, followed_so_far, st.booleans())
def test_every_account_with_a_registrar_is_followed_but_where_the_application_keeps_it_or_pjsip_does(
    account: Account | None, before: FollowedAccount | None, hands_off: bool
) -> None:
    followed = decide(account, before, SETTINGS, hands_off=hands_off)
    ordered = before is not None and account is not None and before.aor == account.aor and not before.automatic
    if may_be_followed(account) and account is not None and not ordered:
        assert (followed is None) == (hands_off or account.affinity is True)
        assert followed is None or (followed.automatic and followed.settings == SETTINGS)


@given(read, followed_so_far, st.booleans())
def test_what_the_application_has_ordered_holds_as_long_as_the_account_lives(
    account: Account | None, before: FollowedAccount | None, hands_off: bool
) -> None:
    if before is None or account is None or before.automatic or before.aor != account.aor:
        return
    followed = decide(account, before, SETTINGS, hands_off=hands_off)
    if may_be_followed(account):
        assert followed is not None
        assert (followed.automatic, followed.settings) == (False, OWN)


@given(read, followed_so_far, st.booleans())
def test_to_decide_again_changes_nothing(
    account: Account | None, before: FollowedAccount | None, hands_off: bool
) -> None:
    followed = decide(account, before, SETTINGS, hands_off=hands_off)
    assert decide(account, followed, SETTINGS, hands_off=hands_off) == followed


# --- who is asked -----------------------------------------------------------------------------------------------------

on_servers = st.lists(
    st.builds(
        lambda number, transport, watch: FollowedAccount(
            number, f"{number}@sip.test", HERE, Follow(watch=watch), Server(f"192.0.2.{number}", 5060, transport)
        ),
        st.integers(1, 3),
        st.sampled_from(["udp", "tcp", "tls"]),
        st.none() | st.sampled_from([1.0, 4.0, GENTLE_WATCH, 30.0]),
    )
)


@given(on_servers)
def test_a_server_is_asked_as_often_as_the_account_wants_that_wants_it_most(on: list[FollowedAccount]) -> None:
    watched = watched_servers(on)
    for each in on:
        watch, server = each.settings.watch, each.server
        if watch is not None and server is not None and (server.transport == "udp" or watch < GENTLE_WATCH):
            assert watched[server].interval <= watch
    for server, asked in watched.items():
        assert asked.interval in [each.settings.watch for each in on if each.server == server]
        assert server.transport == "udp" or asked.interval < GENTLE_WATCH


# --- what is kept -----------------------------------------------------------------------------------------------------


@pytest.fixture
def finder() -> Finder:
    def at(_when: float, _function: Callable[[], None]) -> None:
        pass

    context = FollowerContext(lambda _target: None, dict, lambda _event: None, at)
    return Finder(SETTINGS, Follower(context, Random(1)), FinderContext(lambda _account: False, at))


def registers(aor: str, call: int) -> Registration:
    return Registration(-3, aor, Server("192.0.2.1", 5060), 0, 0, None, False, next_hop=HERE, call=call)


def test_the_registers_of_strangers_are_bounded(finder: Finder) -> None:
    for number in range(MAX_SEEN + 10):
        finder.on_registration(registers(f"{number}@sip.test", 1), 0.0)
    for call in range(MAX_CALLS + 5):
        finder.on_registration(registers(ALICE, call), 0.0)
        finder.on_registration(replace(registers(ALICE, call), code=401, next_hop=None), 0.0)
    assert len(finder._seen) == MAX_SEEN
    assert list(finder._seen[ALICE]) == list(range(5, MAX_CALLS + 5))
    assert all(each.next_hop == HERE for each in finder._seen[ALICE].values())


def test_so_many_accounts_are_read_at_once(finder: Finder, monkeypatch: pytest.MonkeyPatch) -> None:
    reading: list[int] = []
    monkeypatch.setattr(accounts, "read_soon", reading.append)
    for number in range(3 * MAX_READS):
        finder.consider(number)
    assert reading == list(range(MAX_READS))
    finder.on_found(0, None, 0.0)
    assert reading[-1] == MAX_READS
    for number in list(range(1, 3 * MAX_READS)):
        finder.on_found(number, None, 0.0)
    assert reading == list(range(3 * MAX_READS))
