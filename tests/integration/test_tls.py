"""TLS with pjfail attached: the name that a server is shown and checked by, and certificates that are not accepted.

What is said here of which certificates pjsip accepts is pjsip's own rule (`on_connect_complete()` in
sip_transport_tls.c), not ours: pjfail leaves it as it is.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator

import pytest
from rig.app import App, Line
from rig.certificates import Authority, Certificate
from rig.tls import HelloReader, TlsServer, server_name

from pjfail.testing import REFUSING, STALLING, WELL

FIRST, SECOND = "127.0.33.1", "127.0.33.2"
SHOWING, HELPING = "127.0.33.3", "127.0.33.4"

# Any domain has the servers given. A line from the test is a method and a URI, or else: "closed" waits until a
# connection of ours has ended, "state" tells which servers are usable and what the listener has heard since the last
# time. After "send" the answer is not waited for; "answer" waits for the next.
#
# Requests are sent on pjsip's own thread. On another, now and then one is lost for 32 s: its connect is refused before
# it is queued for the connection, where sip_transport_tls.c still takes it (on_connect_complete() leaves
# has_pending_connect set when it fails).
APP = """
    import queue
    import sys
    import time
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    ca, verify, registrar, *servers = sys.argv[1:]
    closed, jobs = queue.SimpleQueue(), queue.SimpleQueue()
    rejected = []

    class Watching(pj.Endpoint):
        def onTransportState(self, prm):
            if prm.state == pj.PJSIP_TP_STATE_SHUTDOWN:  # no earlier does pjsip stop using it
                closed.put(prm)

        def onTimer(self, prm):
            jobs.get()()

    def send(method, *uri):
        jobs.put(lambda: account.send(method, *uri) if uri else account.send_register())
        endpoint.pj.utilTimerSchedule(0, None)

    class EveryDomain:
        async def lookup(self, target):
            table = {target.host: [f"tls:{server}" for server in servers]}
            return await pjfail.StaticLookup(table).lookup(target)

    def told(event):
        if isinstance(event, pjfail.events.CertificateRejected):
            problems = [problem.name for problem in event.outcome.certificate]
            rejected.append({"server": str(event.server), "reason": event.reason, "problems": problems})

    with Endpoint(kind=Watching, transports=("udp", "tcp", "tls"), ca=ca if verify == "verify" else None) as endpoint:
        policy = pjfail.Policy(backoff=lambda failures, random: 1.0)
        failover = pjfail.attach(lookup=EveryDomain(), policy=policy, follow=False, listeners=[told])
        account = Account(endpoint)
        account.open("sip:alice@sip.test", registrar)
        while word := heard():
            if word == "closed":
                closed.get(timeout=10)
                emit(closed=True)
            elif word == "state":
                time.sleep(0.15)  # the worker hears of outcomes with the next tick
                failover.resolve(registrar)  # passes through the worker, which so has judged all that has happened
                usable = {str(server): known.usable for server, known in failover.servers().items()}
                emit(usable=usable, rejected=rejected[:])
                rejected.clear()
            elif word.startswith("send "):
                send(*word.split()[1:])
            else:
                if word != "answer":
                    send(*word.split())
                emit(**account.answer()._asdict())
"""


class Program:
    """The program above, under way."""

    def __init__(self, app: App) -> None:
        self._app = app

    def tell(self, line: str) -> Line:
        self._app.tell(line)
        return self._app.next(20)

    def send(self, host: str) -> None:
        self._app.tell(f"send OPTIONS sip:{host};transport=tls")

    def options(self, host: str) -> Line:
        return self.tell(f"OPTIONS sip:{host};transport=tls")

    def wait(self, reached: Callable[[Line], object]) -> Line:
        """Asks for the state until it is *reached*, for ten seconds. Returns that state."""
        deadline = time.monotonic() + 10
        while not reached(state := self.tell("state")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return state


def program(
    authority: Authority,
    registrar: str = "sip:sip.test;transport=tls",
    *,
    verify: bool = True,
    servers: tuple[str, ...] = (FIRST, SECOND),
) -> App:
    addresses = [f"{server}:5061" for server in servers]
    return App(APP, str(authority.path), "verify" if verify else "trust", registrar, *addresses)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def unknown_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("unknown"))


@pytest.fixture
def good(authority: Authority) -> Certificate:
    return authority.issue("sip.test")


@pytest.fixture
def first(good: Certificate) -> Iterator[TlsServer]:
    with TlsServer(FIRST, good) as server:
        yield server


@pytest.fixture
def second(good: Certificate) -> Iterator[TlsServer]:
    with TlsServer(SECOND, good) as server:
        yield server


def names(server: TlsServer) -> list[str | None]:
    return [handshake.sni for handshake in server.handshakes]


# --- the name shown --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("registrar", ["sip:sip.test;transport=tls", "sips:sip.test"])
def test_every_connection_is_for_the_name_in_the_uri(
    authority: Authority, first: TlsServer, second: TlsServer, registrar: str
) -> None:
    """The first connect, a reconnect, the failover to another server and the probe of the one left."""
    with program(authority, registrar) as app:
        asked = Program(app)
        assert asked.tell("REGISTER")["server"] == f"{FIRST}:5061"
        assert asked.tell(f"OPTIONS {registrar}")["server"] == f"{FIRST}:5061"
        assert names(first) == ["sip.test"]

        first.cut()
        asked.tell("closed")
        assert asked.tell("REGISTER")["server"] == f"{FIRST}:5061"
        assert names(first) == ["sip.test"] * 2

        first.fault = REFUSING
        asked.tell("closed")
        answer = asked.tell("REGISTER")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5061")
        assert names(second) == ["sip.test"]
        assert asked.tell("state")["usable"] == {f"tls:{FIRST}:5061": False, f"tls:{SECOND}:5061": True}

        first.fault = WELL
        probe = first.wait_for("OPTIONS", count=2, timeout=10)[-1]
        assert "pjfail@sip.test" in probe.raw
        assert first.handshake_of(probe).sni == "sip.test"
        assert names(first) == ["sip.test"] * 3


def test_the_name_is_in_the_bytes_of_the_client_hello(authority: Authority, second: TlsServer) -> None:
    """And a server that resets the connection in the handshake is left for the next by the same request."""
    with HelloReader(FIRST) as first, program(authority) as app:
        asked = Program(app)
        answer = asked.tell("REGISTER")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5061")
        assert [server_name(hello) for hello in first.hellos] == ["sip.test"]
        state = asked.tell("state")
        assert not state["usable"][f"tls:{FIRST}:5061"]
        assert not state["rejected"]


def test_two_names_at_one_address_have_a_connection_each(authority: Authority) -> None:
    """pjsip reuses a TLS connection by address and name: `pjsip_tpmgr_acquire_transport2()` in sip_transport.c skips
    one whose remote_name is not, in any case of letters, the name that the request is for."""
    with (
        TlsServer(FIRST, authority.issue("one.test", "two.test")) as server,
        program(authority, servers=(FIRST,)) as app,
    ):
        asked = Program(app)
        for host in ("one.test", "two.test", "one.test", "TWO.test"):
            assert asked.options(host)["code"] == 200
        assert names(server) == ["one.test", "two.test"]
        used = [(request.uri, server.handshake_of(request).sni) for request in server.requests]
        assert used == [
            (f"sip:{host};transport=tls", host.lower()) for host in ("one.test", "two.test", "one.test", "TWO.test")
        ]


# --- the certificate shown -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("registrar", ["sip:sip.test;transport=tls", "sips:sip.test"])
def test_a_registration_goes_on_to_the_next_server(
    authority: Authority, first: TlsServer, second: TlsServer, good: Certificate, registrar: str
) -> None:
    """The server stays up: each new request tries it, and uses it as soon as its certificate is good."""
    first.certificate = authority.issue("other.test")
    rejection = {
        "server": f"tls:{FIRST}:5061",
        "reason": "showed a certificate that is for another name",
        "problems": ["WRONG_NAME"],
    }
    with program(authority, registrar) as app:
        asked = Program(app)
        for _ in range(2):
            answer = asked.tell("REGISTER")
            assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5061")
            state = asked.wait(lambda state: state["rejected"])
            assert state == {"usable": dict.fromkeys(state["usable"], True), "rejected": [rejection]}
        assert names(first) == ["sip.test"] * 2
        assert not first.requests
        first.certificate = good
        assert asked.tell("REGISTER")["server"] == f"{FIRST}:5061"
        assert not asked.tell("state")["rejected"]


Issue = Callable[[Authority, Authority], Certificate]

WORDS = {
    "WRONG_NAME": "is for another name",
    "OUT_OF_DATE": "has expired or is not valid yet",
    "UNTRUSTED": "is of an authority that is not trusted",
}

# For each host: what its first server shows, of an authority that is known or another, and what is wrong with it.
SHOWN: dict[str, tuple[Issue, tuple[str, ...]]] = {
    "name.test": (lambda known, _: known.issue("name.test"), ()),
    "one-of-several.test": (lambda known, _: known.issue("other.test", "one-of-several.test"), ()),
    "another-name.test": (lambda known, _: known.issue("other.test"), ("WRONG_NAME",)),
    # RFC 5922 section 7.2: no wildcards in SIP. So every stock pjsip refuses what web browsers take.
    "in.wildcard.test": (lambda known, _: known.issue("*.wildcard.test"), ("WRONG_NAME",)),
    # The name is checked, not the address that was found for it.
    "address.test": (lambda known, _: known.issue(SHOWING), ("WRONG_NAME",)),
    # RFC 5922 section 7.1: a SIP URI without a user stands for its host.
    "sip-uri.test": (lambda known, _: known.issue_to_uris("sip:sip-uri.test"), ()),
    "sips-uri.test": (lambda known, _: known.issue_to_uris("sips:sips-uri.test"), ()),
    "uri-with-user.test": (lambda known, _: known.issue_to_uris("sip:alice@uri-with-user.test"), ("WRONG_NAME",)),
    # What follows the host belongs to the name for pjsip.
    "uri-with-port.test": (lambda known, _: known.issue_to_uris("sip:uri-with-port.test:5061"), ("WRONG_NAME",)),
    "common-name.test": (lambda known, _: known.issue_to_subject("common-name.test"), ()),
    # RFC 5922 section 7.1 has the common name count only where no alternative names are; pjsip always takes it.
    "common-name-too.test": (lambda known, _: known.issue_to_subject("common-name-too.test", "other.test"), ()),
    "expired.test": (lambda known, _: known.issue_expired("expired.test"), ("OUT_OF_DATE",)),
    "premature.test": (lambda known, _: known.issue_premature("premature.test"), ("OUT_OF_DATE",)),
    "unknown-authority.test": (lambda _, unknown: unknown.issue("unknown-authority.test"), ("UNTRUSTED",)),
    "all-at-once.test": (
        lambda _, unknown: unknown.issue_expired("other.test"),
        ("WRONG_NAME", "OUT_OF_DATE", "UNTRUSTED"),
    ),
}


@pytest.fixture(scope="module")
def asked(authority: Authority) -> Iterator[tuple[Program, TlsServer]]:
    """One program for all certificates (each has its own domain, and so its own connection), and the first server."""
    with (
        TlsServer(SHOWING, authority.issue("sip.test")) as first,
        TlsServer(HELPING, authority.issue(*SHOWN)),
        program(authority, servers=(SHOWING, HELPING)) as app,
    ):
        yield Program(app), first


@pytest.mark.parametrize("host", SHOWN)
def test_a_certificate_is_accepted_or_the_next_server_tried(
    authority: Authority, unknown_authority: Authority, asked: tuple[Program, TlsServer], host: str
) -> None:
    program, first = asked
    issue, problems = SHOWN[host]
    first.certificate = issue(authority, unknown_authority)
    answer = program.options(host)
    state = program.tell("state")
    assert first.handshakes[-1].sni == host
    assert (answer["code"], answer["server"]) == (200, f"{HELPING if problems else SHOWING}:5061")
    assert all(state["usable"].values())
    rejected = [(each["server"], each["reason"], set(each["problems"])) for each in state["rejected"]]
    reason = f"showed a certificate that {' and '.join(WORDS[problem] for problem in problems)}"
    assert rejected == ([(f"tls:{SHOWING}:5061", reason, set(problems))] if problems else [])


def test_a_server_that_comes_back_with_a_bad_certificate_is_not_down(
    authority: Authority, first: TlsServer, second: TlsServer
) -> None:
    """It was down for refusing connections; the probe finds that this is over, and that its certificate is bad."""
    with program(authority) as app:
        asked = Program(app)
        first.fault = REFUSING
        assert asked.tell("REGISTER")["server"] == f"{SECOND}:5061"
        assert not asked.tell("state")["usable"][f"tls:{FIRST}:5061"]
        first.certificate = authority.issue_expired("sip.test")
        first.fault = WELL
        asked.wait(lambda state: state["rejected"])
        time.sleep(2.5)  # for two more probes, and their silence to be held against it
        state = asked.tell("state")
        assert all(state["usable"].values())
        assert not state["rejected"]


def test_requests_that_wait_for_one_handshake_all_go_on(
    authority: Authority, first: TlsServer, second: TlsServer
) -> None:
    """pjsip has them wait for the connection that is being made; it is told of once, since it was seen once."""
    first.certificate = authority.issue_expired("sip.test")
    with program(authority) as app:
        asked = Program(app)
        for _ in range(5):
            asked.send("sip.test")
        answers = [asked.tell("answer") for _ in range(5)]
        assert [(answer["code"], answer["server"]) for answer in answers] == [(200, f"{SECOND}:5061")] * 5
        assert len(second.handshakes) == 1
        assert len(asked.tell("state")["rejected"]) == len(first.handshakes)


def test_with_no_good_certificate_the_request_fails_at_once(authority: Authority, unknown_authority: Authority) -> None:
    with (
        TlsServer(FIRST, authority.issue("other.test")) as first,
        TlsServer(SECOND, unknown_authority.issue("sip.test")) as second,
        program(authority) as app,
    ):
        asked = Program(app)
        answer = asked.tell("REGISTER")
        assert (answer["code"], answer["server"]) == (503, "")
        assert answer["seconds"] < 1
        assert set(names(first)) == set(names(second)) == {"sip.test"}  # a race, and then pjsip's own attempts
        state = asked.tell("state")
        assert all(state["usable"].values())
        assert {rejected["server"] for rejected in state["rejected"]} == {f"tls:{FIRST}:5061", f"tls:{SECOND}:5061"}


def test_an_endpoint_that_does_not_verify_rejects_nothing(
    unknown_authority: Authority, authority: Authority, second: TlsServer
) -> None:
    """Such is pjsip's default. And a server that ends the handshake itself refuses, whatever it has shown before."""

    def ask_for_a_certificate(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones end the handshake before they look at it
        context.verify_mode = ssl.CERT_REQUIRED

    shown = unknown_authority.issue("other.test")
    with TlsServer(FIRST, shown) as first, program(authority, verify=False) as app:
        asked = Program(app)
        assert asked.tell("REGISTER")["server"] == f"{FIRST}:5061"
        assert names(first) == ["sip.test"]
        assert not asked.tell("state")["rejected"]

        first.adjust = ask_for_a_certificate
        first.cut()
        asked.tell("closed")
        assert asked.tell("REGISTER")["server"] == f"{SECOND}:5061"
        state = asked.tell("state")
        assert (state["usable"][f"tls:{FIRST}:5061"], state["rejected"]) == (False, [])


# --- handshakes that do not end --------------------------------------------------------------------------------------


def test_after_a_stalled_handshake_the_next_request_goes_to_the_next_server(
    authority: Authority, first: TlsServer, second: TlsServer
) -> None:
    """The request under way stays with the first until pjsip gives it up, after 32 s: handshakes have no time limit."""
    first.fault = STALLING
    with program(authority) as app:
        asked = Program(app)
        asked.send("sip.test")
        asked.wait(lambda state: not state["usable"].get(f"tls:{FIRST}:5061", True))  # five seconds of silence
        answer = asked.options("sip.test")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5061")
        assert names(second) == ["sip.test"]
