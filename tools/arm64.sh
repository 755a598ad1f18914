#!/bin/sh
# arm64.sh FOLDER: makes an ARM machine of FOLDER, as far as a Python program can tell, where that has not been done: FOLDER/root
# has Debian's Python and OpenSSL for arm64, FOLDER/bin/python runs that Python by qemu, FOLDER/bin/cc and c++ compile for it,
# and FOLDER/configure has pjproject's options for it. Nothing is installed in this machine, and nothing needs to be root.
set -eu

[ $# -eq 1 ] || { echo 'usage: arm64.sh FOLDER' >&2; exit 2; }
[ ! -e "$1/configure" ] || exit 0
rm -rf "$1"
mkdir -p "$1/bin"
folder=$(cd "$1" && pwd)
root=$folder/root
cd "$(dirname "$0")/.."
suite_and_mirror=$(tools/debian-mirror.sh)
# shellcheck disable=SC2086
set -- $suite_and_mirror
mode=root
[ "$(id -u)" = 0 ] || mode=chrootless
tools/step.sh host-arm64 "unpacking Debian's Python for arm64" mmdebstrap --variant=extract --mode=$mode --architectures=arm64 \
    --include=python3,libpython3-dev,libssl-dev,libc6-dev,libstdc++6 "$1" "$root" "$2"
for tool in cc=gcc c++=g++; do
    printf '#!/bin/sh\nexec aarch64-linux-gnu-%s --sysroot="%s" "$@"\n' "${tool#*=}" "$root" >"$folder/bin/${tool%=*}"
done
printf '#!/bin/sh\nexec qemu-aarch64-static -L "%s" "%s/usr/bin/python3" "$@"\n' "$root" "$root" >"$folder/bin/python"
chmod +x "$folder"/bin/*
echo "--host=aarch64-linux-gnu --with-ssl=$root/usr" >"$folder/configure"
