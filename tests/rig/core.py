"""Files of the C core, compiled as they are for a test that calls what Python cannot reach, without a pjsip.

A *driver* (C) may include the core's sources by their names; what it does not need of pjsip stays undefined.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
CORE = _ROOT / "pjfail/_core"
PARTS = ("pjlib", "pjlib-util", "pjnath", "pjmedia", "pjsip")


def compiled(driver: str, path: Path, *flags: str) -> Path:
    """*driver* as a program at *path*, or with ``-shared`` and ``-fPIC`` as a library."""
    tree = Path(os.environ.get("PJPROJECT_DIR") or _ROOT / "third_party/pjproject/src")
    includes = [f"-I{CORE}", *(f"-isystem{tree / part / 'include'}" for part in PARTS)]
    macros = ["-D_GNU_SOURCE", "-DPJ_AUTOCONF=1", "-DPJ_IS_LITTLE_ENDIAN=1", "-DPJ_IS_BIG_ENDIAN=0"]
    command = ["cc", "-std=gnu11", "-O1", *macros, *includes, "-x", "c", "-", "-o", str(path), *flags]
    subprocess.run([*command, "-pthread", "-lm"], input=driver, text=True, check=True, timeout=60)
    return path
