"""check_dist.py FOLDER: whether the sdist and the wheels in FOLDER are what they must be; fails with all that is wrong.

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
from elftools.elf.sections import Symbol, SymbolTableSection

ROOT = Path(__file__).resolve().parents[1]
# glibc 2.17: what manylinux2014 and the pjsua2 wheels ask for. musl 1.2: Alpine from 3.13 on.
PLATFORMS = tuple(f"{libc}_{arch}" for libc in ("manylinux_2_17", "musllinux_1_2") for arch in ("x86_64", "aarch64"))
# Of the C library alone. pjsip is found at run time in the process, and Python is the program itself.
GLIBC = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
MUSL = {"libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"}
MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
# What musl has had only since 1.2.3 to 1.2.6, and so not every musl of musllinux_1_2. Symbols of musl have no versions.
YOUNG_IN_MUSL = {"qsort_r", "statx", "preadv2", "pwritev2", "posix_getdents", "renameat2"}


def wrong_with_wheel(path: Path, platform: str) -> Iterator[str]:
    tags = path.stem.split("-")[2:]
    if tags[:2] != ["cp311", "abi3"]:
        yield f"it is for {tags[0]}-{tags[1]}, not for cp311-abi3"
    with zipfile.ZipFile(path) as wheel:
        files = {name for name in wheel.namelist() if not re.match(r"[^/]+\.dist-info/|.*/$", name)}
        (extension,) = (name for name in files if name.endswith(".so"))
        expected = set(of_the_packages()) | {extension}
        yield from (f"it lacks {name}" for name in sorted(expected - files))
        yield from (f"it has {name}, which is no part of it" for name in sorted(files - expected))
        yield from wrong_with_extension(ELFFile(io.BytesIO(wheel.read(extension))), platform)


def of_the_packages() -> Iterator[str]:
    """The files of all packages that lie in the tree, whatever pyproject.toml says of them."""
    beside = (ROOT / "pjfail/py.typed", ROOT / "_pjfail_hook.py", ROOT / "pjfail.pth")
    for module in (*ROOT.glob("pjfail/**/*.py"), *ROOT.glob("pjfail/**/*.pyi"), *beside):
        yield module.relative_to(ROOT).as_posix()


def wrong_with_extension(elf: ELFFile, platform: str) -> Iterator[str]:
    libc, _, machine = re.match(r"(manylinux|musllinux)_(\d+_\d+)_(\w+)", platform).groups()
    all_symbols = elf.get_section_by_name(".symtab")
    assert isinstance(all_symbols, SymbolTableSection)
    if elf["e_machine"] != MACHINES[machine]:
        yield f"its extension is for {elf['e_machine']}"
    if all_symbols.get_symbol_by_name("pj_init"):
        yield "its extension has a pjsip in it"
    for symbol in dynamic_symbols(elf):
        undefined = symbol["st_shndx"] == "SHN_UNDEF"
        if symbol.name.startswith("pj"):
            what = "needs" if undefined else "exports"
            yield f"its extension {what} {symbol.name}; pjsip is to be found at run time, and never linked"
        if libc == "musllinux" and undefined and symbol.name in YOUNG_IN_MUSL:
            yield f"its extension needs {symbol.name}, which not every musl 1.2 has"
    newest = newest_glibc(elf)
    if newest > ((2, 17) if libc == "manylinux" else ()):
        yield f"its extension needs glibc {'.'.join(map(str, newest))}"
    for name in needed(elf) - (GLIBC if libc == "manylinux" else MUSL):
        yield f"its extension is linked with {name}"
    if any(tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH") for tag in dynamic(elf).iter_tags()):
        yield "its extension looks for libraries in a folder of the machine that built it"


def dynamic(elf: ELFFile) -> DynamicSection:
    section = elf.get_section_by_name(".dynamic")
    assert isinstance(section, DynamicSection)
    return section


def dynamic_symbols(elf: ELFFile) -> Iterator[Symbol]:
    section = elf.get_section_by_name(".dynsym")
    assert isinstance(section, SymbolTableSection)
    yield from section.iter_symbols()


def needed(elf: ELFFile) -> set[str]:
    """The libraries that the loader will load for it."""
    return {tag.needed for tag in dynamic(elf).iter_tags() if tag.entry.d_tag == "DT_NEEDED"}


def newest_glibc(elf: ELFFile) -> tuple[int, ...]:
    """The newest version of glibc that it asks for a symbol of; empty if for none."""
    versions = elf.get_section_by_name(".gnu.version_r")
    names = (each.name for _, of_one in versions.iter_versions() for each in of_one) if versions else ()
    found = (re.fullmatch(r"GLIBC_([\d.]+)", name) for name in names)
    return max((tuple(map(int, each[1].split("."))) for each in found if each), default=())


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


def told(path: Path, platform: str) -> str:
    """A line about the wheel for people."""
    with zipfile.ZipFile(path) as wheel:
        (extension,) = (name for name in wheel.namelist() if name.endswith(".so"))
        elf = ELFFile(io.BytesIO(wheel.read(extension)))
    glibc = ".".join(map(str, newest_glibc(elf)))
    return f"{platform}: newest glibc symbol {glibc or '-'}; NEEDED {' '.join(sorted(needed(elf)))}"


def main(folder: Path) -> int:
    (sdist,) = folder.glob("*.tar.gz")
    wheels = {platform: list(folder.glob(f"*{platform}.whl")) for platform in PLATFORMS}
    problems = [f"there is no wheel for {platform}" for platform, found in wheels.items() if not found]
    problems += [f"{sdist.name}: {problem}" for problem in wrong_with_sdist(sdist)]
    for platform, found in wheels.items():
        problems += [f"{path.name}: {problem}" for path in found for problem in wrong_with_wheel(path, platform)]
    for problem in problems:
        print(f"dist: {problem}", file=sys.stderr)
    if not problems:
        print(f"dist: {sdist} ({size(sdist)})")
        for platform, (wheel,) in wheels.items():
            print(f"dist: {wheel} ({size(wheel)})\n      {told(wheel, platform)}")
    return 1 if problems else 0


def size(path: Path) -> str:
    return f"{path.stat().st_size / 1024:.0f} kB"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
