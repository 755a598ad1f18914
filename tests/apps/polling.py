"""One thread that does everything: pjsip is polled between two other jobs."""

import time

import pjsua2

ep = pjsua2.Endpoint()
ep.libCreate()
cfg = pjsua2.EpConfig()
cfg.uaConfig.threadCnt = 0
cfg.uaConfig.mainThreadOnly = True
cfg.logConfig.consoleLevel = 0
cfg.medConfig.clockRate = 8000
ep.libInit(cfg)
ep.transportCreate(pjsua2.PJSIP_TRANSPORT_UDP, pjsua2.TransportConfig())
ep.libStart()
ep.audDevManager().setNullDev()

acc_cfg = pjsua2.AccountConfig()
acc_cfg.idUri = "sip:polling@pbx.example"
acc_cfg.regConfig.registrarUri = "sip:pbx.example"
acc = pjsua2.Account()
acc.create(acc_cfg)

call, next_job = None, time.time() + 1
while True:
    ep.libHandleEvents(10)
    if time.time() > next_job:
        next_job = time.time() + 2
        acc.setRegistration(True)
        call = pjsua2.Call(acc)
        call.makeCall("sip:echo@pbx.example", pjsua2.CallOpParam(True))
