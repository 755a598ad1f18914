#!/bin/sh
# sanitized_pjsip.sh TREE KIND: builds a copy of the pjproject tree TREE with gcc's sanitizers into
# build/sanitize/KIND/pjproject, unless that has been done. KIND is "address" (AddressSanitizer, LeakSanitizer) or "thread"
# (ThreadSanitizer).
set -eu

die() { printf 'sanitize: %s\n' "$*" >&2; exit 2; }

[ $# -eq 2 ] || die "usage: sanitized_pjsip.sh TREE address|thread"
root=$(cd "$(dirname "$0")/.." && pwd)
tree=$(cd "$1" && pwd -P)
kind=$2
case $kind in
address) flags="-fsanitize=address -fsanitize-recover=address" ;;
thread) flags="-fsanitize=thread" ;;
*) die "\"$kind\" is neither address nor thread." ;;
esac
build=$root/build/sanitize/$kind
copy=$build/pjproject
compile="-O1 -g -fno-omit-frame-pointer -fno-optimize-sibling-calls $flags"
stamp="$compile $(cat "$tree/version.mak" "$tree/pjlib/include/pj/config_site.h" | cksum) $tree"

if [ "$(cat "$build/pjproject-done" 2>/dev/null)" != "$stamp" ]; then
    printf 'sanitize: building pjproject for %s, some minutes ...\n' "$kind" >&2
    rm -rf "$build"
    mkdir -p "$copy"
    (cd "$tree" && tar -cf - --exclude='*.[ao]' --exclude='*.so*' --exclude='.*.depend' --exclude=output \
        --exclude=build.mak --exclude='pjfail-*' --exclude=pjsip-apps/src/swig/python/build .) | tar -xf - -C "$copy"
    # configure runs programs that are not careful with their memory.
    ASAN_OPTIONS=detect_leaks=0 CFLAGS=$compile CXXFLAGS=$compile LDFLAGS=$flags \
        "$root/third_party/pjproject/build.sh" "$copy" >&2
    printf '%s' "$stamp" >"$build/pjproject-done"
fi
