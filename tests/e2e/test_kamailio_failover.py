"""The main job against real servers: two Kamailio registrars, SRV priorities at a Knot, a pjsua2 program."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rig.app import App, Line
from rig.certificates import Authority
from rig.kamailio import Kamailio
from rig.knot import Knot

APP = Path(__file__).with_name("registering_app.py")
FIRST, SECOND, NAME_SERVER = "127.0.62.1", "127.0.62.2", "127.0.62.53"
PORT = {"udp": 5060, "tcp": 5060, "tls": 5061}
ZONE = f"""\
_sip._udp SRV 10 0 5060 first
_sip._udp SRV 20 0 5060 second
_sip._tcp SRV 10 0 5060 first
_sip._tcp SRV 20 0 5060 second
_sips._tcp SRV 10 0 5061 first
_sips._tcp SRV 20 0 5061 second
first A {FIRST}
second A {SECOND}
"""

Registrars = tuple[Kamailio, Kamailio]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def registrars(authority: Authority) -> Iterator[Registrars]:
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(Kamailio(address, "example.com", authority=authority)) for address in (FIRST, SECOND)
        )
        stack.enter_context(Knot(NAME_SERVER, ZONE))
        yield first, second


def silence(server: Kamailio) -> None:
    server.fault(Kamailio.SILENT)


def overload(server: Kamailio) -> None:
    server.fault(503, retry_after=30)


def answer(app: App, method: str) -> Line:
    """The program's next answer to a request of *method*."""
    while True:
        line = app.next(timeout=10)
        if line["method"] == method:
            return line


@pytest.mark.parametrize(
    ("transport", "fail", "noticed"),  # in seconds: silence after two retransmissions over UDP, 5 s over a connection
    [
        pytest.param("udp", silence, 2.5, id="udp-silent"),
        pytest.param("udp", Kamailio.pause, 2.5, id="udp-paused"),
        pytest.param("udp", overload, 0.3, id="udp-503"),
        pytest.param("tcp", Kamailio.pause, 6.0, id="tcp-paused"),
        pytest.param("tcp", overload, 0.3, id="tcp-503"),
        pytest.param("tcp", Kamailio.stop, 0.3, id="tcp-stopped"),
        pytest.param("tls", Kamailio.stop, 0.3, id="tls-stopped"),
    ],
)
def test_the_program_outlives_its_first_registrar(
    registrars: Registrars, authority: Authority, transport: str, fail: Callable[[Kamailio], None], noticed: float
) -> None:
    first, second = (f"{server.address}:{PORT[transport]}" for server in registrars)
    with App(APP, f"{NAME_SERVER}:5353", transport, str(authority.path)) as app:
        for method in ("REGISTER", "OPTIONS"):
            app.tell(method)
            line = answer(app, method)
            assert (line["code"], line["server"]) == (200, first)

        fail(registrars[0])
        app.tell("MESSAGE")  # Whatever becomes of this one, it tells pjfail.
        time.sleep(noticed)
        app.tell("OPTIONS")
        line = answer(app, "OPTIONS")
        assert (line["code"], line["server"]) == (200, second)
        assert line["seconds"] < 0.5
        app.tell("REGISTER")
        line = answer(app, "REGISTER")
        assert (line["code"], line["server"]) == (200, second)
