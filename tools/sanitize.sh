#!/bin/sh
# sanitize.sh PYTHON TREE KIND [PYTEST-ARGUMENT...]: builds the C core and pjsip with gcc's sanitizers into
# build/sanitize/KIND and runs tests with them; PYTHON is that of a virtual environment with pjfail and pjsua2, TREE the
# pjproject tree. Fails when a test does, or when a sanitizer reports something that counts (tests/sanitize/findings.py).
#
# KIND is "address" (AddressSanitizer, LeakSanitizer; UBSan for the core only) or "thread" (ThreadSanitizer). Other hosts
# than PYTHON (tools/hosts.sh) have a pjsua2 of their own, without sanitizers. That one, and Python itself, run on the
# sanitizer's malloc, string functions and locks.
set -eu

die() { printf 'sanitize: %s\n' "$*" >&2; exit 2; }

[ $# -ge 3 ] || die "usage: sanitize.sh PYTHON TREE address|thread [PYTEST-ARGUMENT...]"
root=$(cd "$(dirname "$0")/.." && pwd)
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
tree=$(cd "$2" && pwd)
kind=$3
shift 3
cd "$root"
build=$root/build/sanitize/$kind
reports=$build/reports
plain=
case $kind in
address)
    flags="-fsanitize=address,undefined -fsanitize-recover=address -fno-wrapv"
    # UBSan has a runtime of its own in the core. A shared one would hand its log's path to AddressSanitizer's function of
    # the same name, and write its reports to standard error, where findings.py does not look for them.
    link="$flags -static-libubsan -Wl,--exclude-libs,libubsan.a"
    # Whose a report is, is seen afterwards: none may end the program, not even a leak of Python's.
    common="exitcode=0:log_path=$reports/report"
    options="ASAN_OPTIONS=$common:halt_on_error=0:detect_leaks=1:alloc_dealloc_mismatch=0:quarantine_size_mb=8 \
LSAN_OPTIONS=$common UBSAN_OPTIONS=log_path=$reports/undefined:print_stacktrace=1"
    ;;
thread)
    flags="-fsanitize=thread"
    link=$flags
    common="exitcode=0:log_path=$reports/report"
    options="TSAN_OPTIONS=$common:halt_on_error=0:history_size=4:second_deadlock_stack=1:die_after_fork=0:\
report_thread_leaks=0:report_signal_unsafe=0"
    # gcc's older runtimes do not bear with the kernel's newer address randomization.
    ! setarch -R true 2>/dev/null || plain="setarch -R"
    ;;
*) die "\"$kind\" is neither address nor thread." ;;
esac
runtime=$(gcc -print-file-name="lib$(printf %.1s "$kind")san.so")
[ -e "$runtime" ] || die "gcc has no $runtime; install the Debian package libgcc-$(gcc -dumpversion)-dev and run again."
# The C++ runtime that pjsua2 brings along later must be there when the sanitizer looks for what throws exceptions.
runtime="$runtime $(gcc -print-file-name=libstdc++.so.6)"

tools/sanitized_pjsip.sh "$tree" "$kind"

# Runs a command quietly; on failure shows the end of what it printed.
quietly() {
    "$@" >"$build/build.log" 2>&1 || {
        tail -n 20 "$build/build.log" >&2
        die "\"$*\" failed; the whole output is in $build/build.log"
    }
}

# The Python module is only linked with the sanitizers: the wrapper that SWIG writes is not what is examined.
pjsua2=$build/pjsua2
if [ ! -e "$pjsua2/done" ]; then
    echo "sanitize: building the Python module of pjproject for $kind, a minute ..."
    rm -rf "$pjsua2"
    (
        cd "$build/pjproject/pjsip-apps/src/swig/python"
        quietly make pjsua2_wrap.cpp
        CFLAGS="-O0 -g0 -w" LDFLAGS="-fsanitize=$kind" quietly "$python" setup.py --quiet build_ext --build-lib "$pjsua2"
        cp pjsua2.py "$pjsua2"
    )
    touch "$pjsua2/done"
fi

# A tree of its own, so that neither the extension nor the virtual environment is touched.
core=$build/core
rm -rf "$core" "$reports"
mkdir -p "$core" "$reports"
cp -R pjfail _pjfail_hook.py pjfail.pth pjfail_build.py setup.py pyproject.toml README.md COPYING "$core"
rm -f "$core"/pjfail/_native*.so
(
    cd "$core"
    PJPROJECT_DIR=$tree PJFAIL_CFLAGS="$flags -O1 -fno-omit-frame-pointer -fno-optimize-sibling-calls" PJFAIL_LDFLAGS=$link \
        quietly "$python" setup.py --quiet build_ext --inplace
)

# What runs the tests' programs, with another host's Python where rig/app.py names it; pytest itself, with the registrars
# in it, stays as it is.
cat >"$build/python" <<PROGRAM
#!/bin/sh
modules=$core
[ "\$PJFAIL_SANITIZED_PYTHON" ] || modules=\$modules:$pjsua2
exec $plain env LD_PRELOAD='$runtime' PYTHONMALLOC=malloc PYTHONPATH="\$modules:\$PYTHONPATH" $options \
    "\${PJFAIL_SANITIZED_PYTHON:-$python}" "\$@"
PROGRAM
chmod +x "$build/python"
printf 'import _pjsua2, pjfail._native\nfor m in _pjsua2, pjfail._native: assert m.__file__.startswith("%s/"), m.__file__\n' \
    "$build" >"$build/which.py"
PYTHONPATH='' "$build/python" "$build/which.py" || die "what was built for $kind cannot be loaded."
rm -f "$reports"/*

# The tests' addresses are fixed ones: in a network of their own nobody else has them.
alone=
for each in "unshare --net" "unshare --map-root-user --net"; do
    if $each ip link set lo up 2>/dev/null; then alone=$each; break; fi
done
status=0
# shellcheck disable=SC2016
PJFAIL_TEST_PYTHON=$build/python $alone sh -c '[ "$1" = shared ] || ip link set lo up; shift; exec "$@"' sh \
    "${alone:-shared}" "$python" -m pytest --quiet -p no:cacheprovider --timeout=300 -n auto --dist loadfile \
    --no-loadscope-reorder "$@" || status=$?
[ "$status" -lt 2 ] || die "the tests could not be run (pytest's status $status)."
"$python" tests/sanitize/findings.py "$kind" "$reports" "$status"
