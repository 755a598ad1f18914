"""Programs as people write them (`tests/apps`), unmodified, whose registrar fails: the next server has them in 8 s.

The one that says nothing until it is called is called again in 20 s, and in 8 s with `watch=4`.

`make test` runs a diagonal of program, fault, phase and launcher; `make test-apps`, by PJFAIL_TEST_APPS, all of them.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Collection
from itertools import product

import pytest
from rig.launched import Launched

from pjfail.testing import REFUSING, SILENT, UNAVAILABLE, Fault, Registrar

FIRST, SECOND = "127.0.93.1", "127.0.93.2"
SERVERS = f"pbx.example={FIRST}:5060,{SECOND}:5060"

APPS = {  # whose requests must reach the second server
    "polling": {"polling"},
    "workers": {"workers"},
    "asyncio_loop": {"asyncio"},
    "uvloop_loop": {"uvloop"},
    "singleton": {"singleton"},
    "collected": {"collected0", "collected1", "collected2"},
    "registered_threads": {"dialer"},
    "multiprocessing_fork": {"line1", "line2"},
    "multiprocessing_spawn": {"line1", "line2"},
    "prefork": {"worker1", "worker2"},
    "forks_later": {"forks"},
    "in_turn": {"shift"},
}
FAULTS = {"silent": SILENT, "killed": REFUSING, "503": UNAVAILABLE}
PHASES = ("calling", "starting up")
LAUNCHERS: dict[str, Callable[[str], tuple[list[str], dict[str, str]]]] = {
    "run FILE": lambda app: (["-m", "pjfail", "run", f"{app}.py"], {}),
    "run -m": lambda app: (["-m", "pjfail", "run", "-m", app], {}),
    "PJFAIL=1": lambda app: ([f"{app}.py"], {"PJFAIL": "1"}),
}

ALL = list(product(APPS, FAULTS, PHASES, LAUNCHERS))
DIAGONAL = [
    (app, list(FAULTS)[row % 3], PHASES[(row + row // 3) % 2], list(LAUNCHERS)[(row + row // 3) % 3])
    for row, app in enumerate(APPS)
]


def wait_for_users(registrar: Registrar, method: str, users: Collection[str], timeout: float) -> None:
    """Waits until *registrar* has had *method* from all of *users*."""
    until = time.monotonic() + timeout
    while missing := {
        user
        for user in users
        if not any(f"sip:{user}@" in each.from_ for each in registrar.requests if each.method == method)
    }:
        assert time.monotonic() < until, f"{registrar} has had no {method} of {missing} in {timeout:g} s"
        time.sleep(0.02)


@pytest.mark.parametrize(("app", "fault", "phase", "launcher"), ALL if os.environ.get("PJFAIL_TEST_APPS") else DIAGONAL)
def test_a_program_nobody_has_touched_outlives_its_registrar(
    first: Registrar, second: Registrar, app: str, fault: str, phase: str, launcher: str
) -> None:
    command, variables = LAUNCHERS[launcher](app)
    users, timeout = APPS[app], 8 + 2 * (app == "in_turn")  # an endpoint's end takes a while

    def fail(how: Fault) -> None:
        first.fault = how

    if phase == "starting up":
        fail(FAULTS[fault])
    with Launched(command, **variables, PJFAIL_SERVERS=SERVERS, PJFAIL_LOG="info") as program:
        if phase == "calling":
            wait_for_users(first, "INVITE", users, 30)
            called = {each.call_id for each in first.requests}
            assert {each.call_id for each in second.requests} <= called  # on a busy machine one is sent to both
            fail(FAULTS[fault])
        else:
            program.wait_for("pjfail is attached", 30)
        until = time.monotonic() + timeout
        for method in ("REGISTER", "INVITE"):
            wait_for_users(second, method, users, max(0.0, until - time.monotonic()))
        for trouble in ("Traceback", "Assertion", "runs without it"):
            assert trouble not in program.output()


# The settings add up to 22.2 s at the most (15 and a fifth, 2.2 for the answer, 2 of spread), and to 8 s.
WATCHES = {"": 30.0, "watch=4,spread=1": 16.0}
CALLED = list(product(WATCHES, FAULTS, LAUNCHERS))


def call(contact: str) -> int:
    """The final response to a call to *contact* (sip:user@address:port), which comes over UDP."""
    found = re.search(r"sip:[^@>]*@([\d.]+):(\d+)", contact)
    assert found is not None, contact
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.bind((SECOND, 0))
        caller.settimeout(5)
        host, port = caller.getsockname()
        invite = (
            f"INVITE {found[0]} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{port}\r\n"
            f"From: <sip:bob@{host}>;tag=1\r\nTo: <{found[0]}>\r\nCall-ID: {port}@{host}\r\nCSeq: 1 INVITE\r\n"
            f"Contact: <sip:bob@{host}:{port}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        )
        caller.sendto(invite.encode(), (found[1], int(found[2])))
        while (code := int(caller.recv(65535).split()[1])) < 200:
            pass
    return code


@pytest.mark.parametrize(
    ("watch", "fault", "launcher"),
    CALLED
    if os.environ.get("PJFAIL_TEST_APPS")
    else [("", "killed", "PJFAIL=1"), ("watch=4,spread=1", "silent", "run FILE")],
)
def test_a_program_that_says_nothing_is_called_again_soon(
    first: Registrar, second: Registrar, watch: str, fault: str, launcher: str
) -> None:
    command, variables = LAUNCHERS[launcher]("answering")
    with Launched(command, **variables, PJFAIL_SERVERS=SERVERS, PJFAIL_FOLLOW=watch, PJFAIL_LOG="info") as program:
        program.wait_for("it registered with", 30)
        first.wait_for("OPTIONS", timeout=30)  # silence tells at once only of a server that has answered one
        first.fault = FAULTS[fault]
        wait_for_users(second, "REGISTER", {"answering"}, WATCHES[watch])
        assert call(second.wait_for("REGISTER")[-1].header("contact")) == 200
        for trouble in ("Traceback", "Assertion", "runs without it"):
            assert trouble not in program.output()


def test_the_diagonal_has_everything_once() -> None:
    for place, names in enumerate((APPS, FAULTS, PHASES, LAUNCHERS)):
        assert {row[place] for row in DIAGONAL} == set(names)
