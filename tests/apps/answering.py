"""An answering machine: it registers, and then says nothing until somebody calls."""

import threading

import pjsua2 as pj


class Account(pj.Account):
    def onIncomingCall(self, prm):
        call = pj.Call(self, prm.callId)
        calls.append(call)
        answer = pj.CallOpParam()
        answer.statusCode = 200
        call.answer(answer)


calls = []
ep = pj.Endpoint()
ep.libCreate()
config = pj.EpConfig()
config.logConfig.consoleLevel = 0
config.medConfig.clockRate = 8000
ep.libInit(config)
ep.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
ep.transportCreate(pj.PJSIP_TRANSPORT_TCP, pj.TransportConfig())
ep.libStart()
ep.audDevManager().setNullDev()
account_config = pj.AccountConfig()
account_config.idUri = "sip:answering@pbx.example"
account_config.regConfig.registrarUri = "sip:pbx.example"
account = Account()
account.create(account_config)
threading.Event().wait()
