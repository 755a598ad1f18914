"""The pages of the documentation, and the program that the Python blocks of a page make."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
BLOCK = re.compile(r"^```(?:python|\{code-block\} python)\n(?::[^\n]*\n)*\n?(.*?)^```$", re.MULTILINE | re.DOTALL)


def program(page: Path) -> str:
    """Returns the blocks of *page*, one after the other, as a reader pastes them into one file."""
    return "\n\n".join(BLOCK.findall(page.read_text("utf-8")))


def pages_with_code() -> list[Path]:
    return [page for page in (README, *sorted(DOCS.rglob("*.md"))) if program(page)]
