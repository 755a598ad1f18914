"""A program in or beside a clone of pjfail finds pjfail, or is told why it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False, timeout=30
    )


def test_beside_a_clone_the_folder_of_the_clone_is_not_taken_for_the_package(tmp_path: Path) -> None:
    (tmp_path / "pjfail").symlink_to(ROOT)
    ended = run("import pjfail; print(pjfail.__file__)", tmp_path)
    assert ended.stdout == f"{ROOT / 'pjfail' / '__init__.py'}\n", ended.stderr


def test_in_a_clone_without_a_core_the_error_says_what_hides_the_package() -> None:
    ended = run("import sys; sys.modules['pjfail._native'] = None; import pjfail; pjfail.attach()", ROOT)
    assert f"{ROOT} is a clone of pjfail" in ended.stderr
    assert "leave that folder, or run 'make setup' there" in ended.stderr
