#!/bin/sh
# arm64.sh FOLDER [SUITE]: makes an ARM machine of FOLDER, as far as a Python program can tell, where that has not been done:
# FOLDER/root has the Python and OpenSSL of that Debian, this machine's or a newer one, FOLDER/bin/python runs that Python by
# qemu, FOLDER/bin/cc and c++ compile for it, and FOLDER/configure has pjproject's options for it. Nothing is installed in this
# machine, and nothing needs to be root.
set -eu

[ $# -eq 1 ] || [ $# -eq 2 ] || { echo 'usage: arm64.sh FOLDER [SUITE]' >&2; exit 2; }
[ ! -e "$1/configure" ] || exit 0
rm -rf "$1"
mkdir -p "$1/bin"
folder=$(cd "$1" && pwd)
root=$folder/root
cd "$(dirname "$0")/.."
release=$(tools/debian-mirror.sh)
suite=${2:-${release% *}}
mode=root
[ "$(id -u)" = 0 ] || mode=chrootless
tools/step.sh "host-$(basename "$folder")" "unpacking the Python of Debian $suite for arm64" \
    mmdebstrap --variant=extract --mode=$mode --architectures=arm64 \
    --include=python3,libpython3-dev,libssl-dev,libc6-dev,libstdc++6 "$suite" "$root" "${release#* }"
# From Debian 13 on all of it lies in /usr.
[ -e "$root/lib" ] || ln -s usr/lib "$root/lib"
# They link with this machine's glibc for ARM, which OpenSSL there may be too new for; it is run with its own.
for tool in cc=gcc c++=g++; do
    printf '#!/bin/sh\nexec aarch64-linux-gnu-%s --sysroot="%s" -Wl,--allow-shlib-undefined "$@"\n' "${tool#*=}" "$root" \
        >"$folder/bin/${tool%=*}"
done
# What Python compiles is kept, whatever the environment says: by qemu, Python 3.13 takes ten seconds for asyncio.
printf '#!/bin/sh\nexec env -u PYTHONDONTWRITEBYTECODE qemu-aarch64-static -L "%s" "%s/usr/bin/python3" "$@"\n' "$root" "$root" \
    >"$folder/bin/python"
chmod +x "$folder"/bin/*
echo "--host=aarch64-linux-gnu --with-ssl=$root/usr" >"$folder/configure"
