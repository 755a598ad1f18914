"""The page "Limits": its figures are those of the source, and the tests that it names are there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "limits.md"
UNITS = {"MB": 1 << 20}


class Row(NamedTuple):
    """One bound: what has it, its figures, and in backquotes where it stands and which tests hold it."""

    what: str
    figures: str
    where: str

    @property
    def tests(self) -> list[str]:
        return re.findall(r"`(test_\w+)`", self.where)

    @property
    def file(self) -> str:
        return next(iter(re.findall(r"`(pjfail/\S+)`", self.where)), "")

    @property
    def constants(self) -> list[str]:
        """Of the source file; not those of pjsip, which come without one."""
        return re.findall(r"`([A-Z][A-Z_]+)`", self.where) if self.file else []

    def numbers(self) -> list[float]:
        """The figures, and with each unit what it stands for."""
        found = []
        for digits, unit in re.findall(r"(\d[\d ]*(?:\.\d+)?) ?([A-Za-z]*)", self.figures):
            number = float(digits.replace(" ", ""))
            found.append(number * UNITS.get(unit, 1))
        return found + [1 / 4] * ("a quarter" in self.figures)


def rows() -> list[Row]:
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert all(len(row) == 5 for row in cells)
    return [Row(row[0], row[1], row[4]) for row in cells if row[0] != "what"]


def value(file: str, name: str) -> float:
    """What the constant is in that file of the source."""
    if file.endswith(".py"):
        return float(getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), name))
    found = re.search(rf"\b{name}(?: =)? (\d+(?:\.\d+)?)\b", (ROOT / file).read_text("utf-8"))
    assert found, f"{file} has no {name}"
    return float(found[1])


@pytest.mark.parametrize("row", [row for row in rows() if row.constants], ids=lambda row: row.what)
def test_a_figure_is_that_of_the_source(row: Row) -> None:
    assert (ROOT / row.file).is_file()
    for name in row.constants:
        assert value(row.file, name) in row.numbers()


def test_the_tests_that_it_names_are_there() -> None:
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"def (test_\w+)\(", sources))
    named = {test for row in rows() for test in row.tests}
    assert len(named) > 20
    assert named <= defined


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.what)
def test_each_bound_is_held_by_a_test(row: Row) -> None:
    assert row.tests
