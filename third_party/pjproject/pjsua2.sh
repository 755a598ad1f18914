#!/bin/sh
# pjsua2.sh TREE VENV: installs the real pjsua2 Python module (SWIG) of the built pjproject tree TREE into the virtual
# environment VENV, where that has not been done. The wheel stays in TREE, for the next environment.
set -eu

# Called from a Makefile: its variables and flags are not meant for pjproject's.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL

say() { printf 'pjsua2: %s\n' "$*"; }
die() { printf 'pjsua2: %s\n' "$*" >&2; exit 1; }

[ $# -eq 2 ] || die "usage: pjsua2.sh TREE VENV"
tree=$(cd "$1" && pwd)
python=$(cd "$2" && pwd)/bin/python
cd "$tree/pjsip-apps/src/swig/python"

# A tree that was built again needs its module built again.
older_than_tree() {
    [ ! -e "$1" ] || [ -n "$(find "$tree/pjsip/lib" -name 'libpjsua2*' -newer "$1")" ]
}

# Runs a command quietly; on failure shows the end of what it printed.
log=$tree/pjfail-pjsua2.log
quietly() {
    "$@" </dev/null >"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        die "\"$*\" failed; the whole output is in $log"
    }
}

stamp=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/pjsua2.tree
[ ! -e "$stamp" ] || [ "$(cat "$stamp")" != "$tree" ] || older_than_tree "$stamp" || exit 0

wheels=pjfail-wheels/$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("SOABI"))')
if older_than_tree "$wheels/done"; then
    command -v swig >/dev/null 2>&1 || die '"swig" is missing; install the Debian package "swig" and run again.'
    [ -w . ] || die "$tree cannot be written to; copy it, and name the copy as PJPROJECT_DIR."

    # A tree with shared libraries: the module must find them where they lie, and those that they need in turn, for
    # which the linker's RPATH serves and its RUNPATH does not.
    rpath=
    for part in pjlib pjlib-util pjnath pjmedia pjsip third_party; do
        for library in "$tree/$part"/lib/*.so; do
            [ ! -e "$library" ] || { rpath="$rpath -Wl,--disable-new-dtags,-rpath,$tree/$part/lib"; break; }
        done
    done

    say "building the Python module of $tree, about a minute ..."
    # What setuptools has linked before is good enough for it, whatever became of the libraries and of the flags.
    rm -rf "$wheels" build
    quietly make pjsua2_wrap.cpp
    CFLAGS="-O1 -g0 -w" LDFLAGS="${LDFLAGS:-}$rpath" \
        quietly "$python" -m pip wheel --no-build-isolation --no-deps --wheel-dir "$wheels" .
fi
quietly "$python" -m pip install --no-index --no-deps --force-reinstall "$wheels"/pjsua2-*.whl
quietly "$python" -c 'import pjsua2'
# Only what can be imported is done.
touch "$wheels/done"
printf '%s' "$tree" >"$stamp"
say "installed the module of $tree"
