#!/bin/sh
# musl.sh PYTHON FOLDER [BUILDER]: makes FOLDER/bin/python, a CPython that was built with musl from Debian's sources, and
# FOLDER/bin/cc and c++, which compile for it, and FOLDER/configure, pjproject's options for it, where that has not been done.
# PYTHON is that of a virtual environment with the extra "dist". BUILDER is such a CPython of this machine: given that, the new
# one is built for aarch64, and qemu runs it.
set -eu

# Called from a Makefile: its variables and flags are not meant for those of others.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL

[ $# -eq 2 ] || [ $# -eq 3 ] || { echo 'usage: musl.sh PYTHON FOLDER [BUILDER]' >&2; exit 2; }
[ ! -e "$2/configure" ] || exit 0
rm -rf "$2"
mkdir -p "$2/bin"
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
folder=$(cd "$2" && pwd)
builder=${3:-}
cd "$(dirname "$0")/.."
step() { tools/step.sh "host-$(basename "$folder")" "$@"; }
this=$(uname -m)-linux-musl
triplet=$this
run=
binutils=
if [ "$builder" ]; then
    triplet=aarch64-linux-musl
    run="qemu-aarch64-static -L '$folder/root'"
    binutils=aarch64-linux-gnu-
fi
zig=$("$python" -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).with_name("zig"))')

# Without -fPIC a program would have a copy of its own of musl's "environ", of which musl knows nothing.
for tool in cc c++; do
    cat >"$folder/bin/$tool" <<COMPILER
#!/bin/sh
export ZIG_GLOBAL_CACHE_DIR="$(pwd)/build/zig" ZIG_LOCAL_CACHE_DIR="$(pwd)/build/zig"
exec "$zig" $tool -target $triplet -fno-sanitize=undefined -fPIC -Wno-date-time "\$@"
COMPILER
done
printf '#!/bin/sh\nexec %s "%s/python/python" "$@"\n' "$run" "$folder" >"$folder/bin/python"
chmod +x "$folder"/bin/*

# The sources come from this machine's own mirror. apt's own settings are not touched.
download=$folder/download
mkdir -p "$download/lists/partial" "$download/archives/partial"
suite_and_mirror=$(tools/debian-mirror.sh)
# shellcheck disable=SC2086
set -- $suite_and_mirror
mode=root
[ "$(id -u)" = 0 ] || mode=chrootless
[ ! "$builder" ] || step "unpacking Debian's musl for arm64" mmdebstrap --variant=extract --mode="$mode" \
    --architectures=arm64 --include=musl "$1" "$folder/root" "$2"
cat >"$download/debian.sources" <<SOURCES
Types: deb-src
URIs: $2
Suites: $1
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
SOURCES
cat >"$download/apt.conf" <<SETTINGS
Dir::Etc::SourceList "$download/debian.sources";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$download/lists";
Dir::Cache::archives "$download/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Sandbox::User "root";
SETTINGS
cpython=$(apt-cache depends python3 | sed -n 's/.* \(python3\.[0-9]*\)$/\1/p' | head -n 1)
step "asking Debian's mirror for the sources of $cpython and libffi" env APT_CONFIG="$download/apt.conf" apt-get -q update
step "fetching them" env -C "$download" APT_CONFIG="$download/apt.conf" \
    apt-get -q source --download-only --only-source "$cpython" libffi
for package in "$cpython" libffi; do
    mkdir "$folder/${package%3.*}"
    tar -xf "$download/$package"_*.orig.tar.?z -C "$folder/${package%3.*}" --strip-components=1
done

jobs=$(nproc 2>/dev/null || echo 1)
step 'configuring libffi' env -C "$folder/libffi" ./configure --build="$this" --host="$triplet" --prefix="$folder" \
    --libdir="$folder/lib" --disable-shared --disable-docs --disable-multi-os-directory --disable-exec-static-tramp \
    CC="$folder/bin/cc" AR="${binutils}ar"
step 'building it' make -j"$jobs" -C "$folder/libffi" install
# Asked where it looks for headers, zig names those of this machine.
sed -i 's/self\.add_cross_compiling_paths()/pass/' "$folder/python/setup.py"
# The libraries of this machine are not for musl. preadv2() and pwritev2() are in zig's musl, and not in every other. The stack of
# musl's threads, 128 kB, is too small for Python's.
step "configuring $cpython" env -C "$folder/python" ./configure --build="$this" --host="$triplet" --prefix="$folder" \
    ${builder:+"--with-build-python=$builder"} ac_cv_file__dev_ptmx=yes ac_cv_file__dev_ptc=no ac_cv_buggy_getaddrinfo=no \
    --without-ensurepip --disable-test-modules CC="$folder/bin/cc" AR="${binutils}ar" READELF="${binutils}readelf" \
    CPPFLAGS="-I$folder/include" LDFLAGS="-dynamic -L$folder/lib" OPT='-O1 -DNDEBUG -DTHREAD_STACK_SIZE=0x100000' \
    PKG_CONFIG_LIBDIR="$folder/lib/pkgconfig" ac_cv_func_preadv2=no ac_cv_func_pwritev2=no
# It runs where it was built.
step 'building it, some minutes' make -j"$jobs" -C "$folder/python"
step 'looking whether it has what the tests need' "$folder/bin/python" -c 'import asyncio, binascii, ctypes'
echo "${builder:+--host=aarch64-linux-gnu }--disable-ssl" >"$folder/configure"
