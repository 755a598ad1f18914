"""C programs with pjsip and pjfail's core in one process, without Python: for the bench and the fuzzer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


def tree() -> Path:
    """The built pjproject tree: PJPROJECT_DIR, or that of `make setup`."""
    return Path(os.environ.get("PJPROJECT_DIR") or ROOT / "third_party/pjproject/src").resolve()


def build(
    source: Path,
    pjproject: Path | None = None,
    variant: str = "plain",
    extra: tuple[Path, ...] = (),
    **flags: str,
) -> Path:
    """Builds *source*, client.c, the *extra* sources and the core into build/native/VARIANT; returns the program.

    *flags* are CFLAGS, LDFLAGS and CORE_CFLAGS of program.mk. Raises AssertionError with the compiler's output.
    """
    folder = ROOT / "build/native" / variant
    program = folder / source.stem
    sources = [path.resolve().relative_to(ROOT) for path in (source, HERE / "client.c", *extra)]
    variables = {
        "PJPROJECT_DIR": pjproject or tree(),
        "PROGRAM": program,
        "OBJECTS": folder / f"{source.stem}.objects",
        "SOURCES": " ".join(map(str, sources)),
        **flags,
    }
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["make", "-s", "-f", HERE / "program.mk", *(f"{name}={value}" for name, value in variables.items())],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert made.returncode == 0, f"{source.name} does not build:\n{made.stdout[-4000:]}"
    return program
