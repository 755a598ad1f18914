"""A program with four polling threads that sends requests and calls over UDP and TCP, round after round. It also has
followed accounts, with a standby each.

soaking_app.py SECONDS SERVER...: within a round pjfail is detached and attached again, at random and with requests
under way. A line comes for each request that was lost (`excused`: during a detach), and at the end of each round one
with its sums and with what the process holds at rest.
"""

from __future__ import annotations

import gc
import os
import random
import re
import resource
import socket
import stat
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import pjsua2 as pj
from rig.ledger import Ledger
from rig.pjsip_state import dump, pjsip, used_keys
from rig.prelude import Account, Endpoint, emit

import pjfail
from pjfail.retry import TIMEOUTS

DOMAIN = "soak.test"
ACCOUNTS, FOLLOWED, AT_ONCE, A_SECOND, MOST_CALLS = 6, 4, 40, 100, 3
# pjfail waits for the late answer of a request that failed over for 33 s.
ROUND_S, AT_REST_WITHIN_S = 60.0, 45.0
METHODS = ("OPTIONS", "MESSAGE", "REGISTER", "OPTIONS", "MESSAGE", "SUBSCRIBE")
TRANSPORTS = ("", ";transport=tcp")

seconds, servers = float(sys.argv[1]), sys.argv[2:]
chance = random.Random(7)


class Sender(Account):
    """Requests are known by their Subject, a registration by being the one that is under way."""

    def __init__(self, endpoint: Endpoint, number: int) -> None:
        super().__init__(endpoint, retries=False)
        self.registering = ""
        self.uri = f"sip:{DOMAIN}{TRANSPORTS[number % 2]}"
        self.open(f"sip:user{number}@{DOMAIN}", self.uri)

    def send_one(self, method: str, number: int) -> None:
        if method == "REGISTER" and self.registering:
            method = "OPTIONS"
        key = f"{method} {number}"
        soak.ledger.send(key)
        if method == "REGISTER":
            self.registering = key
            self.send_register()
        else:
            self.send(method, self.uri, Subject=str(number))

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        key, self.registering = self.registering, ""
        soak.end(key, prm.code)

    def onSendRequest(self, prm: pj.OnSendRequestParam) -> None:
        tsx = prm.e.body.tsxState.tsx
        number = re.search(r"\nSubject: (\d+)", tsx.lastTx.wholeMsg)
        assert number is not None
        soak.end(f"{tsx.method} {number[1]}", tsx.statusCode)


class Call(pj.Call):  # type: ignore[misc]
    """Hangs up some time after it was answered; its INVITE has ended when it is answered, or over."""

    def __init__(self, sender: Sender, number: int) -> None:
        super().__init__(sender)
        self.key = f"INVITE {number}"
        self.hang_up_at = 0.0
        self.over = False
        soak.ledger.send(self.key)
        self.makeCall(sender.uri, pj.CallOpParam(True))

    def onCallState(self, _: pj.OnCallStateParam) -> None:
        info = self.getInfo()
        if info.state == pj.PJSIP_INV_STATE_CONFIRMED:
            self.hang_up_at = time.monotonic() + chance.uniform(0, 2)
            soak.end(self.key, 200)
        elif info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            if not self.hang_up_at:
                soak.end(self.key, info.lastStatusCode)
            self.over = True


class Soak:
    """The rounds, and the attachment that comes and goes."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.ledger = Ledger()
        self.endpoint = endpoint
        self.detaches: list[float] = []
        self.calls: list[Call] = []
        self.number = 0
        self.followed = [Account(endpoint) for _ in range(FOLLOWED)]
        for number, account in enumerate(self.followed):
            account.open(f"sip:followed{number}@{DOMAIN}", f"sip:{DOMAIN}{TRANSPORTS[number % 2]}")
        self.failover = self.attach()
        for account in self.followed:
            account.send_register()

    def attach(self) -> pjfail.Failover:
        failover = pjfail.attach(
            lookup=pjfail.StaticLookup({DOMAIN: [(server, 1, 1) for server in servers]}),
            policy=pjfail.Policy(backoff=lambda *_: 0.5),
            retry=pjfail.RetryPolicy(timeouts={**TIMEOUTS, "MESSAGE": 0.5, "SUBSCRIBE": 0.5}),
            follow=False,  # every REGISTER of the senders is one that the program has sent
        )
        for account in self.followed:
            failover.follow(account, standby=True, spread=0.2, failback=1.0)
        return failover

    def end(self, key: str, code: int) -> None:
        sent, told = self.ledger.sent.get(key, 0.0), time.monotonic()
        self.ledger.answer(key, 200)  # that it has ended; how, is told here
        if code != 200:
            excused = any(sent <= at <= told for at in self.detaches)
            emit(lost=key, code=code, sent=sent, told=told, excused=excused)

    def round(self, length: float) -> None:
        """Traffic for so long, and then none until everything is at rest."""
        self.ledger = Ledger()
        self.detaches.clear()
        until, next_detach = time.monotonic() + length, time.monotonic() + chance.uniform(2, 12)
        while (now := time.monotonic()) < until:
            self.ledger.wait(AT_ONCE - 1, 60)
            self.number += 1
            sender = senders[self.number % ACCOUNTS]
            sender.send_one(METHODS[self.number // ACCOUNTS % len(METHODS)], self.number)
            if self.number % 25 == 0 and pjsip.pjsua_call_get_count() < MOST_CALLS:
                self.calls.append(Call(sender, self.number))
            self.tend_calls()
            if now > next_detach:
                self.detach_and_attach()
                next_detach = now + chance.uniform(2, 12)
            time.sleep(1 / A_SECOND)
        self.ledger.wait(0, 60)
        until = time.monotonic() + 60
        while self.calls and time.monotonic() < until:
            self.tend_calls()
            time.sleep(0.1)

    def tend_calls(self) -> None:
        for call in self.calls:
            if call.hang_up_at and call.hang_up_at < time.monotonic() and call.isActive():
                call.hangup(pj.CallOpParam())
        self.calls = [call for call in self.calls if not call.over]

    def detach_and_attach(self) -> None:
        self.detaches.append(time.monotonic())
        self.failover.detach()
        time.sleep(chance.choice((0, 0.05)))
        self.failover = self.attach()
        self.detaches.append(time.monotonic())

    def held(self) -> dict[str, Any]:
        """What the process holds, with pjfail detached and all transactions gone."""
        self.failover.detach()
        until = time.monotonic() + AT_REST_WITHIN_S
        while ((state := dump())["transactions"] or state["buffers"]) and time.monotonic() < until:
            time.sleep(1)
        gc.collect()
        with open("/proc/self/statm", encoding="ascii") as statm:
            memory = int(statm.read().split()[1]) * resource.getpagesize()
        # pjsip keeps a connection open for half a minute, or for as long as an account uses it.
        connections = connected()
        held = {
            "memory": memory,
            "handles": len(os.listdir("/proc/self/fd")) - connections,
            "keys": used_keys() - connections,
            "threads": threading.active_count(),
            "transactions": state["transactions"],
            "buffers": state["buffers"],
        }
        self.failover = self.attach()
        return held


def connected() -> int:
    """How many connections this process has."""
    connections = 0
    for handle in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(handle).st_mode):
                with socket.socket(fileno=os.dup(handle)) as one:
                    one.getpeername()
                    connections += one.type == socket.SOCK_STREAM
    return connections


with Endpoint(threads=4, max_calls=MOST_CALLS + 1) as endpoint:
    pjsip.pj_log_set_level(1)
    soak = Soak(endpoint)
    senders = [Sender(endpoint, number) for number in range(ACCOUNTS)]
    until = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < until:
        soak.round(min(ROUND_S, seconds / 4))
        ledger = soak.ledger
        emit(
            round=rounds,
            sent=len(ledger.sent),
            detaches=len(soak.detaches) // 2,
            calls_left=len(soak.calls),
            unanswered=sorted(ledger.sent.keys() - ledger.answers.keys()),
            answered_twice=sorted(key for key, times in ledger.answers.items() if times > 1),
            unasked=ledger.unasked,
            **soak.held(),
        )
        rounds += 1
    emit(over=True)
