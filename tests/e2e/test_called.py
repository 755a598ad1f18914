"""Calls that come in over TCP and TLS, through a real registrar: with pjfail, and with stock pjsip and a name server.

Kamailio sends a call to the Contact: by the connection that has come from there, else by one of its own. Behind the NAT
(of nftables, which gives the program's connections another address and another port) nobody can connect to the program.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig.app import PYTHON, App
from rig.certificates import Authority
from rig.daemon import find
from rig.kamailio import Kamailio
from rig.network import BECOME, mounted

from pjfail.testing import NameServer

# The program's own address, the one that it has outside, and what is at the other side.
INSIDE, OUTSIDE, REGISTRAR, NAME_SERVER = "10.94.0.1", "10.94.0.9", "10.94.0.2", "127.0.94.53"
ZONE = f"""
$TTL 300
@           SOA  ns hostmaster 1 3600 600 86400 300
@           NS   ns
ns          A    {NAME_SERVER}
_sip._udp   SRV  0 0 5060 first
_sip._tcp   SRV  0 0 5060 first
_sips._tcp  SRV  0 0 5061 first
first       A    {REGISTRAR}
"""
NAT = f"""
table inet pjfail {{
    chain out {{
        type nat hook postrouting priority 100
        ip saddr {INSIDE} ip daddr {REGISTRAR} tcp dport 5060-5061 snat ip to {OUTSIDE}:20000-30000
    }}
    chain answers {{
        type nat hook output priority -100
    }}
    chain in {{
        type filter hook input priority 0
        ip saddr {REGISTRAR} ip daddr {INSIDE} tcp flags & (syn | ack) == syn reject with tcp reset
    }}
}}
"""

# "call" has bob, over UDP, call alice; the answer says how many calls have come to her.
APP = """

    import sys
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    transport, ca, stock, rewrite, nameserver, address = sys.argv[1:]
    calls = []

    class Called(Account):
        contact_rewrite = int(rewrite)

        def onIncomingCall(self, prm):
            calls.append(pj.Call(self, prm.callId))
            busy = pj.CallOpParam()
            busy.statusCode = 486
            calls[-1].answer(busy)

    transports = ("udp", "tcp", "tls")
    with Endpoint(transports=transports, ca=ca, address=address, nameserver=nameserver if stock else None) as endpoint:
        if not stock:
            pjfail.attach(lookup=pjfail.DnsLookup([nameserver]))
        alice, bob = Called(endpoint), Account(endpoint)
        emit(code=alice.register("sip:alice@own.test", "sip:own.test;transport=" + transport).code)
        bob.open("sip:bob@own.test")
        while heard():
            calling = bob.call("sip:alice@own.test")
            endpoint.wait(bob.answers, 10)  # Kamailio itself gives up later
            emit(incoming=len(calls))
"""


@pytest.fixture
def network() -> Iterator[None]:
    """The addresses, and a default route, by which pjsua chooses its own."""
    for address in (INSIDE, OUTSIDE, REGISTRAR):
        subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
    subprocess.run(["ip", "route", "add", "default", "dev", "lo", "src", INSIDE], check=True)
    yield
    for address in (INSIDE, OUTSIDE, REGISTRAR):
        subprocess.run(["ip", "addr", "del", f"{address}/32", "dev", "lo"], check=True)


@pytest.fixture
def nat(network: None) -> Iterator[None]:
    subprocess.run([find("nft"), "-f", "-"], input=NAT, text=True, check=True)
    yield
    subprocess.run([find("nft"), "delete", "table", "inet", "pjfail"], check=True)


def called(tmp_path: Path, transport: str, rewrite: int, *, stock: bool) -> bool:
    """Whether a call reaches an account that has registered over *transport*."""
    authority = Authority(tmp_path)
    resolv_conf, program = tmp_path / "resolv.conf", tmp_path / "program.py"
    resolv_conf.write_text(f"nameserver {NAME_SERVER}\n")
    program.write_text("if True:\n" + APP)
    options = [transport, str(authority.path), "stock" if stock else "", str(rewrite), NAME_SERVER, INSIDE]
    command = [*mounted((resolv_conf, "/etc/resolv.conf")), PYTHON, str(program), *options]
    with (
        Kamailio(REGISTRAR, "own.test", authority=authority) as kamailio,
        NameServer(ZONE, "own.test", NAME_SERVER),
        App(BECOME, *command) as app,
    ):
        assert app.next()["code"] == 200
        for _ in range(5 if rewrite else 1):  # pjsua registers once more when it has seen its address
            if app.ask("call")["incoming"]:
                return True
        assert kamailio.received("invite")
        return False


@pytest.mark.parametrize("stock", [True, False])
@pytest.mark.parametrize("rewrite", [0, 2])
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_an_account_is_called(network: None, tmp_path: Path, transport: str, rewrite: int, stock: bool) -> None:
    """Without a rewritten Contact the registrar connects to the program, whose TLS transport has no certificate."""
    assert called(tmp_path, transport, rewrite, stock=stock) == (transport == "tcp" or rewrite != 0)


@pytest.mark.parametrize("stock", [True, False])
@pytest.mark.parametrize("rewrite", [0, 2])
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_an_account_is_called_behind_a_nat(
    nat: None, tmp_path: Path, transport: str, rewrite: int, stock: bool
) -> None:
    """If pjsua may rewrite its Contact, which is the default."""
    assert called(tmp_path, transport, rewrite, stock=stock) == (rewrite != 0)
