"""A program's account outlives its server."""

import queue

import pjsua2 as pj

import pjfail
from pjfail.testing import SILENT, Registrar


class Account(pj.Account):
    def __init__(self) -> None:
        super().__init__()
        self.codes: queue.SimpleQueue[int] = queue.SimpleQueue()

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        self.codes.put(prm.code)


def test_a_registration_outlives_its_server() -> None:
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    endpoint.libInit(pj.EpConfig())
    endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
    endpoint.libStart()
    lookup = pjfail.StaticLookup({"sip.test": ["127.0.0.2:5060", "127.0.0.3:5060"]})
    with Registrar("127.0.0.2") as first, Registrar("127.0.0.3") as second, pjfail.attach(lookup=lookup):
        config = pj.AccountConfig()
        config.idUri = "sip:alice@sip.test"
        config.regConfig.registrarUri = "sip:sip.test"
        account = Account()
        account.create(config)
        assert account.codes.get(timeout=10) == 200
        first.wait_for("REGISTER")
        first.fault = SILENT  # it reads requests, and answers none
        account.setRegistration(True)
        assert account.codes.get(timeout=10) == 200
        second.wait_for("REGISTER")
        account.shutdown()
    endpoint.libDestroy()
