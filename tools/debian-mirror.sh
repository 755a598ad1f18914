#!/bin/sh
# Prints the name of this machine's Debian release, and the mirror that its own apt uses for Debian itself.
set -eu

# shellcheck source=/dev/null
codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-stable}")
mirror=$(apt-get --print-uris update 2>/dev/null |
    sed -n "s#^'\(.*\)/dists/\($codename\|stable\|testing\|unstable\|sid\)/InRelease'.*#\1#p" | head -n 1)
[ -n "$mirror" ] || { echo "debian-mirror: apt here names no Debian mirror" >&2; exit 1; }
printf '%s %s\n' "$codename" "$mirror"
