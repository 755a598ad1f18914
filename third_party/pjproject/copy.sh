#!/bin/sh
# copy.sh TREE COPY: copies the sources of the pjproject tree TREE to COPY, to build them once more: what has been built of them
# stays behind. A COPY of that TREE with the same config_site.h is left as it is.
set -eu

[ $# -eq 2 ] || { echo 'usage: copy.sh TREE COPY' >&2; exit 2; }
tree=$(cd "$1" && pwd -P)
site=pjlib/include/pj/config_site.h
! { [ "$(cat "$2/copied" 2>/dev/null)" = "$tree" ] && cmp -s "$tree/$site" "$2/$site"; } || exit 0
echo "pjproject: copying the sources of $tree, to build them once more"
rm -rf "$2"
mkdir -p "$2"
tar -C "$tree" -cf - --exclude='*.[ao]' --exclude='*.so' --exclude='*.so.[0-9]*' --exclude='.*.depend' --exclude=output \
    --exclude=build.mak --exclude='pjfail-*' --exclude=pjsip-apps/src/swig/python/build --exclude=.git . | tar -xf - -C "$2"
printf '%s' "$tree" >"$2/copied"
