#!/bin/sh
# hosts.sh PYTHON TREE HOST...: makes the HOSTs that pjfail is tested in, where that has not been done, and lists them in
# build/hosts/list (tests/rig/hosts.py says how). PYTHON is that of the virtual environment which `make setup` has made of
# the pjproject tree TREE, and is a host itself; each other one has an environment of its own in build/hosts. All but the
# last three use the pjfail of this clone, its extension too; those run the wheel for their platform.
#
#   static   our pjproject, its libraries linked into pjsua2
#   shared   the same sources, built a second time with shared libraries
#   wheel    pjsua2-python 2.15.1 as pip installs it
#   pybind11 pjsua2-pybind11 0.1a3 as pip installs it: pjsip 2.14.1 in shared libraries that auditwheel has renamed
#   python3.X that Python (tools/python.sh), with the wheel that `make pjsua2-wheel` makes of TREE for it
#   own      the tree that PJPROJECT_DIR names, where it does
#   arm64    Debian's Python for ARM, run by qemu, with the wheel that `make pjsua2-wheel FOR=arm64` makes of TREE
#   arm64-SUITE  the same with the Python of that Debian, as "trixie"
#   musl     a Python that was built with musl, with such a wheel, without OpenSSL
#   musl-arm64  the same with musl for aarch64, and run by qemu
set -eu

say() { printf 'hosts: %s\n' "$*"; }
die() { printf 'hosts: %s\n' "$*" >&2; exit 1; }

[ $# -ge 3 ] || die "usage: hosts.sh PYTHON TREE static|shared|wheel|pybind11|python3.X|own|arm64[-SUITE]|musl|musl-arm64..."
root=$(cd "$(dirname "$0")/.." && pwd)
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
tree=$(cd "$2" && pwd -P)
shift 2
cd "$root"
recipe=third_party/pjproject
ours=$(pwd -P)/$recipe/src
folder=$root/build/hosts
mkdir -p "$folder"
tab=$(printf '\t')

add() { printf '%s\n' "$1$tab$2$tab$3" >>"$folder/list.new"; }

# environment HOST PYTHON: the environment of a host, with what pjfail needs and pjfail itself. Its pjsua2 is not in it yet.
environment() {
    venv=$folder/$1
    [ ! -e "$venv/done" ] || [ -n "$(find build/requirements.txt -newer "$venv/done")" ] || return 0
    tools/step.sh "host-$1" "making the environment of \"$1\"" tools/venv.sh "$venv" "$2"
    tools/step.sh "host-$1" "installing the Python packages that pjfail needs into it" \
        "$venv/bin/python" -m pip --disable-pip-version-check --no-input install -r build/requirements.txt
    printf '%s\n' "$root" >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/pjfail.pth"
    touch "$venv/done"
}

# from_pypi HOST WHEEL: the host whose pjsua2 is that wheel, where pip has it for this Python.
from_pypi() {
    environment "$1" "$python"
    if "$venv/bin/python" -c 'import pjsua2; pjsua2.Endpoint' 2>/dev/null ||
        tools/step.sh "host-$1" "installing the wheel $2" "$venv/bin/python" -m pip --disable-pip-version-check \
            --no-input install --no-deps --only-binary :all: "$2"; then
        add "$1" "$venv/bin/python" "$2"
    else
        add "$1" - "pip has no wheel $2 for this Python; see build/host-$1.log"
    fi
}

# platform NAME PLATFORM: the host NAME, in whose folder are a Python and compilers for PLATFORM, with the wheel of these sources,
# and with the one that `make pjsua2-wheel` makes for it of TREE.
platform() {
    machine=$folder/$1
    of_python() { "$machine/bin/python" -c "import sysconfig; print(sysconfig.get_$1)"; }
    site=$(of_python "path('purelib')")
    mkdir -p "$site"
    tools/pjsua2-wheel.sh "$python" "$tree" "$machine"
    pjsua2=$(head -n 1 "build/pjsua2/$(of_python "config_var('SOABI')")/wheel")
    its_platform=${pjsua2##*-}
    if [ ! -e "$machine/installed" ] || [ "$pjsua2" -nt "$machine/installed" ] || [ -n "$(find pjfail* _pjfail_hook.py setup.py \
        pyproject.toml -newer "$machine/installed" -name '*.[chp]*' ! -name '*.pyc' ! -name '_native.*')" ]; then
        rm -rf "$machine/wheel"
        tools/step.sh "host-$1" 'building the sdist' "$python" -m build --sdist --no-isolation --outdir "$machine/wheel" .
        tools/wheel.sh "$python" "$tree" "$2" "$machine"/wheel/*.tar.gz "$machine/wheel"
        tools/step.sh "host-$1" 'installing both wheels' "$python" -m pip --disable-pip-version-check --no-input install \
            --target "$site" --upgrade --implementation cp --python-version "$(of_python 'python_version()')" \
            --platform "$2" --platform "${its_platform%%.*}" --only-binary :all: "$machine"/wheel/*.whl "$pjsua2"
        touch "$machine/installed"
    fi
    add "$1" "$machine/bin/python" "${pjsua2##*/}"
}

: >"$folder/list.new"
for host in "$@"; do
    case $host in
    static)
        if [ "$tree" = "$ours" ]; then
            add static "$python" "$ours"
            continue
        fi
        $recipe/fetch.sh
        $recipe/build.sh "$ours"
        environment static "$python"
        $recipe/pjsua2.sh "$ours" "$venv"
        add static "$venv/bin/python" "$ours"
        ;;
    shared)
        $recipe/fetch.sh
        $recipe/build.sh "$ours"
        $recipe/copy.sh "$ours" "$folder/pjproject-shared"
        $recipe/build.sh "$folder/pjproject-shared" --enable-shared
        environment shared "$python"
        $recipe/pjsua2.sh "$folder/pjproject-shared" "$venv"
        add shared "$venv/bin/python" "$folder/pjproject-shared"
        ;;
    wheel)
        from_pypi wheel pjsua2-python==2.15.1
        ;;
    pybind11)
        from_pypi pybind11 pjsua2-pybind11==0.1a3
        ;;
    python3.*)
        if its_python=$(PATH=$(dirname "$python"):$PATH tools/python.sh "${host#python}" 2>"build/host-$host.log"); then
            tools/pjsua2-wheel.sh "$its_python" "$tree"
            environment "$host" "$its_python"
            tools/step.sh "host-$host" 'installing that wheel' "$venv/bin/python" -m pip --disable-pip-version-check \
                --no-input install --force-reinstall --no-deps --no-index --find-links build/pjsua2 pjsua2
            add "$host" "$venv/bin/python" "$("$its_python" --version)"
        else
            add "$host" - "$(cat "build/host-$host.log")"
        fi
        ;;
    own)
        if [ "$tree" = "$ours" ]; then
            add own - "PJPROJECT_DIR names no tree"
        else
            add own "$python" "$tree"
        fi
        ;;
    arm64*)
        suite=${host#arm64}
        if [ "$(uname -m)" = aarch64 ]; then
            add "$host" - "this machine is one"
        elif ! tools/arm64.sh "$folder/$host" ${suite:+"${suite#-}"}; then
            add "$host" - "its Python could not be unpacked; see build/host-$host.log"
        else
            platform "$host" manylinux_2_17_aarch64
        fi
        ;;
    musl)
        tools/musl.sh "$python" "$folder/musl"
        platform musl "musllinux_1_2_$(uname -m)"
        ;;
    musl-arm64)
        if [ "$(uname -m)" = aarch64 ]; then
            add musl-arm64 - "this machine is one"
        else
            tools/musl.sh "$python" "$folder/musl"
            tools/musl.sh "$python" "$folder/musl-arm64" "$folder/musl/bin/python"
            platform musl-arm64 musllinux_1_2_aarch64
        fi
        ;;
    *) die "\"$host\" is none of static, shared, wheel, pybind11, python3.X, own, arm64[-SUITE], musl, musl-arm64." ;;
    esac
done
mv "$folder/list.new" "$folder/list"
