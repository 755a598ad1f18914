#!/bin/sh
# sanitize.sh PYTHON TREE KIND [PYTEST-ARGUMENT...]: builds the C core with gcc's sanitizers into build/sanitize/KIND and
# runs tests against it; PYTHON is that of a virtual environment with pjfail and pjsua2, TREE the pjproject tree. Fails when
# a test does, or when a sanitizer has found something in the core (tests/sanitize/findings.py decides what is ours).
#
# KIND is "address" (AddressSanitizer, LeakSanitizer and UBSan) or "thread" (ThreadSanitizer). Only the core is compiled
# with it. The others still run on the sanitizer's malloc, string functions and locks: so what pjsip does with memory of
# ours is seen where it copies, and its locks order what the core does under them; races within pjsip are not seen.
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
    # Whose a report is, is seen afterwards: none may end the program, not even a leak of Python's.
    common="exitcode=0:log_path=$reports/report"
    options="ASAN_OPTIONS=$common:halt_on_error=0:detect_leaks=1:alloc_dealloc_mismatch=0:quarantine_size_mb=8 \
LSAN_OPTIONS=$common UBSAN_OPTIONS=$common:print_stacktrace=1"
    ;;
thread)
    flags="-fsanitize=thread"
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

# A tree of its own, so that neither the extension nor the virtual environment is touched.
rm -rf "$build"
mkdir -p "$build" "$reports"
cp -R pjfail pjfail_build.py setup.py pyproject.toml README.md COPYING "$build"
rm -f "$build"/pjfail/_native*.so
(
    cd "$build"
    PJPROJECT_DIR=$tree PJFAIL_CFLAGS="$flags -O1 -fno-omit-frame-pointer -fno-optimize-sibling-calls" PJFAIL_LDFLAGS=$flags \
        "$python" setup.py --quiet build_ext --inplace >build.log 2>&1
) || {
    tail -n 20 "$build/build.log" >&2
    die "the core does not build for $kind; the whole output is in $build/build.log"
}

# What runs the tests' programs, with another host's Python where rig/app.py names it; pytest itself, with the registrars
# in it, stays as it is.
cat >"$build/python" <<PROGRAM
#!/bin/sh
exec $plain env LD_PRELOAD='$runtime' PYTHONMALLOC=malloc PYTHONPATH="$build:\$PYTHONPATH" $options \
    "\${PJFAIL_SANITIZED_PYTHON:-$python}" "\$@"
PROGRAM
chmod +x "$build/python"
printf 'import pjfail._native as n; assert n.__file__.startswith("%s/"), n.__file__\n' "$build" >"$build/which.py"
PYTHONPATH='' "$build/python" "$build/which.py" || die "the core built for $kind cannot be loaded."
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
