"""PjsipDnsLookup: pjsip's own DNS resolver, driven by us, over the wire."""

from __future__ import annotations

import pytest
from rig.app import run_app
from rig.dns_server import DnsServer

NAME_SERVER, PORT = "127.0.32.53", 5353

ZONE = [
    "_sip._udp.example.com. 60 IN SRV 10 60 5060 a.example.com.",
    "_sip._udp.example.com. 60 IN SRV 10 40 5070 b.example.com.",
    "_sip._udp.example.com. 60 IN SRV 20 0 5060 c.example.com.",
    "_sip._tcp.example.com. 60 IN SRV 5 0 5080 a.example.com.",
    "a.example.com. 60 IN A 127.0.32.1",
    "b.example.com. 60 IN A 127.0.32.2",
    "b.example.com. 60 IN AAAA ::1",
    "c.example.com. 60 IN CNAME d.example.com.",
    "d.example.com. 60 IN CNAME e.example.com.",
    "e.example.com. 60 IN A 127.0.32.3",
    "plain.example.com. 60 IN A 127.0.32.4",
    "_sip._udp.none.example.com. 60 IN SRV 0 0 0 .",
    "none.example.com. 60 IN A 127.0.32.5",
    "round.example.com. 60 IN CNAME round.example.com.",
]

APP = f"""
    import sys
    import pjfail
    from rig.prelude import Account, Endpoint, emit

    with Endpoint() as endpoint:
        lookup = pjfail.PjsipDnsLookup(nameservers=["{NAME_SERVER}:{PORT}"])
        failover = pjfail.attach(lookup=lookup)
        for uri in sys.argv[1:]:
            try:
                emit(servers=[[str(place.server), place.tier] for place in failover.resolve(uri).entries])
            except pjfail.LookupFailed as error:
                emit(error=str(error), temporary=error.temporary)
"""


@pytest.mark.parametrize(
    ("uri", "servers"),
    [
        pytest.param(
            "sip:example.com",
            [
                ["udp:127.0.32.1:5060", 0],
                ["udp:127.0.32.2:5070", 0],
                ["udp:127.0.32.3:5060", 1],
                ["tcp:127.0.32.1:5080", 2],
            ],
            id="SRV of each transport, priorities, CNAMEs",
        ),
        pytest.param("sip:example.com;transport=tcp", [["tcp:127.0.32.1:5080", 0]], id="SRV of the transport named"),
        pytest.param("sip:plain.example.com", [["udp:127.0.32.4:5060", 0]], id="A where there is no SRV"),
        pytest.param("sip:a.example.com:5099", [["udp:127.0.32.1:5099", 0]], id="A where a port is given"),
    ],
)
def test_servers_are_found_as_rfc_3263_says(uri: str, servers: list[list[object]]) -> None:
    with DnsServer(ZONE, address=NAME_SERVER, port=PORT):
        [line] = run_app(APP, uri).lines
    assert line == {"servers": servers}


@pytest.mark.parametrize("uri", ["sip:none.example.com", "sip:nowhere.example.com", "sip:round.example.com:5060"])
def test_what_is_not_there_is_said_to_be_not_there(uri: str) -> None:
    with DnsServer(ZONE, address=NAME_SERVER, port=PORT):
        [line] = run_app(APP, uri).lines
    assert line["temporary"] is False


def test_a_silent_name_server_ends_in_time_and_harms_nobody() -> None:
    [line] = run_app(APP, "sip:example.com").lines
    assert line["temporary"] is True


def test_the_answer_of_pjsips_cache_is_used() -> None:
    with DnsServer(ZONE, address=NAME_SERVER, port=PORT) as name_server:
        lines = run_app(APP, *(f"sip:a.example.com:{port}" for port in range(5060, 5070))).lines
        asked = [query for query in name_server.queries if query.name == "a.example.com"]
    assert [line["servers"][0][0] for line in lines] == [f"udp:127.0.32.1:{port}" for port in range(5060, 5070)]
    assert len(asked) < 5, "ten targets of one host are one question, but for a retransmission"


def test_the_resolver_that_pjsua_was_configured_with_is_driven_and_put_back() -> None:
    app = """
        import pjfail
        from rig.prelude import Account, Endpoint, emit
        with Endpoint(nameserver="127.0.32.53") as endpoint:
            for _ in range(2):
                with pjfail.attach(lookup=pjfail.PjsipDnsLookup()) as failover:
                    emit(first=str(failover.resolve("sip:plain.example.com").servers[0]))
        del endpoint  # pjsua2 has one at a time
        with Endpoint() as endpoint:
            with pjfail.attach(lookup=pjfail.PjsipDnsLookup()) as failover:
                try:
                    failover.resolve("sip:plain.example.com")
                except pjfail.LookupFailed as error:
                    emit(error=str(error))
    """
    with DnsServer(ZONE, address=NAME_SERVER, port=53):
        *lines, last = run_app(app).lines
    assert lines == [{"first": "udp:127.0.32.4:5060"}] * 2
    assert "uaConfig.nameserver" in last["error"]
