"""The forms that a table of servers may have: addresses, names, ports, transports, keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail.errors import BadServer, LookupFailed, UnknownTarget
from pjfail.lookup import ChainLookup, StaticLookup
from pjfail.lookup.static import Listed
from pjfail.model import DEFAULT_PORT, TRANSPORTS, Candidate, Server, Target, Transport

labels = st.from_regex(r"[a-z]([a-z0-9-]{0,5}[a-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=3).map(".".join)
hosts = st.one_of(st.ip_addresses().map(str), names)
ports = st.one_of(st.none(), st.integers(1, 65535))
transports = st.one_of(st.none(), st.sampled_from(TRANSPORTS))


class Names:
    """A lookup that knows these names, with each one's servers or error; *asked* has the targets that it was given."""

    def __init__(self, **known: Sequence[Candidate] | LookupFailed) -> None:
        self.known = known
        self.asked: list[Target] = []
        self.slow: set[str] = set()

    async def lookup(self, target: Target) -> Sequence[Candidate]:
        self.asked.append(target)
        name = target.host.partition(".")[0]
        if name in self.slow:
            await asyncio.sleep(60)
        found = self.known.get(name, LookupFailed(f"{target}: there is no such name"))
        if isinstance(found, LookupFailed):
            raise found
        return found


class Anything:
    """A lookup that finds every name, at an address of its own, over what is asked for."""

    async def lookup(self, target: Target) -> Sequence[Candidate]:
        transport: Transport = "tls" if target.secure else target.transport or "udp"
        return [Candidate(Server("198.51.100.1", target.port or DEFAULT_PORT[transport], transport), target.host)]


def at(address: str, name: str = "sip2.example", priority: int = 0, weight: int = 0, ttl: float = 60.0) -> Candidate:
    return Candidate(Server(address, 5060), name, priority, weight, ttl)


def found(lookup: StaticLookup | ChainLookup, target: Target) -> list[Candidate]:
    return list(asyncio.run(lookup.lookup(target)))


def servers(lookup: StaticLookup | ChainLookup, target: Target) -> list[str]:
    return [str(candidate.server) for candidate in found(lookup, target)]


def written(host: str, port: int | None, transport: Transport | None, bare: bool) -> str:
    """A server as people write it; an IPv6 address may be *bare* where no port follows."""
    address = host if ":" not in host or (bare and port is None) else f"[{host}]"
    return f"{f'{transport}:' if transport else ''}{address}{f':{port}' if port else ''}"


@given(hosts, ports, transports, st.booleans(), transports)
def test_each_form_is_one_server_over_what_is_asked(
    host: str, port: int | None, own: Transport | None, bare: bool, asked: Transport | None
) -> None:
    lookup = ChainLookup(StaticLookup({"voip.example": [written(host, port, own, bare)]}), Anything())
    target = Target("voip.example", 0, asked, asked == "tls")
    if own is not None and asked is not None and own != asked:
        with pytest.raises(LookupFailed, match=f"no server over {asked}"):
            found(lookup, target)
        return
    transport: Transport = own or asked or "udp"
    (candidate,) = found(lookup, target)
    assert candidate.server.transport == transport
    assert candidate.server.port == port or DEFAULT_PORT[transport]
    assert candidate.server == Server(
        host if Target(host).is_numeric else "198.51.100.1", port or DEFAULT_PORT[transport], transport
    )


@given(st.lists(st.tuples(hosts, ports, transports), min_size=1, max_size=6, unique=True), transports)
def test_the_order_is_that_of_the_list(
    listed: list[tuple[str, int | None, Transport | None]], asked: Transport | None
) -> None:
    texts = [written(host, port, transport, False) for host, port, transport in listed]
    try:
        lookup = ChainLookup(StaticLookup({"voip.example": texts}), Anything())
        candidates = found(lookup, Target("voip.example", 0, asked, asked == "tls"))
    except BadServer:  # two forms of one server
        return
    except LookupFailed:
        candidates = []
    numeric = [each.server.address for each in candidates if each.server.address != "198.51.100.1"]
    order = [
        Server(host, 1).address for host, _, own in listed if Target(host).is_numeric and asked in (None, own or asked)
    ]
    assert numeric == order


@given(names, ports, st.sampled_from(["udp", "tcp", "tls", None]))
def test_a_port_that_none_means_is_none(host: str, port: int | None, transport: Transport | None) -> None:
    usual = DEFAULT_PORT[transport or "udp"]
    plain, ported = Target(host, 0, transport, transport == "tls"), Target(host, usual, transport, transport == "tls")
    for key in (host, f"{host}:{usual}", f"{host.upper()}."):
        table = StaticLookup({key: ["192.0.2.1"]})
        assert servers(table, plain) == servers(table, ported)
    if port not in (None, usual):
        table = StaticLookup({f"{host}:{port}": ["192.0.2.1"]})
        assert servers(table, Target(host, port or 0, transport, transport == "tls"))
        for target in (plain, ported):
            with pytest.raises(UnknownTarget):
                found(table, target)


def test_the_port_in_a_key_precedes_the_key_without() -> None:
    table = StaticLookup({"voip.example": ["192.0.2.1"], "voip.example:5080": ["192.0.2.2:5080"]})
    assert servers(table, Target("voip.example", 5080)) == ["udp:192.0.2.2:5080"]
    assert servers(table, Target("voip.example")) == ["udp:192.0.2.1:5060"]
    assert servers(table, Target("voip.example", 5070)) == ["udp:192.0.2.1:5060"]


@pytest.mark.parametrize("key", ["2001:DB8:0::1", "[2001:db8::1]", "[2001:db8::1]:5060"])
def test_an_address_is_a_key_however_it_is_written(key: str) -> None:
    assert servers(StaticLookup({key: ["192.0.2.1"]}), Target("[2001:db8::1]")) == ["udp:192.0.2.1:5060"]


def test_another_port_of_an_address_is_another_service() -> None:
    table = StaticLookup({"192.0.2.1": ["192.0.2.1", "192.0.2.2"]})
    assert servers(table, Target("192.0.2.1", 5060)) == ["udp:192.0.2.1:5060", "udp:192.0.2.2:5060"]
    assert servers(table, Target("192.0.2.1", 5061, "tls", True)) == ["tls:192.0.2.1:5061", "tls:192.0.2.2:5061"]
    with pytest.raises(UnknownTarget):
        found(table, Target("192.0.2.1", 5080))


def test_a_name_has_all_its_addresses_in_its_place() -> None:
    names = Names(sip2=[at("198.51.100.1"), at("198.51.100.2")])
    lookup = ChainLookup(StaticLookup({"voip.example": ["192.0.2.1", "sip2.example", "192.0.2.3"]}), names)
    candidates = found(lookup, Target("voip.example", 0, "udp"))
    assert [(each.server.address, each.priority) for each in candidates] == [
        ("192.0.2.1", 0),
        ("198.51.100.1", 1),
        ("198.51.100.2", 1),
        ("192.0.2.3", 2),
    ]
    assert names.asked == [Target("sip2.example", 0, "udp")]
    assert {each.ttl for each in candidates} == {30.0}


def test_a_names_own_priorities_stay_within_its_place() -> None:
    names = Names(sip2=[at("198.51.100.1", priority=10), at("198.51.100.2", priority=20)])
    lookup = ChainLookup(StaticLookup({"voip.example": ["192.0.2.1", "sip2.example", "192.0.2.3"]}), names)
    candidates = found(lookup, Target("voip.example"))
    assert [each.server.address for each in candidates] == ["192.0.2.1", "198.51.100.1", "198.51.100.2", "192.0.2.3"]
    assert [each.priority for each in candidates] == [0, 1, 2, 3]


def test_a_name_has_the_priority_and_weight_that_it_is_given() -> None:
    names = Names(sip2=[at("198.51.100.1", weight=7), at("198.51.100.2", weight=7)])
    listed: list[Listed] = [("192.0.2.1", 10, 40), ("sip2.example", 10, 60)]
    candidates = found(ChainLookup(StaticLookup({"voip.example": listed}), names), Target("voip.example"))
    assert [(each.priority, each.weight) for each in candidates] == [(10, 40), (10, 60), (10, 60)]
    assert [each.name for each in candidates] == ["192.0.2.1", "sip2.example", "sip2.example"]


def test_a_name_is_asked_for_with_its_own_port_and_transport() -> None:
    names = Names(sip2=[at("198.51.100.1")])
    lookup = ChainLookup(StaticLookup({"voip.example": ["tls:sip2.example:5071", "192.0.2.1"]}), names)
    assert servers(lookup, Target("voip.example")) == ["udp:192.0.2.1:5060"]  # what was found is not TLS
    assert names.asked == [Target("sip2.example", 5071, "tls", secure=True)]


def test_a_short_ttl_of_a_name_is_the_answers() -> None:
    names = Names(sip2=[at("198.51.100.1", ttl=3)], sip3=[at("198.51.100.3", ttl=3600)])
    lookup = ChainLookup(StaticLookup({"voip.example": ["sip2.example", "sip3.example"]}), names)
    assert [each.ttl for each in found(lookup, Target("voip.example"))] == [3, 30]


def test_a_name_that_is_not_found_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    lookup = ChainLookup(StaticLookup({"voip.example": ["gone.example", "192.0.2.1"]}), Names())
    for _ in range(2):
        assert servers(lookup, Target("voip.example")) == ["udp:192.0.2.1:5060"]
    (told,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "gone.example is left out for now, it was not found: " in told.getMessage()


def test_a_name_that_is_slow_leaves_the_others_and_is_asked_again_soon() -> None:
    names = Names()
    names.slow.add("slow")
    lookup = ChainLookup(StaticLookup({"voip.example": ["slow.example", "192.0.2.1"]}), names)
    (candidate,) = found(lookup, Target("voip.example"))
    assert candidate.server.address == "192.0.2.1"
    assert candidate.ttl == 5


def test_no_name_found_for_now_is_a_temporary_failure() -> None:
    for temporary in (True, False):
        names = Names(sip2=LookupFailed("silence", temporary=temporary))
        with pytest.raises(LookupFailed) as caught:
            found(ChainLookup(StaticLookup({"voip.example": ["sip2.example"]}), names), Target("voip.example"))
        assert not isinstance(caught.value, UnknownTarget)
        assert caught.value.temporary is temporary


def test_a_host_may_be_among_its_own_servers() -> None:
    names = Names(voip=[at("198.51.100.1")])
    lookup = ChainLookup(StaticLookup({"voip.example": ["voip.example", "192.0.2.1"]}), names)
    assert servers(lookup, Target("voip.example")) == ["udp:198.51.100.1:5060", "udp:192.0.2.1:5060"]


def test_two_names_of_one_address_are_one_server() -> None:
    names = Names(sip2=[at("198.51.100.1")], sip3=[at("198.51.100.1", "sip3.example")])
    lookup = ChainLookup(StaticLookup({"voip.example": ["sip2.example", "sip3.example"]}), names)
    assert [each.name for each in found(lookup, Target("voip.example"))] == ["sip2.example"]


def test_what_the_endpoint_cannot_use_is_not_found(caplog: pytest.LogCaptureFixture) -> None:
    table = StaticLookup({"voip.example": ["tls:192.0.2.1", "192.0.2.2", "2001:db8::2"]})
    for _ in range(2):
        table.adapt(("tcp",), ("ipv4",))
    assert servers(table, Target("voip.example")) == ["tcp:192.0.2.2:5060"]
    (told,) = caplog.records
    assert told.getMessage().startswith("voip.example: tls:192.0.2.1 is not used: this endpoint has no tls transport; ")
    table.update({"voip.example": ["tls:192.0.2.1", "udp:192.0.2.3", "192.0.2.2", "2001:db8::2"]})
    assert (
        caplog.records[1].getMessage().startswith("voip.example: udp:192.0.2.3 is not used: this endpoint has no udp")
    )
    table.adapt(("tcp", "tls"), ("ipv4",))
    assert servers(table, Target("voip.example")) == ["tls:192.0.2.1:5061", "tcp:192.0.2.2:5060"]


def test_names_that_lead_nowhere_are_told_of_at_once(caplog: pytest.LogCaptureFixture) -> None:
    names = Names(sip2=[at("198.51.100.1")])
    table = {"voip.example": ["gone.example", "sip2.example"], "trunk.example": ["lost.example:5080"]}
    asyncio.run(ChainLookup(StaticLookup(table), names).prepare())
    assert [record.getMessage().partition(" ")[0] for record in caplog.records] == ["gone.example", "lost.example:5080"]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            {"voip.example": ["sip:192.0.2.1"]},
            "voip.example: 'sip:192.0.2.1' is a URI; write its host alone, '192.0.2.1'",
        ),
        (
            {"voip.example": ["192.0.2.1", "192.0.2.1:5060"]},
            "voip.example: 192.0.2.1:5060 is listed twice, first as 192",
        ),
        ({"voip.example": []}, "voip.example: no server is listed"),
        ({"sip:voip.example": ["192.0.2.1"]}, "is a URI; write its host alone, 'voip.example'"),
        ({"Voip.example": ["192.0.2.1"], "voip.example.": ["192.0.2.2"]}, "is in the table twice"),
        ({"voip": {"example": ["192.0.2.1"]}}, "{'example': ['192.0.2.1']} is not a valid list of servers; write"),
        (
            {"voip.example": ["192.0.2.1;transport=tcp"]},
            "voip.example: '192.0.2.1;transport=tcp' is not a valid host name",
        ),
        ({"voip.example": ["192.0.2.256"]}, "'192.0.2.256' is not a valid host name or numeric address"),
        ({"voip.example": ["[2001:db8::1"]}, 'write "address:port", an IPv6 address in brackets'),
        ({"voip.example": ["sctp:192.0.2.1"]}, "'sctp' is not a valid transport; use one of udp, tcp, tls"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(table: dict[str, list[Listed]], words: str) -> None:
    with pytest.raises(BadServer) as caught:
        StaticLookup(table)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
