"""Has its endpoint, and then forks a child for a job that has nothing to do with SIP, again and again."""

import os
import time

import pjsua2 as pj

ep = pj.Endpoint()
ep.libCreate()
config = pj.EpConfig()
config.logConfig.consoleLevel = 0
config.medConfig.clockRate = 8000
ep.libInit(config)
ep.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
ep.libStart()
ep.audDevManager().setNullDev()
account_config = pj.AccountConfig()
account_config.idUri = "sip:forks@pbx.example"
account_config.regConfig.registrarUri = "sip:pbx.example"
account = pj.Account()
account.create(account_config)
while True:
    time.sleep(1)
    account.setRegistration(True)
    call = pj.Call(account)
    call.makeCall("sip:echo@pbx.example", pj.CallOpParam(True))
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    time.sleep(1)
