"""attach(servers=...): a real pjsua2 program whose registrar has no SRV records, and servers that fail."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig.app import App, Line
from rig.certificates import Authority
from rig.dns_server import DnsServer

from pjfail.testing import REFUSING, SILENT, UNAVAILABLE, WELL, Fault, Registrar

FIRST, SECOND, NAME_SERVER = "127.0.93.1", "127.0.93.2", "127.0.93.53"
ZONE = [f"sip1.test 60 A {FIRST}", f"sip2.test 60 A {SECOND}"]

# Attaches with the table that it is given, and runs each line that it is told.
APP = """
    import json
    import logging
    import sys

    import pjfail
    from rig.prelude import Account, Endpoint, emit, heard

    class Told(logging.Handler):
        def emit(self, record):
            emit(log=record.getMessage(), level=record.levelname)

    logging.getLogger("pjfail").addHandler(Told(logging.WARNING))
    table, nameserver, transports = (json.loads(each) for each in sys.argv[1:])

    def moved(event):
        if isinstance(event, pjfail.events.AccountMoved):
            emit(moved=event.account, server=str(event.server))

    def account(registrar, name="alice", **options):
        made = Account(endpoint, retries=False, **options)
        made.open(f"sip:{name}@voip.test", registrar)
        return made

    def sent(account, method, *uri):
        while not account.answers.empty():
            account.answers.get()
        account.send(method, *uri) if uri else account.send_register()
        while (answer := account.answer(10)).method != method:
            pass
        emit(**answer._asdict())

    def raised(words):
        try:
            eval(words, names)
        except pjfail.PjfailError as error:
            emit(error=str(error))

    endpoint = Endpoint(transports=transports)
    table = pjfail.StaticLookup(table, ttl=1)
    dns = pjfail.DnsLookup([nameserver] if nameserver else ["127.0.93.54"])
    failover = pjfail.attach(servers=table, lookup=dns, follow=False, listeners=[moved])
    names = dict(globals())
    while word := heard():
        exec(word, names)
"""


@pytest.fixture
def servers() -> Iterator[tuple[Registrar, Registrar]]:
    with Registrar(FIRST) as first, Registrar(SECOND) as second:
        yield first, second


@pytest.fixture
def name_server() -> Iterator[DnsServer]:
    with DnsServer(ZONE, NAME_SERVER) as server:
        yield server


def app_with(
    table: dict[str, list[Any]], name_server: DnsServer | None = None, transports: tuple[str, ...] = ("udp", "tcp")
) -> App:
    nameserver = f"{name_server.address}:{name_server.port}" if name_server else ""
    return App(APP, json.dumps(table), json.dumps(nameserver), json.dumps(transports))


def told(app: App, words: str, key: str, timeout: float = 20) -> Line:
    """The next line with *key*, after the program was told *words*."""
    if words:
        app.tell(words)
    while key not in (line := app.next(timeout)):
        pass
    return line


def register(app: App, registrar: str) -> Line:
    app.tell(f"alice = account({registrar!r})")
    return told(app, "sent(alice, 'REGISTER')", "code")


@pytest.mark.parametrize("fault", [SILENT, REFUSING, UNAVAILABLE], ids=["silent", "killed", "503"])
@pytest.mark.parametrize(
    ("listed", "registrar"),
    [
        ([FIRST, SECOND], "sip:voip.test"),
        ([FIRST, f"{SECOND}:5060"], "sip:voip.test;transport=tcp"),
        (["sip1.test", "sip2.test:5060"], "sip:voip.test"),
        (["sip1.test", "tcp:sip2.test"], "sip:voip.test;transport=tcp"),
    ],
    ids=["addresses-udp", "addresses-tcp", "names-udp", "names-tcp"],
)
def test_a_listed_server_fails_and_the_next_one_has_the_request(
    servers: tuple[Registrar, Registrar], name_server: DnsServer, listed: list[str], registrar: str, fault: Fault
) -> None:
    first, second = servers
    with app_with({"voip.test": listed}, name_server) as app:
        assert register(app, registrar)["code"] == 200
        assert second.requests == []
        first.fault = fault
        answer = told(app, "sent(alice, 'REGISTER')", "code")
        assert (answer["code"], bool(second.wait_for("REGISTER"))) == (200, True)
        assert answer["seconds"] < 5


def test_a_name_that_does_not_resolve_is_told_of_at_attach_and_leaves_the_others(
    servers: tuple[Registrar, Registrar], name_server: DnsServer
) -> None:
    with app_with({"voip.test": ["gone.test", SECOND]}, name_server) as app:
        line = told(app, "", "log")
        assert line["level"] == "WARNING"
        assert line["log"].startswith("gone.test is left out for now, it was not found: ")
        assert register(app, "sip:voip.test")["code"] == 200
        assert servers[1].wait_for("REGISTER")


def test_silent_name_servers_do_not_hold_the_addresses_up(
    servers: tuple[Registrar, Registrar], name_server: DnsServer
) -> None:
    name_server.fault("silent")
    with app_with({"voip.test": ["sip1.test", SECOND]}, name_server) as app:
        answer = register(app, "sip:voip.test")
        assert (answer["code"], answer["seconds"] < 2) == (200, True)
        assert servers[1].wait_for("REGISTER")
        name_server.mend()
        for _ in range(100):  # the name is asked for again within seconds
            assert told(app, "endpoint.run(0.2); sent(alice, 'REGISTER')", "code")["code"] == 200
            if servers[0].requests:
                return
        raise AssertionError("the first server, found by its name, was not used")


def test_a_name_is_resolved_again_at_its_ttl(servers: tuple[Registrar, Registrar], name_server: DnsServer) -> None:
    name_server.records([f"sip1.test 1 A {FIRST}"])
    with app_with({"voip.test": ["sip1.test"]}, name_server) as app:
        assert register(app, "sip:voip.test")["code"] == 200
        assert servers[0].wait_for("REGISTER")
        name_server.records([f"sip1.test 1 A {SECOND}"])
        for _ in range(100):
            assert told(app, "endpoint.run(0.2); sent(alice, 'REGISTER')", "code")["code"] == 200
            if servers[1].requests:
                return
        raise AssertionError("the name's new address was not used")


def test_a_transport_that_the_endpoint_has_not_is_told_of_at_attach(servers: tuple[Registrar, Registrar]) -> None:
    with app_with({"voip.test": [f"tls:{FIRST}", SECOND]}, transports=("udp",)) as app:
        line = told(app, "", "log")
        assert line["log"].startswith(f"voip.test: tls:{FIRST} is not used: this endpoint has no tls transport")
        assert register(app, "sip:voip.test")["code"] == 200
        assert servers[1].wait_for("REGISTER")


def test_an_endpoint_without_udp_has_what_it_has(servers: tuple[Registrar, Registrar]) -> None:
    with app_with({"voip.test": [FIRST, SECOND]}, transports=("tcp",)) as app:
        assert told(app, "sent(account(''), 'OPTIONS', 'sip:voip.test')", "code")["code"] == 200
        assert [each.transport for each in servers[0].wait_for("OPTIONS")] == ["tcp"]


def test_a_name_outside_the_table_is_looked_up_as_ever(
    servers: tuple[Registrar, Registrar], name_server: DnsServer
) -> None:
    with app_with({"voip.test": [FIRST]}, name_server) as app:
        assert register(app, "sip:sip2.test")["code"] == 200
        assert servers[1].wait_for("REGISTER")


def test_a_table_that_is_replaced_is_in_use_at_once(servers: tuple[Registrar, Registrar]) -> None:
    with app_with({"voip.test": [FIRST]}) as app:
        assert register(app, "sip:voip.test")["code"] == 200
        app.tell(f"table.update({{'voip.test': ['{SECOND}']}})")
        for _ in range(100):
            assert told(app, "endpoint.run(0.1); sent(alice, 'REGISTER')", "code")["code"] == 200
            if servers[1].requests:
                return
        raise AssertionError("the new table was not used")


# --- a numeric registrar ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [SILENT, REFUSING, UNAVAILABLE], ids=["silent", "killed", "503"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_numeric_registrar_in_the_table_has_its_plan(
    servers: tuple[Registrar, Registrar], transport: str, fault: Fault
) -> None:
    first, second = servers
    with app_with({FIRST: [FIRST, SECOND]}) as app:
        assert register(app, f"sip:{FIRST};transport={transport}")["code"] == 200
        first.fault = fault
        for request in ("'REGISTER'", f"'OPTIONS', 'sip:bob@{FIRST}:5060;transport={transport}'"):
            assert told(app, f"sent(alice, {request})", "code")["code"] == 200
        for method, uri in (("REGISTER", f"sip:{FIRST};"), ("OPTIONS", f"sip:bob@{FIRST}:5060;")):
            (heard,) = second.wait_for(method)
            assert heard.uri.startswith(uri)  # the Request-URI stays


def test_over_tls_a_numeric_registrar_shows_each_server_what_pjsip_shows(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    shown: list[tuple[str, str | None]] = []

    def tls(address: str) -> ssl.SSLContext:
        context = authority.issue(FIRST).context()
        context.sni_callback = lambda _socket, name, _context: shown.append((address, name))
        return context

    with Registrar(FIRST, tls=tls(FIRST)) as first, Registrar(SECOND, tls=tls(SECOND)) as second:
        with app_with({FIRST: [FIRST, SECOND]}, transports=("tls",)) as app:
            assert register(app, f"sip:{FIRST};transport=tls")["code"] == 200
            first.fault = UNAVAILABLE
            assert told(app, "sent(alice, 'REGISTER')", "code")["code"] == 200
            assert [each.transport for each in second.wait_for("REGISTER")] == ["tls"]
    names = dict(shown)
    assert names[FIRST] == names[SECOND]


def test_an_ipv6_registrar_in_the_table_has_its_plan_however_it_is_written() -> None:
    with Registrar("::1", 5060) as first, Registrar("::1", 5070) as second:
        with app_with({"0:0::1": ["::1", "[::1]:5070"]}) as app:
            app.tell("import pjsua2 as pj; bound = pj.TransportConfig(); bound.boundAddress = '::1'")
            app.tell("endpoint.pj.transportCreate(pj.PJSIP_TRANSPORT_UDP6, bound); alice = account('')")
            assert told(app, "sent(alice, 'OPTIONS', 'sip:[::1]')", "code")["code"] == 200
            assert first.wait_for("OPTIONS")
            first.fault = SILENT
            assert told(app, "sent(alice, 'OPTIONS', 'sip:[0::0:1]:5060')", "code")["code"] == 200
            assert second.wait_for("OPTIONS")


def test_a_numeric_proxy_in_the_table_has_its_plan(servers: tuple[Registrar, Registrar]) -> None:
    first, second = servers
    with app_with({FIRST: [FIRST, SECOND]}) as app:
        app.tell(f"alice = account('sip:voip.test', proxies=['sip:{FIRST};lr;hide'])")
        assert told(app, "sent(alice, 'REGISTER')", "code")["code"] == 200
        first.fault = SILENT
        assert told(app, "sent(alice, 'REGISTER')", "code")["code"] == 200
        assert [each.uri for each in second.wait_for("REGISTER")] == ["sip:voip.test"]


def test_a_numeric_registrar_that_an_account_is_followed_at_moves_it(servers: tuple[Registrar, Registrar]) -> None:
    first, second = servers
    with app_with({f"{FIRST}:5060": [FIRST, SECOND]}) as app:
        assert register(app, f"sip:{FIRST}")["code"] == 200
        assert told(app, "failover.follow(alice, spread=0)", "moved")["server"] == f"udp:{FIRST}:5060"
        first.fault = SILENT
        app.tell("alice.send_register()")
        assert told(app, "", "moved")["server"] == f"udp:{SECOND}:5060"
        assert second.wait_for("REGISTER")
        heard = len(first.requests)
        assert told(app, f"sent(alice, 'MESSAGE', 'sip:bob@{FIRST}')", "code")["code"] == 200
        assert second.wait_for("MESSAGE")
        assert len(first.requests) == heard


def test_an_account_followed_at_the_only_server_of_its_address_does_not_move(
    servers: tuple[Registrar, Registrar],
) -> None:
    with app_with({}) as app:
        assert register(app, f"sip:{FIRST}")["code"] == 200
        assert told(app, "failover.follow(alice, spread=0)", "moved")["server"] == f"udp:{FIRST}:5060"
        servers[0].fault = UNAVAILABLE
        assert told(app, "sent(alice, 'REGISTER')", "code")["code"] == 503
        servers[0].fault = WELL
        assert told(app, "", "moved", 60)["server"] in ("None", f"udp:{FIRST}:5060")
        assert told(app, "sent(alice, 'MESSAGE', 'sip:bob@" + FIRST + "')", "code")["code"] == 200


def test_every_other_address_is_pjsips_own(servers: tuple[Registrar, Registrar]) -> None:
    with app_with({FIRST: [SECOND]}) as app:
        assert register(app, f"sip:{SECOND}")["code"] == 200
        for uri in (f"sip:{SECOND}", f"sip:{FIRST}:5080", f"sip:{FIRST}"):
            app.tell(f"alice.send('OPTIONS', '{uri}')")
        app.tell("endpoint.run(1)")
        app.tell("emit(numeric=failover.counters().numeric, plans=[str(each) for each in failover.servers()])")
        line = told(app, "", "numeric")
        assert line["numeric"] == 3  # the REGISTER, and two of the OPTIONS
        assert line["plans"] == [f"udp:{SECOND}:5060"]


def test_an_address_leaves_the_table_and_enters_it_while_the_program_runs(servers: tuple[Registrar, Registrar]) -> None:
    first, second = servers
    with app_with({}) as app:
        assert register(app, f"sip:{FIRST}")["code"] == 200
        app.tell(f"table.update({{'{FIRST}': ['{SECOND}']}})")
        assert told(app, "sent(alice, 'REGISTER')", "code")["code"] == 200
        assert (len(first.requests), len(second.wait_for("REGISTER"))) == (1, 1)
        app.tell("table.update({})")
        assert told(app, "sent(alice, 'REGISTER')", "code")["code"] == 200
        assert (len(first.requests), len(second.requests)) == (2, 1)


def test_a_call_stays_with_the_server_that_has_answered_it(servers: tuple[Registrar, Registrar]) -> None:
    """The dialog's next hop, that server's Contact, is in the table too, where another server comes first."""
    first, second = servers
    with app_with({FIRST: [FIRST, SECOND], SECOND: [FIRST, SECOND]}) as app:
        assert register(app, f"sip:{FIRST}")["code"] == 200
        first.fault = SILENT
        app.tell(f"call = alice.call('sip:bob@{FIRST}')")
        assert told(app, "emit(**alice.answer(20)._asdict())", "code")["code"] == 200
        first.fault = WELL
        app.tell("import pjsua2; call.hangup(pjsua2.CallOpParam())")
        assert second.wait_for("BYE")
        assert not [each for each in first.requests if each.method == "BYE"]


# --- a port in the URI ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("registrar", "callee"), [("", ":5060"), (":5060", "")], ids=["without", "with"])
def test_a_followed_account_calls_where_it_is_registered_with_and_without_the_port(
    servers: tuple[Registrar, Registrar], name_server: DnsServer, registrar: str, callee: str
) -> None:
    """The registrar's own records lead to both servers, those of the other form of its URI to none."""
    srv = [f"_sip._udp.voip.test 60 SRV 0 0 5060 {host}.test." for host in (("sip1", "sip2") if callee else ("gone",))]
    a = [f"voip.test 60 A {address}" for address in (("127.0.93.9",) if callee else (FIRST, SECOND))]
    name_server.records([*ZONE, *srv, *a, "gone.test 60 A 127.0.93.9"])
    with app_with({}, name_server) as app:
        assert register(app, f"sip:voip.test{registrar}")["code"] == 200
        server = told(app, "failover.follow(alice, spread=0)", "moved")["server"]
        here, there = servers if server == f"udp:{FIRST}:5060" else reversed(servers)
        for _ in range(8):
            assert told(app, f"sent(alice, 'MESSAGE', 'sip:bob@voip.test{callee}')", "code")["code"] == 200
        assert len([each for each in here.requests if each.method == "MESSAGE"]) == 8
        assert not there.requests


def test_a_server_is_named_by_its_address_alone_or_by_its_host_name(
    servers: tuple[Registrar, Registrar], name_server: DnsServer
) -> None:
    first, second = servers
    with app_with({"voip.test": ["sip1.test", "sip2.test"], "two.test": [FIRST, SECOND]}, name_server) as app:
        assert register(app, "sip:voip.test")["code"] == 200
        for named, expected in ((f"{FIRST}", second), ("sip1.test", second), (f"{SECOND}:5060", first)):
            app.tell(f"failover.mark_down('{named}')")
            before = len(expected.requests)
            assert told(app, "sent(alice, 'REGISTER')", "code")["code"] == 200
            assert len(expected.requests) == before + 1
            app.tell(f"failover.restore('{named}')")
        for named, expected in (("sip2.test", second), (FIRST, first), (f"udp:{SECOND}", second)):
            app.tell(f"failover.pin(alice, '{named}')")
            before = len(expected.requests)
            assert told(app, "sent(alice, 'REGISTER')", "code")["code"] == 200
            assert len(expected.requests) == before + 1
        app.tell("emit(answered=str(failover.request('OPTIONS', 'sip:voip.test', server='sip1.test').server))")
        assert told(app, "", "answered")["answered"] == f"udp:{FIRST}:5060"
        assert told(app, "sent(alice, 'OPTIONS', 'sip:two.test')", "code")["code"] == 200
        for words, said in (
            ("mark_down('sip9.test')", "is not in any plan yet"),
            ("pin(alice, 'sip9.test')", "is a host name that leads to no server in any plan yet"),
            ("pin(alice, 'two.test')", f"is a host name that leads to several: udp:{FIRST}:5060, udp:{SECOND}:5060"),
        ):
            assert said in told(app, f'raised("failover.{words}")', "error")["error"]


def test_a_port_that_keeps_srv_records_from_being_asked_is_told_of_once(
    servers: tuple[Registrar, Registrar], name_server: DnsServer
) -> None:
    records = [f"_sip._udp.voip.test 60 SRV 0 0 5060 {name}.test." for name in ("sip1", "sip2")]
    name_server.records([*ZONE, *records, f"voip.test 60 A {FIRST}"])
    with app_with({"listed.test": [FIRST]}, name_server) as app:
        assert register(app, "sip:voip.test:5060")["code"] == 200
        line = told(app, "", "log")
        assert line["level"] == "WARNING"
        assert line["log"] == (
            "sip:voip.test:5060 names a port, so its SRV records are not asked (RFC 3263 section 4.2); they lead to "
            f"udp:{SECOND}:5060: write sip:voip.test or attach(servers={{'voip.test:5060': [...]}})"
        )
        assert told(app, "sent(alice, 'OPTIONS', 'sip:bob@voip.test:5060;transport=tcp')", "code")["code"] == 200
        for uri in ("sip:listed.test:5060", "sip:voip.test", "sip:sip1.test:5060", f"sip:{FIRST}:5060"):
            assert told(app, f"sent(alice, 'OPTIONS', '{uri}')", "code")["code"] == 200
        app.tell("endpoint.run(1); emit(end=True)")
        assert [line for line in iter(app.next, {"end": True}) if "log" in line] == []
