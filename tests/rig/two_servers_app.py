"""The programs of two_servers.py: alice's, who is followed, and that of bob, who is registered with both servers.

two_servers_app.py SETTINGS: with "peers" in them it is bob's. Each line on the standard input is run.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import time
from typing import Any

import pjsua2 as pj

import pjfail
from rig.prelude import Endpoint, emit, heard

logging.basicConfig(level=logging.INFO, stream=sys.stderr)
settings: dict[str, Any] = json.loads(sys.argv[1])
transport = settings["transport"]
PJSIP_EBUSY = 171001


class Call(pj.Call):  # type: ignore[misc]  # pjsua2 has no types
    def __init__(self, account: pj.Account, number: int = pj.PJSUA_INVALID_ID) -> None:
        super().__init__(account, number)
        self.begun = time.monotonic()
        self.told = number != pj.PJSUA_INVALID_ID

    def onCallState(self, _prm: pj.OnCallStateParam) -> None:
        info = self.getInfo()
        if not self.told and info.state in (pj.PJSIP_INV_STATE_CONFIRMED, pj.PJSIP_INV_STATE_DISCONNECTED):
            self.told = True
            code = 200 if info.state == pj.PJSIP_INV_STATE_CONFIRMED else info.lastStatusCode
            emit(call=code, seconds=time.monotonic() - self.begun)


class Account(pj.Account):  # type: ignore[misc]
    def __init__(self, uri: str, registrar: str) -> None:
        super().__init__()
        self.codes: queue.SimpleQueue[int] = queue.SimpleQueue()
        config = pj.AccountConfig()
        config.idUri = uri
        config.regConfig.registrarUri = registrar
        self.create(config)

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        self.codes.put(prm.code)

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        made = Call(self, prm.callId)
        calls.append(made)
        answer = pj.CallOpParam()
        answer.statusCode = 200
        made.answer(answer)
        emit(called=True)


def settled(account: Account) -> int:
    """The code of the last answer to a REGISTER: pjsua may have sent another, with the Contact that it has seen."""
    code = account.codes.get(timeout=20)
    while True:
        try:
            code = account.codes.get(timeout=0.5)
        except queue.Empty:
            return code


def register() -> None:
    begun = time.monotonic()
    while True:
        try:
            account.setRegistration(True)
            break
        except pj.Error as error:
            if error.status != PJSIP_EBUSY:
                raise
            account.codes.get(timeout=40)  # of the REGISTER that is under way
    code = account.codes.get(timeout=40)
    emit(code=code, seconds=time.monotonic() - begun)


def server() -> str:
    pinned = failover.pinned(account)
    return pinned.address if pinned is not None else ""


def moved_to(address: str) -> None:
    """Waits until the account is on this server."""
    until = time.monotonic() + 20
    while server() != address and time.monotonic() < until:
        time.sleep(0.05)
    settled_quietly()
    emit(on=server())


def settled_quietly() -> None:
    while True:
        try:
            account.codes.get(timeout=0.5)
        except queue.Empty:
            return


def follow() -> None:
    """Has the account followed, and tells where it is."""
    failover.follow(account, spread=0)
    until = time.monotonic() + 10
    while not server() and time.monotonic() < until:
        time.sleep(0.05)
    settled_quietly()
    emit(on=server())


def update(listed: dict[str, list[str]]) -> None:
    """Replaces the table, and waits until it is in force."""
    table.update(listed)
    until = time.monotonic() + 10
    while len(failover.resolve(settings["registrar"]).servers) < 2 and time.monotonic() < until:
        time.sleep(0.05)


def call(uri: str = "") -> None:
    made = Call(account)
    calls.append(made)
    made.makeCall(uri or settings["bob"], pj.CallOpParam(True))


calls: list[Call] = []
with Endpoint(transports=(transport,), ca=settings.get("ca"), log_level=3) as endpoint:
    if "peers" in settings:
        peers = [Account(f"sip:bob@{address}", f"sip:{address}") for address in settings["peers"]]
        for each in peers:
            emit(registered=settled(each))
        account = peers[-1]
    else:
        listed = settings["table"]
        table = pjfail.StaticLookup(listed or {})
        dns = pjfail.DnsLookup([settings["nameserver"]])
        failover = pjfail.attach(servers=None if listed is None else table, lookup=dns)
        # Of two equal servers it is the first that is to fail.
        second = f"{transport}:{settings['second']}"
        failover.mark_down(second)
        account = Account(settings["id"], settings["registrar"])
        emit(code=settled(account))
        follow()
        failover.restore(second)
    while word := heard():
        exec(word)
