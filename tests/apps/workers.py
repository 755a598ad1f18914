"""pjsip's own threads do the work; the program sleeps, and calls somebody now and then."""

import time

import pjsua2 as pj


class Call(pj.Call):
    def onCallState(self, _):
        print("call", self.getInfo().stateText, self.getInfo().lastStatusCode, flush=True)


class Account(pj.Account):
    def onRegState(self, prm):
        print("registration", prm.code, prm.reason, flush=True)


def main():
    ep = pj.Endpoint()
    ep.libCreate()
    config = pj.EpConfig()
    config.uaConfig.threadCnt = 2
    config.logConfig.consoleLevel = 0
    config.medConfig.clockRate = 8000
    ep.libInit(config)
    ep.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
    ep.libStart()
    ep.audDevManager().setNullDev()

    account_config = pj.AccountConfig()
    account_config.idUri = "sip:workers@pbx.example"
    account_config.regConfig.registrarUri = "sip:pbx.example"
    account = Account()
    account.create(account_config)
    while True:
        time.sleep(1)
        call = Call(account)
        call.makeCall("sip:echo@pbx.example", pj.CallOpParam(True))
        time.sleep(1)
        if call.isActive():
            call.hangup(pj.CallOpParam())
        account.setRegistration(True)


if __name__ == "__main__":
    main()
