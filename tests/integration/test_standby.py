"""Standby registrations: a real pjsua2 program's account at two registrars at once, and calls by either."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from rig.app import App, Line

from pjfail.testing import SILENT, WELL, Fault, Registrar, Request
from pjfail.testing.sockets import Peer

ADDRESSES = FIRST, SECOND, THIRD = "127.0.131.1", "127.0.131.2", "127.0.131.3"

# Runs each line that it is told, and prints the calls that come in.
APP = """
    import sys
    import time

    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    transport, standby, *listed = sys.argv[1:]
    uri = "sip:sip.test" + ("" if transport == "udp" else f";transport={transport}")
    calls = []
    servers = [(f"{address}:5060", priority, 0) for priority, address in enumerate(listed)]

    class Called(Account):
        def onIncomingCall(self, prm):
            calls.append(pj.Call(self, prm.callId))
            emit(incoming=calls[-1].getInfo().callIdString, account=self.getId(), at=time.monotonic())
            busy = pj.CallOpParam()
            busy.statusCode = 486
            calls[-1].answer(busy)

    def account(name, **options):
        made = Called(endpoint, **options)
        made.open(f"sip:{name}@sip.test", uri)
        return made

    def moved(event):
        if isinstance(event, pjfail.events.AccountMoved):
            emit(moved=event.account, server=event.server and event.server.address)

    endpoint = Endpoint(ending=0)
    failover = pjfail.attach(
        lookup=pjfail.StaticLookup({"sip.test": servers}, ttl=1),
        follow=pjfail.Follow(standby=int(standby), spread=0.2),
        listeners=[moved],
    )
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


def told(app: App, words: str, timeout: float = 60, **wanted: Any) -> Line:
    """The next line with what is *wanted* in it, after the program was told *words*."""
    if words:
        app.tell(words)
    until = time.monotonic() + timeout
    while True:
        line = app.next(max(until - time.monotonic(), 0.01))
        if all(key in line and line[key] == value for key, value in wanted.items()):
            return line


def eventually(what: Callable[[], object], timeout: float = 60) -> None:
    until = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < until, "it has not come to that in time"
        time.sleep(0.02)


def registers(registrar: Registrar, expires: bool = True) -> list[Request]:
    """The REGISTERs that a registrar has got, each once, or those that remove a binding."""
    first: dict[str, Request] = {}
    for each in registrar.requests:
        if each.method == "REGISTER" and bool(each.expires) == expires:
            first.setdefault(each.branch, each)
    return list(first.values())


def call(server: str, contact: str) -> str:
    """Sends an INVITE to the Contact as that server would, over UDP from another port, and returns its Call-ID."""
    uri = contact[contact.index("<") + 1 : contact.index(">")]
    host, _, port = uri.partition("@")[2].partition(";")[0].partition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.bind((server, 0))
        own = f"{server}:{caller.getsockname()[1]}"
        call_id = f"call-by-{own}"
        head = f"INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{own}\r\nMax-Forwards: 70\r\n"
        ids = f"From: <sip:bob@sip.test>;tag=b\r\nTo: <sip:alice@sip.test>\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n"
        caller.sendto(f"{head}{ids}Contact: <sip:bob@{own}>\r\nContent-Length: 0\r\n\r\n".encode(), (host, int(port)))
        caller.settimeout(5)
        caller.recv(4000)
    return call_id


def started(transport: str = "udp", standby: int = 1, count: int = 2) -> App:
    return App(APP, transport, str(standby), *ADDRESSES[:count])


def stands(app: App, servers: list[Registrar], options: str = "") -> None:
    """Has alice registered at the first, and followed; returns once she has a standby at the second."""
    app.tell(f"alice = account('alice'{options}); alice.reregister(); failover.follow(alice)")
    assert told(app, "", moved=0)["server"] == FIRST
    eventually(lambda: registers(servers[1]))


@pytest.mark.parametrize("realm", [None, "sip.test"])
def test_a_call_comes_by_the_standby_while_its_own_server_is_silent(
    servers: list[Registrar], realm: str | None
) -> None:
    for server in servers:
        server.realm = realm
    with started() as app:
        stands(app, servers, ", password='secret'" if realm else "")
        eventually(lambda: [each for each in servers[1].answers if each.code == 200])
        assert not [each for each in servers[2].requests if each.method == "REGISTER"]
        own, standby = registers(servers[0])[-1], registers(servers[1])[-1]
        assert own.header("contact") == standby.header("contact")
        assert own.call_id != standby.call_id
        servers[0].fault = SILENT
        at = time.monotonic()
        call_id = call(SECOND, standby.header("contact"))
        rang = told(app, "", incoming=call_id)
        assert rang["account"] == 0
        assert rang["at"] - at < 1


def test_an_authorization_of_the_programs_own_is_for_the_accounts_server_alone(servers: list[Registrar]) -> None:
    """Made of a nonce of that server's; pjsip would take the other's challenge for a refusal of it."""
    with started() as app:
        app.tell("own = pj.AccountConfig(); own.idUri = 'sip:alice@sip.test'; own.regConfig.registrarUri = uri")
        app.tell("own.regConfig.registerOnAdd = False; own.natConfig.contactRewriteUse = 0; headers = []")
        for name, value in [("aUTHORIZATION", "Digest realm=r"), ("Proxy-Authorization", "Basic eA=="), ("X-Own", "1")]:
            app.tell("headers.append(pj.SipHeader())")
            app.tell(f"headers[-1].hName, headers[-1].hValue = {name!r}, {value!r}")
        app.tell("[own.regConfig.headers.append(each) for each in headers]")
        app.tell("alice = Called(endpoint); alice.create(own); alice.reregister(); failover.follow(alice)")
        eventually(lambda: registers(servers[1]))
        given = [registers(server)[-1] for server in servers[:2]]
        assert [each.header("authorization") for each in given] == ["Digest realm=r", ""]
        assert [each.header("proxy-authorization") for each in given] == ["Basic eA==", ""]
        assert [each.header("x-own") for each in given] == ["1", "1"]


def test_the_standby_is_unregistered_with_the_account(servers: list[Registrar]) -> None:
    with started() as app:
        stands(app, servers)
        app.tell("alice.send_register(False)")
        eventually(lambda: registers(servers[0], expires=False))
        eventually(lambda: registers(servers[1], expires=False))
        count = len(servers[1].requests)
        app.tell("alice.reregister()")
        told(app, "", moved=0, server=FIRST)
        eventually(lambda: len(servers[1].requests) > count)
        assert registers(servers[1])[-1].call_id != registers(servers[1])[0].call_id


def test_the_end_of_pjsip_unregisters_the_standby(servers: list[Registrar]) -> None:
    for server in servers:
        server.realm = "sip.test"
    with started() as app:
        stands(app, servers, ", password='secret'")
        app.tell("endpoint.destroy(); emit(ended=True)")
        told(app, "", ended=True)
        assert registers(servers[0], expires=False)
        assert registers(servers[1], expires=False)


@pytest.mark.parametrize("how", ["failover.detach()", "failover.unfollow(alice)"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_binding_of_its_own_is_removed(servers: list[Registrar], transport: str, how: str) -> None:
    """Over TCP the standby has a Contact of its own. Over UDP it has the account's, and registrars may share what they
    know: it is let go.
    """
    with started(transport) as app:
        stands(app, servers)
        eventually(lambda: [each for each in servers[1].answers if each.code == 200])
        if transport == "tcp":
            eventually(
                lambda: registers(servers[1])[-1].header("contact") != registers(servers[0])[-1].header("contact")
            )
        app.tell(f"{how}; emit(done=True)")
        told(app, "", done=True)
        if transport == "tcp":
            eventually(lambda: registers(servers[1], expires=False))
        time.sleep(0.5)
        assert bool(registers(servers[1], expires=False)) == (transport == "tcp")
        assert not registers(servers[0], expires=False)


def test_the_standby_goes_elsewhere_when_its_account_comes(servers: list[Registrar]) -> None:
    with started(count=3) as app:
        stands(app, servers)
        servers[0].fault = SILENT
        app.tell(f"failover.mark_down('udp:{FIRST}:5060')")
        told(app, "", moved=0, server=SECOND)
        eventually(lambda: registers(servers[2]))
        time.sleep(0.5)
        assert not registers(servers[1], expires=False)
        own, standby = registers(servers[1])[-1], registers(servers[2])[-1]
        assert own.call_id == registers(servers[0])[-1].call_id
        assert standby.call_id != own.call_id
        assert len({each.call_id for each in registers(servers[1])}) == 2


def test_a_lost_connection_is_registered_again(servers: list[Registrar]) -> None:
    with started("tcp") as app:
        stands(app, servers)
        eventually(lambda: [each for each in servers[1].answers if each.code == 200])
        count = len(registers(servers[1]))
        servers[1].reset()
        eventually(lambda: len(registers(servers[1])) > count)
        assert registers(servers[1])[-1].source != registers(servers[1])[0].source


def test_credentials_refused_at_the_standby_alone(servers: list[Registrar]) -> None:
    servers[1].fault = Fault(code=403, methods=("REGISTER",))
    with started() as app:
        stands(app, servers)
        count = len(registers(servers[0]))
        time.sleep(3)
        assert len(registers(servers[1])) == 1
        assert len(registers(servers[0])) == count
        assert told(app, "emit(code=alice.getInfo().regStatus)", code=200)


def test_a_503_is_tried_again(servers: list[Registrar]) -> None:
    """pjsip's client does nothing any more after that."""
    servers[1].fault = Fault(code=503, methods=("REGISTER",), retry_after=1)
    with started() as app:
        stands(app, servers)
        time.sleep(0.3)
        servers[1].fault = WELL
        app.tell("failover.restore('udp:127.0.131.2:5060')")
        eventually(lambda: any(each.code == 200 and each.request.method == "REGISTER" for each in servers[1].answers))


def test_an_account_deleted_in_the_middle(servers: list[Registrar]) -> None:
    with started() as app:
        stands(app, servers)
        app.tell("alice.shutdown(); emit(gone=True)")
        told(app, "", gone=True)
        eventually(lambda: registers(servers[1], expires=False))
        told(app, "endpoint.run(1); emit(alive=True)", alive=True)


class Elsewhere(Registrar):
    """A registrar that sees its clients at another place, as behind a NAT."""

    def _receive(self, request: Request, peer: Peer) -> None:
        super()._receive(replace(request, source=("127.0.131.9", 40000)), peer)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_standby_whose_place_is_another_does_not_remove_the_accounts_own(transport: str) -> None:
    """Its Contact is what its server sees; over UDP the last one was the account's own."""
    with Registrar(FIRST) as first, Elsewhere(SECOND) as second, started(transport) as app:
        app.tell("Called.contact_rewrite = 2")
        stands(app, [first, second])
        own = registers(first)[-1].header("contact")
        eventually(lambda: len(registers(second)) > 1)
        time.sleep(1)
        early, late = registers(second)
        assert "@127.0.131.9:40000" not in early.header("contact")
        assert "@127.0.131.9:40000" in late.header("contact")
        assert (early.header("contact") == own) == (transport == "udp")
        removed = [each.partition(";expires=0")[0] for each in late.every("contact") if "expires=0" in each]
        assert removed == ([early.header("contact")] if transport == "tcp" else [])


def test_a_nat_is_kept_open(servers: list[Registrar]) -> None:
    """The empty line comes from the socket that registered."""
    arrived: list[tuple[bytes, tuple[str, int]]] = []
    servers[2].stop()
    with started(count=3, standby=2) as app, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as third:
        app.tell("import pjfail.standby; pjfail.standby.KEEP_ALIVE = 0.5")
        third.bind((THIRD, 5060))
        third.settimeout(10)
        stands(app, servers)
        while not arrived or arrived[-1][0] != b"\r\n":
            data, source = third.recvfrom(4000)
            arrived.append((data, source))
            if data.startswith(b"REGISTER"):
                head = data.decode().split("\r\n\r\n")[0].split("\r\n")
                kept = [
                    line for line in head if line.split(":")[0] in ("Via", "From", "To", "Call-ID", "CSeq", "Contact")
                ]
                third.sendto("\r\n".join(["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""]).encode(), source)
        assert len({source for _, source in arrived}) == 1


@pytest.mark.parametrize("flag", ["NO_TX_MSG", "NO_RX_MSG", "NO_NETWORK"])
def test_pjsip_ends_without_a_word(servers: list[Registrar], flag: str) -> None:
    with started() as app:
        stands(app, servers)
        app.tell(f"endpoint.pj.libDestroy(pj.PJSUA_DESTROY_{flag}); emit(done=True)")
        told(app, "", done=True)


def test_a_standbys_register_goes_to_its_server_alone(servers: list[Registrar]) -> None:
    """Another server would have a binding that nobody knows of."""
    servers[1].fault = SILENT
    with started(count=3) as app:
        stands(app, servers)
        eventually(lambda: registers(servers[2]))
        time.sleep(1)
        at = [{each.call_id for each in registers(server)} for server in servers]
        assert not at[1] & (at[0] | at[2])
        told(app, "emit(server=failover.pinned(alice).address)", server=FIRST)


def test_unfollowed_and_followed_again(servers: list[Registrar]) -> None:
    with started() as app:
        stands(app, servers)
        count = len(registers(servers[1]))
        app.tell("failover.unfollow(alice); time.sleep(0.6); failover.follow(alice)")
        eventually(lambda: len(registers(servers[1])) > count)
        app.tell("failover.follow(alice, standby=0); emit(off=True)")
        told(app, "", off=True)


@pytest.mark.parametrize("ending", ["endpoint.destroy()", "failover.detach()", "alice.setRegistration(False)"])
def test_what_ends_while_the_standby_is_silent(servers: list[Registrar], ending: str) -> None:
    """Nothing waits for its 32 s."""
    servers[1].fault = SILENT
    with started() as app:
        stands(app, servers)
        at = time.monotonic()
        app.tell(f"{ending}; emit(done=True)")
        told(app, "", done=True)
        assert time.monotonic() - at < 5
        if "destroy" not in ending:
            told(app, "endpoint.run(0.5); endpoint.destroy(); emit(gone=True)", gone=True)


def test_a_server_that_closes_every_connection_is_left_in_peace(servers: list[Registrar]) -> None:
    with started("tcp") as app:
        stands(app, servers)
        until = time.monotonic() + 6
        while time.monotonic() < until:
            servers[1].reset()
            time.sleep(0.02)
        count = len(registers(servers[1]))
        assert count <= 6
        told(app, "emit(server=failover.pinned(alice).address)", server=FIRST)
        eventually(lambda: len(registers(servers[1])) > count)  # one that was reset under way has it down for a while


def test_with_outbound_it_has_a_reg_id_of_its_own(servers: list[Registrar]) -> None:
    with started("tcp") as app:
        stands(app, servers)
        assert "reg-id=1" in registers(servers[0])[-1].header("contact")
        standby = registers(servers[1])[-1].header("contact")
        assert "reg-id=2" in standby
        assert "+sip.instance" in standby
        app.tell("failover.detach(); emit(done=True)")
        told(app, "", done=True)
        eventually(lambda: registers(servers[1], expires=False))
        assert "reg-id=2" in registers(servers[1], expires=False)[-1].header("contact")


@pytest.mark.parametrize("threads", [0, 3])
def test_whoever_polls_has_a_standby_too(servers: list[Registrar], threads: int) -> None:
    code = APP.replace("Endpoint(ending=0)", f"Endpoint(ending=0, threads={threads})")
    with App(code, "udp", "1", FIRST, SECOND) as app:
        app.tell("alice = account('alice'); alice.reregister(); failover.follow(alice); endpoint.run(3)")
        eventually(lambda: registers(servers[1]))
        told(app, "failover.detach(); emit(done=True)", done=True)


def test_none_begins_while_pjfail_detaches(servers: list[Registrar]) -> None:
    """The thread that detaches does the jobs that wait; a binding that it made would stay behind."""
    code = APP.replace("Endpoint(ending=0)", "Endpoint(ending=0, threads=0)")
    with App(code, "udp", "1", FIRST, SECOND) as app:
        app.tell("alice = account('alice'); alice.reregister(); failover.follow(alice); endpoint.run(3)")
        eventually(lambda: registers(servers[1]))
        app.tell("from pjfail.bridge import standby as bridge")
        app.tell(
            f"bridge.register(alice.getId(), 'alice@sip.test', pjfail.Server('{THIRD}', 5060), 3); failover.detach()"
        )
        told(app, "emit(done=True)", done=True)
        time.sleep(0.5)
        assert not registers(servers[2])


def test_an_account_that_is_changed_takes_its_standby_along(servers: list[Registrar]) -> None:
    with started() as app:
        stands(app, servers)
        app.tell("config = pj.AccountConfig(); config.idUri = 'sip:alice@sip.test'")
        app.tell("config.regConfig.registrarUri = uri; config.natConfig.contactRewriteUse = 0")
        app.tell("config.sipConfig.contactUriParams = ';changed=yes'; alice.modify(config)")
        eventually(lambda: "changed=yes" in registers(servers[0])[-1].header("contact"))
        eventually(lambda: "changed=yes" in registers(servers[1])[-1].header("contact"))


def test_there_is_none_where_credentials_cannot_be_read(servers: list[Registrar]) -> None:
    """As in a pjsip whose pjsua_acc_config is not known."""
    with started() as app:
        app.tell("import pjfail.bridge.standby; pjfail.bridge.standby.is_possible = lambda: False")
        app.tell("alice = account('alice'); alice.reregister(); failover.follow(alice)")
        assert told(app, "", moved=0)["server"] == FIRST
        time.sleep(1)
        assert not registers(servers[1])


@pytest.mark.parametrize("keepalive", [7.0, None])
def test_its_connection_has_a_keepalive_too(servers: list[Registrar], keepalive: float | None) -> None:
    with started("tcp") as app:
        app.tell(f"alice = account('alice'); alice.reregister(); failover.follow(alice, keepalive={keepalive})")
        eventually(lambda: any(each.code == 200 for each in servers[1].answers))
        time.sleep(0.3)
        lines = subprocess.run(["ss", "-tnoH", "dst", SECOND], capture_output=True, text=True, check=True).stdout
        assert ("keepalive" in lines) == (keepalive is not None), lines
