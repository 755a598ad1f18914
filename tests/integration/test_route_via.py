"""The classic IP-in-Route way: what is on the wire, what becomes of the account's settings, where it is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rig.console import Console

from pjfail.testing import Registrar

FIRST, ROUTED, NEXT = "127.0.42.1", "127.0.42.2", "127.0.42.3"

pytestmark = pytest.mark.usefixtures("servers")


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Registrar]]:
    with Registrar(FIRST) as first, Registrar(ROUTED) as routed, Registrar(NEXT) as following:
        yield {FIRST: first, ROUTED: routed, NEXT: following}


@pytest.fixture(scope="module")
def console() -> Iterator[Console]:
    table = {f"{transport}.test": [f"{transport}:{FIRST}:5060"] for transport in ("udp", "tcp")}
    with Console(table=table, transports=("udp", "tcp", "tls")) as console:
        console.run("from pjfail.bridge.accounts import read_account, set_proxies")
        yield console


def routes(servers: dict[str, Registrar], address: str, method: str) -> list[str]:
    return servers[address].wait_for(method)[-1].every("route")


def clear(servers: dict[str, Registrar]) -> None:
    for server in servers.values():
        server._requests.clear()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_route_is_on_the_wire_and_the_account_gets_its_own_back(
    console: Console, servers: dict[str, Registrar], transport: str
) -> None:
    """Its other proxies stay, in order, and a challenge is answered; twice changed, the first settings come back."""
    parameter = "" if transport == "udp" else ";transport=tcp"
    uri = f"sip:{transport}.test{parameter}"
    proxies = [f"<{uri};lr;x=1>", f"<sip:second.test{parameter};lr>", f"<sip:third.test{parameter};lr>"]
    console.run(f'account = opened("sip:alice@{transport}.test", "{uri}", {proxies}, password="secret")')
    before = console.get("repr(read_account(account.getId()))")
    console.run("failover.route_via(account, None)")  # nothing to restore
    assert console.get("repr(read_account(account.getId()))") == before
    servers[ROUTED].realm = "test"
    clear(servers)

    console.run(f'failover.route_via(account, "{ROUTED}:5060")')
    routed = [f"<sip:{ROUTED}:5060{parameter};lr>", *proxies[1:]]
    assert console.get("drained(account).reregister().code") == 200
    challenged, answered = servers[ROUTED].requests[-2:]
    assert not challenged.header("authorization")
    assert answered.header("authorization"), "a challenge, and its answer"
    assert routes(servers, ROUTED, "REGISTER") == routed
    servers[ROUTED].realm = None
    assert console.get(f'drained(account).request("MESSAGE", "{uri}").server') == f"{ROUTED}:5060"
    assert routes(servers, ROUTED, "MESSAGE") == routed
    console.run(f'call = pj.Call(account); call.makeCall("{uri}", pj.CallOpParam(True))')
    assert routes(servers, ROUTED, "INVITE") == routed
    assert not [each for each in servers[FIRST].requests if f"@{transport}.test" in each.from_]
    assert {each.transport for each in servers[ROUTED].requests if f"@{transport}.test" in each.from_} == {transport}

    clear(servers)
    console.run(f'failover.route_via(account, "{NEXT}:5060")')
    assert console.get(f'drained(account).request("OPTIONS", "{uri}").server') == f"{NEXT}:5060"
    assert routes(servers, NEXT, "OPTIONS") == [f"<sip:{NEXT}:5060{parameter};lr>", *proxies[1:]]

    console.run("failover.route_via(account, None)")
    after = console.get("repr(read_account(account.getId()))")
    assert after.replace("registered=True", "registered=False") == before
    assert console.get(f'drained(account).request("OPTIONS", "{uri}").server') == f"{FIRST}:5060"
    assert routes(servers, FIRST, "OPTIONS") == proxies


def test_an_account_without_proxies_has_none_again(console: Console, servers: dict[str, Registrar]) -> None:
    console.run('plain = opened("sip:plain@udp.test", "sip:udp.test")')
    console.run(f'failover.route_via(plain, "{ROUTED}:5060")')
    assert console.get("read_account(plain.getId()).proxies") == [f"<sip:{ROUTED}:5060;lr>"]
    console.run("failover.route_via(plain, None)")
    assert console.get("read_account(plain.getId()).proxies") == []
    assert console.get("drained(plain).reregister().server") == f"{FIRST}:5060"


def test_what_the_application_has_set_meanwhile_stays(console: Console) -> None:
    console.run('own = opened("sip:own@udp.test", "sip:udp.test")')
    console.run(f'failover.route_via(own, "{ROUTED}:5060")')
    console.run('set_proxies(own.getId(), ["<sip:third.test;lr>"])')  # pjsua_acc_modify(), as an application's
    console.run("failover.enable_affinity(own)")
    console.run(f'failover.pin(own, "{NEXT}:5060")')  # there is no route of ours in its way
    console.run("failover.unpin(own)")
    console.run("failover.route_via(own, None)")
    assert console.get("read_account(own.getId()).proxies") == ["<sip:third.test;lr>"]


def test_another_account_that_gets_the_id_has_no_route(console: Console) -> None:
    console.run('gone = opened("sip:gone@udp.test", "sip:udp.test"); number = gone.getId()')
    console.run(f'failover.route_via(gone, "{ROUTED}:5060")')
    console.run("del gone")
    console.run('heir = opened("sip:heir@udp.test", "sip:udp.test")')
    assert console.get("heir.getId() == number")
    console.run("failover.route_via(heir, None)")
    assert console.get("read_account(number).proxies") == []
    console.run("failover.enable_affinity(heir)")
    console.run(f'failover.pin(heir, "{NEXT}:5060"); failover.unpin(heir)')


def test_a_callback_that_modifying_brings_about_may_ask_us(console: Console) -> None:
    """pjsua_acc_modify() registers anew and calls onRegStarted() on this very thread, inside route_via()."""
    console.run(f"""
class Asking(Account):
    asked = 0
    def onRegStarted(self, prm):
        if Asking.asked is not None:
            Asking.asked += 1
            try:
                failover.route_via(self, "{NEXT}:5060") if Asking.asked == 1 else failover.pinned(self)
                failover.pin(self, "{NEXT}:5060")
            except pjfail.PjfailError:
                pass
""")
    console.run('Asking.asked = None; asking = opened("sip:asking@udp.test", "sip:udp.test", kind=Asking)')
    assert console.get("asking.reregister().code") == 200
    console.run("Asking.asked = 0")
    console.run(f'failover.route_via(asking, "{ROUTED}:5060")')
    assert console.get("Asking.asked") >= 1
    console.run("Asking.asked = None")
    console.run("failover.route_via(asking, None); failover.unpin(asking)")


@pytest.mark.parametrize(
    ("uri", "registrar", "proxies"),
    [
        ("sip:tls@udp.test", "sip:udp.test;transport=tls", []),
        ("sip:tls@udp.test", "sips:udp.test", []),
        ("sips:tls@udp.test", "sip:udp.test", []),
        ("sip:tls@udp.test", "sip:udp.test", ["sip:udp.test;transport=tls;lr"]),
        ("sip:tls@udp.test", "sip:udp.test", ["sip:udp.test;lr", "sips:udp.test;lr"]),
    ],
)
def test_an_account_that_speaks_tls_is_refused(console: Console, uri: str, registrar: str, proxies: list[str]) -> None:
    console.run(f'secure = opened("{uri}", "{registrar}", {proxies})')
    before = console.get("repr(read_account(secure.getId()))")
    route = f'failover.route_via(secure, "{ROUTED}:5061")'
    assert console.error(route, "speaks TLS", "(SNI)", "use pin() or follow()") == "RouteRefused"
    assert console.get("repr(read_account(secure.getId()))") == before
    console.run("del secure")


def test_it_is_refused_where_it_would_contend_or_makes_no_sense(console: Console) -> None:
    console.run('held = opened("sip:held@udp.test", "sip:udp.test")')
    route = f'failover.route_via(held, "{ROUTED}:5060")'
    console.run("failover.enable_affinity(held)")
    console.run(f'failover.pin(held, "{NEXT}:5060")')
    assert console.error(route, "unpin() or unfollow()") == "AffinityError"
    console.run("failover.unpin(held); failover.follow(held)")
    assert console.error(route, "unpin() or unfollow()") == "AffinityError"
    console.run("failover.unfollow(held)")
    console.run(route)
    assert console.error(f'failover.pin(held, "{NEXT}:5060")', "route_via(account, None)") == "AffinityError"
    assert console.error("failover.follow(held)", "route_via(account, None)") == "AffinityError"
    kept = console.get("read_account(held.getId()).proxies")
    for server, error in {
        "[::1]:5060": "BadServer",
        "127.0.0.1:0": "BadServer",
        "gone.test:5060": "BadServer",
        "tls:127.0.0.1:5061": "RouteRefused",
    }.items():
        assert console.error(f'failover.route_via(held, "{server}")') == error
    assert console.error("failover.route_via(held, 5060)", "is not a valid server") == "TypeError"
    assert console.error("failover.route_via(held, b'x')", "is not a valid server") == "TypeError"
    assert console.get("read_account(held.getId()).proxies") == kept
    console.run("failover.route_via(held, None)")


def test_pjsips_own_affinity_is_in_its_way(console: Console) -> None:
    console.run("Account.affinity = True")
    console.run('kept = opened("sip:kept@udp.test", "sip:udp.test"); Account.affinity = False')
    route = f'failover.route_via(kept, "{ROUTED}:5060")'
    if console.get("failover.native_affinity"):
        assert console.error(route, "server affinity is enabled", "use pin()") == "AffinityError"
    else:
        console.run(route)
        console.run("failover.route_via(kept, None)")


def test_a_proxy_too_long_to_be_kept_is_not_cut_short(console: Console) -> None:
    proxy = f"<sip:udp.test;lr;x={'y' * 300}>"
    console.run(f'long = opened("sip:long@udp.test", "sip:udp.test", ["<sip:udp.test;lr>", "{proxy}"])')
    assert console.error(f'failover.route_via(long, "{ROUTED}:5060")') == "BadURI"
    assert console.get("long.isValid()")
