"""Connections that a server has made, from the port that it listens at, serve requests as those that pjsip makes."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rig.app import App, Line
from rig.network import unanswered_connects

from pjfail.testing import Registrar
from pjfail.testing.sip import parse_request

FIRST, SECOND, OTHER = "127.0.134.1", "127.0.134.2", "127.0.134.3"

# Sends an OPTIONS to each name that it is told.
APP = """
    import sys
    import pjfail
    from rig.prelude import Account, Endpoint, emit, heard

    first, second, other = (f"{address}:5060" for address in sys.argv[1:])
    with Endpoint() as endpoint:
        pjfail.attach(servers={"sip.test": [first, second], "other.test": [other, second]}, follow=False)
        account = Account(endpoint)
        account.open("sip:alice@sip.test")
        emit(tcp=int(endpoint.pj.transportGetInfo(endpoint.listeners["tcp"]).localAddress.rpartition(":")[2]))
        while name := heard():
            emit(**account.options(f"sip:{name};transport=tcp")._asdict())
"""


@pytest.fixture
def app() -> Iterator[App]:
    with Registrar(SECOND, transports=("tcp",)), App(APP, FIRST, SECOND, OTHER) as running:
        yield running


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """A connection by the first server, which ends it with a reset."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        connection.bind((FIRST, 5060))
        connection.connect(("127.0.0.1", port))
        connection.settimeout(10)
        time.sleep(0.3)  # pjsip accepts it
        yield connection


def answered(app: App, connection: socket.socket) -> Line:
    app.tell("sip.test")
    request = parse_request(connection.recv(65535), time.monotonic(), "tcp", (FIRST, 5060))
    assert request is not None
    connection.sendall(request.response(200))
    return app.next()


def test_a_request_goes_over_it_at_once(app: App) -> None:
    with connected(app.next()["tcp"]) as connection:
        answer = answered(app, connection)
    assert (answer["code"], answer["server"]) == (200, f"{FIRST}:5060")
    assert answer["seconds"] < 0.2, "the next server was connected to"


def test_its_end_is_not_taken_for_the_next_ones_beginning(app: App) -> None:
    """pjsip has the next transport where this one was. Is that one's connect raced against the next server's?"""
    port = app.next()["tcp"]
    for _ in range(3):
        with connected(port) as connection:
            answered(app, connection)
        time.sleep(1)  # pjsip lets it go
    with unanswered_connects(OTHER, 5060):
        answer = app.ask("other.test")
    assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
    assert answer["seconds"] < 0.45, "it was silent for half a second"
