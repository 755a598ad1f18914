"""An account kept on one server, by pjsip's own affinity where the host has it (after 2.17), else by pjfail's resolver.

One suite for both; where they differ by design, `native` says what is expected. Each test names the kind it has run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby

import pytest
from rig.certificates import Authority
from rig.console import Console
from rig.tls import TlsServer

from pjfail.testing import REFUSING, SILENT, UNAVAILABLE, WELL, Registrar, Request

FIRST, PINNED, OTHER, NEXT = "127.0.41.1", "127.0.41.2", "127.0.41.3", "127.0.41.4"

CALLS = """
class Phone(pj.Call):
    def __init__(self, account):
        super().__init__(account)
        self.states = queue.SimpleQueue()

    def onCallState(self, prm):
        self.states.put(self.getInfo().state)

    def wait(self, state):
        while self.states.get(timeout=20) != state:
            pass

def call(account, uri):
    phone = Phone(account)
    phone.makeCall(uri, pj.CallOpParam(True))
    phone.wait(pj.PJSIP_INV_STATE_CONFIRMED)
    return phone

def hang_up(phone):
    phone.hangup(pj.CallOpParam(True))
    phone.wait(pj.PJSIP_INV_STATE_DISCONNECTED)
"""


class NamedRegistrar(Registrar):
    """Its Contact is the domain's name, so that a dialog's later requests have to be resolved."""

    def _contact(self, request: Request) -> tuple[str, str]:
        return "Contact", f"<sip:sip.test{parameter(request.transport)}>"


class NamedTlsServer(TlsServer):
    def _contact(self, request: Request) -> tuple[str, str]:
        return "Contact", f"<sip:sip.test{parameter(request.transport)}>"


def parameter(transport: str) -> str:
    return "" if transport == "udp" else f";transport={transport}"


@dataclass
class Site:
    """A program whose account alice has its registrar at sip.test, which is FIRST; other.test is OTHER."""

    transport: str
    console: Console
    servers: dict[str, Registrar]
    native: bool
    start: Callable[[str, str | None], Registrar]

    @property
    def uri(self) -> str:
        return f"sip:sip.test{parameter(self.transport)}"

    def at(self, address: str) -> str:
        return f"{address}:{self.port}"

    @property
    def port(self) -> int:
        return 5061 if self.transport == "tls" else 5060

    def pin(self, address: str, account: str = "alice") -> None:
        self.console.run(f'failover.pin({account}, "{self.at(address)}")')

    def methods(self, address: str) -> list[str]:
        return [request.method for request in self.servers[address].requests if "pjfail@" not in request.from_]

    def hang_up(self, address: str) -> None:
        """Ends the call, whose server is at *address*; another one may have the BYE, and then it is too late here."""
        self.console.run("hang_up(phone)")
        self.servers[address].wait_for("BYE")

    def clear(self) -> None:
        for server in self.servers.values():
            server._requests.clear()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["udp", "tcp", "tls"])
def site(
    request: pytest.FixtureRequest, authority: Authority, record_property: Callable[[str, object], None]
) -> Iterator[Site]:
    transport = request.param
    certificate = authority.issue("sip.test", "other.test")
    servers: dict[str, Registrar] = {}
    port = 5061 if transport == "tls" else 5060
    table = {"sip.test": [f"{transport}:{FIRST}:{port}"], "other.test": [f"{transport}:{OTHER}:{port}"]}
    with ExitStack() as stack:

        def start(address: str, realm: str | None = None) -> Registrar:
            server: Registrar = (
                NamedTlsServer(address, certificate, realm=realm)
                if transport == "tls"
                else NamedRegistrar(address, 5060, (transport,), realm=realm)
            )
            servers[address] = stack.enter_context(server)
            return server

        for address in (FIRST, PINNED, OTHER):
            start(address)
        console = stack.enter_context(Console(table=table, transports=("udp", "tcp", "tls"), ca=str(authority.path)))
        console.run(CALLS)
        native = console.get("failover.native_affinity")
        kind = f"{'native' if native else 'resolver'} affinity, pjsip {console.get('failover.pjsip_version')}"
        record_property("affinity", kind)
        print(kind)
        found = Site(transport, console, servers, native, start)
        console.run("Account.affinity = True")
        console.run(f'alice = opened("sip:alice@sip.test", "{found.uri}", password="secret")')
        yield found


def test_every_kind_of_request_reaches_the_pinned_server_alone(site: Site) -> None:
    """A server that is in no plan, pinned before the first REGISTER; TLS shows and checks the name in the URI."""
    assert site.console.get("failover.pinned(alice)") is None
    site.pin(PINNED)
    assert site.console.get("str(failover.pinned(alice))") == f"{site.transport}:{site.at(PINNED)}"
    assert site.console.get("alice.reregister().code") == 200
    for method in ("SUBSCRIBE", "PUBLISH", "MESSAGE", "OPTIONS"):
        answer = site.console.get(f'alice.request("{method}", "{site.uri}")._asdict()')
        assert (answer["code"], answer["server"]) == (200, site.at(PINNED))
    site.console.run(f'phone = call(alice, "sip:bob@{site.uri.removeprefix("sip:")}")')
    site.hang_up(PINNED)
    assert site.methods(FIRST) == []
    expected = ["REGISTER", "SUBSCRIBE", "PUBLISH", "MESSAGE", "OPTIONS", "INVITE", "ACK", "BYE"]
    # pjsua registers again where the registrar sees another address of ours than the Contact has.
    assert [method for method, _ in groupby(site.methods(PINNED))] == expected
    server = site.servers[PINNED]
    if isinstance(server, TlsServer):
        assert {handshake.sni for handshake in server.handshakes} == {"sip.test"}


def test_a_uri_without_transport_is_the_accounts_own_host_too(site: Site) -> None:
    """What a buddy's URI and PUBLISH are like; over TCP and TLS the pin has them go by the account's transport."""
    site.pin(PINNED)
    answer = site.console.get('alice.request("MESSAGE", "sip:bob@sip.test")._asdict()')
    assert (answer["code"], answer["server"]) == (200, site.at(PINNED))
    assert [request.transport for request in site.servers[PINNED].requests] == [site.transport]
    assert site.methods(FIRST) == []


def test_other_hosts_and_other_accounts_are_untouched(site: Site) -> None:
    site.console.run(f'bob = opened("sip:bob@sip.test", "{site.uri}")')
    site.console.run(f'namesake = opened("sip:alice@elsewhere.test", "{site.uri}")')
    site.pin(PINNED)
    assert site.console.get("bob.reregister().server") == site.at(FIRST)
    assert site.console.get(f'bob.options("{site.uri}").server') == site.at(FIRST)
    assert site.console.get("namesake.reregister().server") == site.at(FIRST)
    assert site.console.get("failover.pinned(bob)") is None
    elsewhere = site.console.get(f'alice.options("sip:other.test{parameter(site.transport)}").server')
    # pjsip's own affinity has all requests of an account go by the pinned transport, whatever their host.
    assert elsewhere == site.at(PINNED if site.native else OTHER)


def test_a_call_from_before_stays_with_its_server(site: Site) -> None:
    """The Contact is the domain's name, so the BYE's next hop is the account's own, which is pinned by then."""
    assert site.console.get("alice.reregister().server") == site.at(FIRST)
    site.console.run(f'phone = call(alice, "{site.uri}")')
    site.servers[FIRST].wait_for("ACK")
    site.pin(PINNED)
    site.clear()
    site.hang_up(FIRST)
    assert (site.methods(FIRST), site.methods(PINNED)) == (["BYE"], [])


def test_a_pin_changes_and_ends_while_requests_go(site: Site) -> None:
    site.start(NEXT, None)
    register = "alice.reregister().server"
    assert site.console.get(register) == site.at(FIRST)
    site.pin(PINNED)
    assert site.console.get(register) == site.at(PINNED)
    site.pin(NEXT)
    assert site.console.get(register) == site.at(NEXT)
    site.console.run(f'phone = call(alice, "{site.uri}")')
    site.console.run("failover.unpin(alice)")
    assert site.console.get("failover.pinned(alice)") is None
    assert site.console.get(f'alice.options("{site.uri}").server') == site.at(FIRST)
    site.hang_up(NEXT)
    assert site.methods(NEXT) == ["REGISTER", "INVITE", "ACK", "BYE"]
    # pjsip's own affinity leaves a registration on the connection that it had, until that ends.
    stays = site.native and site.transport != "udp"
    assert site.console.get(register) == site.at(NEXT if stays else FIRST)
    site.console.run("failover.unpin(alice)")  # as often as one likes


def test_a_challenge_is_answered_to_the_challenger(site: Site) -> None:
    """Each knows its own nonce alone; one challenges before the account is pinned elsewhere, one as the pinned one."""
    challenger = site.servers[FIRST]
    challenger.realm = "test"
    site.start(NEXT, "test")
    site.pin(NEXT)
    assert site.console.get("alice.reregister().code") == 200
    assert site.methods(NEXT) == ["REGISTER", "REGISTER"]
    assert site.methods(FIRST) == []


def test_a_pin_rests_while_its_server_is_down(site: Site) -> None:
    """By its own outcomes, and by the application's word; recovered, it holds again."""
    options = f'alice.options("{site.uri}")'
    site.pin(PINNED)
    assert site.console.get(f"{options}.server") == site.at(PINNED)
    site.servers[PINNED].fault = UNAVAILABLE
    assert site.console.get(f"{options}.code") == 503
    wait_until(lambda: bool(site.console.get(f"{options}.server") == site.at(FIRST)))
    assert site.console.get("str(failover.pinned(alice))") == f"{site.transport}:{site.at(PINNED)}"
    site.servers[PINNED].fault = WELL
    wait_until(lambda: bool(site.console.get(f"{options}.server") == site.at(PINNED)), 15)

    site.console.run(f'failover.mark_down("{site.transport}:{site.at(PINNED)}")')
    wait_until(lambda: bool(site.console.get(f"{options}.server") == site.at(FIRST)))
    site.console.run(f'failover.restore("{site.transport}:{site.at(PINNED)}")')
    wait_until(lambda: bool(site.console.get(f"{options}.server") == site.at(PINNED)))


def test_a_pin_to_a_dead_server_does_not_last(site: Site) -> None:
    site.pin(PINNED)
    assert site.console.get("alice.reregister().server") == site.at(PINNED)
    site.servers[PINNED].fault = SILENT if site.transport == "udp" else REFUSING
    site.console.run(f'alice.send("OPTIONS", "{site.uri}")')

    def goes_on() -> bool:
        while site.console.get("alice.answers.qsize()"):
            site.console.run("alice.answers.get()")
        site.console.run("settle()")
        states = site.console.get("{str(server): health.state.value for server, health in failover.servers().items()}")
        return bool(states.get(f"{site.transport}:{site.at(PINNED)}") in ("down", "half-open"))

    wait_until(goes_on, 15)
    time.sleep(0.3)
    site.clear()
    site.console.run(f'alice.send("MESSAGE", "{site.uri}")')
    assert site.servers[FIRST].wait_for("MESSAGE")
    site.console.run("alice.send_register()")
    assert site.servers[FIRST].wait_for("REGISTER")


@pytest.mark.parametrize("method", ["OPTIONS", "REGISTER"])
def test_a_pinned_request_under_way_goes_nowhere_else(site: Site, method: str) -> None:
    assert site.console.get(f'alice.options("{site.uri}").server') == site.at(FIRST)
    site.pin(PINNED)
    assert site.console.get("alice.reregister().server") == site.at(PINNED)
    site.servers[PINNED].fault = SILENT
    site.clear()
    site.console.run("alice.send_register()" if method == "REGISTER" else f'alice.send("OPTIONS", "{site.uri}")')
    assert site.servers[PINNED].wait_for(method)
    time.sleep(1.3)  # a request that is free goes on after 0.5 s
    assert site.methods(FIRST) == []
    assert {request.branch for request in site.servers[PINNED].requests} == {site.servers[PINNED].requests[0].branch}


def test_a_pin_outlives_its_connection(site: Site) -> None:
    """Which pjsip's own does not, and which has a registration bound to it for ever."""
    site.pin(PINNED)
    assert site.console.get("alice.reregister().server") == site.at(PINNED)
    site.servers[PINNED].fault = REFUSING
    site.servers[PINNED].fault = WELL
    time.sleep(0.5)  # pjsip hears of it
    site.clear()
    site.console.run("alice.send_register()")
    assert site.servers[PINNED].wait_for("REGISTER")
    assert site.methods(FIRST) == []


@pytest.mark.parametrize("site", ["udp"], indirect=True)
def test_an_account_bound_to_a_transport(site: Site) -> None:
    """pjsip asks for that transport by its name then, though the account's URIs do not; so of UDP transports only."""
    site.console.run("config = pj.AccountConfig()")
    for setting, value in {
        "idUri": '"sip:erin@sip.test"',
        "regConfig.registrarUri": '"sip:sip.test"',
        "regConfig.registerOnAdd": "False",
        "sipConfig.transportId": "0",
    }.items():
        site.console.run(f"config.{setting} = {value}")
    if site.native:
        site.console.run("config.sipConfig.serverAffinity = pj.PJSUA_SERVER_AFFINITY_ENABLED")
    site.console.run("erin = Account(endpoint); erin.create(config)")
    if site.native:
        assert site.console.error(f'failover.pin(erin, "{site.at(PINNED)}")', "transport 0") == "AffinityError"
        assert site.console.get("erin.reregister().server") == site.at(FIRST)
    else:
        site.pin(PINNED, "erin")
        assert site.console.get("erin.reregister().server") == site.at(PINNED)


def test_a_proxy_of_the_accounts_own_is_no_pin(site: Site) -> None:
    """pjsip's own affinity pins over UDP by a Route that looks like such a proxy."""
    proxies = [f"sip:{OTHER}{parameter(site.transport)};lr;hide", "sip:other.test;lr"]
    site.console.run(f'erin = opened("sip:erin@sip.test", "{site.uri}", proxies={proxies})')
    site.console.run("from pjfail.bridge.accounts import read_account")
    next_hop = "read_account(erin.getId()).next_hop.host"
    assert site.console.get(next_hop) == OTHER
    site.pin(PINNED, "erin")
    assert site.console.get(next_hop) == OTHER


def test_an_account_without_affinity_says_so_and_can_be_given_it(site: Site) -> None:
    site.console.run("Account.affinity = False")
    site.console.run(f'dave = opened("sip:dave@sip.test", "{site.uri}")')
    if site.native:
        pin = f'failover.pin(dave, "{site.at(PINNED)}")'
        assert site.console.error(pin, "enable_affinity()") == "AffinityDisabled"
        assert site.console.get("failover.pinned(dave)") is None
        assert site.console.get("dave.reregister().server") == site.at(FIRST)
    site.console.run("failover.enable_affinity(dave)")
    site.pin(PINNED, "dave")
    assert site.console.get("dave.reregister().server") == site.at(PINNED)
    site.console.run("failover.unpin(dave)")
    assert site.console.get("dave.reregister().server") == site.at(FIRST)


def test_the_proxys_host_is_the_next_hop(site: Site) -> None:
    """And the name that TLS shows is the proxy's."""
    proxy = f"sip:other.test{parameter(site.transport)};lr"
    site.console.run(f'carol = opened("sip:carol@sip.test", "{site.uri}", proxies=["{proxy}"])')
    assert site.console.get("carol.reregister().server") == site.at(OTHER)
    site.pin(PINNED, "carol")
    assert site.console.get("carol.reregister().server") == site.at(PINNED)
    assert site.console.get(f'carol.options("{site.uri}").server') == site.at(PINNED)
    server = site.servers[PINNED]
    assert all("other.test" in request.header("route") for request in server.requests)
    if isinstance(server, TlsServer):
        assert {handshake.sni for handshake in server.handshakes} == {"other.test"}


def wait_until(true: Callable[[], bool], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)
