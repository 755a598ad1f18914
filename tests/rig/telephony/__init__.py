"""Objects that carry pjsip and are no pjsua2, linked here and now with the archives of the tree that pjsua2 is from.

Each function compiles C files that lie beside this one, with *flags* for compiler and linker, into *folder*. It takes
half a second.
"""

from __future__ import annotations

import shlex
import subprocess
import sysconfig
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent


def extension(folder: Path, *flags: str) -> Path:
    """The Python module telephony; *flags* may name a variant of variants.c."""
    return _link(folder / "telephony.so", ["telephony.c", "variants.c"], ["-shared", "-Wl,-z,muldefs", *flags])


def program(folder: Path, *flags: str) -> Path:
    """A Python with pjsip in it."""
    settings = sysconfig.get_config_vars()
    folders = f"-L{settings['LIBDIR']} -L{settings['LIBPL']} -Wl,-rpath,{settings['LIBDIR']}"
    libraries = shlex.split(f"{folders} -lpython{settings['LDVERSION']} {settings['LIBS']} {settings['SYSLIBS']}")
    return _link(folder / "telephone", ["embed.c", "telephony.c"], list(flags), libraries)


def library(folder: Path, *flags: str) -> Path:
    """A pjsip without pjsua; with -DPJLIB_ALONE no pjsip either."""
    return _link(folder / "libsip.so", ["sip.c"], ["-shared", *flags])


def _link(path: Path, sources: list[str], flags: list[str], libraries: list[str] | None = None) -> Path:
    tree = _tree()
    includes = [f"-isystem{tree / part / 'include'}" for part in ("pjlib", "pjlib-util", "pjnath", "pjmedia", "pjsip")]
    compiler = ["cc", "-w", "-fPIC", "-DPJ_AUTOCONF=1", *includes, f"-isystem{sysconfig.get_path('include')}"]
    path.parent.mkdir(parents=True, exist_ok=True)
    words = [*compiler, *(str(_HERE / source) for source in sources), "-o", str(path), *flags]
    subprocess.run([*words, *_archives(), "-lstdc++", *(libraries or [])], check=True, timeout=60)
    return path


def _tree() -> Path:
    """Noted by third_party/pjproject/pjsua2.sh."""
    return Path(Path(sysconfig.get_path("purelib"), "pjsua2.tree").read_text(encoding="utf-8"))


@cache
def _archives() -> list[str]:
    """What the tree's own build links programs with; pjsip's libraries as archives, also where there are others."""
    makefile = f"include {_tree()}/build.mak\nprint:\n\t@echo '$(TARGET_NAME) $(APP_LDFLAGS) $(APP_LDLIBS)'\n"
    said = subprocess.check_output(["make", "-s", "-f", "-", "print"], input=makefile, text=True)
    target, *flags = shlex.split(said)
    archives = {f"-l{path.name[3:-2].removesuffix(f'-{target}')}": str(path) for path in _tree().glob("*/lib/lib*.a")}
    linked = [archives.get(flag.removesuffix(f"-{target}"), flag) for flag in flags]
    return ["-Wl,--start-group", *linked, "-Wl,--end-group"]
