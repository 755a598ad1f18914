"""What is in the packages, who reaches the core, and what a build says that lacks pjproject."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "pjfail").rglob("__init__.py")}
    assert set(listed) == packages


def test_the_bridge_alone_imports_the_core() -> None:
    importing = {path for path in (ROOT / "pjfail").rglob("*.py") if "_native" in imported_by(path)}
    assert {path.parent for path in importing} == {ROOT / "pjfail/bridge"}


def test_who_freezes_a_program_sees_what_the_core_imports() -> None:
    """The extension imports _cffi_backend in C, where PyInstaller does not look."""
    assert "_cffi_backend" in imported_by(ROOT / "pjfail/bridge/__init__.py")


def test_the_core_needs_no_function_that_came_after_glibc_2_17() -> None:
    """The wheel is linked for glibc 2.17. The versions from 2.33 on are new names of functions that 2.17 has, too."""
    from pjfail.bridge import _native

    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", _native.__file__], capture_output=True, text=True, check=True
    ).stdout
    versions = {name: int(minor) for name, minor in re.findall(r"(\w+)@GLIBC_2\.(\d+)", symbols)}
    assert versions["malloc"] <= 17
    assert [name for name, minor in versions.items() if 17 < minor < 33] == []


FREE_THREADED = "import sys; sys.abiflags = 't'"
"""What a free-threaded Python says of itself (PEP 703), said by this one: neither Debian nor PyPI has one to try."""


def failing(program: str) -> str:
    """Returns the last line that *program* prints as it fails."""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    return run.stderr.splitlines()[-1]


def test_a_free_threaded_python_is_refused_by_name() -> None:
    said = failing(f"{FREE_THREADED}; import pjfail; pjfail.attach()")
    assert said.startswith("ImportError: pjfail does not run on a free-threaded Python, and this is one (3.")
    assert said.endswith(f"run your program with the ordinary python3.{sys.version_info.minor}")


def test_nothing_is_built_for_a_free_threaded_python() -> None:
    assert failing(f"{FREE_THREADED}; import pjfail_build").startswith("pjfail does not run on a free-threaded Python")


def python_of(version: str, path: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path, "PYENV_ROOT": "/nowhere"}
    command = ["/bin/sh", ROOT / "tools/python.sh", version]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_python_on_the_path_is_found_by_its_version() -> None:
    version = f"3.{sys.version_info.minor}"
    found = python_of(version, f"{Path(sys.executable).parent}:/usr/bin:/bin").stdout.strip()
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"Python {version}.")


def test_a_python_that_cannot_be_had_is_told_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "dirname").symlink_to("/usr/bin/dirname")
    tried = python_of("3.99", str(tmp_path))
    assert (tried.returncode, tried.stdout) == (1, "")
    assert tried.stderr == "python.sh: no Python 3.99 is here, and this machine has no apt\n"


def imported_by(path: Path) -> set[str]:
    """The names in the import statements of the module at *path*, wherever in it they stand."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            dotted = [getattr(node, "module", None) or "", *(each.name for each in node.names)]
            names.update(part for name in dotted for part in name.split("."))
    return names


def build_against(tree: Path) -> str:
    environment = {**os.environ, "PJPROJECT_DIR": str(tree)}
    build = subprocess.run(
        [sys.executable, ROOT / "pjfail_build.py"], env=environment, capture_output=True, text=True, check=False
    )
    assert build.returncode == 1
    return build.stderr


def test_a_build_without_pjproject_says_what_to_do(tmp_path: Path) -> None:
    assert build_against(tmp_path) == (
        f"pjfail: PJPROJECT_DIR is '{tmp_path}', which holds no pjproject sources. Run 'make setup' in a clone "
        "of pjfail, which fetches them, or set PJPROJECT_DIR to a configured pjproject tree.\n"
    )


def test_a_build_against_a_tree_that_was_not_configured_says_so(tmp_path: Path) -> None:
    header = tmp_path / "pjsip/include/pjsip.h"
    header.parent.mkdir(parents=True)
    header.touch()
    assert build_against(tmp_path) == (
        f"pjfail: the pjproject tree {tmp_path} has not been configured; run ./configure in it first.\n"
    )
