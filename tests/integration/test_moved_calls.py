"""A call that pjfail has moved to another server over TCP: pjsip sends and hears there what it does without pjfail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rig.app import TESTS, App

from pjfail.testing import RESETTING, UNAVAILABLE, Fault, Registrar

ROOT = TESTS.parent
FIRST, SECOND = "127.0.45.1", "127.0.45.2"
RINGING = Fault(provisional=(180,), delay=60, methods=("INVITE",))

# Calls over TCP, and prints the states that the call goes through.
CALL = f"""
    import sys
    sys.path[:0] = sys.argv[1:]
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    class Call(pj.Call):
        def onCallState(self, prm):
            info = self.getInfo()
            emit(state=info.stateText, code=info.lastStatusCode)

    table = {{"sip.test": [("{FIRST}:5060", 1, 0), ("{SECOND}:5060", 2, 0)]}}
    with Endpoint() as endpoint:
        failover = pjfail.attach(lookup=pjfail.StaticLookup(table))
        account = Account(endpoint)
        account.open("sip:alice@sip.test")
        call = Call(account)
        call.makeCall("sip:bob@sip.test;transport=tcp", pj.CallOpParam(True))
        while word := heard():
            if word == "hang up":
                call.hangup(pj.CallOpParam())
            elif word == "detach":
                failover.detach()
                emit(state="detached")
        del call
"""


def until(app: App, state: str, timeout: float = 20) -> int:
    """Waits until the call is in *state*; returns the code that came with it."""
    while (line := app.next(timeout))["state"] != state:
        assert line["state"] != "DISCONNECTED", line
    code: int = line.get("code", 0)
    return code


@contextmanager
def moved_call(first: Registrar, second: Registrar, fault: Fault, detached: bool, *paths: str) -> Iterator[App]:
    """A call that *first* has failed by *fault*, and that rings at *second*. The first connection is gone.

    Python looks for modules in *paths* first.
    """
    first.fault = fault
    with App(CALL, *paths) as app:
        second.wait_for("INVITE")
        first.reset()
        until(app, "EARLY")
        if detached:
            app.tell("detach")
            until(app, "detached")
        yield app


# --- Via --------------------------------------------------------------------------------------------------------------

# pjfail keeps the first connection of a call that got 503 until the application detaches.
FAILURES = pytest.mark.parametrize(
    ("fault", "detached"),
    [(RESETTING, False), (UNAVAILABLE, False), (UNAVAILABLE, True)],
    ids=["reset", "503", "503-detached"],
)


@pytest.fixture
def freed_memory_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library overwrites memory when a program frees it."""
    monkeypatch.setenv("MALLOC_PERTURB_", "165")


@FAILURES
@pytest.mark.usefixtures("freed_memory_shows")
def test_the_ack_of_a_moved_call_has_the_via_of_its_invite(
    first: Registrar, second: Registrar, fault: Fault, detached: bool
) -> None:
    """RFC 3261 section 17.1.1.3. The Via names the address of the connection on which the INVITE was first sent."""
    second.fault = Fault(provisional=(180,), code=486, delay=1.0, methods=("INVITE",))
    with moved_call(first, second, fault, detached) as app:
        assert until(app, "DISCONNECTED") == 486
        [ack] = second.wait_for("ACK")
        assert ack.header("via") == second.requests[0].header("via")


@FAILURES
@pytest.mark.usefixtures("freed_memory_shows")
def test_the_cancel_of_a_moved_call_has_the_via_of_its_invite(
    first: Registrar, second: Registrar, fault: Fault, detached: bool
) -> None:
    """RFC 3261 section 9.1."""
    second.fault = RINGING
    with moved_call(first, second, fault, detached) as app:
        time.sleep(0.3)  # pjsip destroys a connection that is closed
        app.tell("hang up")
        assert until(app, "DISCONNECTED") == 487
        [cancel] = second.wait_for("CANCEL")
        [ack] = second.wait_for("ACK")
        assert {cancel.header("via"), ack.header("via")} == {second.requests[0].header("via")}


# --- the end of the connection ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("detached", [False, True], ids=["attached", "detached"])
def test_a_moved_call_hears_that_its_connection_has_ended(first: Registrar, second: Registrar, detached: bool) -> None:
    second.fault = RINGING
    with moved_call(first, second, RESETTING, detached) as app:
        second.reset()
        assert until(app, "DISCONNECTED") == 503


@pytest.fixture
def forgets_after_2_seconds(tmp_path: Path) -> str:
    """The folder of a copy of pjfail that forgets a call that rings after 2 seconds, not after 300."""
    for name in (
        "pjfail",
        "_pjfail_hook.py",
        "pjfail.pth",
        "pjfail_build.py",
        "setup.py",
        "pyproject.toml",
        "README.md",
        "COPYING",
    ):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    for extension in tmp_path.glob("pjfail/_native*.so"):
        extension.unlink()
    found = 0
    for source in Path(tmp_path, "pjfail/_core").iterdir():
        text, count = re.subn(r"(#define RINGING\w* )300\.0\b", r"\g<1>2.0", source.read_text())
        source.write_text(text)
        found += count
    assert found == 1, "the core has its 300 seconds in another form"
    tree = Path(os.environ.get("PJPROJECT_DIR") or ROOT / "third_party/pjproject/src").resolve()
    environment = {**os.environ, "PJPROJECT_DIR": str(tree), "PJFAIL_CFLAGS": "-O1"}
    build = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    subprocess.run(build, cwd=tmp_path, env=environment, check=True, capture_output=True)
    return str(tmp_path)


def test_a_call_that_rang_for_longer_than_pjfail_waits_hears_that_its_connection_has_ended(
    first: Registrar, second: Registrar, forgets_after_2_seconds: str
) -> None:
    second.fault = RINGING
    with moved_call(first, second, RESETTING, False, forgets_after_2_seconds) as app:
        time.sleep(3.5)
        second.reset()
        assert until(app, "DISCONNECTED") == 503
