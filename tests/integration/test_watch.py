"""`python -m pjfail watch` on a terminal, of a pjsua2 program whose server dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig.console import Console
from rig.terminal import Terminal

from pjfail.testing import SILENT, WELL, Registrar

FIRST, SECOND = "127.0.95.1", "127.0.95.2"
ONE, OTHER = f"udp:{FIRST}:5060", f"udp:{SECOND}:5060"
WATCH = [sys.executable, "-m", "pjfail", "watch"]
COLOUR = re.compile(rb"\x1b\[[\d;]*(3[0-7]|38|9[0-7])[\d;]*m")


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the program puts its socket, and nobody else."""
    for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PJFAIL_CONTROL", "1")
    return tmp_path


@pytest.fixture
def program(runtime: Path, first: Registrar, second: Registrar) -> Iterator[Console]:
    with Console([f"{FIRST}:5060", f"{SECOND}:5060"]) as console:
        console.run('account = opened("sip:alice@sip.test", "sip:sip.test")\nfailover.follow(account, spread=0)')
        assert console.get("account.reregister().code") == 200
        yield console


def line_with(screen: list[str], *texts: str) -> str:
    return next(line for line in screen if all(text in line for text in texts))


def test_a_server_dies_and_comes_back_on_the_screen(program: Console, first: Registrar) -> None:
    with Terminal(WATCH, 140, 30) as terminal:
        screen = terminal.wait_for(f"process {program.pid}", "in flight", ONE, OTHER, "alice@sip.test", "q quit")
        assert " up" in line_with(screen, ONE, "ms")
        first.fault = SILENT
        assert program.get("account.reregister().code") == 200
        screen = terminal.wait_for("silent to", "FailedOver", "ServerDown", "AccountMoved")
        assert OTHER in line_with(screen, "0 ", "alice@sip.test", "udp:")
        assert screen.index(line_with(screen, "events, newest first")) > screen.index(line_with(screen, "accounts"))
        first.fault = WELL
        terminal.wait_for("ServerUp")
        terminal.press("q")
        assert terminal.finish() == 0
        assert b"\x1b[?1049l" in terminal.raw  # the screen of before is back


def test_a_key_drains_after_a_yes_and_not_after_a_no(program: Console, runtime: Path) -> None:
    def state() -> str:
        return str(program.get(f"failover.servers()[pjfail.Server({FIRST!r}, 5060)].state.value"))

    with Terminal(WATCH, 120, 30) as terminal:
        terminal.wait_for("q quit", ONE)
        terminal.press("j")
        terminal.wait_for(f">{ONE}")
        terminal.press("d")
        terminal.wait_for(f"drain {ONE}: no new requests until restored? y/n")
        terminal.press("n")
        terminal.wait_for("nothing was done")
        assert state() == "up"
        terminal.press("d")
        terminal.wait_for("y/n")
        terminal.press("y")
        terminal.wait_for(f"drain {ONE}: done", "draining")
        assert state() == "draining"
        terminal.press("ry")
        terminal.wait_for(f"restore {ONE}: done")
        assert state() == "up"
        terminal.press("my")
        terminal.wait_for(f"mark-down {ONE}: done", "in 10 min")
        assert state() == "down"
        terminal.press("ry")
        terminal.wait_for(f"restore {ONE}: done")
        terminal.press("\x1b[B")
        terminal.wait_for(f">{OTHER}")
        terminal.press("s")
        terminal.wait_for("by server")
        terminal.press(f"/{SECOND}\r")
        terminal.wait_for(f"filter '{SECOND}': 1")
        terminal.press("uy")
        terminal.wait_until_gone("y/n")
        assert terminal.status is None


@pytest.mark.parametrize(("columns", "lines"), [(60, 20), (200, 40)])
def test_it_fits_narrow_and_wide_terminals(program: Console, columns: int, lines: int) -> None:
    with Terminal(WATCH, columns, lines) as terminal:
        screen = terminal.wait_for(f"process {program.pid}", f" {ONE}", OTHER, "q quit")
        assert len(screen) == lines
        assert "q quit" in screen[line_count(screen) - 1]
        assert ("round trip" in "\n".join(screen)) is (columns == 200)
        rows = [line for line in screen if line.startswith((f" {ONE}", f" {OTHER}"))]
        assert len(rows) == 2  # a server is a line, and no line is broken


def line_count(screen: list[str]) -> int:
    return max(index for index, line in enumerate(screen, 1) if line)


def test_it_follows_the_size_of_the_terminal(program: Console) -> None:
    with Terminal(WATCH, 200, 40) as terminal:
        terminal.wait_for("round trip", "q quit")
        terminal.resize(60, 12)
        screen = terminal.wait_until_gone("round trip")
        screen = terminal.wait_for(f"process {program.pid}", ONE, "q quit")
        assert screen[0].startswith(f"process {program.pid}")
        terminal.resize(160, 30)
        terminal.wait_for("round trip", "last answer")
        terminal.press("\x03")
        assert terminal.finish() == 130


def test_without_colours_the_words_say_it(program: Console) -> None:
    program.run(f"failover.mark_down({ONE!r})")
    with Terminal(WATCH, 120, 30) as coloured:
        coloured.wait_for("marked down by the application", "q quit")
        assert COLOUR.search(coloured.raw)
    with Terminal(WATCH, 120, 30, {"NO_COLOR": "1"}) as plain:
        screen = plain.wait_for("marked down by the application", "q quit")
        assert line_with(screen, ONE, "down")
        assert not COLOUR.search(plain.raw)
    with Terminal(WATCH, 120, 30, {"TERM": "dumb"}) as dumb:  # it prints once
        dumb.wait_for("marked down by the application")
        assert dumb.finish() == 0
        assert b"\x1b" not in dumb.raw


def test_ctrl_c_leaves_the_terminal_as_it_was(program: Console) -> None:
    with Terminal(
        ["sh", "-c", f"trap : INT; stty -a; {' '.join(WATCH)}; echo status $?; stty -a; sleep 1"], 120, 40
    ) as terminal:
        terminal.wait_for("q quit")
        terminal.press("\x03")
        terminal.wait_for("status 130")
        terminal.finish()
        settings = re.findall(rb"-?icanon.*?-?echo\b", terminal.raw, re.DOTALL)
        assert len(settings) == 2
        assert settings[0] == settings[1]
        assert b"Traceback" not in terminal.raw


@pytest.mark.parametrize("how", ["detach", "kill"])
def test_a_program_that_goes_leaves_its_last_screen(program: Console, how: str) -> None:
    with Terminal(WATCH, 120, 40) as terminal:
        terminal.wait_for("q quit", OTHER)
        if how == "detach":
            program.run("failover.detach()")
        else:
            program.signal(signal.SIGKILL)
        assert terminal.finish() == 1
        screen = terminal.screen()
        assert line_with(screen, "pjfail: the program has gone, or has detached pjfail, at ")
        assert line_with(screen, ONE)
        assert b"Traceback" not in terminal.raw


def test_a_program_that_is_stopped_is_said_to_be_silent_until_it_goes_on(program: Console) -> None:
    with Terminal(WATCH, 120, 40) as terminal:
        terminal.wait_for("q quit", ONE)
        program.signal(signal.SIGSTOP)
        try:
            terminal.wait_for(f"process {program.pid} says nothing: it is stopped")
        finally:
            program.signal(signal.SIGCONT)
        terminal.wait_until_gone("says nothing")
        terminal.press("q")
        assert terminal.finish() == 0


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*WATCH, *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_scripts_have_it_once_and_as_json(program: Console) -> None:
    once = run("--once")
    assert once.returncode == 0, once.stderr
    assert line_with(once.stdout.splitlines(), ONE, "up")
    assert "\x1b" not in once.stdout
    assert run(str(program.pid)).stdout.splitlines()[-1:] == run("--once").stdout.splitlines()[-1:]
    told = json.loads(run("--json").stdout)
    assert told["process"]["pid"] == program.pid
    assert {row["server"] for row in told["servers"]} == {ONE, OTHER}


def test_with_nothing_to_watch_it_says_how_to_turn_it_on(runtime: Path) -> None:
    nothing = run()
    assert nothing.returncode == 1
    assert "no program of yours has a control socket. Start it with PJFAIL_CONTROL=1" in nothing.stderr
    one = run(str(os.getpid()))
    assert one.returncode == 1
    assert f"process {os.getpid()} has no control socket" in one.stderr
    assert run("all").returncode == 2


def test_a_watcher_costs_the_requests_nothing_that_can_be_measured(program: Console) -> None:
    def took() -> float:
        began = time.monotonic()
        for _ in range(5):
            program.run("for _ in range(20): account.send('OPTIONS', 'sip:sip.test')")
            program.run("for _ in range(20): assert account.answer().code == 200")
        return time.monotonic() - began

    took()
    alone = min(took() for _ in range(3))
    with Terminal(WATCH, 120, 40) as terminal:
        terminal.wait_for("q quit")
        watched = min(took() for _ in range(3))
        terminal.wait_for("q quit")
    assert watched < 2 * alone + 0.5
