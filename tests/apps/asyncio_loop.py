"""asyncio: a task polls pjsip, others await what its callbacks put into futures."""

import asyncio

import pjsua2 as pj


class Account(pj.Account):
    def __init__(self, loop):
        super().__init__()
        self.loop = loop
        self.registered = loop.create_future()

    def onRegState(self, prm):
        if not self.registered.done():
            self.registered.set_result(prm.code)


async def poll(ep):
    while True:
        ep.libHandleEvents(0)
        await asyncio.sleep(0.01)


async def dial(account):
    while True:
        call = pj.Call(account)
        call.makeCall("sip:echo@pbx.example", pj.CallOpParam(True))
        await asyncio.sleep(1)


async def register(account):
    while True:
        account.registered = account.loop.create_future()
        account.setRegistration(True)
        print("registered:", await account.registered, flush=True)
        await asyncio.sleep(2)


async def main():
    ep = pj.Endpoint()
    ep.libCreate()
    config = pj.EpConfig()
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    config.logConfig.consoleLevel = 0
    config.medConfig.clockRate = 8000
    ep.libInit(config)
    ep.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
    ep.libStart()
    ep.audDevManager().setNullDev()
    account_config = pj.AccountConfig()
    account_config.idUri = "sip:asyncio@pbx.example"
    account_config.regConfig.registrarUri = "sip:pbx.example"
    account_config.regConfig.registerOnAdd = False
    account = Account(asyncio.get_running_loop())
    account.create(account_config)
    await asyncio.gather(poll(ep), dial(account), register(account))


asyncio.run(main())
