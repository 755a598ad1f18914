"""In a program of a test: what the loaded pjsip holds, by its own account."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pjsua2 as pj

pjsip = ctypes.CDLL(pj._pjsua2.__file__)


@contextmanager
def log() -> Iterator[list[str]]:
    """What pjsip prints meanwhile."""
    lines: list[str] = []
    saved = os.dup(1)
    with tempfile.TemporaryFile("w+") as file:
        os.dup2(file.fileno(), 1)
        yield lines
        pjsip.fflush(None)
        os.dup2(saved, 1)
        os.close(saved)
        file.seek(0)
        lines += file.read().splitlines()


def dump() -> dict[str, Any]:
    """pjsip's own account of what it holds: transactions, messages to send, references to transports, pools by kind."""
    pjsip.pj_log_set_level(3)
    with log() as lines:
        pjsip.pjsua_dump(1)
    pjsip.pj_log_set_level(1)
    text = "\n".join(lines)
    transactions = re.search(r"Total (\d+) transactions", text)
    buffers = re.search(r"Outstanding transmit buffers: (\d+)", text)
    assert transactions is not None, text
    assert buffers is not None, text
    pools = re.findall(r"^\s+([a-z_-]+)[^\s:]*:\s+\d+ of\s+\d+", text, re.MULTILINE)
    return {
        "transactions": int(transactions[1]),
        "buffers": int(buffers[1]),
        "users": sum(int(count) for count in re.findall(r"refcnt=(\d+)", text)),
        "pools": dict(Counter(pools)),
        "text": text,
    }


def free_keys() -> int:
    """Returns how many more keys pjsip's ioqueue has. Takes them all for a moment: nothing else may go on.

    A key that was let go is free again half a second later, and pjsip aborts where it finds only such keys.
    """
    time.sleep(1)
    pjsip.pjsip_endpt_get_ioqueue.restype = pjsip.pjsua_get_pjsip_endpt.restype = ctypes.c_void_p
    pjsip.pjsua_pool_create.restype = ctypes.c_void_p
    ioqueue = ctypes.c_void_p(pjsip.pjsip_endpt_get_ioqueue(ctypes.c_void_p(pjsip.pjsua_get_pjsip_endpt())))
    pool = ctypes.c_void_p(pjsip.pjsua_pool_create(b"free-keys", 4000, 4000))
    callbacks = (ctypes.c_void_p * 4)()  # pj_ioqueue_callback: none is called, for nothing arrives
    keys: list[ctypes.c_void_p] = []
    while True:
        key, opened = ctypes.c_void_p(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()
        if pjsip.pj_ioqueue_register_sock(pool, ioqueue, ctypes.c_long(opened), None, callbacks, ctypes.byref(key)):
            os.close(opened)
            break
        keys.append(key)
    for key in keys:
        pjsip.pj_ioqueue_unregister(key)  # closes the socket too
    pjsip.pj_pool_release(pool)
    time.sleep(1)
    return len(keys)
