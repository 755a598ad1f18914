#!/bin/sh
# step.sh NAME WHAT COMMAND...: says what is being done and runs the command quietly. If it fails, the end of its output
# is shown, and the whole of it kept in build/NAME.log.
set -eu

name=$1
what=$2
shift 2
mkdir -p build
log=build/$name.log
printf '%s: %s ...\n' "$name" "$what"
"$@" </dev/null >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    printf '%s: %s failed; the whole output is in %s\n' "$name" "$what" "$log" >&2
    exit 1
}
