"""Calls that come in by the standby registration at a real registrar, while the account's own server is silent."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig.app import App
from rig.certificates import Authority
from rig.kamailio import Kamailio

FIRST, SECOND = "127.0.132.1", "127.0.132.2"

APP = """
    import sys
    import time
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    transport, ca, rewrite, registrar, *servers = sys.argv[1:]
    port = 5061 if transport == "tls" else 5060
    table = {"sip.test": [(f"{transport}:{server}:{port}", number, 0) for number, server in enumerate(servers)]}
    calls = []

    class Called(Account):
        contact_rewrite = int(rewrite)

        def onIncomingCall(self, prm):
            calls.append(pj.Call(self, prm.callId))
            emit(rang=self.getId(), at=time.monotonic())
            busy = pj.CallOpParam()
            busy.statusCode = 486
            calls[-1].answer(busy)

    with Endpoint(transports=("udp", "tcp", "tls"), ca=ca, ending=0) as endpoint:
        failover = pjfail.attach(servers=table, follow=pjfail.Follow(standby=True, spread=0.2))
        uri = "sip:sip.test" + ("" if transport == "udp" else f";transport={transport}")
        alice = Called(endpoint, proxies=[f"{uri};lr;hide"] if registrar else ())
        alice.open("sip:alice@sip.test", f"sip:{registrar}" if registrar else uri)
        alice.send_register()
        failover.follow(alice)
        names = dict(globals())
        while word := heard():
            exec(word, names)
"""


@pytest.fixture
def kamailios(tmp_path: Path) -> Iterator[tuple[Kamailio, Kamailio]]:
    authority = Authority(tmp_path)
    with (
        Kamailio(FIRST, "sip.test", authority=authority) as first,
        Kamailio(SECOND, "sip.test", authority=authority) as second,
    ):
        yield first, second


def call(server: str) -> None:
    """Calls alice by that server, over UDP, and waits for its answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.bind(("127.0.132.9", 0))
        own = f"127.0.132.9:{caller.getsockname()[1]}"
        via = f"Via: SIP/2.0/UDP {own};branch=z9hG4bK{own};rport\r\nMax-Forwards: 70\r\n"
        ids = f"From: <sip:bob@sip.test>;tag=b\r\nTo: <sip:alice@sip.test>\r\nCall-ID: {own}\r\nCSeq: 1 INVITE\r\n"
        head = f"INVITE sip:alice@sip.test SIP/2.0\r\n{via}{ids}Contact: <sip:bob@{own}>\r\nContent-Length: 0\r\n\r\n"
        caller.settimeout(5)
        caller.sendto(head.encode(), (server, 5060))
        while not (answer := caller.recv(4000)).startswith(b"SIP/2.0 486"):
            assert answer.startswith((b"SIP/2.0 1", b"SIP/2.0 486")), answer


@pytest.mark.parametrize(
    ("transport", "rewrite", "registrar"),
    [
        ("udp", 0, ""),
        ("udp", 2, ""),
        ("tcp", 2, ""),
        ("tls", 2, ""),
        pytest.param("tls", 2, "other.test", id="hidden proxy"),
    ],
)
def test_a_call_comes_by_the_standby(
    kamailios: tuple[Kamailio, Kamailio], transport: str, rewrite: int, registrar: str
) -> None:
    """A hidden Route is on no wire, and names the host that TLS shows and checks."""
    first, second = kamailios
    with App(APP, transport, str(first.authority.path), str(rewrite), registrar, FIRST, SECOND) as app:
        until = time.monotonic() + 15
        while not second.locations():
            assert time.monotonic() < until, "no standby"
            time.sleep(0.05)
        first.fault(Kamailio.SILENT)
        at = time.monotonic()
        call(SECOND)
        rang = app.next(5)
        assert rang["rang"] == 0
        assert rang["at"] - at < 1
        if transport == "tls":
            assert {name for _, name in second.shown} == {"sip.test"}
