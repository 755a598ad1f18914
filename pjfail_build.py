"""Builds pjfail._native: the C core, compiled against pjproject's headers and linked with no pjsip library.

The headers are those of the tree named by PJPROJECT_DIR, else of the one that third_party/pjproject fetches. The
tree must have been configured.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent
CORE = "pjfail/_core"  # setuptools wants sources relative to the project
PARTS = ("pjlib", "pjlib-util", "pjnath", "pjmedia", "pjsip")
MACROS = {"_GNU_SOURCE": None, "PJ_AUTOCONF": "1", "PJ_IS_LITTLE_ENDIAN": "1", "PJ_IS_BIG_ENDIAN": "0"}
STANDARD = "-std=gnu11"


if "t" in sys.abiflags:
    raise SystemExit(
        "pjfail does not run on a free-threaded Python, which lacks the stable ABI abi3 of its core; "
        "install pjfail with the ordinary Python of this version."
    )


class NoPjproject(SystemExit):
    """There are no headers to compile against; the message says what to do."""


def pjproject() -> Path:
    """The configured pjproject tree to compile against. Raises NoPjproject."""
    named = os.environ.get("PJPROJECT_DIR")
    tree = Path(named) if named else ROOT / "third_party/pjproject/src"
    if not (tree / "pjsip/include/pjsip.h").is_file():
        where = f"PJPROJECT_DIR is {named!r}, which holds" if named else f"{tree} holds"
        raise NoPjproject(
            f"pjfail: {where} no pjproject sources. Run 'make setup' in a clone of pjfail, which fetches them, or set "
            "PJPROJECT_DIR to a configured pjproject tree."
        )
    if not (tree / "pjlib/include/pj/compat/os_auto.h").is_file():
        raise NoPjproject(f"pjfail: the pjproject tree {tree} has not been configured; run ./configure in it first.")
    return tree.resolve()


def declarations() -> str:
    """pjfail.h as cffi wants it: without preprocessor lines."""
    header = (ROOT / CORE / "pjfail.h").read_text(encoding="utf-8")
    return re.sub(r"^#.*$", "", header, flags=re.MULTILINE)


def includes() -> list[str]:
    """The compiler's arguments for pjproject's headers."""
    tree = pjproject()
    return [argument for part in PARTS for argument in ("-isystem", str(tree / part / "include"))]


def make_ffi() -> FFI:
    ffi = FFI()
    ffi.cdef(declarations())
    ffi.set_source(
        "pjfail._native",
        '#include "pjfail.h"',
        sources=sorted(f"{CORE}/{source.name}" for source in (ROOT / CORE).glob("*.c")),
        include_dirs=[CORE],
        define_macros=list(MACROS.items()),
        depends=sorted(f"{CORE}/{header.name}" for header in (ROOT / CORE).glob("*.h")),
        extra_compile_args=[
            STANDARD,
            "-O2",
            "-g",
            "-fvisibility=hidden",
            "-Wall",
            "-Wextra",
            *(["-Werror"] if (ROOT / ".git").exists() else []),  # an sdist meets compilers with warnings of their own
            *includes(),
            *os.environ.get("PJFAIL_CFLAGS", "").split(),
        ],
        extra_link_args=["-pthread", "-lm", *os.environ.get("PJFAIL_LDFLAGS", "").split()],
    )
    return ffi


ffi = make_ffi()

if __name__ == "__main__":
    ffi.compile(verbose=True)
