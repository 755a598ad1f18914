#!/bin/sh
# dist.sh PYTHON TREE: makes dist/ anew: the sdist, and a wheel for each platform, made from it against the pjproject tree TREE.
# PYTHON is that of a virtual environment with the extra "dist".
set -eu

[ $# -eq 2 ] || { echo 'usage: dist.sh PYTHON TREE' >&2; exit 2; }
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
tree=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
rm -rf dist

tools/step.sh dist 'building the sdist' "$python" -m build --sdist --no-isolation --outdir dist .
for platform in manylinux_2_17_x86_64 manylinux_2_17_aarch64 musllinux_1_2_x86_64 musllinux_1_2_aarch64; do
    tools/wheel.sh "$python" "$tree" $platform dist/pjfail-*.tar.gz dist
done
tools/step.sh abi3audit "asking whether they keep to CPython's stable ABI" "$python" -m abi3audit --strict dist/*.whl
"$python" tools/check_dist.py dist
tools/try_wheels.sh "$python" dist
