"""Threads of the program's own, each of which registers with pjsip before it calls: a dialer with a queue."""

import queue
import threading
import time

import pjsua2 as pj

jobs = queue.Queue()


def worker(ep, account, name):
    ep.libRegisterThread(name)
    while True:
        number = jobs.get()
        call = pj.Call(account)
        call.makeCall(f"sip:{number}@pbx.example", pj.CallOpParam(True))
        time.sleep(1)
        if call.isActive():
            call.hangup(pj.CallOpParam())
        account.setRegistration(True)


ep = pj.Endpoint()
ep.libCreate()
config = pj.EpConfig()
config.logConfig.consoleLevel = 0
config.medConfig.clockRate = 8000
config.uaConfig.maxCalls = 8
ep.libInit(config)
ep.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
ep.libStart()
ep.audDevManager().setNullDev()
account_config = pj.AccountConfig()
account_config.idUri = "sip:dialer@pbx.example"
account_config.regConfig.registrarUri = "sip:pbx.example"
account = pj.Account()
account.create(account_config)
for name in ("one", "two"):
    threading.Thread(target=worker, args=(ep, account, name), daemon=True).start()
for number in range(100000):
    jobs.put(number)
    time.sleep(0.7)
