"""failover.follow(): a real pjsua2 program's accounts, and registrars that fail, refuse, and come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rig.app import App, Line

from pjfail.testing import REFUSING, SILENT, UNAVAILABLE, WELL, Fault, Registrar, Request

ADDRESSES = FIRST, SECOND, THIRD = "127.0.31.1", "127.0.31.2", "127.0.31.3"

# Runs each line that it is told, and prints the moves of its accounts.
APP = """
    import sys
    import time

    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    transport, *listed = sys.argv[1:]
    uri = "sip:sip.test" + ("" if transport == "udp" else f";transport={transport}")
    servers = [(f"{address}:5060", int(priority), 0) for address, priority in (each.split("/") for each in listed)]

    def moved(event):
        if isinstance(event, pjfail.events.AccountMoved):
            server, before = event.server and event.server.address, event.before and event.before.address
            emit(moved=event.account, aor=event.aor, server=server, before=before, reason=event.reason)

    def account(name, **options):
        made = Account(endpoint, **options)
        made.open(f"sip:{name}@sip.test", uri)
        return made

    def ask(account, method):
        # pjfail's REGISTERs may come between
        while not account.answers.empty():
            account.answers.get()
        account.send_register() if method == "REGISTER" else account.send(method, uri)
        while (answer := account.answer(10)).method != method:
            pass
        emit(**answer._asdict())

    def raised(function, *arguments, **options):
        try:
            function(*arguments, **options)
        except Exception as error:
            return type(error).__name__

    endpoint = Endpoint(ending=pj.PJSUA_DESTROY_NO_TX_MSG)
    lookup = pjfail.StaticLookup({"sip.test": servers}, ttl=1)
    # None is followed by itself: that may come before follow(), which then has no registration to find out.
    failover = pjfail.attach(lookup=lookup, listeners=[moved], retry=pjfail.RetryPolicy.off(), follow=False)

    def follow(account, **settings):
        names["failover"].follow(account, **{"watch": 4} | settings)

    names = dict(globals())
    while word := heard():
        exec(word, names)
"""


@pytest.fixture
def servers() -> Iterator[list[Registrar]]:
    registrars = [Registrar(address) for address in ADDRESSES]
    for registrar in registrars:
        registrar.start()
    yield registrars
    for registrar in registrars:
        registrar.stop()


def dropping_app(*priorities: int) -> App:
    """As :func:`app_on`, where accounts' servers are probed every half a second, and down for one second."""
    policy = "retry=pjfail.RetryPolicy(hedge_budget=0), policy=pjfail.Policy(backoff=lambda failures, random: 1.0)"
    code = APP.replace("retry=pjfail.RetryPolicy.off()", policy).replace('"watch": 4', '"watch": 0.5')
    return App(code, "udp", *(f"{address}/{number}" for address, number in zip(ADDRESSES, priorities, strict=False)))


def app_on(*priorities: int, transport: str = "udp", retry: bool = False) -> App:
    """A program that knows as many servers, with these priorities; what pjfail does with a single request is off."""
    code = APP.replace("pjfail.RetryPolicy.off()", "pjfail.RetryPolicy()") if retry else APP
    return App(
        code, transport, *(f"{address}/{number}" for address, number in zip(ADDRESSES, priorities, strict=False))
    )


def told(app: App, words: str, timeout: float = 60, **wanted: Any) -> Line:
    """The next line with what is *wanted* in it, after the program was told *words*."""
    if words:
        app.tell(words)
    until = time.monotonic() + timeout
    while True:
        line = app.next(max(until - time.monotonic(), 0.01))
        if all(key in line and line[key] == value for key, value in wanted.items()):
            return line


def moves(app: App) -> list[Line]:
    """The moves from one server to another one that the program has told so far."""
    return [line for line in app.lines if line.get("before")]


def asked(app: App, expression: str) -> Any:
    """The value of *expression* in the program."""
    return told(app, f"emit(kind='asked', value={expression})", kind="asked")["value"]


def pinned(app: App, name: str = "alice") -> str | None:
    server: str | None = asked(app, f"(lambda server: server and server.address)(failover.pinned({name}))")
    return server


def of(registrar: Registrar, method: str, user: str = "alice") -> list[Request]:
    return [each for each in registrar.requests if each.method == method and f"sip:{user}@" in each.from_]


def transactions(registrar: Registrar) -> list[Request]:
    """The REGISTERs of alice, without their retransmissions."""
    first: dict[str, Request] = {}
    for each in of(registrar, "REGISTER"):
        first.setdefault(each.branch, each)
    return list(first.values())


def eventually(what: Callable[[], object], timeout: float = 60) -> None:
    until = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < until, "it has not come to that in time"
        time.sleep(0.02)


def follows(app: App, server: str = FIRST, options: str = "spread=0.5", retries: bool = True) -> None:
    """Has alice registered and followed: she is at *server*. With *retries* pjsua registers again by itself too."""
    app.tell(f"alice = account('alice', retries={retries}); alice.reregister(); follow(alice, {options})")
    assert told(app, "", moved=0)["server"] == server
    eventually(lambda: asked(app, "alice.answers.qsize()"))  # pjsua too is done with the REGISTER


# --- staying ----------------------------------------------------------------------------------------------------------


def test_an_account_stays_among_equals_whenever_it_is_followed(servers: list[Registrar]) -> None:
    """Followed before it registers, meanwhile, and after: all its requests go where it is registered."""
    moments = {
        "before": "{0} = account('{0}'); follow({0}); emit(code={0}.reregister().code)",
        "meanwhile": "{0} = account('{0}'); {0}.send_register(); follow({0}); emit(code={0}.answer().code)",
        "after": "{0} = account('{0}'); emit(code={0}.reregister().code); follow({0})",
    }
    users = [f"{moment}{number}" for moment in moments for number in range(2)]
    with app_on(1, 1, 1) as app:
        for user in users:
            if user.startswith("meanwhile"):
                for server in servers:
                    server.fault = Fault(delay=0.2)
            assert told(app, moments[user[:-1]].format(user), code=200)
            for server in servers:
                server.fault = WELL
        for user in users:
            eventually(lambda user=user: pinned(app, user) is not None)  # type: ignore[misc]
            home = pinned(app, user)
            before = [len(server.requests) for server in servers]
            for method in ("MESSAGE", "OPTIONS", "SUBSCRIBE", "PUBLISH") * 2:
                assert told(app, f"ask({user}, '{method}')", method=method)["code"]
            assert told(app, f"ask({user}, 'REGISTER')", method="REGISTER")["code"] == 200
            for server, count in zip(servers, before, strict=True):
                here = [each for each in server.requests[count:] if f"sip:{user}@" in each.from_]
                assert len(here) >= 9 if server.address == home else not here
        assert not moves(app)
        after = [len(of(server, "REGISTER", "after0")) for server in servers]
        assert sum(after) == 3, "one of its own, one to find out where it is, and the refresh"


def test_a_followed_request_under_way_goes_on_and_its_account_with_it(servers: list[Registrar]) -> None:
    first, second, _ = servers
    with app_on(1, 2, retry=True) as app:
        follows(app)
        first.fault = SILENT
        before = len(first.requests)
        answer = told(app, "ask(alice, 'REGISTER')", method="REGISTER")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert answer["seconds"] < 0.9
        assert {each.branch for each in first.requests[before:]} >= {of(second, "REGISTER")[0].branch}
        eventually(lambda: pinned(app) == SECOND)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_register_that_was_hedged_is_not_sent_again_when_its_server_turns_out_to_be_dead(
    servers: list[Registrar], transport: str
) -> None:
    """The next server has accepted it already: 1 to 6 s later the account moves there, and says nothing."""
    first, second, _ = servers
    with app_on(1, 2, retry=True, transport=transport) as app:
        follows(app, options="spread=0.2")
        first.fault = SILENT
        assert told(app, "ask(alice, 'REGISTER')", method="REGISTER")["server"] == f"{SECOND}:5060"
        assert told(app, "", moved=0)["server"] == SECOND
        time.sleep(1)
        assert len(transactions(second)) == 1
        assert asked(app, "alice.getInfo().regIsActive")


@pytest.mark.parametrize("code", [403, 404])
def test_a_403_or_404_is_no_failover(servers: list[Registrar], code: int) -> None:
    first, second, _ = servers
    with app_on(1, 2) as app:
        follows(app)
        first.fault = Fault(code=code)
        assert told(app, "ask(alice, 'MESSAGE')", method="MESSAGE")["code"] == code
        assert told(app, "ask(alice, 'REGISTER')", method="REGISTER")["code"] == code
        time.sleep(1)
        assert pinned(app) == FIRST
        assert not second.requests


def test_a_401_is_answered_to_the_server_that_challenged() -> None:
    """After a failover too: each server knows its own nonces alone."""
    with Registrar(FIRST, realm="test") as first, Registrar(SECOND, realm="test") as second, app_on(1, 1) as app:
        app.tell(
            "many = [account(f'user{number}', password='secret') for number in range(12)]; "
            "[follow(each, spread=0.5) for each in many]; [each.send_register() for each in many]"
        )
        eventually(lambda: all(pinned(app, f"many[{number}]") for number in range(12)))
        calls = [{each.call_id for each in server.requests if each.method == "REGISTER"} for server in (first, second)]
        assert all(calls), "the load was not spread, so this test has shown nothing"
        assert not calls[0] & calls[1]
        app.tell(f"failover.mark_down('udp:{FIRST}:5060')")
        eventually(lambda: all(pinned(app, f"many[{number}]") == SECOND for number in range(12)))
        users = {each.from_.partition(";")[0] for each in first.requests if each.method == "REGISTER"}

        def registered_there() -> bool:
            there = [each for each in second.requests if each.method == "REGISTER" and "nonce" in each.raw]
            return users <= {each.from_.partition(";")[0] for each in there}

        eventually(registered_there)
        assert all(second.nonce in each.raw for each in second.requests if "nonce" in each.raw)


DROPS_OPTIONS = [
    pytest.param(Fault(answers=False, methods=("OPTIONS",)), id="dropped"),
    pytest.param(Fault(code=408, methods=("OPTIONS",)), id="408"),
]


@pytest.mark.parametrize("fault", DROPS_OPTIONS)
def test_servers_that_ignore_options_and_answer_all_else_keep_their_accounts(
    servers: list[Registrar], fault: Fault
) -> None:
    first, second, _ = servers
    first.fault = second.fault = fault
    with dropping_app(1, 2) as app:
        follows(app, retries=False)
        registered = len(of(first, "REGISTER"))
        eventually(lambda: "ignores OPTIONS" in app.stderr)
        probed = len([each for each in first.requests if each.method == "OPTIONS"])
        time.sleep(2)
        assert len([each for each in first.requests if each.method == "OPTIONS"]) == probed
        assert app.stderr.count("ignores OPTIONS") == 1
        assert len(of(first, "REGISTER")) <= registered + 1
        assert not second.requests
        assert pinned(app) == FIRST
        assert asked(app, "[each.state.value for each in failover.servers().values()]") == ["up", "up"]


@pytest.mark.parametrize("fault", DROPS_OPTIONS)
def test_an_account_leaves_a_server_that_ignores_options_by_its_traffic_and_goes_back_to_it(
    servers: list[Registrar], fault: Fault
) -> None:
    first, second, _ = servers
    first.fault = second.fault = fault
    with dropping_app(1, 2) as app:
        follows(app, options="failback=1, spread=0", retries=False)
        eventually(lambda: "ignores OPTIONS" in app.stderr)
        first.fault = SILENT
        told(app, "ask(alice, 'REGISTER')", method="REGISTER", server=f"{SECOND}:5060")
        eventually(lambda: pinned(app) == SECOND)
        first.fault = fault
        eventually(lambda: pinned(app) == FIRST)


def test_an_account_with_octets_in_its_name_that_are_no_text_is_followed(servers: list[Registrar]) -> None:
    with app_on(1, 2) as app:
        app.tell("alice = account('al%ffice'); follow(alice); emit(code=alice.reregister().code)")
        assert told(app, "", code=200)
        eventually(lambda: pinned(app) == FIRST)


# --- failing over -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transport", "fault", "method"),
    [
        pytest.param("udp", SILENT, "MESSAGE", id="silent"),
        pytest.param("tcp", REFUSING, "MESSAGE", id="refusing"),
        pytest.param("udp", Fault(code=503, retry_after=30), "REGISTER", id="503-to-register"),
        pytest.param("udp", UNAVAILABLE, "MESSAGE", id="503-to-message"),
        pytest.param("udp", SILENT, "", id="silent-and-nobody-asks"),
    ],
)
def test_the_next_server_has_the_account_and_its_register_at_once(
    servers: list[Registrar], transport: str, fault: Fault, method: str
) -> None:
    first, second, _ = servers
    with app_on(1, 2, transport=transport) as app:
        follows(app)
        first.fault = fault
        if method == "REGISTER":
            app.tell("alice.send_register()")
        elif method:
            app.tell(f"alice.send('{method}', uri)")
        move = told(app, "", moved=0)
        at = time.monotonic()
        assert (move["server"], move["before"], move["aor"]) == (SECOND, FIRST, "alice@sip.test")
        assert FIRST in move["reason"]
        assert second.wait_for("REGISTER")[0].at < at + 5
        told(app, "ask(alice, 'OPTIONS')", method="OPTIONS", server=f"{SECOND}:5060")
        assert pinned(app) == SECOND
        assert not [each for each in of(first, "REGISTER") if each.at > at and each.header("contact")]  # but probes


def test_an_account_whose_first_register_fails_goes_on(servers: list[Registrar]) -> None:
    first, second, _ = servers
    first.fault = Fault(code=503, retry_after=60)
    with app_on(1, 2) as app:
        app.tell("alice = account('alice'); follow(alice, spread=0.2); alice.send_register()")
        assert told(app, "", moved=0)["server"] == SECOND
        assert second.wait_for("REGISTER")[0].at - first.requests[0].at < 5


FAILS_THE_ACCOUNT = [
    pytest.param(Fault(code=408), id="408"),
    pytest.param(Fault(code=480), id="480"),
    pytest.param(Fault(code=500), id="500"),
    pytest.param(Fault(code=503, provisional=(100,)), id="503-after-100"),
]


@pytest.mark.parametrize("fault", FAILS_THE_ACCOUNT)
def test_a_registrar_that_fails_the_account_twice_is_left_by_that_account_alone(
    servers: list[Registrar], fault: Fault
) -> None:
    first, second, _ = servers
    with app_on(1, 2) as app:
        follows(app, options="failback=1, spread=0.2", retries=False)
        first.fault = fault
        told(app, "ask(alice, 'REGISTER')", method="REGISTER", code=fault.code)
        assert not second.requests
        told(app, "ask(alice, 'REGISTER')", method="REGISTER", code=fault.code)
        eventually(lambda: moves(app))  # which may come before the answer
        [move] = moves(app)
        assert (move["server"], move["before"]) == (SECOND, FIRST)
        assert f"failed two registrations of it in a row, with {fault.code}" in move["reason"]
        second.wait_for("REGISTER")
        told(app, "ask(alice, 'MESSAGE')", method="MESSAGE", server=f"{SECOND}:5060")
        assert asked(app, "[each.state.value for each in failover.servers().values()]") == ["up", "up"]
        told(app, "bob = account('bob'); ask(bob, 'MESSAGE')", method="MESSAGE", server=f"{FIRST}:5060")
        first.fault = WELL
        assert told(app, "", moved=0)["server"] == FIRST


def test_an_account_that_its_first_registrar_never_takes_goes_on(servers: list[Registrar]) -> None:
    first, second, _ = servers
    first.fault = Fault(code=480)
    with app_on(1, 2) as app:
        app.tell("alice = account('alice', retries=False); follow(alice, spread=0.2)")
        for _ in range(2):
            told(app, "ask(alice, 'REGISTER')", method="REGISTER", code=480)
        eventually(lambda: [line["server"] for line in app.lines if "moved" in line] == [SECOND])
        second.wait_for("REGISTER")


def test_the_only_server_is_asked_again_when_it_said(servers: list[Registrar]) -> None:
    first = servers[0]
    with app_on(1) as app:
        follows(app, options="spread=0", retries=False)  # pjsua would come after 0 to 10 s, whatever it was told
        before = len(transactions(first))
        first.fault = Fault(code=503, retry_after=2)
        app.tell("alice.send_register()")
        eventually(lambda: first.answers[-1].code == 503)  # the request is there before it has its answer
        first.fault = WELL
        eventually(lambda: len(transactions(first)) > before + 1)
        refused, again = transactions(first)[before:]
        assert 1.9 < again.at - refused.at < 3
        assert told(app, "", moved=0, server=FIRST)["reason"]
        time.sleep(1)
        assert transactions(first)[before:] == [refused, again]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_with_all_servers_down_there_is_no_flood_of_registers(servers: list[Registrar], transport: str) -> None:
    first, second, _ = servers
    with app_on(1, 2, transport=transport) as app:
        follows(app)
        for server in servers:
            server.fault = Fault(code=503, retry_after=0)
        app.tell("alice.send_register()")
        began = time.monotonic()
        time.sleep(4)
        sent = [each for each in of(first, "REGISTER") + of(second, "REGISTER") if each.at > began]
        assert 2 <= len(sent) <= 10, "each second was asked for"
        assert asked(app, "alice.getInfo().regIsActive") is False
        first.fault = second.fault = WELL
        eventually(lambda: asked(app, "alice.getInfo().regIsActive"))


# --- going back -------------------------------------------------------------------------------------------------------


def test_the_better_server_answers_a_register_before_anything_else_goes_there(servers: list[Registrar]) -> None:
    first, second, _ = servers
    with app_on(1, 2) as app:
        follows(app, options="failback=1, spread=0")
        assert told(app, f"failover.mark_down('udp:{FIRST}:5060')", moved=0)["server"] == SECOND
        second.wait_for("REGISTER")
        before = len(of(first, "REGISTER"))
        first.fault = Fault(delay=1.0)
        app.tell(f"failover.restore('udp:{FIRST}:5060')")
        restored = time.monotonic()
        eventually(lambda: len(of(first, "REGISTER")) > before)
        asks = of(first, "REGISTER")[before].at
        assert 1.0 <= asks - restored <= 1.5 + 0.5
        for _ in range(3):
            told(app, "ask(alice, 'MESSAGE')", method="MESSAGE", server=f"{SECOND}:5060")
        assert pinned(app) == SECOND
        assert time.monotonic() < asks + 0.9, "too slow to have shown anything"
        first.fault = WELL
        move = told(app, "", moved=0)
        assert (move["server"], move["before"]) == (FIRST, SECOND)
        assert "healthy again" in move["reason"]
        assert time.monotonic() >= asks + 1.0
        assert not of(first, "MESSAGE")
        told(app, "ask(alice, 'MESSAGE')", method="MESSAGE", server=f"{FIRST}:5060")


@pytest.mark.parametrize(
    ("transport", "fault"),
    [
        pytest.param("udp", SILENT, id="udp-silent"),
        pytest.param("udp", UNAVAILABLE, id="udp-503"),
        pytest.param("tcp", SILENT, id="tcp-silent"),
        pytest.param("tcp", REFUSING, id="tcp-refusing"),
    ],
)
def test_an_account_is_back_soon_after_its_server_works_again(
    servers: list[Registrar], transport: str, fault: Fault
) -> None:
    """Not after the half minute for which the server is down by its failure; it would be 30 s otherwise."""
    first, second, _ = servers
    with app_on(1, 2, transport=transport, retry=True) as app:
        follows(app, options="failback=1, spread=0.2")
        first.fault = fault
        if fault.listens:  # else its connection ends, and that is answered
            app.tell("alice.send_register()")
        eventually(lambda: pinned(app) == SECOND)
        first.fault = WELL
        eventually(lambda: pinned(app) == FIRST)
        time.sleep(1)
        assert len(transactions(second)) == 1


@pytest.mark.parametrize("fault", [SILENT, UNAVAILABLE], ids=["silent", "503"])
def test_an_account_is_back_soon_after_an_outage_of_several_hold_downs(servers: list[Registrar], fault: Fault) -> None:
    """A server that has been down all along has not flapped."""
    first, _, _ = servers
    backoff = "policy=pjfail.Policy(backoff=lambda failures, random: 1.0 if failures < 3 else 60.0), retry="
    code = APP.replace("retry=pjfail.RetryPolicy.off()", f"{backoff}pjfail.RetryPolicy()")
    with App(code, "udp", f"{FIRST}/1", f"{SECOND}/2") as app:
        follows(app, options="failback=1, spread=0.2")
        first.fault = fault
        app.tell("alice.send_register()")
        health = f"[each for server, each in failover.servers().items() if server.address == '{FIRST}'][0]"
        eventually(lambda: asked(app, f"({health}.state.value, {health}.failures)") == ["down", 3])
        first.fault = WELL
        eventually(lambda: pinned(app) == FIRST)


def test_a_server_that_flaps_is_held_down_longer_and_to_the_end(servers: list[Registrar]) -> None:
    """The second time within two minutes no answer to a probe ends it."""
    first, _, _ = servers
    with app_on(1, 2, retry=True) as app:
        follows(app, options="failback=0.5, spread=0.1")
        for home in (FIRST, None):
            first.fault = UNAVAILABLE
            told(app, "ask(alice, 'REGISTER')", method="REGISTER", code=200)
            eventually(lambda: pinned(app) == SECOND)
            first.fault = WELL
            if home is not None:
                assert told(app, "", moved=0, server=home)["before"] == SECOND
        probed = len([each for each in first.requests if each.method == "OPTIONS"])
        time.sleep(6)
        assert pinned(app) == SECOND
        health = f"[each for server, each in failover.servers().items() if server.address == '{FIRST}'][0]"
        assert asked(app, f"{health}.failures") == 2
        assert asked(app, f"{health}.until - time.monotonic()") > 30
        assert len([each for each in first.requests if each.method == "OPTIONS"]) == probed


@pytest.mark.parametrize("words", ["Retry-After", "mark_down"])
def test_a_hold_down_that_the_server_or_the_application_asked_for_is_served_to_the_end(
    servers: list[Registrar], words: str
) -> None:
    first, _, _ = servers
    with app_on(1, 2, retry=True) as app:
        follows(app, options="failback=0.2, spread=0.1")
        if words == "mark_down":
            app.tell(f"failover.mark_down('udp:{FIRST}:5060', 5)")
        else:
            first.fault = Fault(code=503, retry_after=5)
            told(app, "ask(alice, 'REGISTER')", method="REGISTER", code=200)
        eventually(lambda: pinned(app) == SECOND)
        at, first.fault = time.monotonic(), WELL
        assert told(app, "", moved=0, server=FIRST)["before"] == SECOND
        assert time.monotonic() - at > 4


def test_a_better_server_that_refuses_the_account_is_left_alone(servers: list[Registrar]) -> None:
    first, second, _ = servers
    with app_on(1, 2) as app:
        follows(app, options="failback=0, spread=0")
        assert told(app, f"failover.mark_down('udp:{FIRST}:5060')", moved=0)["server"] == SECOND
        second.wait_for("REGISTER")
        before, first.fault = len(of(first, "REGISTER")), Fault(code=403)
        app.tell(f"failover.restore('udp:{FIRST}:5060')")
        second.wait_for("REGISTER", 2)  # at once: the refusal has ended its registration in pjsua
        time.sleep(2)
        assert len(of(first, "REGISTER")) == before + 1
        assert pinned(app) == SECOND
        assert asked(app, "alice.getInfo().regIsActive")


def test_a_flapping_server_does_not_take_the_account_along(servers: list[Registrar]) -> None:
    with app_on(1, 2) as app:
        follows(app, options="failback=1, spread=0.1")
        app.tell(
            f"for _ in range(6): failover.mark_down('udp:{FIRST}:5060'); time.sleep(0.2); "
            f"failover.restore('udp:{FIRST}:5060'); time.sleep(0.4)"
        )
        flapped = told(app, "emit(kind='flapped')", kind="flapped")
        before = [line for line in app.lines[: app.lines.index(flapped)] if "moved" in line]
        assert [line["server"] for line in before] == [FIRST, SECOND]
        assert told(app, "", moved=0)["server"] == FIRST  # once it has been well for so long


def test_a_server_that_the_lookup_finds_later_is_heard_of(servers: list[Registrar]) -> None:
    """A followed account asks its pin, not its plan, which must not grow old for that."""
    with app_on(2) as app:
        follows(app, options="failback=0.5, spread=0")
        app.tell(f"lookup.update({{'sip.test': [('{SECOND}:5060', 1, 0), ('{FIRST}:5060', 2, 0)]}})")
        assert told(app, "", moved=0)["server"] == SECOND


# --- calls ------------------------------------------------------------------------------------------------------------


def test_a_call_stays_on_its_server_when_the_account_moves(servers: list[Registrar]) -> None:
    first, second, _ = servers
    with app_on(1, 2) as app:
        follows(app)
        app.tell("call = pj.Call(alice); call.makeCall('sip:bob@sip.test', pj.CallOpParam(True))")
        first.wait_for("ACK")
        assert told(app, f"failover.drain('udp:{FIRST}:5060')", moved=0)["server"] == SECOND
        second.wait_for("REGISTER")
        app.tell("call.hangup(pj.CallOpParam())")
        first.wait_for("BYE")
        assert not of(second, "BYE")


# --- following and not ------------------------------------------------------------------------------------------------


def test_followed_twice_and_no_more(servers: list[Registrar]) -> None:
    second = servers[1]
    with app_on(1, 2) as app:
        follows(app, options="failback=None, spread=0")
        assert told(app, f"failover.mark_down('udp:{FIRST}:5060')", moved=0)["server"] == SECOND
        second.wait_for("REGISTER")
        app.tell(f"failover.restore('udp:{FIRST}:5060'); follow(alice, failback=None)")
        time.sleep(1)
        assert pinned(app) == SECOND
        assert len(of(second, "REGISTER")) == 1, "it was known where it is"
        assert told(app, "follow(alice, failback=0.5, spread=0)", moved=0)["before"] == SECOND
        assert told(app, f"failover.mark_down('udp:{FIRST}:5060')", moved=0)["server"] == SECOND
        app.tell("failover.unfollow(alice); failover.unfollow(alice)")
        app.tell(f"failover.restore('udp:{FIRST}:5060')")
        assert pinned(app) is None
        told(app, "ask(alice, 'MESSAGE')", method="MESSAGE", server=f"{FIRST}:5060")


def test_an_account_that_has_unregistered_is_not_registered_again(servers: list[Registrar]) -> None:
    first, second, _ = servers
    with app_on(1, 2) as app:
        follows(app)
        app.tell("alice.send_register(False)")
        assert told(app, "", moved=0)["server"] is None
        app.tell(f"failover.mark_down('udp:{FIRST}:5060')")
        time.sleep(1.5)
        assert not of(second, "REGISTER")
        app.tell("alice.send_register()")
        assert told(app, "", moved=0)["server"] == SECOND
        second.fault = SILENT  # nor while it unregisters at a server that is dead
        app.tell(f"alice.send_register(False); failover.restore('udp:{FIRST}:5060')")
        began = time.monotonic()
        assert told(app, "", moved=0)["server"] is None
        time.sleep(3)
        # What unregisters fails over, as any REGISTER is; what registers must not come.
        assert not [each for each in of(first, "REGISTER") if each.at > began and each.header("expires") != "0"]


def test_accounts_come_and_go_and_ids_are_used_again(servers: list[Registrar]) -> None:
    second = servers[1]
    with app_on(1, 2) as app:
        follows(app, options="failback=0.2, spread=0.2")
        app.tell("alice.shutdown(); bob = account('bob'); failover.unfollow(bob); bob.reregister()")
        assert asked(app, "bob.getId()") == 0
        # Bob is not followed, and alice is not any more: neither has a server of its own.
        eventually(lambda: pinned(app, "bob") is None)
        pin = f"failover.pin, bob, '{FIRST}:5060'"
        eventually(lambda: asked(app, f"raised(failover.enable_affinity, bob) or raised({pin})") is None)
        app.tell(f"failover.unpin(bob); failover.mark_down('udp:{FIRST}:5060')")
        time.sleep(0.7)
        assert not second.requests
        app.tell(f"failover.restore('udp:{FIRST}:5060')")
        app.tell("follow(bob, spread=0.2)")
        assert told(app, "", moved=0, aor="bob@sip.test")["server"] == FIRST
        # What was asked about alice says nothing of bob.
        app.tell(
            "from pjfail.following import NOT_FOUND, Registration; "
            "late = Registration(0, 'alice@sip.test', None, 0, NOT_FOUND, None, False); "
            "follower = failover._worker.maintenance.follower; "
            "failover._worker.call(lambda: follower.on_registration(late, time.monotonic()))"
        )
        assert pinned(app, "bob") == FIRST
        # At once, too: followed while the last one of the id still was.
        app.tell("bob.shutdown(); carol = account('carol'); follow(carol); carol.reregister()")
        assert told(app, "", moved=0, aor="carol@sip.test")["server"] == FIRST
        app.tell("carol.shutdown(); again = account('carol'); follow(again); again.reregister()")
        told(app, "emit(kind='same', id=again.getId())", kind="same")
        assert pinned(app, "again") == FIRST
        # Nor is anything left of one whose id was followed next, and that had nothing to unregister.
        servers[0].fault = Fault(code=403)
        told(app, "ask(again, 'REGISTER')", method="REGISTER", code=403)
        servers[0].fault = WELL
        assert pinned(app, "again") == FIRST
        app.tell("again.shutdown(); dora = account('dora'); follow(dora)")
        app.tell(f"carol = account('carol'); failover.mark_down('udp:{FIRST}:5060')")
        told(app, "ask(carol, 'MESSAGE')", method="MESSAGE", server=f"{SECOND}:5060")
        app.tell(f"failover.restore('udp:{FIRST}:5060')")
        # Many, while a server comes and goes.
        app.tell("many = []")
        for number in range(20):
            app.tell(
                f"many.append(account('user{number}')); follow(many[-1], failback=0.1, spread=0.1); "
                f"many[-1].send_register(); failover.{'mark_down' if number % 2 else 'restore'}('udp:{FIRST}:5060'); "
                "time.sleep(0.02); len(many) > 4 and many.pop(0).shutdown()"
            )
        assert told(app, "emit(kind='done')", 20, kind="done")
        app.tell(f"failover.restore('udp:{FIRST}:5060')")
        eventually(lambda: all(pinned(app, f"many[{number}]") == FIRST for number in range(4)))
        assert "cannot be looked after" not in app.stderr
        assert "Traceback" not in app.stderr


def test_an_account_may_be_deleted_and_all_may_end_at_any_moment(servers: list[Registrar]) -> None:
    """In onRegState; by a detach while REGISTERs are due; with the endpoint itself."""
    first = servers[0]
    with app_on(1, 2) as app:
        words = (
            "Leaving = type('Leaving', (Account,), {'onRegState': lambda self, prm: self.shutdown()})",
            "leaving = Leaving(endpoint)",
            "leaving.open('sip:leaving@sip.test', uri)",
            "follow(leaving, spread=0); leaving.setRegistration(True)",
        )
        for word in words:
            app.tell(word)
        first.wait_for("REGISTER")
        app.tell("many = [account(f'user{number}') for number in range(6)]")
        app.tell("[follow(each, failback=0, spread=0.3) for each in many]")
        app.tell("[each.send_register() for each in many]")
        eventually(lambda: all(pinned(app, f"many[{number}]") == FIRST for number in range(6)))
        app.tell(f"failover.mark_down('udp:{FIRST}:5060'); failover.detach()")
        assert asked(app, "raised(failover.follow, many[0])") == "NotAttached"
        assert asked(app, "raised(failover.unfollow, many[0])") == "NotAttached"
        app.tell(
            "failover = pjfail.attach(lookup=lookup, listeners=[moved], retry=pjfail.RetryPolicy.off(), follow=False)"
        )
        assert pinned(app, "many[0]") is None
        app.tell("[follow(each, failback=0, spread=0.3) for each in many]")
        eventually(lambda: all(pinned(app, f"many[{number}]") == FIRST for number in range(6)))
        app.tell(f"failover.mark_down('udp:{FIRST}:5060'); endpoint.destroy(); emit(kind='destroyed')")
        told(app, "", 20, kind="destroyed")
        assert asked(app, "failover.attached") is False
        result = app.finish()
        assert result.returncode == 0
        assert "Traceback" not in result.stderr


def test_misuse(servers: list[Registrar]) -> None:
    with app_on(1, 2) as app:
        app.tell("alice = account('alice'); alice.reregister()")
        for option in ("failback", "spread"):
            for value in ("-1", "float('nan')", "float('inf')"):
                assert asked(app, f"raised(failover.follow, alice, {option}={value})") == "ValueError"
        app.tell("open = Account(endpoint); open.open('sip:nobody@sip.test')")
        assert asked(app, "raised(failover.follow, open)") == "AffinityError"
        assert asked(app, "raised(failover.follow, 77)") == "UnknownAccount"
        assert asked(app, "raised(failover.follow, 'alice')") == "TypeError"
        app.tell(f"failover.enable_affinity(alice); failover.pin(alice, '{SECOND}:5060')")
        assert asked(app, "raised(failover.follow, alice)") == "AffinityError"
        assert pinned(app) == SECOND
        app.tell("failover.unpin(alice); follow(alice)")
        assert asked(app, f"raised(failover.pin, alice, '{SECOND}:5060')") == "AffinityError"
        assert asked(app, f"raised(failover.route_via, alice, '{SECOND}:5060')") == "AffinityError"
        eventually(lambda: pinned(app) == FIRST)
