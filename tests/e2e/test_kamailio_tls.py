"""TLS against real servers: our pjsua2 program verifies, and the names that it shows are in Kamailio's own log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rig.app import App
from rig.certificates import Authority
from rig.kamailio import Kamailio
from rig.knot import Knot

APP = Path(__file__).with_name("registering_app.py")
FIRST, SECOND, NAME_SERVER = "127.0.64.1", "127.0.64.2", "127.0.64.53"
ZONE = f"""\
_sips._tcp SRV 10 0 5061 first
_sips._tcp SRV 20 0 5061 second
first A {FIRST}
second A {SECOND}
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def second(authority: Authority) -> Iterator[Kamailio]:
    with Kamailio(SECOND, "example.com", authority=authority) as second:
        yield second


@pytest.fixture
def app(authority: Authority) -> Iterator[App]:
    with Knot(NAME_SERVER, ZONE), App(APP, f"{NAME_SERVER}:5353", "tls", str(authority.path)) as app:
        yield app


def test_a_registration_moves_to_the_next_registrar_under_the_same_name(
    authority: Authority, second: Kamailio, app: App
) -> None:
    """The name is the URI's, not that of the SRV target, to which the domain's owner has not sworn."""
    with Kamailio(FIRST, "example.com", authority=authority) as first:
        line = app.ask("REGISTER", timeout=10)
        assert (line["code"], line["server"]) == (200, f"{FIRST}:5061")
        assert app.ask("OPTIONS", timeout=10)["server"] == f"{FIRST}:5061"
        assert first.shown == [("REGISTER", "example.com"), ("OPTIONS", "example.com")]
    line = app.next(timeout=20)  # pjsua sees the connection end, and registers again by itself within ten seconds
    assert (line["method"], line["code"], line["server"]) == ("REGISTER", 200, f"{SECOND}:5061")
    assert second.shown == [("REGISTER", "example.com")]


def test_a_registrar_with_a_certificate_for_its_own_name_is_passed_over(
    authority: Authority, second: Kamailio, app: App
) -> None:
    with Kamailio(FIRST, "first.example.com", authority=authority) as first:
        line = app.ask("REGISTER", timeout=10)
        assert (line["code"], line["server"]) == (200, f"{SECOND}:5061")
        assert second.shown == [("REGISTER", "example.com")]
        assert not first.shown
