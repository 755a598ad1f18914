"""The connection that a followed account registered over ends: the account registers again at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from rig.app import PYTHON, App
from rig.certificates import Authority
from rig.network import BECOME, alone
from rig.tls import TlsServer

from pjfail.testing import REFUSING, WELL, Fault, Registrar, Request

FIRST, SECOND = "127.0.49.1", "127.0.49.2"
# Nobody is probed, so that nothing but the connection's end tells of a server.
APP = """
    import sys
    import time
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    ca, transport, first_retry, *servers = sys.argv[1:]
    uri = f"sip:sip.test;transport={transport}"
    port = 5061 if transport == "tls" else 5060
    table = {"sip.test": [(f"{transport}:{server}:{port}", number, 0) for number, server in enumerate(servers)]}

    class Quick(Account):
        def open(self, name):
            config = pj.AccountConfig()
            config.idUri, config.regConfig.registrarUri = f"sip:{name}@sip.test", uri
            config.regConfig.registerOnAdd = False
            config.regConfig.firstRetryIntervalSec = config.regConfig.retryIntervalSec = int(first_retry)
            config.natConfig.contactRewriteUse = 0
            self.create(config)

    def account(name, **follow):
        made = Quick(endpoint)
        made.open(name)
        if attached:
            failover.follow(made, **follow)
        made.reregister()
        return made

    endpoint = Endpoint(transports=(transport,), ca=ca or None, ending=0)
    attached = True
    failover = pjfail.attach(lookup=pjfail.StaticLookup(table), follow=pjfail.Follow(watch=None))
    names = dict(globals())
    emit(ready=True)
    while word := heard():
        exec(word, names)
        emit(done=True)
    endpoint.destroy()
    emit(destroyed=True)
"""


def registers(registrar: Registrar, user: str = "alice") -> list[Request]:
    first: dict[str, Request] = {}
    for each in registrar.requests:
        if each.method == "REGISTER" and f"sip:{user}@" in each.from_ and each.header("contact"):
            first.setdefault(each.branch, each)
    return list(first.values())


def eventually(what: Callable[[], object], timeout: float = 60) -> None:
    until = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < until, "it has not come to that in time"
        time.sleep(0.02)


def do(app: App, words: str) -> None:
    assert app.ask(words) == {"done": True}


class Program(App):
    """The program, with both servers in its plan, and pjsua's own re-registration so many seconds after a failure."""

    def __init__(self, transport: str = "tcp", ca: Path | str = "", first_retry: int = 60) -> None:
        super().__init__(APP, str(ca), transport, str(first_retry), FIRST, SECOND)
        assert self.next() == {"ready": True}


@pytest.fixture(params=["tcp", "tls"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Registrar, Registrar, Program]]:
    """Two servers, and a program that speaks TCP or TLS to them."""
    if request.param == "tls":
        authority = Authority(tmp_path)
        certificate = authority.issue("sip.test")
        with (
            TlsServer(FIRST, certificate) as one,
            TlsServer(SECOND, certificate) as other,
            Program("tls", authority.path) as app,
        ):
            yield one, other, app
    else:
        with Registrar(FIRST) as one, Registrar(SECOND) as other, Program() as app:
            yield one, other, app


@pytest.mark.parametrize("how", ["close_connections", "reset"])
def test_it_registers_with_the_same_server_at_once(pair: tuple[Registrar, Registrar, Program], how: str) -> None:
    first, second, app = pair
    do(app, "alice = account('alice')")
    before = len(registers(first))
    at = time.monotonic()
    getattr(first, how)()
    eventually(lambda: len(registers(first)) > before)
    assert registers(first)[before].at - at < 1
    do(app, "emit_code = alice.answer(10).code; assert emit_code == 200")
    time.sleep(1)
    assert len(registers(first)) == before + 1
    assert not registers(second)


def test_the_next_server_has_it_in_the_same_transaction_where_the_first_refuses(
    pair: tuple[Registrar, Registrar, Program],
) -> None:
    first, second, app = pair
    do(app, "alice = account('alice')")
    at = time.monotonic()
    first.fault = REFUSING
    eventually(lambda: registers(second))
    assert registers(second)[0].at - at < 1.5
    do(app, "alice.answer(10)")
    time.sleep(2.5)
    assert len(registers(second)) == 1


@pytest.mark.parametrize("first_retry", [1, 0], ids=["after-1-s", "never"])
def test_pjsua_does_not_register_a_second_time(first_retry: int) -> None:
    """Its own timer is 5 s, and a second here; 0 is never, which following does not mind."""
    with Registrar(FIRST) as first, Program(first_retry=first_retry) as app:
        do(app, "alice = account('alice')")
        before = len(registers(first))
        first.close_connections()
        eventually(lambda: len(registers(first)) > before)
        time.sleep(2.5)
        assert len(registers(first)) == before + 1


def test_a_server_that_closes_every_connection_is_registered_with_less_and_less() -> None:
    with Registrar(FIRST) as first, Registrar(SECOND) as second, Program() as app:
        do(app, "alice = account('alice')")
        began = len(registers(first))
        until = time.monotonic() + 6
        seen = 0
        while time.monotonic() < until:
            if len(registers(first)) > seen:
                seen = len(registers(first))
                first.close_connections()
            time.sleep(0.02)
        times = [each.at for each in registers(first)[began - 1 :]]
        gaps = [after - before for before, after in pairwise(times)]
        assert 3 <= len(gaps) <= 5, "at once, after 0.5, 1, 2 s, and so on"
        assert gaps[1] < gaps[2] < gaps[3] if len(gaps) > 3 else gaps[1] < gaps[2]
        assert not registers(second)


def test_accounts_that_lose_one_connection_register_one_after_the_other() -> None:
    """All within ``spread``, not all at once."""
    users = [f"user{number}" for number in range(100)]
    with Registrar(FIRST) as first, Program() as app:
        do(app, "many = [account(f'user{number}', spread=1.0) for number in range(100)]")
        before = {user: len(registers(first, user)) for user in users}
        at = time.monotonic()
        first.close_connections()
        for user in users:
            eventually(lambda user=user: len(registers(first, user)) > before[user])  # type: ignore[misc]
        times = sorted(registers(first, user)[before[user]].at - at for user in users)
        assert times[-1] < 3
        assert times[10] - times[0] < 1, "the first do not wait for the last"
        assert max(sum(start <= each < start + 0.1 for each in times) for start in times) <= 50
        assert len({each.source for user in users for each in registers(first, user)[before[user] :]}) == 1


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("alice.send_register(False); alice.answer()", id="unregistered"),
        pytest.param("failover.unfollow(alice)", id="followed-no-more"),
        pytest.param("alice.shutdown()", id="deleted"),
        pytest.param("failover.detach()", id="detached"),
    ],
)
def test_an_account_that_is_not_to_be_registered_is_not(words: str) -> None:
    with Registrar(FIRST) as first, Program() as app:
        do(app, "alice = account('alice')")
        do(app, words)
        first.close_connections()
        time.sleep(1.5)
        assert len([each for each in registers(first) if each.header("expires") != "0"]) == 1


def test_an_account_is_unregistered_deleted_or_changed_in_the_middle() -> None:
    """Its connection ends with each of them: what the application asked for is what stays."""
    with Registrar(FIRST) as first, Registrar(SECOND) as second, Program() as app:

        def last(user: str) -> Request | None:
            """A request that is lost with the connection goes on to the next server."""
            return max(registers(first, user) + registers(second, user), key=lambda each: each.at, default=None)

        do(app, "accounts = {name: account(name) for name in ('bob', 'carol', 'dave')}")
        first.close_connections()
        do(app, "accounts['bob'].send_register(False)")
        do(app, "accounts.pop('carol').shutdown()")
        do(
            app,
            "config = pj.AccountConfig(); config.idUri = 'sip:erin@sip.test'; config.regConfig.registrarUri = uri; "
            "accounts['dave'].modify(config)",
        )
        eventually(lambda: last("erin"))
        time.sleep(1.5)
        for user in ("bob", "carol"):
            request = last(user)
            assert request is not None
            assert not request.expires
        do(app, "assert not accounts['bob'].getInfo().regIsActive")


@pytest.mark.parametrize("wait", [0.0, 0.05, 0.5])
def test_the_endpoint_ends_while_an_account_is_about_to_register(wait: float) -> None:
    with Registrar(FIRST) as first, Program() as app:
        do(app, "many = [account(f'user{number}') for number in range(8)]")
        first.close_connections()
        time.sleep(wait)
        app.tell("")
        assert app.next(20) == {"destroyed": True}
        at = time.monotonic()
        assert app.finish().returncode == 0
        assert not [each for each in first.requests if each.at > at]


def test_a_connection_that_this_process_closes_is_not_made_anew() -> None:
    """pjsip closes it once the account has moved, and so does the application."""
    with Registrar(FIRST) as first, Registrar(SECOND) as second, Program() as app:
        do(app, "alice = account('alice')")
        do(app, f"failover.mark_down('tcp:{FIRST}:5060')")
        eventually(lambda: registers(second))
        do(app, "alice.answer(10)")
        before = len(registers(first)), len(registers(second))
        first.close_connections()
        time.sleep(1.5)
        assert (len(registers(first)), len(registers(second))) == before


def test_the_connection_of_a_server_that_was_slow_to_accept_counts() -> None:
    """Its REGISTER was hedged, and the next server accepted it first; the account stays where it is."""
    with Registrar(FIRST) as first, Registrar(SECOND) as second, Program() as app:
        do(app, "alice = account('alice'); time.sleep(0.3)")
        first.fault = Fault(delay=0.6)
        do(app, "assert alice.reregister().server == '127.0.49.2:5060'; time.sleep(1.5)")
        assert registers(second)
        do(app, "assert failover.pinned(alice).address == '127.0.49.1'")
        first.fault = WELL
        before = len(registers(first))
        first.close_connections()
        eventually(lambda: len(registers(first)) > before)


KEEPALIVE = """
    import sys
    import time
    from pathlib import Path

    transport, folder = sys.argv[1:]
    import pjfail
    from pjfail.testing import Registrar
    from rig.certificates import Authority
    from rig.network import vanish
    from rig.prelude import Account, Endpoint, emit
    from rig.tls import TlsServer

    first, second = "127.0.49.1", "127.0.49.2"
    authority = Authority(Path(folder))
    certificate = authority.issue("sip.test")
    servers = [TlsServer(each, certificate) if transport == "tls" else Registrar(each) for each in (first, second)]
    for server in servers:
        server.start()
    port = 5061 if transport == "tls" else 5060
    table = {"sip.test": [(f"{transport}:{each}:{port}", number, 0) for number, each in enumerate((first, second))]}
    with Endpoint(transports=(transport,), ca=str(authority.path)) as endpoint:
        failover = pjfail.attach(lookup=pjfail.StaticLookup(table), follow=pjfail.Follow(watch=None))
        account = Account(endpoint)
        account.open("sip:alice@sip.test", f"sip:sip.test;transport={transport}")
        failover.follow(account, keepalive=2.0)
        emit(code=account.reregister().code, first=len(servers[0].requests))
        vanish(first)
        at = time.monotonic()
        emit(seconds=servers[1].wait_for("REGISTER", timeout=20)[0].at - at)
"""


@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_a_connection_whose_other_end_is_gone_without_a_word_ends_by_its_keepalive(
    tmp_path: Path, transport: str
) -> None:
    program = tmp_path / "program.py"
    program.write_text("if True:\n" + KEEPALIVE)
    with App(BECOME, *alone(), PYTHON, str(program), transport, str(tmp_path)) as app:
        assert app.next()["code"] == 200
        assert 1 < app.next(30)["seconds"] < 10


def test_an_account_that_is_followed_by_itself_registers_again_too() -> None:
    """Its first REGISTER was answered before anybody knew whose it was."""
    with Registrar(FIRST) as first, Program() as app:
        do(app, "bob = Quick(endpoint); bob.open('bob'); bob.reregister()")
        do(app, "while not failover.pinned(bob): time.sleep(0.01)")
        first.close_connections()
        eventually(lambda: len(registers(first, "bob")) == 2)
