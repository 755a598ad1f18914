#!/bin/sh
# pjsua2.sh TREE VENV: installs the real pjsua2 Python module (SWIG) of the built pjproject tree TREE into the virtual
# environment VENV, where that has not been done. What was compiled stays in TREE, for the next environment.
#
# pjsua2.sh --compile-only TREE VENV: compiles the SWIG wrapper for the Python of VENV, and installs nothing. TREE need only
# have been configured: this is the long part, and it can run while the libraries are being built.
set -eu

# Called from a Makefile: its variables and flags are not meant for pjproject's.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL

say() { printf 'pjsua2: %s\n' "$*"; }
die() { printf 'pjsua2: %s\n' "$*" >&2; exit 1; }

install=install
[ "${1:-}" != --compile-only ] || { install=; shift; }
[ $# -eq 2 ] || die "usage: pjsua2.sh [--compile-only] TREE VENV"
tree=$(cd "$1" && pwd)
python=$(cd "$2" && pwd)/bin/python
cd "$tree/pjsip-apps/src/swig/python"

# Runs a command quietly; on failure shows the end of what it printed.
log=$tree/pjfail-pjsua2.log
quietly() {
    "$@" </dev/null >"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        die "\"$*\" failed; the whole output is in $log"
    }
}

# outdated FILE FOLDER NAME: FILE is missing, or older than a NAME in some part's FOLDER.
outdated() { [ ! -e "$1" ] || [ -n "$(find "$tree"/*/"$2" -name "$3" -newer "$1")" ]; }

# What Python and the tree's own build would give to the compiler and to the linker.
of_python() { "$python" -c "import sysconfig; print(sysconfig.get_$1)"; }
of_tree() { make --no-print-directory -f helper.mak "$1"; }

abi=$(of_python "config_var('SOABI')")
object=pjfail-pjsua2/$abi/pjsua2_wrap.o
module=pjfail-pjsua2/$abi/_pjsua2.$abi.so
if [ "$install" ]; then
    folder=$(of_python "path('purelib')")
    stamp=$folder/pjsua2.tree
    [ ! -e "$stamp" ] || [ "$(cat "$stamp")" != "$tree" ] || outdated "$stamp" lib 'lib*' || exit 0
fi

if outdated "$object" include '*.h*'; then
    command -v swig >/dev/null 2>&1 || die '"swig" is missing; install the Debian package "swig" and run again.'
    [ -w . ] || die "$tree cannot be written to; copy it, and name the copy as PJPROJECT_DIR."
    say "compiling the Python module of $tree, half a minute ..."
    mkdir -p "${object%/*}"
    quietly make pjsua2_wrap.cpp
    # Optimization would more than double the time, and a call through the wrapper is not where time goes.
    # shellcheck disable=SC2046
    quietly g++ $(of_tree cflags) -fPIC -O0 -g0 -w -I"$(of_python "path('include')")" \
        -I"$(of_python "path('platinclude')")" -c pjsua2_wrap.cpp -o "$object.new"
    mv "$object.new" "$object"
fi
[ "$install" ] || exit 0

if outdated "$module" lib 'lib*' || [ "$object" -nt "$module" ]; then
    # A tree with shared libraries: the module must find them where they lie, and those that they need in turn, for
    # which the linker's RPATH serves and its RUNPATH does not.
    rpath=
    for library in "$tree"/*/lib/*.so; do
        [ ! -e "$library" ] || rpath="$rpath -Wl,--disable-new-dtags,-rpath,${library%/*}"
    done
    # shellcheck disable=SC2046,SC2086
    quietly g++ -shared -o "$module" "$object" $(of_tree ldflags) $(of_tree libs | sed 's/^/-l/') $rpath
fi
# The ready wheel, which the demo makes do with, would hide it.
[ -z "$(find "$folder" -maxdepth 1 -name 'pjsua2*.dist-info')" ] ||
    quietly "$python" -m pip uninstall --yes pjsua2-python pjsua2
cp "$module" pjsua2.py "$folder"
quietly "$python" -c 'import pjsua2'
# Only what can be imported is done.
printf '%s' "$tree" >"$stamp"
say "installed the module of $tree"
