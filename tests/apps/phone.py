"""A line that the programs with several processes share: one account, one endpoint, calls for ever."""

import time


def line(user):
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
    account_config.idUri = f"sip:{user}@pbx.example"
    account_config.regConfig.registrarUri = "sip:pbx.example"
    account = pj.Account()
    account.create(account_config)
    while True:
        time.sleep(1)
        call = pj.Call(account)
        call.makeCall("sip:echo@pbx.example", pj.CallOpParam(True))
        time.sleep(1)
        account.setRegistration(True)
