"""The Contact of an account over TCP or TLS has the port of its connection, in a private network too."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from rig.app import App
from rig.certificates import Authority
from rig.tls import TlsServer

from pjfail.testing import REFUSING, Registrar, Request
from pjfail.testing.sockets import Peer

FIRST, SECOND = "127.0.111.1", "127.0.111.2"

APP = """
    import sys
    import time
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    ca, transport, rewrite, forced, follow, *servers = sys.argv[1:]
    port = 5061 if transport == "tls" else 5060
    uri = f"sip:sip.test;transport={transport}"

    class Ours(Account):
        contact_rewrite = int(rewrite)

        def create(self, config):
            config.sipConfig.contactForced = forced
            header = pj.SipHeader()
            header.hName, header.hValue = "X-Of-The-Program", "1"
            config.regConfig.headers.append(header)
            super().create(config)

    with Endpoint(transports=(transport,), ca=ca or None, log_level=4) as endpoint:
        failover = pjfail.attach(
            servers={"sip.test": [f"{transport}:{server}:{port}" for server in servers]},
            follow=pjfail.Follow(watch=None, spread=0.1, failback=None) if follow else False,
        )
        accounts = [Ours(endpoint, password="secret") for _ in range(2)]
        for account, name in zip(accounts, ("bob", "alice")):
            account.register(f"sip:{name}@sip.test", uri)
        alice = accounts[1]
        emit(ready=True)
        while word := heard():
            exec(word, globals())
            emit(done=True)
"""

Start = Callable[..., App]


class Outbound(Registrar):
    """Says that it has taken up the account's offer of outbound."""

    def _send_final(self, request: Request, code: int, peer: Peer, *headers: tuple[str, str], body: str = "") -> None:
        super()._send_final(request, code, peer, *headers, ("Require", "outbound"), body=body)


@pytest.fixture(params=["tcp", "tls"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=[None, "sip.test"], ids=["open", "challenged"])
def servers(request: pytest.FixtureRequest, authority: Authority, transport: str) -> Iterator[list[Registrar]]:
    certificate = authority.issue("sip.test")
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                TlsServer(address, certificate, realm=request.param)
                if transport == "tls"
                else Registrar(address, transports=("tcp",), realm=request.param)
            )
            for address in (FIRST, SECOND)
        ]


@pytest.fixture
def start(authority: Authority, transport: str, servers: list[Registrar]) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(*, rewrite: int = 1, forced: str = "", follow: bool = True) -> App:
            options = [str(authority.path), transport, str(rewrite), forced, "yes" if follow else ""]
            app = stack.enter_context(App(APP, *options, FIRST, SECOND))
            assert app.next() == {"ready": True}
            return app

        yield start


def accepted(registrar: Registrar, user: str = "alice") -> list[Request]:
    """The REGISTERs that were answered 200, in the order of their arrival."""
    return [
        each
        for each in registrar.requests
        if each.method == "REGISTER"
        and f"sip:{user}@" in each.from_
        and (registrar.realm is None or each.header("authorization"))
    ]


def port_of(request: Request) -> int:
    """The port in the Contact that it adds."""
    [contact] = [each for each in request.every("contact") if "expires=0" not in each]
    found = re.search(r"@[^:;>]+:(\d+)", contact)
    assert found is not None, contact
    return int(found[1])


def follows(registrar: Registrar, user: str = "alice") -> bool:
    """Whether the last Contact has the port of the connection that its REGISTER came over."""
    registers = accepted(registrar, user)
    return bool(registers) and port_of(registers[-1]) == registers[-1].source[1]


def eventually(what: Callable[[], object], timeout: float = 20) -> None:
    until = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < until, "it has not come to that in time"
        time.sleep(0.02)


@pytest.mark.parametrize("follow", [True, False], ids=["followed", "left-alone"])
def test_the_contact_has_the_port_of_the_connection(start: Start, servers: list[Registrar], follow: bool) -> None:
    app = start(follow=follow)
    for user in ("alice", "bob"):
        eventually(lambda user=user: follows(servers[0], user))
        # A challenge gives pjsua the occasion; else it registers once more.
        assert len(accepted(servers[0], user)) == (1 if servers[0].realm else 2)
    app.ask("time.sleep(0.5); alice.reregister()")
    eventually(lambda: len(accepted(servers[0])) == (2 if servers[0].realm else 3))
    assert follows(servers[0])


def test_it_does_after_the_account_has_moved(start: Start, servers: list[Registrar]) -> None:
    start()
    eventually(lambda: follows(servers[0]))
    servers[0].fault = REFUSING
    servers[0].close_connections()
    eventually(lambda: follows(servers[1]) and follows(servers[1], "bob"))


def test_it_is_not_tried_again_and_again_in_vain(authority: Authority) -> None:
    """With outbound (RFC 5626) pjsua leaves its Contact alone. Each try takes memory of the account's."""
    with Outbound(FIRST, transports=("tcp",)) as registrar:
        with App(APP, str(authority.path), "tcp", "1", "", "yes", FIRST) as app:
            assert app.next() == {"ready": True}
            app.ask("[alice.reregister() for _ in range(10)]")
            assert len(accepted(registrar)) == 11
            assert not follows(registrar)
            tries = app.stderr.count("Modifying account")  # two for each: there, and back
    assert tries == 4  # of two accounts


def test_an_account_may_unregister_and_register_over_the_same_connection(
    start: Start, servers: list[Registrar]
) -> None:
    app = start()
    eventually(lambda: follows(servers[0]))
    for count in (4, 7):  # with the un-REGISTER, and the one more where nobody challenges
        app.ask("[alice.send_register(renew) or alice.answer() for renew in (False, True)]")
        expected = count if servers[0].realm is None else (count + 2) // 2
        eventually(lambda expected=expected: len(accepted(servers[0])) >= expected and follows(servers[0]))


def test_the_program_may_detach_when_it_hears_of_the_answer(authority: Authority) -> None:
    with Outbound(FIRST, transports=("tcp",)), App(APP, str(authority.path), "tcp", "1", "", "yes", FIRST) as app:
        assert app.next() == {"ready": True}
        app.ask("Ours.onRegState = lambda self, prm: (failover.detach(), self.answers.put(prm.code))")
        app.ask("carol = Ours(endpoint); carol.open('sip:carol@sip.test', uri); carol.send_register()")
        assert app.ask("emit(code=carol.answers.get(timeout=20), attached=failover.attached)") == {
            "code": 200,
            "attached": False,
        }


@pytest.mark.parametrize(
    "left", [{"rewrite": 0}, {"forced": "<sip:alice@127.0.0.1:5999>"}], ids=["not-to-be-rewritten", "forced"]
)
def test_a_contact_that_the_program_wants_stays(start: Start, servers: list[Registrar], left: dict[str, Any]) -> None:
    app = start(**left)
    app.ask("time.sleep(0.5); alice.reregister()")
    registers = accepted(servers[0])
    assert len(registers) == 2
    assert {port_of(each) for each in registers} == ({5999} if "forced" in left else {port_of(registers[0])})
    assert not follows(servers[0])
