"""findings.py KIND FOLDER STATUS: what the sanitizers' reports in FOLDER say of pjfail's C core, and the verdict.

A report counts when the code at fault, or the code that allocated, freed or locked, is the core itself: the innermost
frame of one of its stacks that is none of the sanitizer's own. A wrong access to memory counts within pjsip too, for
the core hands pjsip pointers, unless it is one of stock pjsip's (STOCK). Other reports on Python, pjsip and others are
counted only, and so are races that are none (POOL_FREED, NAME_SERVERS). UBSan sees nothing but the core. STATUS is
pytest's. Exits with 1 when there is anything to mend.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

START = re.compile(
    r"^(?:==\d+==)?(?:ERROR: AddressSanitizer|WARNING: ThreadSanitizer|FATAL: ThreadSanitizer|(?:Direct|Indirect) leak"
    r"|.*: runtime error: )"
)
FRAME = re.compile(r"^\s*#(\d+) (?:0x[0-9a-f]+ (?:in )?)?(.*)")
SANITIZERS = re.compile(r"libsanitizer|lib[atlu]b?san\.so|__interceptor_|\b__(?:a|t|ub)san_")
CORE = re.compile(r"pjfail/_core/|_native\.abi3\.so|_native\.c:")
# What a report says after that is who slept meanwhile, and who made the memory, the locks and the threads.
ASIDE = re.compile(r"^\s*(?:As if synchronized via sleep|Location is|Mutex M\d+ .*created at|Thread T\d+ .*created by)")
# The halves of two races that are none. The memory of a transaction, or of a message on its way out, is freed by who
# drops the last reference to it; that transaction.c reads the one, and a sending thread the other, only while they hold
# one, ThreadSanitizer cannot know: pjlib counts with atomic instructions, in code that it has not compiled.
POOL_FREED = re.compile(r"^ *Write of size .*\n *#0 free .*\n *#1 (?:cpool_release_pool|reset_pool) ", re.MULTILINE)
TRANSACTION_READ = re.compile(
    r"^ *Previous read of size .*\n *#0 tsx_\w+ \S*_core/layout\.h:.*\n *#1 transaction_\w+ \S*_core/transaction\.c:",
    re.MULTILINE,
)
MESSAGE_READ = re.compile(
    r"^ *Previous read of size .*\n"
    r"(?: *#\d+ .*\n)*? *#\d+ (?:module_on_tx_request \S*_core/module|send_guard_begin \S*_core/send_guard)\.c:.*\n"
    r"(?: *#\d+ .*\n)*? *#\d+ send_guard_answer \S*_core/send_guard\.c:",
    re.MULTILINE,
)
# pjsua reads its number of name servers without a lock, and pjfail writes that int at an attach and a detach
# (accounts_stop_lookups()): either value is right for a request under way.
NAME_SERVERS = re.compile(
    r"#0 (?:pjsua_acc_get_uac_addr .*\n(?:.*\n)*? *#0 accounts_\w+_lookups |"
    r"accounts_\w+_lookups .*\n(?:.*\n)*? *#0 pjsua_acc_get_uac_addr )"
)
# A wrong access within pjsip, which is compiled with AddressSanitizer: in its sources or its headers' functions.
ACCESS = re.compile(r"ERROR: AddressSanitizer: (?!detected memory leaks)")
PJSIP = re.compile(r" \.\./(?:\.\./\w+/)?(?:src|include)/pj")
# Those that stock pjsip makes too, by itself: a pattern for the whole report, and why.
STOCK: dict[str, str] = {
    r"#1 0x[0-9a-f]+ in __asan::PlatformUnpoisonStacks": "AddressSanitizer's own: it asks for the signal stack before "
    "a C++ exception, on a stack that an exception of SWIG's has left marked (gcc 12)",
}
SHOWN = 5


def split(text: str) -> list[str]:
    """The single reports in one process's file."""
    reports: list[list[str]] = []
    for line in text.splitlines():
        if START.match(line):
            reports.append([])
        if reports:
            reports[-1].append(line)
    return ["\n".join(report).rstrip("= \n") for report in reports]


def culprits(report: str) -> list[str]:
    """The innermost frame of each stack that is none of the sanitizer's."""
    found = []
    wanted = False
    for line in report.splitlines():
        if ASIDE.match(line):
            break
        frame = FRAME.match(line)
        if frame is None:
            continue
        if frame[1] == "0":
            wanted = True
        if wanted and not SANITIZERS.search(frame[2]):
            found.append(frame[2])
            wanted = False
    return found


def is_counted(report: str) -> bool:
    """Whether it is such a race, ordered by a reference count."""
    reads = (TRANSACTION_READ, MESSAGE_READ)
    return POOL_FREED.search(report) is not None and any(read.search(report) for read in reads)


def is_ours(report: str) -> bool:
    if is_counted(report) or NAME_SERVERS.search(report):
        return False
    if ": runtime error: " in report.splitlines()[0] or any(CORE.search(frame) for frame in culprits(report)):
        return True
    return is_pjsips(report) and not any(re.search(pattern, report) for pattern in STOCK)


def is_pjsips(report: str) -> bool:
    """Whether it is a wrong access that pjsip makes."""
    made_by = culprits(report)[:1]
    return ACCESS.search(report) is not None and any(PJSIP.search(frame) for frame in made_by)


def kind_of(report: str) -> str:
    """What was found, and where: the same thing found in many processes is one."""
    first = re.sub(r"^==\d+==|0x[0-9a-f]+|\(pid=\d+\)|\d+ (?:byte|object)\S*", "", report.splitlines()[0])
    first = re.split(r" on (?:unknown )?address| at pc", first)[0]
    counted = [frame for frame in culprits(report) if CORE.search(frame)]
    if not counted and is_pjsips(report):  # the first function that is not one of a header
        counted = [frame[2] for frame in map(FRAME.match, report.splitlines()) if frame and "/src/pj" in frame[2]][:1]
    ours = [re.sub(r"0x[0-9a-f]+", "", frame) for frame in counted]
    return " | ".join([first.strip(), *dict.fromkeys(ours)])


def main(kind: str, folder: str, status: str) -> int:
    ours: dict[str, str] = {}
    times: Counter[str] = Counter()
    others = 0
    for file in sorted(Path(folder).iterdir()):
        for report in split(file.read_text(errors="replace")):
            if is_ours(report):
                ours.setdefault(kind_of(report), report)
                times[kind_of(report)] += 1
            else:
                others += 1
    for what in list(ours)[:SHOWN]:
        print(f"\n--- {times[what]} times: {what}\n{ours[what]}")
    verdict = f"{len(ours)} findings" if ours else "nothing found"
    if len(ours) > SHOWN:
        verdict += f" (the first {SHOWN} are shown)"
    tests = "the tests passed" if status == "0" else "TESTS FAILED"
    failed = bool(ours) or status != "0"
    print(f"\nsanitize, {kind}: {'FAILED' if failed else 'passed'}: {verdict}, {tests};")
    print(f"    {others} reports on Python, pjsip and other libraries do not count. All reports: {folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
