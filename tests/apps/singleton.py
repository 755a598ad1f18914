"""`Endpoint.instance()` wherever it is needed, and pjsua2 imported only where the phone is."""

import threading


class Phone:
    def __init__(self, user):
        from pjsua2 import Endpoint, EpConfig, TransportConfig

        self._endpoint = Endpoint()
        Endpoint.instance().libCreate()
        config = EpConfig()
        config.logConfig.consoleLevel = 0
        config.medConfig.clockRate = 8000
        Endpoint.instance().libInit(config)
        Endpoint.instance().transportCreate(1, TransportConfig())
        Endpoint.instance().libStart()
        Endpoint.instance().audDevManager().setNullDev()
        self.user = user

    def register(self):
        from pjsua2 import Account, AccountConfig

        config = AccountConfig()
        config.idUri = f"sip:{self.user}@pbx.example"
        config.regConfig.registrarUri = "sip:pbx.example"
        self.account = Account()
        self.account.create(config)

    def again(self):
        from pjsua2 import Call, CallOpParam, Endpoint

        if not Endpoint.instance().libIsThreadRegistered():
            Endpoint.instance().libRegisterThread("timer")
        self.account.setRegistration(True)
        self.call = Call(self.account)
        self.call.makeCall("sip:echo@pbx.example", CallOpParam(True))
        threading.Timer(1.5, self.again).start()


phone = Phone("singleton")
phone.register()
threading.Timer(1.5, phone.again).start()
threading.Event().wait()
