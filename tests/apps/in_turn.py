"""Starts its endpoint anew for each shift, as a service does that is reloaded."""

import time

import pjsua2 as pj


def shift(seconds):
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
    account_config.idUri = "sip:shift@pbx.example"
    account_config.regConfig.registrarUri = "sip:pbx.example"
    account = pj.Account()
    account.create(account_config)
    until = time.time() + seconds
    while time.time() < until:
        time.sleep(1)
        account.setRegistration(True)
        call = pj.Call(account)
        call.makeCall("sip:echo@pbx.example", pj.CallOpParam(True))
    call = account = None
    ep.libDestroy(pj.PJSUA_DESTROY_NO_NETWORK)


while True:
    shift(2)
