"""check_dist.py FOLDER: whether the sdist and the wheel in FOLDER are what they must be; fails with all that is wrong.

Needs pyelftools, which comes with auditwheel.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

ROOT = Path(__file__).resolve().parents[1]
# glibc 2.17: what manylinux2014 and the pjsua2 wheels ask for.
PLATFORM = "manylinux_2_17"
# Of glibc alone. pjsip is found at run time in the process, and Python is the program itself.
LIBRARIES = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0"}
LOADER = "ld-linux"


def wrong_with_wheel(path: Path) -> Iterator[str]:
    tags = path.stem.split("-")[2:]
    if tags[:2] != ["cp311", "abi3"]:
        yield f"it is for {tags[0]}-{tags[1]}, not for cp311-abi3"
    if PLATFORM not in tags[2]:
        yield f"it runs on {tags[2]} only, not from {PLATFORM} on"
    with zipfile.ZipFile(path) as wheel:
        files = {name for name in wheel.namelist() if not re.match(r"[^/]+\.dist-info/|.*/$", name)}
        (extension,) = (name for name in files if name.endswith(".so"))
        expected = set(of_the_packages()) | {extension}
        yield from (f"it lacks {name}" for name in sorted(expected - files))
        yield from (f"it has {name}, which is no part of it" for name in sorted(files - expected))
        yield from wrong_with_extension(wheel.read(extension))


def of_the_packages() -> Iterator[str]:
    """The files of all packages that lie in the tree, whatever pyproject.toml says of them."""
    beside = (ROOT / "pjfail/py.typed", ROOT / "_pjfail_hook.py", ROOT / "pjfail.pth")
    for module in (*ROOT.glob("pjfail/**/*.py"), *ROOT.glob("pjfail/**/*.pyi"), *beside):
        yield module.relative_to(ROOT).as_posix()


def wrong_with_extension(binary: bytes) -> Iterator[str]:
    elf = ELFFile(io.BytesIO(binary))
    symbols = elf.get_section_by_name(".dynsym")
    all_symbols = elf.get_section_by_name(".symtab")
    dynamic = elf.get_section_by_name(".dynamic")
    assert isinstance(symbols, SymbolTableSection)
    assert isinstance(all_symbols, SymbolTableSection)
    assert isinstance(dynamic, DynamicSection)
    if all_symbols.get_symbol_by_name("pj_init"):
        yield "its extension has a pjsip in it"
    for symbol in symbols.iter_symbols():
        if symbol.name.startswith("pj"):
            what = "needs" if symbol["st_shndx"] == "SHN_UNDEF" else "exports"
            yield f"its extension {what} {symbol.name}; pjsip is to be found at run time, and never linked"
    for tag in dynamic.iter_tags():
        if tag.entry.d_tag == "DT_NEEDED" and tag.needed not in LIBRARIES and not tag.needed.startswith(LOADER):
            yield f"its extension is linked with {tag.needed}"
        if tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH"):
            yield "its extension looks for libraries in a folder of the machine that built it"


def wrong_with_sdist(path: Path) -> Iterator[str]:
    with tarfile.open(path) as sdist:
        members = [member for member in sdist.getmembers() if not member.isdir()]
    files = {member.name.partition("/")[2] for member in members}
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    expected = {name for name in tracked.split("\0") if name and not only_in_a_clone(name)}
    yield from (f"it lacks {name}" for name in sorted(expected - files))
    yield from (f"it has {name} as a link" for name in sorted(member.name for member in members if not member.isreg()))
    yield from (f"it has {name}, which is built" for name in sorted(files) if name.endswith((".so", ".o", ".a")))
    if any(name.startswith("third_party/pjproject/src/") for name in files):
        yield "it has pjproject's sources"


def only_in_a_clone(name: str) -> bool:
    """Returns true for the files and folders that MANIFEST.in leaves out."""
    left_out = re.findall(r"^(?:exclude|prune) (.*)", (ROOT / "MANIFEST.in").read_text(), re.MULTILINE)
    return not {name, name.partition("/")[0]}.isdisjoint(" ".join(left_out).split())


def main(folder: Path) -> int:
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    problems = [f"{wheel.name}: {problem}" for problem in wrong_with_wheel(wheel)]
    problems += [f"{sdist.name}: {problem}" for problem in wrong_with_sdist(sdist)]
    for problem in problems:
        print(f"dist: {problem}", file=sys.stderr)
    if not problems:
        for each in (sdist, wheel):
            print(f"dist: {each} ({each.stat().st_size / 1024:.0f} kB)")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
