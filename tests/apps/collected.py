"""An account for each job, thrown away after it: the garbage collector deletes what pjsip still works on."""

import gc
import time

import pjsua2 as pj


def start():
    ep = pj.Endpoint()
    ep.libCreate()
    config = pj.EpConfig()
    config.logConfig.consoleLevel = 0
    config.medConfig.clockRate = 8000
    ep.libInit(config)
    ep.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
    ep.libStart()
    ep.audDevManager().setNullDev()
    return ep


def job(number):
    config = pj.AccountConfig()
    config.idUri = f"sip:collected{number}@pbx.example"
    config.regConfig.registrarUri = "sip:pbx.example"
    config.regConfig.unregWaitMsec = 0
    account = pj.Account()
    account.create(config)
    call = pj.Call(account)
    call.makeCall("sip:echo@pbx.example", pj.CallOpParam(True))
    time.sleep(1)
    call.hangup(pj.CallOpParam())


ep = start()
for number in range(1000):
    job(number % 3)
    gc.collect()
