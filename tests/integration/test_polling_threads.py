"""Several threads poll side by side, as with pjsua's threadCnt: one sends, another has the answer before it is done."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from rig.app import run_app

FIRST, SECOND = "127.0.35.1", "127.0.35.2"
TARGETS = 16

# The first request's thread stops at the first lock that it takes after sending, the second one's at the second ...:
# one of these is the transaction's, and meanwhile another thread has the answer, and ends the transaction.
STOPPING = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <pthread.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <unistd.h>

    static ssize_t (*real_send)(int, const void *, size_t, int);
    static int (*real_lock)(pthread_mutex_t *);
    static int requests;
    static __thread int locks_left;

    __attribute__((constructor)) static void find(void)
    {
        real_send = dlsym(RTLD_NEXT, "send");
        real_lock = dlsym(RTLD_NEXT, "pthread_mutex_lock");
    }

    ssize_t send(int socket, const void *bytes, size_t size, int flags)
    {
        if (size > 100 && !memcmp(bytes, "OPTIONS", 7))
            locks_left = ++requests;
        return real_send(socket, bytes, size, flags);
    }

    int pthread_mutex_lock(pthread_mutex_t *mutex)
    {
        if (locks_left && !--locks_left)
            usleep(100000);
        return real_lock(mutex);
    }
"""


@pytest.mark.usefixtures("first", "second")
def test_an_answer_that_comes_while_its_request_is_being_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The polling thread sends what had to wait for a plan; overtaken, it ended in an assertion of pjsip's."""
    stopping, source = tmp_path / "stopping.so", tmp_path / "stopping.c"
    source.write_text(STOPPING)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", stopping, source], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(stopping))
    [line] = run_app(
        f"""
        import pjfail
        from rig.prelude import Account, Endpoint, emit

        servers = [("{FIRST}:5060", 1, 1), ("{SECOND}:5060", 2, 1)]
        table = {{f"h{{number}}.test": servers for number in range({TARGETS})}}
        with Endpoint(threads=4) as endpoint:
            pjfail.attach(lookup=pjfail.StaticLookup(table))
            account = Account(endpoint)
            account.open("sip:alice@h0.test")
            emit(codes=[account.options(f"sip:{{host}};transport=tcp").code for host in table])
        """
    ).lines
    assert line == {"codes": [200] * TARGETS}
