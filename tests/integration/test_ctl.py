"""`python -m pjfail ctl` against a pjsua2 program whose server dies: what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rig.console import Console

from pjfail.testing import REFUSING, SILENT, Registrar

FIRST, SECOND = "127.0.94.1", "127.0.94.2"
ONE, OTHER = f"udp:{FIRST}:5060", f"udp:{SECOND}:5060"


class Ctl:
    """The command, in an environment where it finds the sockets of one folder."""

    def __init__(self, runtime: Path) -> None:
        self.environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "TMPDIR": str(runtime)}

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pjfail", "ctl", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=self.environment, timeout=60)

    def json(self, *arguments: str) -> Any:
        done = self("--json", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def ctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ctl:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PJFAIL_CONTROL", "1")
    return Ctl(tmp_path)


@pytest.fixture
def program(ctl: Ctl, first: Registrar, second: Registrar) -> Iterator[Console]:
    with Console([f"{FIRST}:5060", f"{SECOND}:5060"]) as console:
        console.run('account = opened("sip:alice@sip.test", "sip:sip.test")\nfailover.follow(account, spread=0)')
        assert console.get("account.reregister().code") == 200
        yield console


def test_from_the_outage_to_the_drained_server(program: Console, ctl: Ctl, first: Registrar) -> None:
    plan = ctl("plan", "sip:sip.test")
    assert plan.returncode == 0
    assert plan.stdout.index(ONE) < plan.stdout.index(OTHER)
    first.fault = SILENT
    assert program.get("account.reregister().code") == 200
    deadline = time.monotonic() + 15
    while (account := ctl.json("accounts")[0])["server"] != OTHER:
        assert time.monotonic() < deadline, account
    while "silent to REGISTER" not in (servers := ctl("servers").stdout):  # which its probes find out, if not sooner
        assert time.monotonic() < deadline, servers
    assert servers.index(ONE) < servers.index(OTHER)
    assert "FailedOver" in ctl("events").stdout
    drained = ctl("drain", f"{FIRST}:5060")
    assert drained.returncode == 0
    assert "draining" in drained.stdout
    assert program.get(f"failover.servers()[pjfail.Server({FIRST!r}, 5060)].state.value") == "draining"
    assert ctl.json("restore", ONE)[0]["state"] == "up"
    assert [row["server"] for row in ctl.json("drain", FIRST)] == [ONE]  # which is its address alone
    assert ctl.json("restore", ONE)[0]["state"] == "up"
    assert 590 < ctl.json("mark-down", ONE, "600")[0]["next_try"] <= 600
    reason = ctl.json("plans")[0]["entries"][-1]["reason"]
    time.sleep(2)
    assert ctl.json("plans")[0]["entries"][-1]["reason"] != reason  # "down, next tried within ...", as of now
    assert ctl.json("counters")["plans"] >= 1
    assert ctl.json("process")["pid"] == program.pid
    assert ctl.json("log", "debug")["level"] == "debug"


def test_a_server_is_down_since_it_went_down_and_not_since_it_was_tried_last(
    program: Console, ctl: Ctl, first: Registrar
) -> None:
    first.fault = REFUSING
    assert program.get("account.reregister().code") == 200
    deadline = time.monotonic() + 90
    while True:
        told = ctl.json("servers")[0]
        downs = [row for row in ctl.json("events") if row["event"] == "ServerDown"]
        if told["state"] == "down" and len(downs) > 2:
            break
        assert time.monotonic() < deadline, told
    assert ctl.json("servers")[0]["since"] >= downs[2]["at"] - downs[0]["at"]


def test_the_exit_status_says_what_was_wrong(program: Console, ctl: Ctl) -> None:
    refused = ctl("drain", "192.0.2.7:5060")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.endswith(
        'is not in any plan yet; to name it before its first use, write "udp:192.0.2.7:5060"\n'
    )
    said = ctl("--json", "drain", "voip")
    assert said.returncode == 1
    assert json.loads(said.stdout)["error"] == "'voip' is not in any plan yet; name its address"
    for wrong in (["stop"], ["drain"], ["mark-down", ONE, "soon"], ["plan", "voip"], []):
        done = ctl(*wrong)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), wrong


@pytest.mark.parametrize("asked", [["process"], ["events", "--follow"]])
def test_a_process_that_is_stopped_is_named_while_it_is_waited_for(
    program: Console, ctl: Ctl, asked: list[str]
) -> None:
    assert ctl("process").returncode == 0
    os.kill(program.pid, signal.SIGSTOP)
    command = [sys.executable, "-m", "pjfail", "ctl", *asked]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ctl.environment
    ) as waiting:
        try:
            assert waiting.stderr is not None
            assert waiting.stderr.readline() == f"pjfail: waiting for process {program.pid}, 15 s at the most\n"
            assert waiting.poll() is None
        finally:
            os.kill(program.pid, signal.SIGCONT)
        if asked != ["process"]:
            program.run("failover.detach()")
        assert waiting.wait(15) == len(asked) - 1
        assert "waiting" not in waiting.stderr.read()


def test_several_programs_are_told_apart(program: Console, ctl: Ctl, tmp_path: Path) -> None:
    with Console([f"{FIRST}:5060"]) as second:
        assert second.get("failover.attached")
        unclear = ctl("servers")
        assert unclear.returncode == 1
        assert "several programs have a control socket; name one" in unclear.stderr
        assert str(second.pid) in unclear.stderr
        assert ctl.json("--to", str(second.pid), "process")["pid"] == second.pid
        socket = str(tmp_path / "pjfail" / f"{program.pid}.sock")
        assert ctl.json("--to", socket, "process")["pid"] == program.pid
        told = ctl.json("--to", "all", "process")
        assert {each["pid"] for each in told} == {each["result"]["pid"] for each in told} == {program.pid, second.pid}
        assert ctl("--to", "all", "events", "--follow").returncode == 2
        marked = ctl("--to", "all", "drain", f"{SECOND}:5060")  # which the second one has not heard of
        assert marked.returncode == 1
        assert "draining" in marked.stdout
        assert "is not in any plan yet" in marked.stderr


def test_events_are_followed_until_the_program_goes(program: Console, ctl: Ctl) -> None:
    command = [sys.executable, "-m", "pjfail", "ctl", "--json", "events", "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        program.run(f"failover.mark_down({ONE!r})")
        while json.loads(following.stdout.readline())["event"] != "ServerDown":
            pass
        program.run("failover.detach()")
        assert following.wait(10) == 1
        assert "has gone, or has detached pjfail" in following.stderr.read()


def test_where_there_is_none_it_says_how_to_turn_one_on(ctl: Ctl) -> None:
    nothing = ctl("servers")
    assert nothing.returncode == 1
    assert nothing.stderr == (
        "pjfail: no program of yours has a control socket. Start it with PJFAIL_CONTROL=1 in its environment, or let "
        "it call pjfail.attach(control=True)\n"
    )
