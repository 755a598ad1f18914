"""uvloop in asyncio's place: pjsip's own threads do the work, and hand what happens to the loop."""

import asyncio

import pjsua2 as pj
import uvloop


class Account(pj.Account):
    def __init__(self, loop, happened):
        super().__init__()
        self.loop = loop
        self.happened = happened

    def onRegState(self, prm):
        self.loop.call_soon_threadsafe(self.happened.put_nowait, prm.code)


async def main():
    ep = pj.Endpoint()
    ep.libCreate()
    config = pj.EpConfig()
    config.logConfig.consoleLevel = 0
    config.medConfig.clockRate = 8000
    ep.libInit(config)
    ep.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
    ep.libStart()
    ep.audDevManager().setNullDev()
    happened = asyncio.Queue()
    account_config = pj.AccountConfig()
    account_config.idUri = "sip:uvloop@pbx.example"
    account_config.regConfig.registrarUri = "sip:pbx.example"
    account = Account(asyncio.get_running_loop(), happened)
    account.create(account_config)
    while True:
        print("registered:", await happened.get(), flush=True)
        await asyncio.sleep(1)
        call = pj.Call(account)
        call.makeCall("sip:echo@pbx.example", pj.CallOpParam(True))
        await asyncio.sleep(1)
        account.setRegistration(True)


uvloop.run(main())
