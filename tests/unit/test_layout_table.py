"""The table of layouts. That each row is complete, and as the headers have it, is asserted where it is compiled."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from pjfail.bridge.host import built_for, known_layouts, layout_of

ROOT = Path(__file__).resolve().parents[2]


def test_every_layout_has_a_name_of_its_own() -> None:
    names = known_layouts()
    assert len(set(names)) == len(names) >= 5


@pytest.mark.parametrize(
    ("version", "layout"),
    [
        ("2.14", "2.14 to 2.14.1"),
        ("2.14.1", "2.14 to 2.14.1"),
        ("2.15", "2.15 to 2.15.1"),
        ("2.15.1", "2.15 to 2.15.1"),
        ("2.16", "2.16"),
        ("2.17", "2.17"),
        ("2.17-dev", "2.17-dev"),
    ],
)
def test_a_version_finds_its_layout(version: str, layout: str) -> None:
    assert layout_of(version) == layout
    assert layout in known_layouts()


def test_the_headers_own_version_is_known() -> None:
    assert layout_of(built_for()) is not None


KNOWN_BY_NOBODY = """
    2.13 2.13.1 2.14.2 2.15.1-svn 2.16-dev 2.16.1 2.17x 2.170 2.99 3.0 12.17 2 2. .17 pjsip 2.-1 -2.17 2.17. 2.17.0.1
    99999999999999999999.1
"""


@pytest.mark.parametrize("version", ["", " 2.17", "2. 17", "2.17 ", *KNOWN_BY_NOBODY.split()])
def test_any_other_version_is_unknown(version: str) -> None:
    if version != built_for():
        assert layout_of(version) is None


def test_the_row_of_a_tree_is_printed() -> None:
    """By what a maintainer calls for a new version; here for the tree compiled against."""
    tree = os.environ.get("PJPROJECT_DIR") or ROOT / "third_party/pjproject/src"
    printed = subprocess.run([ROOT / "tools/layout.sh", tree], capture_output=True, text=True, check=True).stdout
    rows = (ROOT / "pjfail/_core/layout.c").read_text().partition("#define LAYOUTS(")[0]
    assert set(re.findall(r"FIELD\((\w+), \d+\)", printed)) == set(re.findall(r"FIELD\((\w+), \w+\)", rows))
