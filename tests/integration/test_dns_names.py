"""Names that mean something to this machine besides the DNS, and names of other scripts, over the wire."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rig.dns_server import DnsServer
from rig.network import alone

from pjfail.errors import LookupFailed, UnknownTarget
from pjfail.lookup import ChainLookup, DnsLookup, StaticLookup
from pjfail.model import Candidate, Target

ZONE = [
    "_sip._udp.example.com. 60 IN SRV 0 0 5060 sip.example.com.",
    "sip.example.com. 60 IN A 192.0.2.1",
    "sip.example.com. 60 IN AAAA 2001:db8::1",
    "pbx. 60 IN A 192.0.2.2",
    "pbx.local. 60 IN A 192.0.2.3",
    "xn--strae-oqa.example. 60 IN A 192.0.2.4",
    "_sip._udp.xn--bcher-kva.example. 60 IN SRV 0 0 5060 xn--strae-oqa.example.",
    "_sip._udp.closed.local. 60 IN SRV 0 0 0 .",
]


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as running:
        yield running


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text("127.0.0.9 sip.example.com desk.example\n::9 six.example\n")
    return path


def look_up(lookup: DnsLookup | ChainLookup, uri: str) -> list[Candidate]:
    return list(asyncio.run(lookup.lookup(Target.parse(uri))))


def servers(found: list[Candidate]) -> list[str]:
    return [str(candidate.server) for candidate in found]


def refused(lookup: DnsLookup | ChainLookup, uri: str) -> LookupFailed:
    with pytest.raises(LookupFailed) as caught:
        look_up(lookup, uri)
    return caught.value


def test_the_hosts_file_gives_the_addresses_of_srv_targets_and_of_hosts(server: DnsServer, hosts: Path) -> None:
    lookup = DnsLookup([str(server)], hosts=hosts)
    [found] = look_up(lookup, "sip:example.com")
    assert (str(found.server), found.name) == ("udp:127.0.0.9:5060", "sip.example.com")
    assert servers(look_up(lookup, "sip:desk.example;transport=tcp")) == ["tcp:127.0.0.9:5060"]
    assert servers(look_up(lookup, "sip:six.example:5070")) == ["udp:[::9]:5070"]
    assert "_sip._tcp.desk.example" in server.asked("SRV")
    assert not {"sip.example.com", "desk.example", "six.example"} & set(server.asked("A") + server.asked("AAAA"))


def test_without_a_hosts_file_the_dns_alone_counts(server: DnsServer, tmp_path: Path) -> None:
    for none in (None, tmp_path / "gone"):
        found = look_up(DnsLookup([str(server)], hosts=none), "sip:example.com")
        assert sorted(servers(found)) == ["udp:192.0.2.1:5060", "udp:[2001:db8::1]:5060"]


def test_the_systems_hosts_file_is_the_default(server: DnsServer) -> None:
    assert "udp:127.0.0.1:5060" in servers(look_up(DnsLookup([str(server)]), "sip:localhost:5060"))
    assert "localhost" not in server.asked()


@pytest.mark.parametrize(("host", "address"), [("pbx", "192.0.2.2"), ("pbx.", "192.0.2.2"), ("pbx.local", "192.0.2.3")])
def test_the_name_servers_come_first(server: DnsServer, host: str, address: str) -> None:
    assert servers(look_up(DnsLookup([str(server)]), f"sip:{host}")) == [f"udp:{address}:5060"]


@pytest.mark.parametrize("host", ["phone", "phone.local", "phone.local.", "PHONE.Local"])
def test_what_they_do_not_know_of_this_machines_names_another_lookup_may(server: DnsServer, host: str) -> None:
    lookup = DnsLookup([str(server)])
    failure = refused(lookup, f"sip:{host}")
    assert isinstance(failure, UnknownTarget)
    assert not failure.temporary
    chain = ChainLookup(lookup, StaticLookup({host: ["192.0.2.77:5060"]}))
    assert servers(look_up(chain, f"sip:{host}")) == ["udp:192.0.2.77:5060"]


@pytest.mark.parametrize("host", ["phone", "phone.local", "desk.example"])
def test_in_an_outage_the_system_may_know_them_all_the_same(server: DnsServer, hosts: Path, host: str) -> None:
    server.fault("refused")
    failure = refused(DnsLookup([str(server)], hosts=hosts), f"sip:{host}")
    assert isinstance(failure, UnknownTarget)
    assert failure.temporary


@pytest.mark.parametrize("host", ["phone.", "phone.example", "local.example", "phone.example."])
def test_of_all_other_names_the_name_servers_word_is_the_last(server: DnsServer, host: str) -> None:
    failure = refused(DnsLookup([str(server)]), f"sip:{host}")
    assert not isinstance(failure, UnknownTarget)
    assert not failure.temporary


def test_a_service_that_is_not_there_is_no_matter_of_the_system(server: DnsServer) -> None:
    failure = refused(DnsLookup([str(server)]), "sip:closed.local")
    assert "not available here" in str(failure)
    assert not isinstance(failure, UnknownTarget)


@pytest.mark.parametrize("host", ["straße.example", "STRAßE.example", "xn--strae-oqa.example"])
def test_an_international_name_is_asked_for_by_idna_2008(server: DnsServer, host: str) -> None:
    """Its ß stays one, where IDNA 2003 made it ss, which is another name."""
    [found] = look_up(DnsLookup([str(server)]), f"sip:{host}")
    assert (str(found.server), found.name) == ("udp:192.0.2.4:5060", "xn--strae-oqa.example")


def test_an_international_domain_has_srv_records(server: DnsServer) -> None:
    assert servers(look_up(DnsLookup([str(server)]), "sip:bücher.example")) == ["udp:192.0.2.4:5060"]
    assert servers(look_up(DnsLookup([str(server)]), "sip:bücher。example")) == ["udp:192.0.2.4:5060"]


def test_what_idna_does_not_allow_is_a_failed_lookup(server: DnsServer) -> None:
    failure = refused(DnsLookup([str(server)]), "sip:a\u2764\u200db.example")
    assert "is not a valid DNS name" in str(failure)
    assert server.queries == []


ON_ONE_LINK = """
import asyncio, socket, threading
import dns.message, dns.rrset
import pjfail

def serve():
    while True:
        query, client = server.recvfrom(4096)
        response = dns.message.make_response(dns.message.from_wire(query))
        if query[-15:-11] == b"\\0\\x01\\0\\x01":  # A, before EDNS's 11 octets
            response.answer.append(dns.rrset.from_text("sip.example.com.", 60, "IN", "A", "192.0.2.1"))
        server.sendto(response.to_wire(), client)

server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(socket.getaddrinfo("fe80::53%lo", 0, type=socket.SOCK_DGRAM)[0][4])
threading.Thread(target=serve, daemon=True).start()
lookup = pjfail.DnsLookup([f"[fe80::53%lo]:{server.getsockname()[1]}"], naptr="off", transports=["udp"])
print(asyncio.run(lookup.lookup(pjfail.Target.parse("sip:sip.example.com")))[0].server)
"""


def test_a_name_server_on_one_link_is_asked_there() -> None:
    own_network = alone("ip address add fe80::53/64 dev lo nodad")
    said = subprocess.run([*own_network, sys.executable, "-c", ON_ONE_LINK], capture_output=True, text=True, check=True)
    assert said.stdout == "udp:192.0.2.1:5060\n"
