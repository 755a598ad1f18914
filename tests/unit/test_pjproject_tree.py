"""third_party/pjproject: which tree build.sh builds again, what copy.sh copies; on trees that hold only makefiles."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

RECIPE = Path(__file__).resolve().parents[2] / "third_party" / "pjproject"
LIBRARIES = (
    "pjlib/lib/libpj pjlib-util/lib/libpjlib-util pjnath/lib/libpjnath pjmedia/lib/libpjmedia pjsip/lib/libpjsip "
    "pjsip/lib/libpjsip-simple pjsip/lib/libpjsip-ua pjsip/lib/libpjsua pjsip/lib/libpjsua2"
)
PARTS = "pjlib pjlib-util pjnath third_party pjmedia pjsip"
SITE = "pjlib/include/pj/config_site.h"


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def tree_at(path: Path) -> Path:
    """A tree that looks as if it had been built, with an older config_site.h."""
    for name in ("version.mak", "build.mak", "pjmedia/src/pjmedia-audiodev/bdimad_dev.c"):
        write(path / name)
    for library in LIBRARIES.split():
        write(path / f"{library}-here.a")
    for part in PARTS.split():
        write(path / part / "build" / "Makefile", "lib:\n\t@true\n")
    write(path / SITE, "/* older */\n")
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    here = tmp_path / "pjproject"
    here.mkdir()
    for name in ("build.sh", "config_site.h"):
        shutil.copy(RECIPE / name, here)
    return here


def build(recipe: Path, tree: Path, *options: str) -> tuple[int, str]:
    done = subprocess.run([recipe / "build.sh", tree, *options], check=False, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_our_tree_is_built_again_after_our_configuration_has_changed(recipe: Path) -> None:
    ours = tree_at(recipe / "src")
    code, said = build(recipe, ours)
    assert code == 0
    assert "config_site.h has changed" in said
    assert (ours / SITE).read_text() == (recipe / "config_site.h").read_text()
    assert build(recipe, ours) == (0, "")


def test_after_our_configuration_has_changed_every_object_is_compiled_again(recipe: Path) -> None:
    ours = tree_at(recipe / "src")
    write(ours / "pjlib/build/output/pjlib-here/os.o")
    assert build(recipe, ours)[0] == 0
    assert not list(ours.rglob("*.o"))


def test_configuring_alone_builds_no_library(recipe: Path) -> None:
    ours = tree_at(recipe / "src")
    for library in ours.rglob("*.a"):
        library.unlink()
    (ours / "build.mak").unlink()
    write(ours / "aconfigure", "#!/bin/sh\ntouch build.mak\n")
    (ours / "aconfigure").chmod(0o755)
    write(ours / "pjlib/build/Makefile", "lib:\n\t@false\n")
    for said in "configuring", "":
        done = subprocess.run(
            [recipe / "build.sh", "--configure-only", ours], check=False, capture_output=True, text=True
        )
        assert done.returncode == 0
        assert said in done.stdout
    assert build(recipe, ours)[0] == 1


def test_a_build_that_was_broken_off_is_taken_up_again(recipe: Path) -> None:
    ours = tree_at(recipe / "src")
    makefile = ours / "pjsip" / "build" / "Makefile"
    makefile.write_text("lib:\n\t@false\n")
    assert build(recipe, ours)[0] != 0
    makefile.write_text("lib:\n\t@true\n")
    code, said = build(recipe, ours)
    assert code == 0
    assert "built in" in said
    assert build(recipe, ours) == (0, "")


def test_a_users_own_tree_is_left_as_it_is(recipe: Path, tmp_path: Path) -> None:
    own = tree_at(tmp_path / "own")
    before = sorted(own.rglob("*"))
    assert build(recipe, own) == (0, "")
    assert (own / SITE).read_text() == "/* older */\n"
    assert sorted(own.rglob("*")) == before


def test_more_options_go_to_configure(recipe: Path, tmp_path: Path) -> None:
    """So a second tree is built with shared libraries, tools/hosts.sh."""
    own = tree_at(tmp_path / "own")
    (own / "build.mak").unlink()
    write(own / "aconfigure", '#!/bin/sh\nprintf "%s\\n" "$@" >options\ntouch build.mak\n')
    (own / "aconfigure").chmod(0o755)
    assert build(recipe, own, "--enable-shared")[0] == 0
    assert (own / "options").read_text().splitlines()[-2:] == ["--disable-upnp", "--enable-shared"]


def test_a_copy_has_nothing_that_was_built_and_stays_until_its_tree_is_another(tmp_path: Path) -> None:
    """So a tree is built for another machine: what is left of this one's would be taken for done."""
    copy = tmp_path / "copy"

    def copied(tree: Path) -> bool:
        write(copy / "of before")
        subprocess.run([RECIPE / "copy.sh", tree, copy], check=True)
        return not (copy / "of before").exists()

    own = tree_at(tmp_path / "own")
    for built in (
        "pjlib/lib/libpj.so",
        "pjlib/lib/libpj.so.2",
        "pjlib/build/output/here/os.o",
        "pjlib/build/.here.depend",
    ):
        write(own / built)
    assert copied(own)
    names = {path.name for path in copy.rglob("*") if path.is_file()}
    assert names == {"version.mak", "bdimad_dev.c", "Makefile", "config_site.h", "copied"}
    assert not copied(own)
    other = tree_at(tmp_path / "other")
    assert copied(other)
    write(other / SITE, "/* newer */\n")
    assert copied(other)
    assert not copied(other)
