"""What of the sanitizers' reports is the C core's: tests/sanitize/findings.py."""

from __future__ import annotations

import pytest
from sanitize.findings import is_ours, split

# As gcc 12's runtime has written it.
TRANSACTION = """==================
WARNING: ThreadSanitizer: data race (pid=21248)
  Write of size 8 at 0x7b700005c0d0 by main thread (mutexes: write M661):
    #0 free ../../../../src/libsanitizer/tsan/tsan_interceptors_posix.cpp:706 (libtsan.so+0x47e82)
    #1 cpool_release_pool ../src/pj/pool_caching.c:254 (_pjsua2.cpython-311-x86_64-linux-gnu.so+0x42ba36)

  Previous read of size 8 at 0x7b700005c0d0 by thread T3:
    #0 tsx_lock pjfail/_core/layout.h:118 (_native.abi3.so+0x22dba)
    #1 transaction_settle pjfail/_core/transaction.c:60 (_native.abi3.so+0x22dba)
    #2 answer_waiter pjfail/_core/questions.c:278 (_native.abi3.so+0x180b8)

  Mutex M661 (0x7ffff006d978) created at:
    #0 pthread_mutex_init ../../../../src/libsanitizer/tsan/tsan_interceptors_posix.cpp:1295 (libtsan.so+0x50468)
    #1 init_mutex ../src/pj/os_core_unix.c:1522 (_pjsua2.cpython-311-x86_64-linux-gnu.so+0x41fa93)

SUMMARY: ThreadSanitizer: data race ../src/pj/pool_caching.c:254 in cpool_release_pool
"""

MESSAGE = """==================
WARNING: ThreadSanitizer: data race (pid=4000)
  Write of size 8 at 0x7b800007d210 by main thread (mutexes: write M706):
    #0 free ../../../../src/libsanitizer/tsan/tsan_interceptors_posix.cpp:706 (libtsan.so+0x47e82)
    #1 reset_pool ../src/pj/pool.c:278 (_pjsua2.cpython-311-x86_64-linux-gnu.so+0x42af6b)

  Previous read of size 4 at 0x7b800007d210 by thread T3:
    #0 steering_on_tx_request pjfail/_core/steering.c:352 (_native.abi3.so+0x251f2)
    #1 on_tx_request pjfail/_core/core.c:271 (_native.abi3.so+0x130c5)
    #2 endpt_on_tx_msg ../src/pjsip/sip_endpoint.c:1156 (_pjsua2.cpython-311-x86_64-linux-gnu.so+0x39cfb5)
    #3 sending_answer pjfail/_core/sending.c:63 (_native.abi3.so+0x22dd8)

SUMMARY: ThreadSanitizer: data race ../src/pj/pool.c:278 in reset_pool
"""


def ours(text: str) -> list[bool]:
    return [is_ours(report) for report in split(text)]


@pytest.mark.parametrize("report", [TRANSACTION, MESSAGE])
def test_what_is_read_under_a_reference_and_freed_later_is_no_race(report: str) -> None:
    assert ours(report) == [False]


@pytest.mark.parametrize(
    ("report", "change", "to"),
    [
        (TRANSACTION, "Previous read", "Previous write"),
        (TRANSACTION, "#0 tsx_lock pjfail/_core/layout.h:118", "#0 tdata_msg pjfail/_core/layout.h:70"),
        (TRANSACTION, "#1 transaction_settle pjfail/_core/transaction.c:60", "#1 resolve pjfail/_core/resolver.c:60"),
        (TRANSACTION, "#1 cpool_release_pool ../src/pj/", "#1 course_release pjfail/_core/"),
        (MESSAGE, "Previous read", "Previous write"),
        (MESSAGE, "#1 on_tx_request pjfail/_core/core.c:271", "#1 on_rx_response pjfail/_core/core.c:276"),
        (MESSAGE, "#3 sending_answer pjfail/_core/sending.c:63", "#3 resolve pjfail/_core/resolver.c:60"),
        (MESSAGE, "#1 reset_pool ../src/pj/pool.c:278", "#1 course_release pjfail/_core/course.c:60"),
    ],
)
def test_any_other_race_with_the_core_in_it_counts(report: str, change: str, to: str) -> None:
    assert change in report
    assert ours(report.replace(change, to)) == [True]
