"""Tests of a program that loses its SIP server, and of one that loses its name server, with pjfail's fixtures."""

import asyncio
import queue
from collections.abc import Callable, Iterator

import pjsua2 as pj
import pytest

import pjfail
from pjfail.testing import SILENT, NameServer, Registrar


class Program(pj.Account):
    """Stands for a program that registers with sip.test, over and over again."""

    def __init__(self) -> None:
        super().__init__()
        self.codes: queue.SimpleQueue[int] = queue.SimpleQueue()

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        self.codes.put(prm.code)

    def register(self, servers: list[str] | None = None) -> int:
        if servers is not None:
            pjfail.attach(lookup=pjfail.StaticLookup({"sip.test": servers}))
            config = pj.AccountConfig()
            config.idUri = "sip:alice@sip.test"
            config.regConfig.registrarUri = "sip:sip.test"
            self.create(config)
        else:
            self.setRegistration(True)
        return self.codes.get(timeout=10)


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    endpoint.libInit(pj.EpConfig())
    endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
    endpoint.libStart()
    account = Program()
    yield account
    account.shutdown()
    endpoint.libDestroy()


pytest_plugins = ["pjfail.testing.fixtures"]


def test_it_outlives_its_server(failing_server: Callable[..., Registrar], program: Program) -> None:
    first, second = failing_server(), failing_server()
    assert program.register([first.endpoint, second.endpoint]) == 200
    first.fault = SILENT
    assert program.register() == 200
    second.wait_for("REGISTER")


def test_it_outlives_its_name_server(failing_dns: Callable[..., NameServer]) -> None:
    name_server = failing_dns("@ 60 SOA ns admin 1 60 60 60 60\n@ 60 NS ns\n@ 60 A 192.0.2.1\n", "sip.test")
    lookup = pjfail.DnsLookup([name_server.endpoint], transports=["udp"])
    assert asyncio.run(lookup.lookup(pjfail.Target("sip.test")))
    name_server.fault = SILENT
    assert asyncio.run(lookup.lookup(pjfail.Target("sip.test")))
