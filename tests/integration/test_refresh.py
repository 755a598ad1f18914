"""failover.refresh(): the servers of a domain are looked up anew, and the plan in force serves meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from rig.app import App
from rig.dns_server import DnsServer

NAME_SERVER = "127.0.93.53"
FIRST, SECOND = "127.0.93.1", "127.0.93.2"

APP = """
    import sys
    import pjfail
    from rig.prelude import Endpoint, emit, heard

    with Endpoint(log_level=0) as endpoint:
        lookup = pjfail.ChainLookup(pjfail.DnsLookup([sys.argv[1]], hosts=None, timeout=1.0))
        failover = pjfail.attach(lookup=lookup)
        while line := heard():
            try:
                emit(value=eval(line))
            except Exception as error:
                emit(value=type(error).__name__)
        emit(end=True)
"""
PLAN = "[each.server.address for each in failover.resolve('sip:sip.test;transport=udp').entries]"


@pytest.fixture
def name_server() -> Iterator[DnsServer]:
    with DnsServer(zone(FIRST), NAME_SERVER) as running:
        yield running


def zone(address: str) -> list[str]:
    return [
        "_sip._udp.sip.test. 3600 IN SRV 10 0 5060 a.sip.test.",
        f"a.sip.test. 3600 IN A {address}",
        "other.test. 3600 IN A 127.0.93.9",
    ]


def eventually(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until, "it has not come to that in time"
        time.sleep(0.05)


@pytest.mark.parametrize("uri", ["", "'sip:sip.test;transport=udp'"])
def test_what_has_changed_in_the_dns_is_found_at_once(name_server: DnsServer, uri: str) -> None:
    with App(APP, str(name_server)) as app:
        assert app.ask(PLAN)["value"] == [FIRST]
        name_server.records(zone(SECOND))
        assert app.ask(PLAN)["value"] == [FIRST]
        assert app.ask(f"failover.refresh({uri})")["value"] is None
        eventually(lambda: app.ask(PLAN)["value"] == [SECOND])


def test_no_plan_is_lost_while_the_name_server_is_silent(name_server: DnsServer) -> None:
    with App(APP, str(name_server)) as app:
        assert app.ask(PLAN)["value"] == [FIRST]
        asked = len(name_server.queries)
        name_server.fault("silent")
        app.ask("failover.refresh()")
        assert app.ask(PLAN)["value"] == [FIRST]
        eventually(lambda: len(name_server.queries) > asked)
        time.sleep(1.5)
        assert app.ask(PLAN)["value"] == [FIRST]


def test_another_targets_servers_are_not_looked_up(name_server: DnsServer) -> None:
    with App(APP, str(name_server)) as app:
        app.ask(PLAN)
        app.ask("str(failover.resolve('sip:other.test;transport=udp'))")
        asked = name_server.asked("A").count("other.test")
        app.ask("failover.refresh('sip:sip.test;transport=udp')")
        eventually(lambda: name_server.asked("A").count("a.sip.test") == 2)
        assert name_server.asked("A").count("other.test") == asked


def test_misuse(name_server: DnsServer) -> None:
    with App(APP, str(name_server)) as app:
        assert app.ask("failover.refresh('tel:1')")["value"] == "BadURI"
        assert app.ask("failover.refresh(3)")["value"] == "TypeError"
        assert app.ask("failover.detach()")["value"] is None
        assert app.ask("failover.refresh()")["value"] == "NotAttached"
