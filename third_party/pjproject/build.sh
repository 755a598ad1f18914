#!/bin/sh
# build.sh [--configure-only] TREE [OPTION...]: configures (with the OPTIONs too) and builds the pjproject tree TREE, where
# that has not been done: static libraries, -fPIC, OpenSSL, IPv6, no sound, no video, no codec but G.711. A tree that has
# been built is left as it is; only ours, which fetch.sh put beside this file, is built again once our config_site.h is
# another. With --configure-only the tree's headers can be compiled against, and no library is built.
set -eu

# Called from a Makefile: its variables and flags are not meant for pjproject's.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL

here=$(cd "$(dirname "$0")" && pwd -P)
say() { printf 'pjproject: %s\n' "$*"; }
die() { printf 'pjproject: %s\n' "$*" >&2; exit 1; }
need() { command -v "$1" >/dev/null 2>&1 || die "\"$1\" is missing; install the Debian package \"$2\" and run again."; }

wanted=built
[ "${1:-}" != --configure-only ] || { wanted=configured; shift; }
[ $# -ge 1 ] || die "usage: build.sh [--configure-only] TREE [OPTION...]"
[ -e "$1/version.mak" ] || die "\"$1\" is no pjproject tree (it has no version.mak); check PJPROJECT_DIR."
cd "$1"
shift

# The mark is left behind by a configure that did not come to its end.
configured() { [ -e build.mak ] && [ ! -e pjfail-configuring ]; }

# What ours was built with; it is left behind last, so that a build that was broken off is taken up again.
built_with=pjfail-config_site.h
outdated() { [ "$(pwd -P)" = "$here/src" ] && ! cmp -s "$here/config_site.h" $built_with; }

built() {
    configured || return 1
    for library in pjlib/lib/libpj pjlib-util/lib/libpjlib-util pjnath/lib/libpjnath pjmedia/lib/libpjmedia \
        pjsip/lib/libpjsip pjsip/lib/libpjsip-simple pjsip/lib/libpjsip-ua pjsip/lib/libpjsua pjsip/lib/libpjsua2; do
        set -- "$library"-*.a "$library"-*.so "$library".so*
        for file in "$@"; do [ ! -e "$file" ] || continue 2; done
        return 1
    done
}

# Runs a command quietly; on failure shows the end of what it printed.
quietly() {
    "$@" >pjfail-build.log 2>&1 || {
        tail -n 30 pjfail-build.log >&2
        die "\"$*\" failed; the whole output is in $(pwd)/pjfail-build.log"
    }
}

outdated || ! $wanted || exit 0
need gcc gcc; need g++ g++; need make make
[ -w . ] || die "the tree $(pwd) has not been built and cannot be written to; build it, or name another as PJPROJECT_DIR."
site=pjlib/include/pj/config_site.h
[ -e $site ] || cp "$here/config_site.h" $site
if outdated && ! cmp -s "$here/config_site.h" $site; then
    say "our config_site.h has changed since $(pwd) was built"
    # Every object was compiled with it, which make does not know without "make dep".
    find . -path '*/build/output/*' -name '*.o' -exec rm -f {} +
    cp "$here/config_site.h" $site
fi
# Debian's sources come without this non-free driver.
[ -e pjmedia/src/pjmedia-audiodev/bdimad_dev.c ] || sed -i 's/ bdimad_dev\.o//' pjmedia/build/Makefile
if ! configured; then
    [ -e /usr/include/openssl/ssl.h ] || die "OpenSSL's headers are missing; install the Debian package \"libssl-dev\" and run again."
    say "configuring $(pwd) ..."
    touch pjfail-configuring
    CFLAGS="${CFLAGS:--O2} -fPIC" CXXFLAGS="${CXXFLAGS:--O2} -fPIC" quietly ./aconfigure \
        --disable-sound --disable-video --disable-sdl --disable-ffmpeg --disable-v4l2 --disable-openh264 --disable-vpx \
        --disable-resample --disable-speex-aec --disable-l16-codec --disable-gsm-codec --disable-g722-codec \
        --disable-g7221-codec --disable-speex-codec --disable-ilbc-codec --disable-opencore-amr --disable-silk \
        --disable-opus --disable-bcg729 --disable-lyra --disable-libsrtp --disable-libyuv --disable-libwebrtc \
        --disable-upnp "$@"
    rm pjfail-configuring
fi
[ $wanted = built ] || exit 0
say "building $(pwd), half a minute ..."
jobs=$(nproc 2>/dev/null || echo 1)
# No test programs, which take as long as the libraries, and no "make dep", which a first build has no use for.
for part in pjlib pjlib-util pjnath third_party pjmedia pjsip; do
    quietly make -j"$jobs" -C "$part/build" lib
done
built || die "the build of $(pwd) ended without all of its libraries; see pjfail-build.log there."
! outdated || cp "$here/config_site.h" $built_with
say "built in $(pwd)"
