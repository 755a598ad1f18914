"""A program that sends thousands of requests, many at once, and counts what it is told of each.

churning_app.py TRANSPORT COUNT AT_ONCE A_SECOND SERVER...: a line comes when it is under way, one for each request that
was lost, with when it was sent and when its end was told, one when all have ended, and in the end the sums and pjsip's
own dump, taken before and after.
"""

from __future__ import annotations

import re
import sys
import time

import pjsua2 as pj
from rig.ledger import Ledger
from rig.pjsip_state import dump, pjsip
from rig.prelude import Account, Endpoint, emit

import pjfail
from pjfail.retry import TIMEOUTS

DOMAIN = "churn.test"
ACCOUNTS = 8
LINGER = 6.0  # a transaction over UDP outlives its answer by 5 s
AT_REST_WITHIN = 40.0  # the late answer to a request that went on is awaited for 33 s

transport, count, at_once, a_second = sys.argv[1], *(int(word) for word in sys.argv[2:5])
uri = f"sip:{DOMAIN};transport={transport}"
servers = sys.argv[5:]


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


ledger = Ledger()
with Endpoint(transports=(transport,)) as endpoint:
    pjsip.pj_log_set_level(1)
    lookup = pjfail.StaticLookup({DOMAIN: [(server, 1, 1) for server in servers]})
    policy = pjfail.Policy(backoff=lambda *_: 0.5)
    retry = pjfail.RetryPolicy(timeouts={**TIMEOUTS, "MESSAGE": 0.5})
    pjfail.attach(lookup=lookup, policy=policy, retry=retry, follow=False)  # each REGISTER is one of these
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
