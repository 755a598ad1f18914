"""A program that sends thousands of requests, many at once, and counts what it is told of each.

churning_app.py TRANSPORT COUNT AT_ONCE A_SECOND SERVER...: a line comes when it is under way, one for each request that
was lost, with when it was sent and when its end was told, one when all have ended, and in the end the sums and pjsip's
own dump, taken before and after.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pjsua2 as pj
from rig.prelude import Account, Endpoint, emit

import pjfail
from pjfail.steering import SILENCE

DOMAIN = "churn.test"
ACCOUNTS = 8
LINGER = 6.0  # a transaction over UDP outlives its answer by 5 s
AT_REST_WITHIN = 40.0  # the late answer to a request that went on is awaited for 33 s

transport, count, at_once, a_second = sys.argv[1], *(int(word) for word in sys.argv[2:5])
uri = f"sip:{DOMAIN};transport={transport}"
servers = sys.argv[5:]


class Ledger:
    """What is owed an answer, and how often it was given one."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.sent: dict[str, float] = {}
        self.answers: Counter[str] = Counter()
        self.unasked: list[str] = []

    def send(self, key: str) -> None:
        with self.changed:
            self.sent[key] = time.monotonic()

    def answer(self, key: str, code: int) -> None:
        with self.changed:
            if key not in self.sent:
                self.unasked.append(f"{key} {code}")
                return
            self.answers[key] += 1
            self.changed.notify()
        if code != 200:
            emit(lost=key, code=code, sent=self.sent[key], told=time.monotonic())

    @property
    def under_way(self) -> int:
        return len(self.sent) - len(self.answers)

    def wait(self, at_most: int, timeout: float) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.under_way <= at_most, timeout), "requests have no end"


class Sender(Account):
    """Tells the ledger; requests are known by their Subject, registrations by the one that is under way."""

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        super().__init__(endpoint, retries=False)
        self.registering = ""
        self.open(f"sip:{name}@{DOMAIN}", uri)

    def send_one(self, method: str, number: int) -> None:
        key = f"{method} {number}"
        ledger.send(key)
        if method == "REGISTER":
            self.registering = key
            self.send_register()
        else:
            self.send(method, uri, Subject=str(number))

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        key, code = self.registering, prm.code
        self.registering = ""
        ledger.answer(key, code)

    def onSendRequest(self, prm: pj.OnSendRequestParam) -> None:
        tsx = prm.e.body.tsxState.tsx
        number = re.search(r"\nSubject: (\d+)", tsx.lastTx.wholeMsg)
        assert number is not None
        ledger.answer(f"{tsx.method} {number[1]}", tsx.statusCode)


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


ledger = Ledger()
pjsip = ctypes.CDLL(pj._pjsua2.__file__)
with Endpoint(transports=(transport,)) as endpoint:
    pjsip.pj_log_set_level(1)
    lookup = pjfail.StaticLookup({DOMAIN: [(server, 1, 1) for server in servers]})
    policy = pjfail.Policy(backoff=lambda *_: 0.5)
    steering = pjfail.Steering(silence={**SILENCE, "MESSAGE": 0.5})
    pjfail.attach(lookup=lookup, policy=policy, steering=steering)
    senders = [Sender(endpoint, f"user{number}") for number in range(ACCOUNTS)]
    for number, sender in enumerate(senders):
        sender.send_one("REGISTER", -number)
    ledger.wait(0, 40)
    time.sleep(LINGER)
    before = dump()
    emit(started=True)
    began = time.monotonic()
    for number in range(1, count + 1):
        ledger.wait(at_once - 1, 60)
        time.sleep(max(0.0, began + number / a_second - time.monotonic()))
        sender = senders[number % ACCOUNTS]
        method = ("OPTIONS", "MESSAGE", "REGISTER")[number % 3]
        if method == "REGISTER" and sender.registering:
            method = "OPTIONS"
        sender.send_one(method, number)
    ledger.wait(0, 60)
    took = time.monotonic() - began
    emit(over=True)
    rests_at = time.monotonic() + AT_REST_WITHIN
    while (after := dump())["users"] > before["users"] or after["transactions"]:
        if time.monotonic() > rests_at:
            break
        time.sleep(1)
    emit(
        requests=len(ledger.sent),
        unanswered=sorted(ledger.sent.keys() - ledger.answers.keys()),
        answered_twice=sorted(key for key, times in ledger.answers.items() if times > 1),
        unasked=ledger.unasked,
        seconds=took,
        before=before,
        after=after,
    )
