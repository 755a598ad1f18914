"""Targets and servers as they are written."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail.errors import BadServer, BadURI
from pjfail.model import TRANSPORTS, Candidate, Health, Plan, PlanEntry, Server, State, Target, Transport

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
hosts = st.one_of(
    st.lists(labels, min_size=1, max_size=4).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("sip:example.com", Target("example.com")),
        ("SIP:Example.COM", Target("example.com")),
        ("sip:alice:secret@example.com:5070", Target("example.com", 5070)),
        ("sip:example.com:5060", Target("example.com", 5060)),
        ("sip:example.com;transport=TCP", Target("example.com", 0, "tcp")),
        ("sip:example.com;lr;transport=tls", Target("example.com", 0, "tls", secure=True)),
        ("sips:example.com", Target("example.com", secure=True)),
        ("sips:example.com;transport=tcp", Target("example.com", 0, "tls", secure=True)),
        ('"Alice" <sip:alice@example.com;transport=udp>;tag=1', Target("example.com", 0, "udp")),
        ("sip:example.com;maddr=192.0.2.7", Target("192.0.2.7")),
        ("sip:[2001:db8::1]:5061;transport=tls", Target("2001:db8::1", 5061, "tls", secure=True)),
        ("sip:example.com?subject=hello", Target("example.com")),
        ("sip://alice/b@voip_1.example", Target("voip_1.example")),  # as pjsip reads it
        ("sip:m\u00fcnchen.example", Target("m\u00fcnchen.example")),
        ("sip:100", Target("100")),
        ("sip:alice@voip.example;maddr=2001:db8::1", Target("2001:db8::1")),
        ("sip:[fe80::1%251]", Target("fe80::1%251")),
    ],
)
def test_a_uri_has_one_target(uri: str, target: Target) -> None:
    assert Target.parse(uri) == target


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "example.com",
        "tel:+15550100",
        "sip:",
        "sip:exa mple.com",
        "sip:example.com:",
        "sip:example.com:0",
        "sip:example.com:65536",
        "sip:example.com;transport=sctp",
        "sip:[2001:db8::g]",
        "sip:example.com\0",
        "sip:example.com;lr\r\nX: y",
        "sip://voip.example",
        "sip:voip.example/",
        "sip:a@b@c",
        "sip:alice:p@ss@voip.example",
        "sip:voip!example",
        "sip:voip%2eexample",
        "sip:alice@voip.example;maddr=//192.0.2.1",
    ],
)
def test_what_is_no_uri_is_refused(uri: str) -> None:
    with pytest.raises(BadURI, match=r"not a valid|pjfail speaks"):
        Target.parse(uri)


@given(hosts, st.integers(0, 65535), st.sampled_from([None, *TRANSPORTS]), st.booleans())
def test_a_target_reads_back_what_it_prints(host: str, port: int, transport: str | None, sips: bool) -> None:
    scheme = "sips" if sips else "sip"
    bracketed = f"[{host}]" if ":" in host else host
    uri = f"{scheme}:{bracketed}{f':{port}' if port else ''}{f';transport={transport}' if transport else ''}"
    target = Target.parse(uri)
    assert Target.parse(str(target)) == target
    assert target.secure == (sips or transport == "tls")


@pytest.mark.parametrize(
    ("uri", "allowed"),
    [
        ("sip:example.com", ("udp", "tcp", "tls")),
        ("sip:example.com;transport=tcp", ("tcp",)),
        ("sip:example.com;transport=tls", ("tls",)),
        ("sips:example.com", ("tls",)),
        ("sips:example.com;transport=tcp", ("tls",)),
    ],
)
def test_a_target_allows_what_its_uri_does(uri: str, allowed: tuple[str, ...]) -> None:
    target = Target.parse(uri)
    assert tuple(transport for transport in TRANSPORTS if target.allows(transport)) == allowed


@given(st.ip_addresses(), st.integers(1, 65535), st.sampled_from(TRANSPORTS))
def test_a_server_reads_back_what_it_prints(address: object, port: int, transport: str) -> None:
    server = Server(str(address), port, transport)  # type: ignore[arg-type]
    assert Server.parse(str(server)) == server
    assert Server.parse(server.endpoint, server.transport) == server


@pytest.mark.parametrize(
    "text",
    [
        "192.0.2.300",
        "example.com:5060",
        "example.com",
        "sctp:192.0.2.1:5060",
        "192.0.2.1:0",
        "[::g]",
        "sip:192.0.2.1",
        "",
    ],
)
def test_what_is_no_server_is_refused(text: str) -> None:
    with pytest.raises(BadServer):
        Server.parse(text)


@pytest.mark.parametrize("address", [b"192.0.2.1", None, 5, ["192.0.2.1"]])
def test_an_address_that_is_not_text_is_refused_in_words(address: Any) -> None:
    with pytest.raises(BadServer, match="is not a valid numeric address; write"):
        Server(address, 5060)


@given(st.ip_addresses(), st.sampled_from(TRANSPORTS), st.sampled_from(["{}", " {} ", "[{}]"]))
def test_a_server_without_a_port_has_its_transports(address: object, transport: Transport, form: str) -> None:
    text = form.format(address) if ":" in str(address) else str(address)
    port = 5061 if transport == "tls" else 5060
    assert Server.parse(text, transport) == Server.parse(f"{transport}:{text.strip()}")
    assert Server.parse(text, transport) == Server(str(address), port, transport)


def test_a_plan_groups_its_places_by_tier() -> None:
    first, second, third = (Candidate(Server(f"192.0.2.{n}", 5060), "example.com") for n in (1, 2, 3))
    plan = Plan(
        Target("example.com"), (PlanEntry(first, 0, ""), PlanEntry(second, 0, ""), PlanEntry(third, 1, "down")), 10.0
    )
    assert plan.tiers == ((first, second), (third,))
    assert plan.servers == (first.server, second.server, third.server)


def test_a_health_is_printed_in_words() -> None:
    now = time.monotonic()
    assert str(Health(State.DOWN, 2, now - 5, now + 24.2, "silent to REGISTER")) == (
        "down, next tried within 24 s: silent to REGISTER (failure 2)"
    )
    assert str(Health(State.DOWN, since=now, reason="marked down by the application", held=True)) == (
        "down: marked down by the application"
    )
    assert str(Health(rtt=0.0123)) == "up, round trip 12 ms"
    assert str(Health(returning=True, returns_at=now + 9.2)) == "up, back in its tier in 9 s"
    assert repr(Health(State.SUSPECT, reason="silent to OPTIONS")) == (
        "Health(state=<State.SUSPECT: 'suspect'>, reason='silent to OPTIONS')"
    )
    assert repr(Health()) == "Health()"
