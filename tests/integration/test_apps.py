"""Programs as people write them (`tests/apps`), unmodified, whose registrar fails: the next server has them in 8 s.

`make test` runs a diagonal of program, fault, phase and launcher; `make test-apps`, by PJFAIL_TEST_APPS, all of them.
"""

from __future__ import annotations

import os
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
            assert not second.requests
            fail(FAULTS[fault])
        else:
            program.wait_for("pjfail is attached", 30)
        until = time.monotonic() + timeout
        for method in ("REGISTER", "INVITE"):
            wait_for_users(second, method, users, max(0.0, until - time.monotonic()))
        for trouble in ("Traceback", "Assertion", "runs without it"):
            assert trouble not in program.output()


def test_the_diagonal_has_everything_once() -> None:
    for place, names in enumerate((APPS, FAULTS, PHASES, LAUNCHERS)):
        assert {row[place] for row in DIAGONAL} == set(names)
