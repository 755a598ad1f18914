#!/bin/sh
# system-packages.sh build|test|sanitize|arm64|musl PYTHON: finds what building pjfail with that Python needs of this machine, or
# what its tests, its tests with gcc's sanitizers, building for ARM, or the tests with musl need too. Missing Debian packages are
# installed where that is allowed (root, or sudo without a password); otherwise this prints the line to run, and stops.
set -eu

# Debian's daemons are not on an ordinary user's path.
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'packages: %s\n' "$*"; }
die() { printf 'packages: %s\n' "$*" >&2; exit 1; }

[ $# -eq 2 ] || die "usage: system-packages.sh build|test|sanitize|arm64|musl PYTHON"
purpose=$1
python=$2

need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }

# Debian's packages complete Debian's own Python, and no other.
need_python() {
    if ! command -v "$python" >/dev/null 2>&1; then
        [ "$python" = python3 ] || die "there is no \"$python\"; name an installed Python 3.11 or later as PYTHON."
        missing="$missing python3 python3-venv python3-dev"
        return
    fi
    facts=$("$python" - <<'PYTHON'
import importlib.util, os, sys, sysconfig
print("%d.%d" % sys.version_info[:2], end=" ")
print("new" if sys.version_info >= (3, 11) else "old", end=" ")
print("debian" if sys.base_prefix == "/usr" else "other", end=" ")
if importlib.util.find_spec("ensurepip") is None:
    print("venv", end=" ")
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    print("dev")
PYTHON
    ) || die "\"$python\" does not run; name an installed Python 3.11 or later as PYTHON."
    # shellcheck disable=SC2086
    set -- $facts
    version=$1 age=$2 origin=$3
    shift 3
    [ "$age" = new ] || die "\"$python\" is Python $version; name an installed Python 3.11 or later as PYTHON."
    for part in "$@"; do
        [ "$origin" = debian ] ||
            die "\"$python\" was installed without ensurepip or its C headers; name another Python as PYTHON."
        missing="$missing python$version-$part"
    done
}

look() {
    missing=
    need gcc gcc
    need g++ g++
    need make make
    need swig swig
    need tar tar
    need xz xz-utils
    [ -e /usr/include/openssl/ssl.h ] || missing="$missing libssl-dev"
    need_python
    if [ "$purpose" = sanitize ]; then
        need ip iproute2
        # They come with gcc's own headers; without gcc it brings them along.
        for runtime in libasan.so libubsan.so libtsan.so; do
            ! command -v gcc >/dev/null 2>&1 || [ -e "$(gcc -print-file-name=$runtime)" ] ||
                missing="$missing libgcc-$(gcc -dumpversion)-dev"
        done
    fi
    [ "$purpose" != musl ] || [ -e "/lib/ld-musl-$(uname -m).so.1" ] || missing="$missing musl"
    case $purpose-$(uname -m) in
    arm64-x86_64 | test-x86_64)
        need mmdebstrap mmdebstrap
        need qemu-aarch64-static qemu-user-static
        need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
        need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
        ;;
    arm64-*) die "wheels for ARM are made on x86-64, or on ARM itself: there, leave FOR out." ;;
    esac
    [ "$purpose" = test ] || return 0
    need kamailio kamailio
    [ -n "$(find /usr/lib -path '*/kamailio/modules/tls.so' 2>/dev/null)" ] || missing="$missing kamailio-tls-modules"
    need knotd knot
    need sipp sip-tester
    need prometheus prometheus
    need patch patch
    need openssl openssl
    need ip iproute2
    need nft nftables
    need redis-server redis-server
}

# The tests start their own kamailio, knotd and prometheus. Debian's packages would each start one as a service too, on
# ports that the tests then could not have.
stop_services() {
    [ -d /run/systemd/system ] || return 0
    for service in kamailio knot prometheus redis-server; do
        case " $missing " in *" $service "*) ;; *) continue ;; esac
        say "disabling the service \"$service\", which came with its package"
        $as_root systemctl --quiet disable --now "$service.service" || say "\"$service\" could not be stopped"
    done
}

look
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null 2>&1 ||
    die "this machine lacks what these Debian packages hold, and has no apt-get; install it and run again:$missing"
if [ "$(id -u)" = 0 ]; then
    as_root=
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    die "missing packages; run this, then make again:  sudo apt-get install --no-install-recommends$missing"
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Where services are started by init scripts, none is in the runlevel for repairs.
install() {
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -q -y -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends $missing </dev/null >"$log" 2>&1
}
say "installing$missing ..."
install || {
    say "updating apt's lists first ..."
    $as_root apt-get -q update >"$log" 2>&1 && install
} || {
    tail -n 15 "$log" >&2
    die "apt-get could not install$missing; its last words are above."
}
stop_services
installed=$missing
look
[ -z "$missing" ] || die "apt-get installed$installed, but this is still not found:$missing"
