#!/bin/sh
# Puts the pjproject 2.17 source tree into the folder "src" beside this file.
#
# Where it comes from, in this order: the archive of an earlier download; Debian's source package "asterisk",
# component orig-Xpjproject, through this machine's own apt mirror with a private configuration (the system's
# sources are not touched); a git clone of the upstream tag. To use a tree of your own, set PJPROJECT_DIR
# and this script is not needed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
version=2.17
sha256=6860c2f7604b4eee75f38151a9ef69774eb3f0c5286fc1d14bc1db2dc5a9e8aa
commit=6852b24c0d07219a06130ae982320942241eee49
upstream=https://github.com/pjsip/pjproject.git
archive=$here/pjproject-$version.tar.xz
tree=$here/src
own="set PJPROJECT_DIR to a pjproject $version tree of your own"

say() { printf 'pjproject: %s\n' "$*"; }
die() { printf 'pjproject: %s\n' "$*" >&2; exit 1; }
need() { command -v "$1" >/dev/null 2>&1 || die "\"$1\" is missing; install the Debian package \"$2\" and run again."; }
is_ours() { [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$sha256" ]; }

# The mirror that this machine's own apt uses for Debian itself, or nothing.
debian_mirror() {
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-stable}")
    apt-get --print-uris update 2>/dev/null |
        sed -n "s#^'\(.*\)/dists/\($codename\|stable\|testing\|unstable\|sid\)/InRelease'.*#\1#p" | head -n 1
}

from_debian() {
    command -v apt-get >/dev/null 2>&1 || { why="this machine has no apt"; return 1; }
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || { why="Debian's archive keyring is missing"; return 1; }
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || { why="apt here names no Debian mirror"; return 1; }
    mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/download"
    set -- -q -o "Dir::Etc::SourceList=$work/debian.sources" -o Dir::Etc::SourceParts=/dev/null \
        -o "Dir::State::Lists=$work/lists" -o "Dir::Cache::archives=$work/archives" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root \
        -o Acquire::Retries=3 -o APT::Update::Error-Mode=any
    say "asking Debian's mirror for the source package \"asterisk\" (13 MB) ..."
    for suite in testing unstable; do
        why="Debian has no source package with pjproject $version"
        rm -f "$work"/download/*
        cat >"$work/debian.sources" <<SOURCES
Types: deb-src
URIs: $mirror
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
        apt-get "$@" update >"$work/log" 2>&1 ||
            { why="Debian's mirror did not answer ($(tail -n 1 "$work/log"))"; return 1; }
        (cd "$work/download" && apt-get "$@" source --download-only --only-source "asterisk/$suite") \
            >"$work/log" 2>&1 || { why="Debian's $suite gave no sources ($(tail -n 1 "$work/log"))"; continue; }
        for file in "$work"/download/*.orig-Xpjproject.tar.*; do
            [ -e "$file" ] || continue
            if is_ours "$file"; then mv "$file" "$archive"; return 0; fi
            why="the SHA-256 of $(basename "$file") from Debian's $suite is not that of pjproject $version"
        done
    done
    return 1
}

from_git() {
    command -v git >/dev/null 2>&1 || { why="$why, and git is missing for a clone"; return 1; }
    say "cloning the upstream tag $version ..."
    GIT_TERMINAL_PROMPT=0 git -c advice.detachedHead=false clone -q --depth 1 --branch "$version" "$upstream" "$work/git" \
        >"$work/log" 2>&1 || { why="$why, and the upstream repository cannot be cloned"; return 1; }
    got=$(git -C "$work/git" rev-parse HEAD)
    [ "$got" = "$commit" ] || die "the upstream tag $version is commit $got, not $commit; $own."
    rm -rf "$work/git/.git"
    mv "$work/git" "$tree"
}

unpack() {
    need tar tar; need xz xz-utils
    rm -rf "$work/tree"
    mkdir -p "$work/tree"
    tar -xf "$archive" -C "$work/tree" --strip-components=1 || die "$archive does not unpack; delete it and run again."
    mv "$work/tree" "$tree"
}

[ ! -e "$tree/version.mak" ] || exit 0
need sha256sum coreutils
work=$here/download
rm -rf "$work" "$tree"
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
why=
if [ -e "$archive" ]; then
    is_ours "$archive" || die "$archive does not have the SHA-256 of pjproject $version; delete it and run again."
    unpack
elif from_debian; then
    unpack
elif ! from_git; then
    die "pjproject $version cannot be had: $why. Connect this machine to a Debian mirror, or $own."
fi
say "the sources of $version are in $tree"
