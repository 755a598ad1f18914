#!/bin/sh
# layout.sh TREE: prints the row of the pjproject tree TREE for the table in pjfail/_core/layout.c. TREE must be configured;
# with a config_site.h that is not stock the row may be another. For another machine, CC and RUN:
#
#   CC='aarch64-linux-gnu-gcc -static' RUN=qemu-aarch64-static tools/layout.sh TREE
set -eu

[ $# -eq 1 ] && [ -e "$1/version.mak" ] || { echo "usage: layout.sh TREE (a configured pjproject tree)" >&2; exit 2; }
core=$(cd "$(dirname "$0")/../pjfail/_core" && pwd)
tree=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/row.c" <<'PROGRAM'
#include "layout.c"

int main(void)
{
    unsigned number = PJ_VERSION_NUM;

    printf("/* %u.%u.%u%s */\n", number >> 24, number >> 16 & 255, number >> 8 & 255, PJ_VERSION_NUM_EXTRA);
#define PRINT(name) printf("FIELD(" #name ", %u)\n", COMPILED_##name);
    LAYOUT_FIELDS(PRINT)
    return 0;
}
PROGRAM
includes=
for part in pjlib pjlib-util pjnath pjmedia pjsip; do includes="$includes -isystem $tree/$part/include"; done
# shellcheck disable=SC2086
${CC:-cc} -std=gnu11 -D_GNU_SOURCE -DPJ_AUTOCONF=1 -DPJ_IS_LITTLE_ENDIAN=1 -DPJ_IS_BIG_ENDIAN=0 -DLAYOUT_UNCHECKED \
    -w -I "$core" $includes -o "$work/row" "$work/row.c" "$core/host.c" "$core/loader.c" "$core/gate.c"
${RUN:-} "$work/row" | sed '/^FIELD/{s/^/    /;s/$/ \\/;}' | sed '$s/ \\$//'
