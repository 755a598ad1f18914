"""Tables of the commands on a terminal."""

from __future__ import annotations

import io

import pytest

from pjfail._tables import print_table
from pjfail.cli.lookup import COLUMNS

ROW = ("tls:203.0.113.201:5061", "sip-east-1.voip.example", "10", "100", "3600 s", "_sips._tcp.voip.example SRV")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_header_of_lookup_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    print_table("sips:voip.example", COLUMNS, [ROW])
    lines = terminal.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    header = next(line for line in lines if "priority" in line)
    assert [cell.strip() for cell in header.strip("┃").split("┃")] == list(COLUMNS)
