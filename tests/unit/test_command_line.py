"""``python -m pjfail lookup``, without a wire."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest

import pjfail
from pjfail.cli.lookup import as_json
from pjfail.cli.main import SUBCOMMANDS, main
from pjfail.errors import LookupFailed
from pjfail.lookup import DnsLookup
from pjfail.model import Candidate, Server, Target

FOUND = [
    Candidate(Server("2001:db8::1", 5061, "tls"), "edge-1.example.com", 10, 60, 29.6),
    Candidate(Server("192.0.2.1", 5061, "tls"), "edge-2.a-long-name-that-fills-a-line.example.com", 20, 0, 60.0),
]


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> list[Target]:
    """Lets every lookup find FOUND; gives the targets that were looked up."""
    asked = []

    async def lookup(_self: DnsLookup, target: Target) -> list[Candidate]:
        asked.append(target)
        return FOUND

    monkeypatch.setattr(DnsLookup, "lookup", lookup)
    return asked


def test_json_has_exactly_these_members() -> None:
    assert as_json(Target("example.com", 0, "tls", secure=True), FOUND) == {
        "target": {"host": "example.com", "port": 0, "transport": "tls", "secure": True, "ipv6": False},
        "candidates": [
            {
                "address": "2001:db8::1",
                "port": 5061,
                "transport": "tls",
                "name": "edge-1.example.com",
                "priority": 10,
                "weight": 60,
                "ttl": 30,
            },
            {
                "address": "192.0.2.1",
                "port": 5061,
                "transport": "tls",
                "name": "edge-2.a-long-name-that-fills-a-line.example.com",
                "priority": 20,
                "weight": 0,
                "ttl": 60,
            },
        ],
    }


@pytest.mark.parametrize("rich", [True, False])
def test_the_table_shows_all_of_each_candidate(
    rich: bool, dns: list[Target], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(["lookup", "sips:alice@example.com", "--nameserver", "127.0.0.1:9"]) == 0
    shown = capsys.readouterr().out
    assert ("┃" in shown) is rich
    for candidate in FOUND:
        [line] = [line for line in shown.splitlines() if candidate.name in line]
        words = line.replace("│", " ").split()
        assert words[:2] == [str(candidate.server), candidate.name]
        assert words[2:5] == [str(candidate.priority), str(candidate.weight), f"{candidate.ttl:.0f}"]
    assert dns == [Target("example.com", secure=True)]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["tel:123"], "'tel:123' is not a valid SIP URI"),
        (["sip:example.com;transport=sctp"], "not 'sctp'"),
        (["sip:example.com", "--nameserver", "dns.example"], "'dns.example' is not a valid name server"),
        (["sip:example.com", "--transports", "udp,sctp"], "choose among udp, tcp, tls"),
        (["sip:example.com", "--families", "ipv5"], "choose among ipv4, ipv6"),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_status_2(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lookup", "--nameserver", "127.0.0.1:9", *arguments]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert reason in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["lookup"], ["lookup", "sip:a", "--naptr", "maybe"]])
def test_what_argparse_refuses_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_the_help_of_each_command_has_its_exit_statuses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As README says."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "Exit status: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["ctl", "mark-down", "192.0.2.1", "0"], "'0' is not valid; give seconds, more than 0"),
        (["ctl", "mark-down", "192.0.2.1", "1e308"], "'1e308' is not valid; give seconds"),
        (["ctl", "mark-down", "192.0.2.1", "nan"], "'nan' is not valid"),
        (["ctl", "mark-down", "192.0.2.1:x"], "'192.0.2.1:x'"),
        (["ctl", "drain", "sip:voip.example"], "is a URI; write its host alone"),
        (["ctl", "log", "loud"], "invalid choice: 'loud'"),
        (["ctl", "--for", "5", "servers"], "--for is for --fleet"),
        (["ctl", "--shared", "x", "servers"], "--shared is for --fleet"),
        (["ctl", "--author", "alice", "drain", "192.0.2.1"], "--author is for --fleet"),
        (["ctl", "--fleet", "--to", "1", "drain", "udp:192.0.2.1:5060"], "--to names one program"),
        (["doctor", "--nameserver", "192.0.2.53"], "write --uri URI too"),
    ],
)
def test_what_a_command_cannot_do_with_is_refused_and_not_ignored(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(arguments)
    except SystemExit as ended:
        status = int(ended.code or 0)
    out, error = capsys.readouterr()
    assert (status, out) == (2, "")
    assert reason in error
    assert "None" not in error


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr() == (f"pjfail {pjfail.__version__}\n", "")


def test_a_failed_lookup_is_one_sentence_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def lookup(_self: DnsLookup, target: Target) -> list[Candidate]:
        raise LookupFailed(f"{target} has nothing")

    monkeypatch.setattr(DnsLookup, "lookup", lookup)
    assert main(["lookup", "sip:example.com", "--nameserver", "127.0.0.1:9"]) == 1
    assert capsys.readouterr() == ("", "pjfail: sip:example.com has nothing\n")


def test_ctrl_c_is_quiet_and_status_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def lookup(_self: DnsLookup, _target: Target) -> list[Candidate]:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    monkeypatch.setattr(DnsLookup, "lookup", lookup)
    assert main(["lookup", "sip:example.com", "--nameserver", "127.0.0.1:9"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_has_read_enough_is_no_traceback() -> None:
    command = [sys.executable, "-m", "pjfail", "lookup", "sip:192.0.2.1", "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=30)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_a_full_disk_is_one_sentence_and_status_1() -> None:
    command = [sys.executable, "-m", "pjfail", "lookup", "sip:192.0.2.1"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=30)
    assert (ended.returncode, ended.stderr) == (1, "pjfail: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("arguments", [["lookup", "tel:1", "--json"], ["probe", "tel:1", "--json"]])
def test_json_of_what_failed_has_the_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert "'tel:1' is not a valid SIP URI" in json.loads(printed.out)["error"]
    assert printed.err.startswith("pjfail: 'tel:1' is not a valid SIP URI")


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
@pytest.mark.parametrize("options", ["", "--json"])
def test_a_closed_standard_output_is_no_error(closed: str, options: str) -> None:
    command = f'"{sys.executable}" -m pjfail lookup sip:192.0.2.1 {options} {closed}'
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
