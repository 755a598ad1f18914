"""A followed account over TLS: the name on the wire stays the URI's host, wherever the account goes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rig.app import App
from rig.certificates import Authority, Certificate
from rig.tls import TlsServer

from pjfail.testing import REFUSING, WELL

FIRST, SECOND = "127.0.34.1", "127.0.34.2"

APP = """
    import sys
    import pjfail
    from rig.prelude import Account, Endpoint, emit, heard

    ca, uri, *servers = sys.argv[1:]
    table = {"sip.test": [(f"tls:{server}:5061", 10 + number, 0) for number, server in enumerate(servers)]}

    def told(event):
        if isinstance(event, pjfail.events.AccountMoved) and event.server is not None:
            emit(server=event.server.address)

    with Endpoint(transports=("tls",), ca=ca) as endpoint:
        failover = pjfail.attach(lookup=pjfail.StaticLookup(table), listeners=[told])
        account = Account(endpoint)
        account.open("sip:alice@sip.test", uri)
        failover.follow(account, failback=1.0, spread=0.2)
        account.send_register()
        while word := heard():
            if word == "restore":
                failover.restore(f"tls:{servers[0]}:5061")
            else:
                account.send("MESSAGE", uri)
"""


@pytest.fixture
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def good(authority: Authority) -> Certificate:
    return authority.issue("sip.test")


@pytest.fixture
def servers(good: Certificate) -> Iterator[tuple[TlsServer, TlsServer]]:
    with TlsServer(FIRST, good) as first, TlsServer(SECOND, good) as second:
        yield first, second


@pytest.mark.parametrize("uri", ["sip:sip.test;transport=tls", "sips:sip.test"])
def test_the_name_stays_through_failover_and_failback(
    authority: Authority, servers: tuple[TlsServer, TlsServer], uri: str
) -> None:
    first, second = servers
    with App(APP, str(authority.path), uri, FIRST, SECOND) as app:
        assert app.next(10) == {"server": FIRST}
        first.fault = REFUSING  # its connections end, too
        assert app.next(20) == {"server": SECOND}
        second.wait_for("REGISTER", timeout=10)
        app.tell("MESSAGE")
        second.wait_for("MESSAGE")
        first.fault = WELL
        app.tell("restore")
        assert app.next(20) == {"server": FIRST}
        assert len(first.handshakes) >= 2
        shown = {handshake.sni for server in servers for handshake in server.handshakes}
        assert shown == {"sip.test"}
