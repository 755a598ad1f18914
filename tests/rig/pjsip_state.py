"""In a program of a test: what the loaded pjsip holds, by its own account."""

from __future__ import annotations

import ctypes
import os
import re
import tempfile
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


class _Ioqueue(ctypes.Structure):
    """The beginning of pjsip's `pj_ioqueue_t`: the same for select() and epoll, from 2.14 on."""

    _fields_ = [
        ("lock", ctypes.c_void_p),
        ("auto_delete_lock", ctypes.c_int),
        ("epoll_flags", ctypes.c_uint),
        ("default_concurrency", ctypes.c_int),
        ("max", ctypes.c_uint),
        ("count", ctypes.c_uint),
    ]


def used_keys() -> int:
    """Returns how many keys of its ioqueue pjsip uses. Takes none, so that traffic may go on.

    A key that was let go counts as free at once. pjsip itself takes such a key again only half a second later.
    """
    pjsip.pjsip_endpt_get_ioqueue.restype = pjsip.pjsua_get_pjsip_endpt.restype = ctypes.c_void_p
    endpoint = ctypes.c_void_p(pjsip.pjsua_get_pjsip_endpt())
    ioqueue = _Ioqueue.from_address(pjsip.pjsip_endpt_get_ioqueue(endpoint))
    assert 0 < ioqueue.count <= ioqueue.max <= 65536, "the ioqueue's fields lie elsewhere"
    return int(ioqueue.count)
