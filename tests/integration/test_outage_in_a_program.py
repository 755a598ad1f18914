"""The DNS goes down under a running pjsua2 program: it keeps registering and sending, and says so once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from rig.app import App
from rig.dns_server import DnsServer

from pjfail.testing import Registrar

ADDRESS, NAME_SERVER, PORT = "127.0.33.1", "127.0.33.53", 5353
ZONE = ["_sip._udp.sip.test. 2 IN SRV 1 1 5060 a.sip.test.", f"a.sip.test. 2 IN A {ADDRESS}"]

APP = f"""
    import logging, sys
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    import pjfail
    from rig.prelude import Account, Endpoint, emit, heard

    stale = []
    def note(event):
        if isinstance(event, pjfail.events.LookupStale):
            stale.append(str(event.target))

    with Endpoint() as endpoint:
        lookup = pjfail.DnsLookup(["{NAME_SERVER}:{PORT}"], cache_file=sys.argv[1])
        with pjfail.attach(lookup=lookup, follow=False, listeners=[note]):
            account = Account(endpoint)
            emit(code=account.register("sip:alice@sip.test", "sip:sip.test").code)
            while word := heard():
                answer = account.reregister() if word == "REGISTER" else account.request(word, "sip:sip.test")
                emit(code=answer.code, seconds=answer.seconds, stale=stale)
"""


@pytest.mark.parametrize("fault", ["silent", "servfail"])
def test_a_program_lives_on_through_an_outage_and_a_restart(tmp_path: Path, fault: str) -> None:
    cache = str(tmp_path / "cache.json")
    with Registrar(ADDRESS), DnsServer(ZONE, address=NAME_SERVER, port=PORT) as name_server:
        with App(APP, cache) as app:
            assert app.next()["code"] == 200
            name_server.fault(fault)
            time.sleep(2.5)  # the TTL and a little
            answers = [app.ask(word) for word in ("REGISTER", "OPTIONS", "MESSAGE", "REGISTER")]
            assert [answer["code"] for answer in answers] == [200] * 4
            assert max(answer["seconds"] for answer in answers) < 4
            assert answers[-1]["stale"] == ["sip:sip.test"]
            assert app.finish().stderr.count("is found by old answers") == 1
        with App(APP, cache) as app:  # the outage goes on
            assert app.next()["code"] == 200
