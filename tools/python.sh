#!/bin/sh
# python.sh VERSION: prints the path of a Python of that version (as 3.13): the one on the path, else pyenv's, else that of
# Debian testing, which is unpacked into build/pythons/VERSION in seconds (30 MB; nothing is installed, and the system's
# sources are not touched; patchelf must be on the path). Fails, and says why, where none of them has it.
set -eu

version=$1
cd "$(dirname "$0")/.."
home=$(pwd -P)/build/pythons
root=$home/$version
die() { printf 'python.sh: %s\n' "$*" >&2; exit 1; }

for python in "python$version" "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$version".*/bin/python "$root/usr/bin/python$version"; do
    if "$python" -c "import ensurepip, sys; assert '%d.%d' % sys.version_info[:2] == '$version'" 2>/dev/null; then
        "$python" -c 'import sys; print(sys.executable)'
        exit 0
    fi
done

command -v apt-get >/dev/null 2>&1 || die "no Python $version is here, and this machine has no apt"
command -v patchelf >/dev/null 2>&1 || die "no Python $version is here, and \"patchelf\" is missing to adapt Debian's"
# shellcheck source=/dev/null
codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-testing}")
mirror=$(apt-get --print-uris update 2>/dev/null |
    sed -n "s#^'\(.*\)/dists/\($codename\|stable\|testing\|unstable\|sid\)/InRelease'.*#\1#p" | head -n 1)
[ -n "$mirror" ] || die "no Python $version is here, and apt names no Debian mirror"
rm -rf "$root" "$root.apt"
trap 'rm -rf "$root.apt"' EXIT
mkdir -p "$root" "$root.apt/lists/partial" "$root.apt/archives/partial"
cat >"$root.apt/debian.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: testing
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
set -- -q -y -o "Dir::Etc::SourceList=$root.apt/debian.sources" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::status=/dev/null \
    -o "Dir::State::Lists=$root.apt/lists" -o "Dir::Cache::archives=$root.apt/archives" -o Dir::Cache::pkgcache= \
    -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root -o Acquire::Retries=3 -o APT::Update::Error-Mode=any
# What its dependencies are is told by an empty list of installed packages: all, glibc included.
apt-get "$@" update >"$root.apt/log" 2>&1 &&
    apt-get "$@" --no-install-recommends --download-only install "python$version-venv" "libpython$version-dev" \
    libstdc++6 >>"$root.apt/log" 2>&1 || die "no Python $version is here, nor in Debian testing ($(tail -n 1 "$root.apt/log"))"
for package in "$root.apt"/archives/*.deb; do
    case $package in */libc6-dev_* | */linux-libc-dev_*) continue ;; esac
    dpkg-deb -x "$package" "$root"
done

# It runs where it lies: with its own glibc, its libraries, its headers and its pip.
libraries=$(echo "$root"/usr/lib/*-linux-gnu)
patchelf --set-interpreter "$(echo "$libraries"/ld-linux-*.so.*)" --force-rpath --set-rpath "$libraries" "$root/usr/bin/python$version"
sed -i "s#'/usr/share/python-wheels/'#'$root/usr/share/python-wheels/'#" "$root/usr/lib/python$version"/_sysconfigdata_*.py
ln -s "../${libraries##*/}" "$root/usr/include/python$version/${libraries##*/}"
"$root/usr/bin/python$version" -c 'import ensurepip, ssl, sys; print(sys.executable)'
