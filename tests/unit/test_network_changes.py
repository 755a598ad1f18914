"""What a change of addresses, routes or clocks means: pure functions of values, and one look at loopback."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail import Follow, Health, Server, State, Target
from pjfail.following import REGISTER_AFTER_MOVE, FollowedAccount, Refusal, on_another_network
from pjfail.model import Outcome, OutcomeKind
from pjfail.network import (
    MAX_WAIT,
    PAUSE,
    QUIET,
    Change,
    Clocks,
    Network,
    NetworkWatch,
    compare,
    due,
    source_towards,
    suspended,
)
from pjfail.policy import is_pardonable, pardoned

SERVER = Server("192.0.2.1", 5060, "udp")
HOME, ROAD = {"192.0.2.1": "10.0.0.1"}, {"192.0.2.1": "10.9.9.9"}
GONE: dict[str, str | None] = {"192.0.2.1": None}

sources = st.dictionaries(st.sampled_from("ABC"), st.sampled_from(["10.0.0.1", "10.0.0.2"]))
looks = st.dictionaries(st.sampled_from("ABC"), st.sampled_from(["10.0.0.1", "10.0.0.2", None]))


@pytest.mark.parametrize(
    ("network", "found", "change"),
    [
        (Network(), HOME, Change.NONE),  # the first look has nothing to differ from
        (Network(HOME, since=1.0), HOME, Change.NONE),  # an interface that leads to no server
        (Network(HOME), {}, Change.NONE),
        (Network(HOME), ROAD, Change.MOVED),
        (Network(HOME), GONE, Change.LOST),
        (Network(HOME, lost=True), GONE, Change.NONE),  # still
        (Network(HOME, lost=True), HOME, Change.BACK),
        (Network(HOME, lost=True), ROAD, Change.MOVED),
        (Network(HOME, resumed=True), HOME, Change.MOVED),
        (Network(HOME, resumed=True), GONE, Change.LOST),
        (
            Network({"A": "1", "B": "1"}),
            {"A": "1", "B": None},
            Change.CUT,
        ),
        (Network({"A": "1", "B": "1"}), {"A": None, "B": "2"}, Change.MOVED),
        (Network({"A": "1"}), {"A": "1", "B": None}, Change.NONE),  # there never was a route
    ],
)
def test_what_a_look_means(network: Network, found: Mapping[str, str | None], change: Change) -> None:
    assert compare(network, found, False)[1] is change


def test_a_network_with_another_server_to_go_to_is_not_lost() -> None:
    """The accounts must leave theirs. It is told once."""
    network, change = compare(Network(HOME, since=7.0), GONE, True)
    assert (network, change) == (Network(), Change.CUT)
    assert compare(network, GONE, True)[1] is Change.NONE
    assert compare(network, HOME, False) == (Network(HOME), Change.NONE)


def test_a_network_that_was_lost_remembers_its_addresses_and_since_when() -> None:
    network, _ = compare(Network(HOME, since=7.0, resumed=True), GONE, False)
    assert network == Network(HOME, since=7.0, lost=True, resumed=True)
    assert compare(network, HOME, False) == (Network(HOME), Change.MOVED)


@given(sources, st.lists(looks, max_size=8))
def test_looks_that_find_the_same_again_change_nothing(
    known: dict[str, str], found: list[dict[str, str | None]]
) -> None:
    network = Network(known)
    for each in found:
        network, _ = compare(network, each, False)
        again, change = compare(network, each, False)
        assert (again, change) == (network, Change.NONE)


@given(sources, looks)
def test_only_a_server_whose_source_differs_means_a_move(known: dict[str, str], found: dict[str, str | None]) -> None:
    differs = any(source is not None and known.get(server, source) != source for server, source in found.items())
    assert (compare(Network(known), found, False)[1] is Change.MOVED) == differs


@pytest.mark.parametrize(
    ("first", "last", "acted", "at"),
    [
        (10.0, 10.0, 0.0, 10.0 + QUIET),
        (10.0, 11.0, 0.0, 11.0 + QUIET),
        (10.0, 13.0, 0.0, 10.0 + MAX_WAIT),  # news without an end
        (10.0, 10.0, 9.5, 9.5 + PAUSE),  # an address that flaps
    ],
)
def test_when_news_are_looked_at(first: float, last: float, acted: float, at: float) -> None:
    assert due(first, last, acted) == at


@pytest.mark.parametrize(
    ("before", "after", "slept"),
    [
        (Clocks(100, 200), Clocks(102, 202), False),
        (Clocks(100, 200), Clocks(102, 202.5), False),  # read one after the other, on a busy machine
        (Clocks(100, 200), Clocks(102, 3802), True),
        (Clocks(100, 200), Clocks(5000, 5100), False),  # a stopped process: the machine ran
        (Clocks(100, 90), Clocks(102, 92), False),  # a time namespace
    ],
)
def test_a_machine_that_slept_is_told_by_its_clocks(before: Clocks, after: Clocks, slept: bool) -> None:
    assert suspended(before, after) is slept


def test_sleep_is_a_change_of_the_network() -> None:
    watch = NetworkWatch(
        lambda: ["127.0.0.1"], lambda: [], lambda: None, lambda change, began: told.append((change, began))
    )
    told: list[tuple[Change, float]] = []
    watch._clocks = Clocks(100, 200)
    watch.tick(Clocks(102, 202))
    watch._look()
    assert told == []
    watch.tick(Clocks(104, 3804))
    watch._look()
    assert told == [(Change.MOVED, 102)]
    watch._look()
    assert len(told) == 1


def test_an_account_that_has_registered_amid_news_is_taken_to_have_moved() -> None:
    """Nobody knows from which address it has registered."""
    told: list[Change] = []
    watch = NetworkWatch(lambda: ["127.0.0.1"], lambda: [], lambda: None, lambda change, _: told.append(change))
    watch.remember(Server("127.0.0.1", 5060))
    watch._look()
    assert told == []
    watch = NetworkWatch(lambda: ["127.0.0.1"], lambda: [], lambda: None, lambda change, _: told.append(change))
    watch._network = Network(since=1.0)
    watch.remember(Server("127.0.0.1", 5060))
    watch._look()
    assert told == [Change.MOVED]


@pytest.mark.parametrize(
    ("seen", "began", "at", "excused"),
    [
        (OutcomeKind.SILENT, 90, 95, False),  # over before the network failed
        (OutcomeKind.SILENT, 90, 105, True),
        (OutcomeKind.SILENT, 102, 109, True),
        (OutcomeKind.SILENT, 112, 116, False),  # sent when all was well again
        (OutcomeKind.DISCONNECTED, None, 105, True),
        (OutcomeKind.REFUSED, None, 112, False),
        (OutcomeKind.UNAVAILABLE, None, 105, False),  # the server said so
        (OutcomeKind.ANSWERED, None, 105, False),
    ],
)
def test_which_outcomes_are_the_networks(seen: OutcomeKind, began: float | None, at: float, excused: bool) -> None:
    watch = NetworkWatch(lambda: [], lambda: [], lambda: None, lambda *_: None)
    watch._gap = (100, 110)
    assert watch.excuses(Outcome(SERVER, seen, at, began=began)) is excused
    assert not NetworkWatch(lambda: [], lambda: [], lambda: None, lambda *_: None).excuses(
        Outcome(SERVER, seen, at, began=began)
    )


def test_the_source_towards_a_server_is_the_kernels() -> None:
    assert source_towards("127.0.0.1") == "127.0.0.1"


@pytest.mark.parametrize(
    ("health", "pardonable"),
    [
        (Health(), False),
        (Health(State.SUSPECT, since=101), True),
        (Health(State.SUSPECT, since=99), False),
        (Health(State.DOWN, since=101, failures=1), True),
        (Health(State.DOWN, since=101, failures=2), False),  # it had been down before
        (Health(State.DOWN, since=101, failures=1, held=True), False),  # its own 503, or the application
        (Health(State.DRAINING, since=101), False),
    ],
)
def test_what_is_pardoned(health: Health, pardonable: bool) -> None:
    assert is_pardonable(health, 100) is pardonable
    after = pardoned(health, 110)
    assert (after.state, after.since, after.failures) == (State.UP, 110, 0)


NEXT_HOP = Target("voip.example")
REFUSED = Refusal(SERVER, 500.0, 500)


@pytest.mark.parametrize("change", [Change.MOVED, Change.BACK, Change.CUT])
def test_an_account_registers_on_another_network(change: Change) -> None:
    account = FollowedAccount(
        0, "a@b", NEXT_HOP, Follow(network=True, spread=2), SERVER, failed_at=SERVER, refused=(REFUSED,)
    )
    after = on_another_network(account, change, 100, Random(0))
    assert (after.server, after.failed_at, after.refused) == (SERVER, None, ())
    assert after.register_at is not None
    if change is Change.MOVED:
        assert after.register_at == 100 + REGISTER_AFTER_MOVE
    else:
        assert 100 <= after.register_at <= 102


@pytest.mark.parametrize(
    "account",
    [
        FollowedAccount(0, "a@b", NEXT_HOP, Follow(network=True)),  # not registered, or no longer
        FollowedAccount(0, "a@b", NEXT_HOP, Follow(), SERVER),
    ],
)
def test_an_account_that_does_not_ask_for_it_is_left_alone(account: FollowedAccount) -> None:
    assert on_another_network(account, Change.MOVED, 100, Random(0)) is account
