"""The demo from outside: its outcome, its ways to end."""

from __future__ import annotations

import argparse
import os
import pty
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pjfail.cli.demo import command, namespace
from pjfail.cli.demo.program import Transaction
from pjfail.cli.demo.scenario import Scenario
from pjfail.testing import Registrar

pytestmark = pytest.mark.timeout(90)

DEMO = [sys.executable, "-m", "pjfail", "demo", "--fast"]
FAST = argparse.Namespace(fast=True)


def test_the_program_with_pjfail_outlives_its_first_server() -> None:
    demo = subprocess.run(DEMO, capture_output=True, text=True, timeout=60, check=False)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    table = [re.split(r"\s{2,}", line.strip()) for line in demo.stdout.partition("\nwith pjfail\n")[2].splitlines()]
    assert table[0] == ["first is", "request", "went to", "took", "ended"]
    before = [cells for cells in table if cells[0] == "well"]
    assert {(cells[1].split()[0], cells[2], cells[4]) for cells in before} == {
        ("REGISTER", "first", "200 OK"),
        ("MESSAGE", "first", "200 OK"),
    }
    messages = [cells for cells in table if cells[0] == "silent" and cells[1].startswith("MESSAGE")]
    assert messages
    assert {(cells[2], cells[4]) for cells in messages} == {("second", "200 OK")}
    assert "requests got through with pjfail" in demo.stdout
    assert "stock" not in demo.stdout


REGISTER = """REGISTER sip:voip.example SIP/2.0
Via: SIP/2.0/UDP {client};branch=z9hG4bK{name}
From: <sip:pjfail@voip.example>;tag=1
To: <sip:pjfail@voip.example>
Call-ID: {name}
CSeq: 1 REGISTER
{contact}Content-Length: 0

"""


def test_what_pjfail_asks_by_itself_is_not_in_the_table() -> None:
    scenario = Scenario(fast=True)
    with (
        Registrar("127.0.0.1", 0) as first,
        Registrar("127.0.0.1", 0) as second,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
    ):
        scenario.first, scenario.second = first, second
        udp.settimeout(5)
        udp.bind(("127.0.0.1", 0))
        client = f"127.0.0.1:{udp.getsockname()[1]}"
        for server, name, contact in (first, "asked", ""), (second, "sent", f"Contact: <sip:pjfail@{client}>\n"):
            message = REGISTER.format(client=client, name=name, contact=contact).replace("\n", "\r\n")
            udp.sendto(message.encode(), (server.address, server.port))
            assert udp.recv(4096).startswith(b"SIP/2.0 200")
        assert scenario.route(scenario.programs[0], Transaction("REGISTER", 0, 0.0)) == [second]


def test_ctrl_c_on_a_terminal_ends_everything() -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(DEMO[0], DEMO)
    shown = b""
    while b"silent for" not in shown:
        shown += os.read(terminal, 65536)
    programs = children(child)
    os.write(terminal, b"\x03")
    while True:
        try:
            os.read(terminal, 65536)
        except OSError:  # EIO: the demo has closed its end
            break
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 130
    assert programs
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{program}").exists() for program in programs) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [program for program in programs if Path(f"/proc/{program}").exists()]


def test_a_reader_that_leaves_ends_it_without_a_word() -> None:
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        assert demo.stdout.readline()
        demo.stdout.close()
        assert demo.stderr.read() == ""
    assert demo.returncode == 1


def test_a_taken_port_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(namespace, "enter", lambda: None)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.77.1", 5060))
        assert command.run(FAST) == 1
    told = capsys.readouterr().err
    assert re.fullmatch(r"demo: cannot listen on \S*127\.0\.77\.\d+:\d+: .*\n", told)


def test_a_missing_pjsua2_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pjsua2", None)
    assert command.run(FAST) == 1
    told = capsys.readouterr().err
    assert re.fullmatch(r'demo: pjsua2 is not installed for this Python; .*"make setup".*"pip install \S+".*\n', told)


def children(parent: int) -> list[int]:
    found = []
    for process in filter(str.isdecimal, os.listdir("/proc")):
        try:
            fields = Path("/proc", process, "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[1]) == parent:
            found.append(int(process))
    return found
