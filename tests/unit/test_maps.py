"""The maps: each file, function and test that they name is there, and each function in a file that stands beside it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PJPROJECT = ROOT / "third_party/pjproject/src"
PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "docs/pjsip-quirks.md")
FOLDERS = ("bench", "docs", "examples", "pjfail", "tests", "tools")
FILE = re.compile(r"[\w./-]+\.(?:c|cpp|h|py|pyi|rst|md|sh|yaml|svg|toml)")
FOLDER = re.compile(r"(?:[\w.-]+/)+")
FUNCTION = re.compile(r"(?:(\w+)(?:\.|::))?(\w+)\(\)")
# A class, with an attribute maybe, or a constant.
NAME = re.compile(r"([A-Z]\w{2,})(?:\.\w+)?")
# Where a function begins: in C at the beginning of a line, which no declaration of one line is.
IN_C = re.compile(r"^(?!return\b)[A-Za-z_][\w *]*?\b(\w+)\((?![^\n]*;$)|^#define (\w+)\(", re.MULTILINE)
IN_PYTHON = re.compile(r"^\s*(?:async )?def (\w+)\(", re.MULTILINE)
PJSIPS = re.compile(r"(?:pj|pjsip|pjsua)_|PJ|lib[A-Z]")
PJSIPS_FOLDERS = ("pjlib/", "pjlib-util/", "pjsip/")


class Block(NamedTuple):
    """A paragraph, a list item or a table row, and what it has in backquotes."""

    page: str
    text: str

    @property
    def quoted(self) -> list[str]:
        return re.findall(r"`([^`\n]+)`", self.text)

    @property
    def is_pjsips(self) -> bool:
        """Whether it names files of pjsip's: its functions may have any name."""
        return any(each.startswith(PJSIPS_FOLDERS) for each in self.files)

    @property
    def files(self) -> list[str]:
        return [each for each in self.quoted if FILE.fullmatch(each)]

    @property
    def functions(self) -> list[tuple[str, str]]:
        """Each with its class, or ""."""
        return [(found[1] or "", found[2]) for each in self.quoted if (found := FUNCTION.fullmatch(each))]

    @property
    def names(self) -> list[str]:
        return [found[1] for each in self.quoted if (found := NAME.fullmatch(each)) and each not in self.files]


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        parts = re.split(r"\n\s*\n|\n(?=\s*(?:-|\d+\.) |\|)", text)
        found += [Block(page, part.strip()) for part in parts if "`" in part]
    return found


def title(block: Block) -> str:
    return f"{block.page}: {' '.join(block.text.split())[:60]}"


@cache
def tree() -> dict[str, str]:
    """Every file of ours by its path."""
    paths = [path for path in ROOT.iterdir() if path.is_file()]
    paths += [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    texts = [path for path in paths if FILE.fullmatch(path.name) and path.suffix != ".svg" and path.name != "_native.c"]
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in texts}


def named(file: str) -> list[str]:
    """The paths that *file*, a path or the end of one, stands for."""
    return [path for path in tree() if path == file or path.endswith(f"/{file}")]


@cache
def definitions() -> dict[str, set[str]]:
    """The paths where each function of ours is defined."""
    found: dict[str, set[str]] = {}
    for path, text in tree().items():
        pattern = IN_PYTHON if path.endswith(".py") else IN_C
        for match in pattern.finditer(text) if path.endswith((".py", ".c", ".h")) else ():
            found.setdefault(match[1] or match[2], set()).add(path)
    return found


def is_pjsips(name: str) -> bool:
    return PJSIPS.match(name) is not None


@pytest.mark.parametrize("block", blocks(), ids=title)
def test_what_a_map_names_is_there(block: Block) -> None:
    ours = [each for each in block.files if not each.startswith(PJSIPS_FOLDERS)]
    assert [each for each in ours if not named(each)] == []
    beside = {path for each in ours for path in named(each)}
    for owner, function in block.functions:
        if block.is_pjsips or is_pjsips(owner or function):
            continue
        everywhere = definitions().get(function, set())
        assert everywhere, f"{function}() is nowhere"
        assert not beside or beside & everywhere, f"{function}() is in {sorted(everywhere)}, which stands not beside it"
        assert not owner or any(f"class {owner}" in tree()[path] for path in everywhere), f"{owner}.{function}()"
    for name in block.names:
        if not is_pjsips(name):
            assert any(re.search(rf"\b{name}\b", tree()[path]) for path in beside or tree()), name
    for folder in filter(FOLDER.fullmatch, block.quoted):
        assert (ROOT / folder).is_dir() or folder in PJSIPS_FOLDERS


@pytest.mark.parametrize("block", [block for block in blocks() if block.is_pjsips], ids=title)
def test_what_the_page_on_pjsip_names_is_there(block: Block) -> None:
    """Where pjproject's sources are: an environment without them may run the other tests."""
    theirs = [each for each in block.files if each.startswith(PJSIPS_FOLDERS)]
    if not PJPROJECT.is_dir():
        return
    for each in theirs:
        assert (PJPROJECT / each).is_file()
    texts = [(PJPROJECT / each).read_text("utf-8", "replace") for each in theirs]
    for _, function in block.functions:
        assert not texts or any(re.search(rf"\b{function}\b", text) for text in texts), function


def test_the_tests_that_they_name_are_there() -> None:
    defined = set(re.findall(r"def (test_\w+)\(", "\n".join(text for path, text in tree().items() if "test_" in path)))
    quoted = {each for block in blocks() for each in block.quoted if re.fullmatch(r"test_\w+", each)}
    assert len(quoted) > 40
    assert quoted <= defined


def test_an_entry_on_pjsip_says_all_there_is_to_say() -> None:
    page = (ROOT / "docs/pjsip-quirks.md").read_text("utf-8")
    entries = re.split(r"^### ", page.split("## Known, and not worked around")[0], flags=re.MULTILINE)[1:]
    assert len(entries) > 30
    for entry in entries:
        parts = re.findall(r"^- \*\*(\w+)\*\*: ", entry, re.MULTILINE)
        assert parts == ["Symptom", "pjsip", "Instead", "Test"], entry.splitlines()[0]
