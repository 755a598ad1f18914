"""What of the sanitizers' reports is the C core's: tests/sanitize/findings.py."""

from __future__ import annotations

import pytest
from sanitize.findings import is_ours, kind_of, split

# As gcc 12's runtime has written it.
TRANSACTION = """==================
WARNING: ThreadSanitizer: data race (pid=21248)
  Write of size 8 at 0x7b700005c0d0 by main thread (mutexes: write M661):
    #0 free ../../../../src/libsanitizer/tsan/tsan_interceptors_posix.cpp:706 (libtsan.so+0x47e82)
    #1 cpool_release_pool ../src/pj/pool_caching.c:254 (_pjsua2.cpython-311-x86_64-linux-gnu.so+0x42ba36)

  Previous read of size 8 at 0x7b700005c0d0 by thread T3:
    #0 tsx_lock pjfail/_core/layout.h:118 (_native.abi3.so+0x22dba)
    #1 transaction_wait_for_unlock pjfail/_core/transaction.c:60 (_native.abi3.so+0x22dba)
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
    #0 failover_on_tx_request pjfail/_core/failover.c:352 (_native.abi3.so+0x251f2)
    #1 module_on_tx_request pjfail/_core/module.c:271 (_native.abi3.so+0x130c5)
    #2 endpt_on_tx_msg ../src/pjsip/sip_endpoint.c:1156 (_pjsua2.cpython-311-x86_64-linux-gnu.so+0x39cfb5)
    #3 send_guard_answer pjfail/_core/send_guard.c:63 (_native.abi3.so+0x22dd8)

SUMMARY: ThreadSanitizer: data race ../src/pj/pool.c:278 in reset_pool
"""


NAME_SERVERS = """==================
WARNING: ThreadSanitizer: data race (pid=31176)
  Read of size 4 at 0x7ffff169fc58 by thread T9 (mutexes: write M655):
    #0 pjsua_acc_get_uac_addr ../src/pjsua-lib/pjsua_acc.c:3913 (_pjsua2.cpython-311-x86_64-linux-gnu.so+0x71261a)
    #1 pjsua_acc_create_request ../src/pjsua-lib/pjsua_acc.c:3699 (_pjsua2.cpython-311-x86_64-linux-gnu.so+0x713238)

  Previous atomic write of size 4 at 0x7ffff169fc58 by main thread (mutexes: write M1819):
    #0 accounts_resume_lookups pjfail/_core/accounts.c:366 (_native.abi3.so+0x114cc)
    #1 attach_unplug_locked pjfail/_core/attach.c:213 (_native.abi3.so+0x13b13)

SUMMARY: ThreadSanitizer: data race ../src/pjsua-lib/pjsua_acc.c:3913 in pjsua_acc_get_uac_addr
"""

# The ACK of an INVITE that was moved off a connection.
VIA = """=================================================================
==10503==ERROR: AddressSanitizer: heap-use-after-free on address 0x623000030c28 at pc 0x7ff01704814b bp 0x7ff sp 0x7ff
READ of size 9 at 0x623000030c28 thread T3
    #0 0x7ff01704814a in __interceptor_memcpy ../../../../src/libsanitizer/sanitizer_common/interceptors.inc:827
    #1 0x7ff0134dfd12 in pj_memcpy ../include/pj/string.h:854
    #2 0x7ff0134dfd12 in pj_strdup ../include/pj/string_i.h:43
    #3 0x7ff013311d44 in pjsip_via_hdr_clone ../src/pjsip/sip_msg.c:2139
    #4 0x7ff013329882 in pjsip_endpt_create_ack ../src/pjsip/sip_util.c:665

0x623000030c28 is located 5928 bytes inside of 6144-byte region [0x62300002f500,0x623000030d00)
freed by thread T3 here:
    #0 0x7ff0170b76a8 in __interceptor_free ../../../../src/libsanitizer/asan/asan_malloc_linux.cpp:52
    #1 0x7ff0134e8d83 in default_block_free ../src/pj/pool_policy_malloc.c:77
    #2 0x7ff013342f7a in tcp_on_destroy ../src/pjsip/sip_transport_tcp.c:922

SUMMARY: AddressSanitizer: heap-use-after-free
"""

# A race of pjmedia's own, while a thread of ours slept.
SLEPT = """==================
WARNING: ThreadSanitizer: data race (pid=8109)
  Read of size 8 at 0x7b800001e910 by main thread:
    #0 pj_thread_join ../src/pj/os_core_unix.c:1009 (_pjsua2.cpython-311-x86_64-linux-gnu.so+0x8684ce)

  Previous write of size 8 at 0x7b800001e910 by thread T2:
    #0 thread_main ../src/pj/os_core_unix.c:749 (_pjsua2.cpython-311-x86_64-linux-gnu.so+0x8689a6)

  As if synchronized via sleep:
    #0 nanosleep ../../../../src/libsanitizer/tsan/tsan_interceptors_posix.cpp:358 (libtsan.so+0x620f6)
    #1 attach_wait_until_cleared pjfail/_core/attach.c:404 (_native.abi3.so+0x12f96)

SUMMARY: ThreadSanitizer: data race ../src/pj/os_core_unix.c:1009 in pj_thread_join
"""

UNWINDING = """==5773==ERROR: AddressSanitizer: stack-buffer-overflow on address 0x7f43d0df5410 at pc 0x7f43d8c5fea1
WRITE of size 24 at 0x7f43d0df5410 thread T8
    #0 0x7f43d8c5fea0 in __interceptor_sigaltstack ../../../../src/libsanitizer/sanitizer_common/interceptors.inc:10168
    #1 0x7f43d8cbd483 in __asan::PlatformUnpoisonStacks() ../../../../src/libsanitizer/asan/asan_posix.cpp:44
    #2 0x7f43d8cc393c in __asan_handle_no_return ../../../../src/libsanitizer/asan/asan_rtl.cpp:606
    #3 0x7f43d493f814 in pj::Endpoint::on_acc_send_request(int, void*, pjsip_event*) ../src/pjsua2/endpoint.cpp:1003

SUMMARY: AddressSanitizer: stack-buffer-overflow
"""

LEAK = """
==26994==ERROR: LeakSanitizer: detected memory leaks

Direct leak of 24 byte(s) in 1 object(s) allocated from:
    #0 0x7fbc39cb89cf in __interceptor_malloc ../../../../src/libsanitizer/asan/asan_malloc_linux.cpp:69
    #1 0x7ff0134e8dd9 in default_block_alloc ../src/pj/pool_policy_malloc.c:45

SUMMARY: AddressSanitizer: 24 byte(s) leaked in 1 allocation(s).
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
        (
            TRANSACTION,
            "#1 transaction_wait_for_unlock pjfail/_core/transaction.c:60",
            "#1 resolver_resolve pjfail/_core/resolver.c:60",
        ),
        (TRANSACTION, "#1 cpool_release_pool ../src/pj/", "#1 course_release pjfail/_core/"),
        (MESSAGE, "Previous read", "Previous write"),
        (
            MESSAGE,
            "#1 module_on_tx_request pjfail/_core/module.c:271",
            "#1 module_on_rx_response pjfail/_core/module.c:276",
        ),
        (
            MESSAGE,
            "#3 send_guard_answer pjfail/_core/send_guard.c:63",
            "#3 resolver_resolve pjfail/_core/resolver.c:60",
        ),
        (MESSAGE, "#1 reset_pool ../src/pj/pool.c:278", "#1 course_release pjfail/_core/course.c:60"),
    ],
)
def test_any_other_race_with_the_core_in_it_counts(report: str, change: str, to: str) -> None:
    assert change in report
    assert ours(report.replace(change, to)) == [True]


def test_what_pjsip_reads_after_it_was_freed_counts() -> None:
    assert ours(VIA) == [True]
    assert kind_of(VIA.split("\n", 1)[1]).endswith(" | pjsip_via_hdr_clone ../src/pjsip/sip_msg.c:2139")


@pytest.mark.parametrize("report", [VIA.replace(" ../include/pj/", " Objects/"), LEAK])
def test_what_others_read_and_what_pjsip_does_not_free_does_not(report: str) -> None:
    assert ours(report) == [False]


def test_the_number_of_name_servers_may_be_written_meanwhile() -> None:
    """And nothing else of pjsua's."""
    assert not is_ours(NAME_SERVERS)
    assert is_ours(NAME_SERVERS.replace("accounts_resume_lookups", "accounts_resume_others"))
    assert is_ours(NAME_SERVERS.replace("pjsua_acc_get_uac_addr", "pjsua_acc_del"))


def test_who_slept_meanwhile_has_no_part_in_a_race() -> None:
    assert ours(SLEPT) == [False]


def test_what_the_sanitizer_does_before_an_exception_is_nobodys() -> None:
    assert ours(UNWINDING) == [False]
    assert ours(UNWINDING.replace("__asan::PlatformUnpoisonStacks()", "pj_memcpy")) == [True]
