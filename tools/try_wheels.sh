#!/bin/sh
# try_wheels.sh PYTHON FOLDER: runs each wheel in FOLDER on a Python of its platform, where there is one: imports the core, and looks
# a server up. PYTHON is that of a virtual environment; make test-hosts and make test-musl leave the others in build/hosts.
set -eu

[ $# -eq 2 ] || { echo 'usage: try_wheels.sh PYTHON FOLDER' >&2; exit 2; }
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
dist=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
hosts=$(pwd)/build/hosts
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# try PLATFORM PYTHON: the wheel for PLATFORM on that PYTHON.
try() {
    if ! "$2" -c '' 2>/dev/null; then
        echo "dist: $1: not run here, without a Python for it"
        return
    fi
    tools/step.sh "try-$1" "installing the wheel for $1" "$python" -m pip --disable-pip-version-check --no-input install \
        --target "$work/$1" --platform "$1" --implementation cp --only-binary :all: \
        --python-version "$("$2" -c 'import sysconfig; print(sysconfig.get_python_version())')" "$dist"/*"$1".whl
    env -C "$work" PYTHONPATH="$work/$1" "$2" -c '
import platform, sys, sysconfig
import pjfail, pjfail._native
assert pjfail._native.__file__.startswith(sys.argv[1]), pjfail._native.__file__
from pjfail.cli.main import main
assert main(["lookup", "sip:192.0.2.1", "--json"]) == 0
libc = "musl" if "musl" in sysconfig.get_config_var("SOABI") else " ".join(platform.libc_ver())
print("CPython", platform.python_version() + ",", platform.machine() + ",", libc)' "$work" >"$work/said"
    echo "dist: $1: imported, and looked a server up, on $(tail -n 1 "$work/said")"
}
try "manylinux_2_17_$(uname -m)" "$python"
[ "$(uname -m)" = aarch64 ] || try manylinux_2_17_aarch64 "$hosts/arm64/bin/python"
try "musllinux_1_2_$(uname -m)" "$hosts/musl/bin/python"
[ "$(uname -m)" = aarch64 ] || try musllinux_1_2_aarch64 "$hosts/musl-arm64/bin/python"
