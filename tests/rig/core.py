"""Files of the C core, compiled as they are for tests that call what Python cannot reach, without a pjsip."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from cffi import FFI

_ROOT = Path(__file__).resolve().parents[2]
_CORE = _ROOT / "pjfail/_core"
_PARTS = ("pjlib", "pjlib-util", "pjnath", "pjmedia", "pjsip")


def program(path: Path, source: str) -> Path:
    """*source*, which may include the core's files by their names, as a program at *path*."""
    _compile(path, "-x", "c", "-", written=source)
    return path


def library(path: Path, files: str, declarations: str = "") -> tuple[Any, Any]:
    """The core's *files* as a library at *path*: its ffi, which knows pjfail.h and *declarations*, and its lib.

    A function that is in none of these files stays undefined until it is called.
    """
    _compile(path, "-shared", "-fPIC", *(str(_CORE / name) for name in files.split()))
    ffi = FFI()
    ffi.cdef(_declarations("pjfail.h"))
    ffi.cdef(declarations)
    return ffi, ffi.dlopen(str(path), ffi.RTLD_LAZY)


def pure_library(path: Path, name: str) -> tuple[Any, Any]:
    """*name*.c, which needs no other file of the core and no pjsip, as a library at *path*: its ffi, and its lib."""
    command = ["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, str(_CORE / f"{name}.c"), "-o", str(path), "-lm", "-Wl,-z,defs"], check=True, timeout=60)
    ffi = FFI()
    ffi.cdef(_declarations(f"{name}.h"))
    return ffi, ffi.dlopen(str(path))


def _declarations(header: str) -> str:
    return re.sub(r"^#.*$", "", (_CORE / header).read_text(encoding="utf-8"), flags=re.MULTILINE)


def _compile(path: Path, *arguments: str, written: str = "") -> None:
    tree = Path(os.environ.get("PJPROJECT_DIR") or _ROOT / "third_party/pjproject/src")
    includes = [f"-I{_CORE}", *(f"-isystem{tree / part / 'include'}" for part in _PARTS)]
    macros = ["-D_GNU_SOURCE", "-DPJ_AUTOCONF=1", "-DPJ_IS_LITTLE_ENDIAN=1", "-DPJ_IS_BIG_ENDIAN=0"]
    command = ["cc", "-std=gnu11", "-O1", *macros, *includes, *arguments, "-o", str(path), "-pthread", "-lm"]
    subprocess.run(command, input=written, text=True, check=True, timeout=60)
