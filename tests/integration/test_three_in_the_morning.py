"""The page for the person on call: its commands, in order, in an outage, lead to a drained server and back."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from rig.console import Console
from rig.pages import DOCS

from pjfail.testing import SILENT, Registrar

PAGE = (DOCS / "howto" / "three-in-the-morning.md").read_text("utf-8")
FIRST, SECOND = "127.0.96.1", "127.0.96.2"
ONE, OTHER = f"udp:{FIRST}:5060", f"udp:{SECOND}:5060"


def section(number: int) -> list[list[str]]:
    """The commands of that section, with the addresses of this test."""
    text = PAGE.split(f"\n## {number}. ")[1].split("\n## ")[0].replace("192.0.2.1", FIRST)
    return [shlex.split(command) for command in re.findall(r"^\$ python (.*)$", text, re.MULTILINE)]


def printed(commands: list[list[str]], *more: str) -> str:
    """What the commands print; each must do what it says."""
    said = ""
    for command in commands:
        done = subprocess.run(
            [sys.executable, *command, *more], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        said += done.stdout
    return said


def test_from_the_alert_to_the_drained_server(
    first: Registrar, second: Registrar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PJFAIL_CONTROL", "1")
    with Console([f"{FIRST}:5060", f"{SECOND}:5060"]) as program:
        program.run(
            'account = opened("sip:alice@voip.example", "sip:voip.example")\nfailover.follow(account, spread=0)'
        )
        assert program.get("account.reregister().code") == 200
        first.fault = SILENT
        for _ in range(2):
            assert program.get("account.reregister().code") == 200
        program.run(f"while failover.servers()[pjfail.Server({FIRST!r}, 5060)].state.value == 'up': time.sleep(0.1)")
        looked = printed(section(1), "--once")
        assert looked.index(ONE) < looked.index(OTHER)
        found = printed(section(3))
        assert "silent to" in found
        assert "ServerDown" in found
        assert "draining" in printed(section(4))
        helped = printed(section(5))
        assert helped.index(OTHER) < helped.index(ONE)
        assert re.search(rf"alice@voip.example\W+{re.escape(OTHER)}", helped)
        printed(section(6))
        assert program.get(f"failover.servers()[pjfail.Server({FIRST!r}, 5060)].state.value") == "up"


def test_every_alert_leads_to_a_line_of_the_page() -> None:
    rules = yaml.safe_load((DOCS / "snippets" / "alerts.yml").read_text("utf-8"))["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} == set(
        re.findall(r"`(\w+)`", PAGE.split("The alerts lead")[1].split("##")[0])
    )


@pytest.mark.parametrize("words", ["is not in any plan yet", "says nothing: it is stopped", "no program of yours has"])
def test_the_words_that_the_page_looks_for_are_those_that_are_said(words: str) -> None:
    sources = "\n".join(path.read_text("utf-8") for path in (DOCS.parent / "pjfail").rglob("*.py"))
    assert words in PAGE
    assert words in sources
