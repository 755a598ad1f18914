"""attach(follow=): accounts are followed without being named, found by their REGISTERs; and what is left alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rig.app import App, Line

from pjfail.testing import SILENT, UNAVAILABLE, WELL, Fault, Registrar, Request

ADDRESSES = FIRST, SECOND, OTHER = "127.0.98.1", "127.0.98.2", "127.0.98.3"

# Runs each line that it is told, and prints the moves of its accounts.
APP = """
    import sys
    import time

    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    def moved(event):
        if isinstance(event, pjfail.events.AccountMoved):
            emit(moved=event.account, aor=event.aor, server=event.server and event.server.address, reason=event.reason)

    def attach(**options):
        global failover
        options.setdefault("servers", servers)
        failover = pjfail.attach(listeners=[moved], retry=pjfail.RetryPolicy.off(), **options)

    def account(name, host="sip.test", **options):
        made = Account(endpoint, **options)
        made.open(f"sip:{name}@sip.test", f"sip:{host}" if host else "")
        return made

    def register(account):
        while not account.answers.empty():
            account.answers.get()
        account.reregister()

    def raised(function, *arguments):
        try:
            function(*arguments)
        except Exception as error:
            return type(error).__name__

    def on(account):
        server = failover.pinned(account)
        return server and server.address

    def modify(account, host):
        config = pj.AccountConfig()
        config.idUri = "sip:alice@sip.test"
        config.regConfig.registrarUri = f"sip:{host}"
        account.modify(config)

    class Lookup:
        # Finds what is listed now; an answer is good for a second.

        def __init__(self, *listed):
            self.listed = listed

        async def lookup(self, target):
            each = [(pjfail.Server(address, 5060), priority) for priority, address in enumerate(self.listed)]
            return [pjfail.Candidate(server, target.host, priority, ttl=1) for server, priority in each]

    first, second, other = sys.argv[1:]
    servers = {"sip.test": [first, second], "other.test": [other]}
    endpoint = Endpoint(ending=pj.PJSUA_DESTROY_NO_TX_MSG)
    while word := heard():
        exec(word)
"""


@pytest.fixture
def servers() -> Iterator[list[Registrar]]:
    registrars = [Registrar(address) for address in ADDRESSES]
    for registrar in registrars:
        registrar.start()
    yield registrars
    for registrar in registrars:
        registrar.stop()


@pytest.fixture
def app(servers: list[Registrar]) -> Iterator[App]:
    with App(APP, *ADDRESSES) as program:
        yield program


def told(app: App, words: str, timeout: float = 10, **wanted: Any) -> Line:
    """The next line with what is *wanted* in it, after the program was told *words*."""
    if words:
        app.tell(words)
    until = time.monotonic() + timeout
    while True:
        line = app.next(max(until - time.monotonic(), 0.01))
        if all(key in line and line[key] == value for key, value in wanted.items()):
            return line


def asked(app: App, expression: str) -> Any:
    """The value of *expression* in the program."""
    return told(app, f"emit(kind='asked', value={expression})", kind="asked")["value"]


def of(registrar: Registrar, method: str, user: str = "") -> list[Request]:
    """The requests of this method, without their retransmissions."""
    first: dict[str, Request] = {}
    for each in registrar.requests:
        if each.method == method and f"sip:{user}" in each.from_:
            first.setdefault(each.branch, each)
    return list(first.values())


def eventually(what: Callable[[], object], timeout: float = 5) -> None:
    until = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < until, "it has not come to that in time"
        time.sleep(0.02)


def test_an_account_is_followed_from_its_first_register_on(app: App, servers: list[Registrar]) -> None:
    app.tell("attach(follow=pjfail.Follow(watch=0.5, spread=0.2)); alice = account('alice')")
    assert not asked(app, "[*failover.accounts()]")
    assert told(app, "register(alice)", moved=0)["server"] == FIRST
    time.sleep(1)
    assert [len(of(each, "REGISTER")) for each in servers] == [1, 0, 0]
    servers[0].fault = SILENT
    assert told(app, "", moved=0)["server"] == SECOND
    eventually(lambda: of(servers[1], "REGISTER"))


def test_an_account_of_before_is_followed_and_does_not_register_for_that(app: App, servers: list[Registrar]) -> None:
    app.tell("alice = account('alice', host=first); register(alice); attach()")
    eventually(lambda: asked(app, "[*failover.accounts()]") == [0])
    time.sleep(1)
    assert len(of(servers[0], "REGISTER")) == 1
    assert told(app, "register(alice)", moved=0)["server"] == FIRST


def test_an_account_at_an_address_is_followed_from_its_first_register_on(app: App) -> None:
    assert told(app, "attach(); alice = account('alice', host=second); register(alice)", moved=0)["server"] == SECOND


def test_without_follow_only_those_are_followed_that_are_named(app: App) -> None:
    app.tell("attach(follow=False); alice = account('alice'); bob = account('bob')")
    app.tell("register(alice); register(bob)")
    assert told(app, "failover.follow(bob)", moved=1)["server"] == FIRST
    assert asked(app, "[*failover.accounts()]") == [1]


def test_an_account_without_a_registrar_is_left_alone(app: App) -> None:
    app.tell("attach(); local = account('local', host=''); alice = account('alice'); register(alice)")
    told(app, "", moved=1)
    assert asked(app, "[*failover.accounts()]") == [1]


def test_an_account_that_is_unfollowed_is_not_followed_again_as_long_as_it_lives(app: App) -> None:
    told(app, "attach(); alice = account('alice'); register(alice)", moved=0)
    app.tell("failover.unfollow(alice); [register(alice) for _ in range(2)]; time.sleep(0.5); register(alice)")
    assert asked(app, "on(alice)") is None
    told(app, "alice.shutdown(); bob = account('bob'); register(bob)", moved=0, aor="bob@sip.test")
    app.tell("bob.shutdown(); time.sleep(1); again = account('alice'); register(again)")
    told(app, "", moved=0, aor="alice@sip.test")
    told(app, "failover.unfollow(again); failover.follow(again)", moved=0)


def test_an_account_that_is_deleted_is_forgotten(app: App, servers: list[Registrar]) -> None:
    """By its un-REGISTER; pjsua sends none for one that is not registered."""
    everything = "[*failover.accounts(), *failover._worker.maintenance.follower._followed]"
    told(app, "attach(follow=pjfail.Follow(watch=None)); alice = account('alice'); register(alice)", moved=0)
    time.sleep(1)
    app.tell("alice.shutdown()")
    eventually(lambda: not asked(app, everything), 3)
    servers[0].fault = Fault(code=403)
    app.tell("bob = account('bob'); register(bob); carol = account('carol'); failover.pin(carol, second)")
    eventually(lambda: asked(app, "[*failover.accounts()]") == [0, 1])
    app.tell("time.sleep(1); bob.shutdown(); carol.shutdown()")
    assert asked(app, "[*failover.accounts()]") == []
    eventually(lambda: not asked(app, everything), 15)


def test_a_better_server_is_found_while_nothing_happens(app: App, servers: list[Registrar]) -> None:
    """The account's requests use no plan, so that only pjfail itself has that renewed."""
    app.tell(
        "lookup = Lookup(second); attach(servers=None, lookup=lookup, follow=pjfail.Follow(watch=None, failback=0))"
    )
    told(app, "alice = account('alice'); register(alice)", moved=0)
    app.tell("time.sleep(1); lookup.listed = first, second")
    assert told(app, "", moved=0)["server"] == FIRST


def test_a_better_server_is_probed_all_along_while_it_is_down(app: App, servers: list[Registrar]) -> None:
    told(app, "attach(follow=pjfail.Follow(watch=None, spread=0)); alice = account('alice'); register(alice)", moved=0)
    servers[0].fault = SILENT
    app.tell(
        "failover._worker.call(lambda: failover._worker.monitor._prober.start(failover.pinned(alice), 'sip.test'))"
    )
    told(app, "", moved=0, server=SECOND)
    asked_before = len(of(servers[0], "OPTIONS"))
    eventually(lambda: len(of(servers[0], "OPTIONS")) >= asked_before + 3, 15)


def test_an_account_whose_id_another_one_has_is_forgotten(app: App) -> None:
    """pjsua sends nothing when it deletes an account that is not registered, and the next one may never register."""
    app.tell("attach(follow=False); alice = account('alice'); failover.follow(alice)")
    eventually(lambda: asked(app, "[*failover.accounts()]") == [0])
    app.tell("time.sleep(2); alice.shutdown(); bob = account('bob')")
    assert asked(app, "bob.getId()") == 0
    eventually(lambda: asked(app, "[*failover.accounts()]") == [], 15)


def test_an_account_whose_id_another_one_has_is_forgotten_though_it_could_not_unregister(
    app: App, servers: list[Registrar]
) -> None:
    """pjsua sends no un-REGISTER while a REGISTER is under way, here one that is answered once the account is gone."""
    told(app, "attach(); alice = account('alice'); register(alice)", moved=0)
    time.sleep(1)
    servers[0].fault = SILENT
    app.tell("alice.send_register(); alice.shutdown(); bob = account('bob')")
    assert asked(app, "bob.getId()") == 0
    servers[0].fault = WELL
    eventually(lambda: asked(app, "[*failover.accounts()]") == [], 40)
    assert "0" not in [each.header("expires") for each in of(servers[0], "REGISTER")]


def test_an_account_goes_back_soon_after_its_server_has_its_tier_again(app: App) -> None:
    """By Policy(failback=), after 2 to 3 s; the next lookup is due after 24 s."""
    policy, follow = "pjfail.Policy(failback=2)", "pjfail.Follow(watch=None, failback=1, spread=0)"
    told(app, f"attach(policy={policy}, follow={follow}); alice = account('alice'); register(alice)", moved=0)
    assert told(app, "time.sleep(1); failover.mark_down(first, 1)", moved=0)["server"] == SECOND
    assert told(app, "", moved=0, timeout=12)["server"] == FIRST


def test_a_pin_may_be_set_while_the_worker_starts_anew(app: App) -> None:
    app.tell("import asyncio; crashed = asyncio.new_event_loop(); crashed.close(); attach(follow=False)")
    app.tell("alice = account('alice'); failover._worker.maintenance._loop = crashed")
    assert asked(app, "[raised(failover.pin, alice, first), on(alice)]") == [None, FIRST]


def test_a_pin_to_a_server_that_no_plan_has_holds_again_by_itself(app: App, servers: list[Registrar]) -> None:
    servers[2].fault = UNAVAILABLE
    options = "follow=False, probe=pjfail.Probe(accounts=None), policy=pjfail.Policy(backoff=lambda *_: 2)"
    app.tell(f"attach({options}); alice = account('alice', retries=False)")
    app.tell("failover.pin(alice, other); alice.send_register()")
    accounts = "[*map(str, failover.accounts().values())]"
    eventually(lambda: asked(app, accounts) == ["None"], 15)
    time.sleep(4)
    servers[2].fault = WELL
    eventually(lambda: asked(app, accounts) == [f"udp:{OTHER}:5060"], 10)


def test_what_is_due_is_done_by_a_worker_that_starts_anew(app: App, servers: list[Registrar]) -> None:
    crash = "failover._worker._loop.call_soon_threadsafe(sys.exit, 1)"
    told(app, "attach(follow=pjfail.Follow(watch=None, spread=3)); alice = account('alice'); register(alice)", moved=0)
    app.tell(f"time.sleep(1); failover.mark_down(first, 60); {crash}")
    eventually(lambda: of(servers[1], "REGISTER"), 6)
    app.tell(f"failover.follow(alice, watch=1); {crash}")
    servers[1].fault = SILENT
    told(app, "", moved=0, server=None)


def test_an_account_is_asked_after_again_whose_answer_a_crash_has_lost(app: App) -> None:
    """It would stay followed, although its id is another account's, until that one registers."""
    told(app, "attach(follow=pjfail.Follow(watch=None)); alice = account('alice'); register(alice)", moved=0)
    app.tell(
        "time.sleep(0.5); follower = failover._worker.maintenance.follower; follower._asked_after.add(alice.getId())"
    )
    app.tell("follower._ask_at = 0.0; failover._worker._loop.call_soon_threadsafe(sys.exit, 1)")
    eventually(lambda: asked(app, "sorted(follower._asked_after)") == [], 6)


def test_an_account_may_be_unfollowed_before_it_registers(app: App) -> None:
    app.tell("attach(); alice = account('alice'); failover.unfollow(alice); register(alice); time.sleep(0.5)")
    assert asked(app, "on(alice)") is None


def test_a_pin_takes_an_account_over_and_gives_it_back(app: App) -> None:
    told(app, "attach(); alice = account('alice'); register(alice)", moved=0)
    app.tell("failover.pin(alice, second); [register(alice) for _ in range(2)]; time.sleep(0.5); register(alice)")
    assert asked(app, "on(alice)") == SECOND
    assert asked(app, "failover._worker.maintenance.follower.followed()") == []
    app.tell("failover.unpin(alice); time.sleep(0.3)")
    assert told(app, "register(alice)", moved=0)["server"] == SECOND
    app.tell("failover.follow(alice, watch=4)")
    assert asked(app, "raised(failover.pin, alice, second)") == "AffinityError"


def test_a_route_takes_an_account_over_and_gives_it_back(app: App, servers: list[Registrar]) -> None:
    told(app, "attach(); alice = account('alice'); register(alice)", moved=0)
    app.tell("failover.route_via(alice, second); time.sleep(0.5); [register(alice) for _ in range(2)]")
    assert asked(app, "on(alice)") is None
    assert of(servers[1], "REGISTER")
    app.tell("failover.route_via(alice, None); time.sleep(0.3); register(alice)")
    eventually(lambda: asked(app, "on(alice)") == FIRST)
    app.tell("failover.follow(alice)")
    assert asked(app, "raised(failover.route_via, alice, second)") == "AffinityError"


def test_two_accounts_of_one_address_at_two_registrars_are_both_followed(app: App) -> None:
    app.tell("attach(); alice = account('alice'); elsewhere = account('alice', host='other.test')")
    app.tell("register(alice); register(elsewhere)")
    eventually(lambda: asked(app, "[on(alice), on(elsewhere)]") == [FIRST, OTHER])
    app.tell("[register(each) for each in (elsewhere, alice, elsewhere)]")
    assert asked(app, "[on(alice), on(elsewhere)]") == [FIRST, OTHER]


def test_two_accounts_of_one_address_may_be_followed_by_name(app: App) -> None:
    app.tell("attach(follow=False); alice = account('alice'); elsewhere = account('alice', host='other.test')")
    app.tell("register(alice); register(elsewhere); failover.follow(alice); failover.follow(elsewhere)")
    eventually(lambda: asked(app, "[on(alice), on(elsewhere)]") == [FIRST, OTHER])


def test_an_account_that_unregisters_is_left_alone(app: App, servers: list[Registrar]) -> None:
    told(app, "attach(follow=pjfail.Follow(watch=0.5, spread=0)); alice = account('alice'); register(alice)", moved=0)
    assert told(app, "alice.send_register(False)", moved=0)["server"] is None
    servers[0].fault = SILENT
    time.sleep(1.5)
    assert [each.header("expires") for each in of(servers[0], "REGISTER")] in (["300"], ["300", "0"])
    assert not of(servers[1], "REGISTER")
    servers[0].fault = WELL
    told(app, "register(alice)", moved=0, timeout=20)


@pytest.mark.parametrize("by_name", ["", "failover.follow(alice, spread=0)"], ids=["automatic", "by name"])
def test_another_registrar_starts_anew(app: App, by_name: str) -> None:
    told(app, "attach(); alice = account('alice'); register(alice)", moved=0)
    app.tell(f"{by_name or 'pass'}; modify(alice, 'other.test')")
    eventually(lambda: asked(app, "on(alice)") == OTHER)
    app.tell("modify(alice, 'sip.test')")
    eventually(lambda: asked(app, "on(alice)") == FIRST)


def test_a_server_is_asked_once_for_all_its_accounts(app: App, servers: list[Registrar]) -> None:
    app.tell("attach(follow=pjfail.Follow(watch=1)); many = [account(f'user{each}') for each in range(6)]")
    app.tell("[register(each) for each in many]")
    begun = time.monotonic()
    eventually(lambda: len(of(servers[0], "OPTIONS")) >= 3, 20)
    assert len(of(servers[0], "OPTIONS")) <= 2 + 2 * (time.monotonic() - begun)
    assert not of(servers[1], "OPTIONS")


@pytest.mark.parametrize(("watch", "asks"), [("", False), ("watch=1", True)])
def test_over_a_connection_a_server_is_asked_only_where_that_is_asked_for(
    app: App, servers: list[Registrar], watch: str, asks: bool
) -> None:
    app.tell(f"attach(follow=pjfail.Follow({watch})); alice = account('alice', host='sip.test;transport=tcp')")
    told(app, "register(alice)", moved=0)
    time.sleep(3 if asks else 20)
    assert bool(of(servers[0], "OPTIONS")) == asks


@pytest.mark.parametrize("registers", ["", "; register(alice)"], ids=["first REGISTER", "second REGISTER"])
def test_a_connection_that_ends_is_noticed_after_the_first_register(
    app: App, servers: list[Registrar], registers: str
) -> None:
    """The account is followed only once that REGISTER is answered, or nearly."""
    told(app, "attach(); alice = account('alice', host='sip.test;transport=tcp'); register(alice)", moved=0)
    app.tell(f"pass{registers}")
    assert asked(app, "on(alice)") == FIRST
    before, at = len(of(servers[0], "REGISTER")), time.monotonic()
    servers[0].close_connections()
    eventually(lambda: len(of(servers[0], "REGISTER")) > before)
    assert of(servers[0], "REGISTER")[before].at - at < 1
    assert not servers[1].requests


def test_by_default_a_quiet_udp_server_is_asked_after_fifteen_seconds(app: App, servers: list[Registrar]) -> None:
    told(app, "attach(); alice = account('alice'); register(alice)", moved=0)
    begun = time.monotonic()
    eventually(lambda: of(servers[0], "OPTIONS"), 25)
    assert time.monotonic() - begun > 11
    servers[0].fault = SILENT
    assert told(app, "", 25, moved=0)["server"] == SECOND
