"""The hosts that tests/hosts runs in: Python programs that carry pjsip each in its own way.

The environment's PJFAIL_TEST_HOSTS names a file with a line for each, made by tools/hosts.sh: its name, its Python (or
"-" where it is not there) and what it is (or why it is not there), with tabs between. Without it there is one host,
the Python that runs all tests' programs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pjfail import _native

from .app import PYTHON

Mode = Literal["threads", "polls"]
MODES: tuple[Mode, ...] = ("threads", "polls")
# How the names begin of those for another machine or C library than this one, each with the wheel for it.
PLATFORMS = ("arm64", "musl")


@dataclass(frozen=True, slots=True)
class Host:
    """A Python with a pjsua2 of its own, and whether its program has pjsip's threads or polls."""

    name: str
    python: str
    mode: Mode

    @property
    def pjfail(self) -> Path:
        """Where its pjfail lies: in this clone; for a host of another platform, in the host's own folder."""
        return Path(self.python).parents[1] if self.name.startswith(PLATFORMS) else Path(_native.__file__).parent

    @property
    def our_wheel(self) -> bool:
        """Whether its pjsua2 is the wheel that `make pjsua2-wheel` makes."""
        return self.name.startswith((*PLATFORMS, "python3"))

    @property
    def tls(self) -> bool:
        return not self.name.startswith("musl")  # Debian has no OpenSSL for it

    def __str__(self) -> str:
        return f"{self.name}, {self.mode}"


@dataclass(frozen=True, slots=True)
class Absent:
    """A host that is not there, and why."""

    name: str
    why: str


def known() -> tuple[list[Host], list[Absent]]:
    """The hosts to run in, and those that are not there."""
    file = os.environ.get("PJFAIL_TEST_HOSTS")
    lines = [line.split("\t") for line in Path(file).read_text().splitlines()] if file else [["this", PYTHON, ""]]
    there = [Host(name, python, mode) for name, python, _ in lines for mode in MODES if python != "-"]
    return there, [Absent(name, what) for name, python, what in lines if python == "-"]
