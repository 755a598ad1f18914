#!/bin/sh
# venv.sh VENV PYTHON: makes the virtual environment VENV where there is none. One that works is kept, whoever made it;
# one that was left half made is made again. The file "made-by-pjfail" marks those that `make clean` may remove.
set -eu

venv=$1
python=$2
die() { printf 'venv: %s\n' "$*" >&2; exit 1; }

! "$venv/bin/python" -m pip --version >/dev/null 2>&1 || exit 0
[ ! -e "$venv" ] || [ -e "$venv/pyvenv.cfg" ] || [ -z "$(ls -A "$venv")" ] ||
    die "\"$venv\" is there and is no virtual environment; name another folder as VENV, or remove it."
"$python" -m venv --clear "$venv" || die "\"$python\" could not make the virtual environment \"$venv\"."
touch "$venv/made-by-pjfail"
