#!/bin/sh
# ready-pjsua2.sh PYTHON: finds a pjsua2 that need not be built, for the virtual environment of PYTHON: the one that it has,
# else the wheel pjsua2-python. Fails, and says so, where no wheel serves this Python and this machine.
set -eu

python=$1
wheel=pjsua2-python==2.15.1.post1
say() { printf 'pjsua2: %s\n' "$*"; }
works() { "$python" -c 'import pjsua2; pjsua2.Endpoint' >/dev/null 2>&1; }

! works || exit 0
mkdir -p build
say "installing the wheel $wheel ..."
"$python" -m pip --disable-pip-version-check --no-input install --no-deps --only-binary :all: "$wheel" \
    </dev/null >build/ready-pjsua2.log 2>&1 && works || {
    say "that wheel does not serve here (see build/ready-pjsua2.log), and so a pjsua2 is built"
    exit 1
}
