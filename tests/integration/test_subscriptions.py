"""The presence and MWI subscriptions of a followed account move with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from rig.app import App

from pjfail.testing import REFUSING, SILENT, UNAVAILABLE, WELL, Fault, Registrar, Request

FIRST, SECOND = "127.0.51.1", "127.0.51.2"

APP = """
    import sys
    import time
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    transport, options, *servers = sys.argv[1:]
    uri = "sip:sip.test" + ("" if transport == "udp" else f";transport={transport}")
    table = {"sip.test": [(f"{transport}:{server}:5060", number, 0) for number, server in enumerate(servers)]}

    class Subscriber(Account):
        def open(self, name):
            config = pj.AccountConfig()
            config.idUri, config.regConfig.registrarUri = f"sip:{name}@sip.test", uri
            config.regConfig.registerOnAdd = False
            config.natConfig.contactRewriteUse = 0
            config.mwiConfig.enabled = True
            self.create(config)
            self.buddies = []

        def watch(self, name):
            config, buddy = pj.BuddyConfig(), pj.Buddy()
            config.uri = f"sip:{name}@sip.test" + uri.removeprefix("sip:sip.test")
            buddy.create(self, config)
            self.buddies.append(buddy)
            buddy.subscribeDlgEvent(True) if name.startswith("line") else buddy.subscribePresence(True)

    def account(name, *watched):
        made = Subscriber(endpoint)
        made.open(name)
        if options:
            eval(f"failover.follow(made, {options})")
        made.reregister()
        for each in watched:
            made.watch(each)
        return made

    endpoint = Endpoint(transports=("udp", "tcp"), ending=0)
    follow, probe = pjfail.Follow(watch=1), pjfail.Probe(timeout=1)
    failover = pjfail.attach(lookup=pjfail.StaticLookup(table), follow=follow, probe=probe)
    names = dict(globals())
    emit(ready=True)
    while word := heard():
        exec(word, names)
        emit(done=True)
    endpoint.destroy()
    emit(destroyed=True)
"""


class Program(App):
    def __init__(self, transport: str = "udp", options: str = "spread=0.2") -> None:
        super().__init__(APP, transport, options, FIRST, SECOND)
        assert self.next() == {"ready": True}

    def do(self, words: str) -> None:
        assert self.ask(words) == {"done": True}


@pytest.fixture
def servers() -> Iterator[tuple[Registrar, Registrar]]:
    with Registrar(FIRST) as first, Registrar(SECOND) as second:
        yield first, second


def subscribed(registrar: Registrar, user: str = "alice") -> dict[str, list[Request]]:
    """The SUBSCRIBEs of a user, without their retransmissions, by event and whom they are for."""
    found: dict[str, list[Request]] = {}
    for each in {each.branch: each for each in reversed(registrar.requests)}.values():
        if each.method == "SUBSCRIBE" and f"sip:{user}@" in each.from_:
            to = each.header("to").partition("sip:")[2].partition("@")[0]
            found.setdefault(f"{each.header('event')} {to}", []).append(each)
    return found


def eventually(what: Callable[[], object], timeout: float = 60) -> None:
    until = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < until, "it has not come to that in time"
        time.sleep(0.02)


ALL = {"presence bob", "presence carol", "message-summary alice"}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(SILENT, id="silent"),
        pytest.param(UNAVAILABLE, id="503"),
        pytest.param(REFUSING, id="killed"),
    ],
)
def test_they_are_made_anew_at_the_next_server_and_the_dead_one_hears_nothing(
    servers: tuple[Registrar, Registrar], transport: str, fault: Fault
) -> None:
    first, second = servers
    with Program(transport) as app:
        app.do("alice = account('alice', 'bob', 'carol')")
        eventually(lambda: set(subscribed(first)) == ALL)
        first.fault = fault
        at = time.monotonic()
        eventually(lambda: set(subscribed(second)) == ALL)
        registered = next(each.at for each in second.requests if each.method == "REGISTER" and each.expires)
        assert max(each.at for every in subscribed(second).values() for each in every) - registered < 2
        time.sleep(1)
        assert all(len(each) == 1 for each in subscribed(second).values())
        assert not [each for each in first.requests if each.method == "SUBSCRIBE" and each.at > at]


def test_presence_stays_presence_and_dialogs_stay_dialogs(servers: tuple[Registrar, Registrar]) -> None:
    first, second = servers
    wanted = {"presence bob", "dialog line1", "message-summary alice"}
    with Program() as app:
        app.do("alice = account('alice', 'bob', 'line1')")
        eventually(lambda: set(subscribed(first)) == wanted)
        first.fault = UNAVAILABLE
        eventually(lambda: set(subscribed(second)) == wanted)
        time.sleep(1)
        assert all(len(each) == 1 for each in subscribed(second).values())


def test_those_of_an_account_that_is_followed_by_itself_move_too(servers: tuple[Registrar, Registrar]) -> None:
    """Its first subscription may be answered before anybody knows whose it is."""
    first, second = servers
    with Program(options="") as app:
        app.do("alice = account('alice', 'bob', 'carol')")
        eventually(lambda: set(subscribed(first)) == ALL)
        first.fault = UNAVAILABLE
        eventually(lambda: set(subscribed(second)) == ALL)


def test_they_come_back_with_it(servers: tuple[Registrar, Registrar]) -> None:
    first, second = servers
    with Program(options="failback=0.5, spread=0.1") as app:
        app.do("alice = account('alice', 'bob', 'carol')")
        eventually(lambda: set(subscribed(first)) == ALL)
        first.fault = UNAVAILABLE
        eventually(lambda: set(subscribed(second)) == ALL)
        first.fault = WELL
        eventually(lambda: all(len(each) == 2 for each in subscribed(first).values()))
        time.sleep(1)
        assert all(len(each) == 1 for each in subscribed(second).values())


def test_they_stay_where_nobody_wants_them_to_move_and_where_others_are(
    servers: tuple[Registrar, Registrar],
) -> None:
    first, second = servers
    with Program(options="spread=0.1, subscriptions=name != 'dave'") as app:
        app.do("alice = account('alice', 'bob', 'carol')")
        app.do("dave = account('dave', 'erin')")
        eventually(lambda: set(subscribed(first)) == ALL and len(subscribed(first, "dave")) == 2)
        app.do(f"failover.mark_down('udp:{FIRST}:5060')")
        eventually(lambda: set(subscribed(second)) == ALL)
        time.sleep(1)
        assert not subscribed(second, "dave")


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        pytest.param(
            "alice.buddies[0].subscribePresence(False)", {"presence carol", "message-summary alice"}, id="off"
        ),
        pytest.param("alice.buddies.clear(); alice.shutdown()", set(), id="deleted"),
        pytest.param("failover.unfollow(alice)", set(), id="followed-no-more"),
        pytest.param("failover.detach()", set(), id="detached"),
    ],
)
def test_what_the_application_has_ended_is_not_made_anew(
    servers: tuple[Registrar, Registrar], words: str, kept: set[str]
) -> None:
    first, second = servers
    with Program() as app:
        app.do("alice = account('alice', 'bob', 'carol')")
        eventually(lambda: set(subscribed(first)) == ALL)
        app.do(words)
        time.sleep(0.3)
        first.fault = UNAVAILABLE
        eventually(lambda: set(subscribed(second)) == kept)
        time.sleep(2)
        assert set(subscribed(second)) == kept
        app.tell("")
        assert app.next(20) == {"destroyed": True}
        assert app.finish().returncode == 0


@pytest.mark.parametrize("wait", [0.0, 0.3, 1.0])
def test_the_endpoint_ends_while_they_move(servers: tuple[Registrar, Registrar], wait: float) -> None:
    first, _ = servers
    with Program() as app:
        app.do("many = [account(f'user{number}', 'bob', 'carol') for number in range(4)]")
        first.fault = UNAVAILABLE
        time.sleep(wait)
        app.tell("")
        assert app.next(20) == {"destroyed": True}
        assert app.finish().returncode == 0
