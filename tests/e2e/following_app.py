"""An ordinary pjsua2 program with many accounts, all followed, and calls between some of them.

following_app.py ACCOUNTS FAILBACK FIRST SECOND: user0, user1, ... at many.test, FIRST preferred; each answer to a
REGISTER is printed, with its time, and for how many of them pjsua has room. Each line on its standard input is run.
"""

from __future__ import annotations

import sys
import time
from functools import partial

import pjsua2 as pj
from rig.prelude import Endpoint, emit, heard

import pjfail

count, failback = int(sys.argv[1]), float(sys.argv[2])
servers = [(f"{address}:5060", priority, 0) for priority, address in enumerate(sys.argv[3:])]


class Call(pj.Call):  # type: ignore[misc]  # pjsua2 has no types
    def onCallState(self, _prm: pj.OnCallStateParam) -> None:
        info = self.getInfo()
        emit(call=info.id, state=info.stateText, code=info.lastStatusCode)


class Account(pj.Account):  # type: ignore[misc]
    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        server = prm.rdata.srcAddress.partition(":")[0]
        emit(user=self.getId(), code=prm.code, server=server, at=time.monotonic(), expires=prm.expiration)

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        call = Call(self, prm.callId)
        calls.append(call)
        answer = pj.CallOpParam()
        answer.statusCode = 200
        call.answer(answer)


def dial(caller: int, callee: int) -> Call:
    call = Call(accounts[caller])
    call.makeCall(f"sip:user{callee}@many.test", pj.CallOpParam(True))
    calls.append(call)
    return call


calls: list[Call] = []
accounts: list[Account] = []
with Endpoint(transports=("udp",), log_level=1, max_calls=32) as endpoint:
    follow = pjfail.Follow(failback=failback, watch=4)
    failover = pjfail.attach(lookup=pjfail.StaticLookup({"many.test": servers}), follow=follow)
    try:
        for number in range(count):
            account = Account()
            config = pj.AccountConfig()
            config.idUri = f"sip:user{number}@many.test"
            config.regConfig.registrarUri = "sip:many.test"
            account.create(config)
            accounts.append(account)
    except pj.Error:  # PJSUA_MAX_ACC
        assert accounts
    emit(room=len(accounts))
    names = dict(globals(), say=partial(emit, said=True))
    while word := heard():
        exec(word, names)
