#!/bin/sh
# pjsua2.sh TREE VENV: builds the real pjsua2 Python module (SWIG) of the built pjproject tree TREE and
# installs it into the virtual environment VENV, where that has not been done.
set -eu

say() { printf 'pjsua2: %s\n' "$*"; }
die() { printf 'pjsua2: %s\n' "$*" >&2; exit 1; }

[ $# -eq 2 ] || die "usage: pjsua2.sh TREE VENV"
tree=$(cd "$1" && pwd)
python=$(cd "$2" && pwd)/bin/python
stamp=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/pjsua2.tree
[ ! -e "$stamp" ] || [ "$(cat "$stamp")" != "$tree" ] || exit 0
command -v swig >/dev/null 2>&1 || die '"swig" is missing; install the Debian package "swig" and run again.'

# A tree with shared libraries: the module must find them where they lie.
rpath=
for part in pjlib pjlib-util pjnath pjmedia pjsip third_party; do
    for library in "$tree/$part"/lib/*.so; do
        [ ! -e "$library" ] || { rpath="$rpath -Wl,-rpath,$tree/$part/lib"; break; }
    done
done

say "building the Python module of $tree (about two minutes) ..."
cd "$tree/pjsip-apps/src/swig/python"
log=$tree/pjfail-pjsua2.log
{
    make pjsua2_wrap.cpp &&
    CFLAGS="-O1 -g0 -w" LDFLAGS="${LDFLAGS:-}$rpath" "$python" -m pip install --no-build-isolation --no-deps --force-reinstall .
} >"$log" 2>&1 || { tail -n 30 "$log" >&2; die "the build failed; the whole output is in $log"; }
"$python" -c 'import pjsua2' || die "the module was built, but does not import; see $log"
printf '%s' "$tree" >"$stamp"
say "installed"
