"""Bytes made of real answers, through all that reads answers: a lookup ends with candidates, or as LookupFailed.

There is no network: the question over UDP, and dnspython over TCP, are given answers at once. So it is the parser and
the rules of what is an answer, the name servers' trouble, CNAMEs, the cache and RFC 3263 that see the bytes, thousands
of times a minute.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from typing import Any
from unittest import mock

import dns.asyncbackend
import dns.exception
import dns.message
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rig.dns_server import DnsServer

from pjfail.errors import LookupFailed
from pjfail.lookup import DnsLookup
from pjfail.lookup.wire import Query
from pjfail.model import Candidate, Target

ZONE = DnsServer(
    [
        'example.com. 60 IN NAPTR 10 10 "s" "SIP+D2U" "" _sip._udp.example.com.',
        'example.com. 60 IN NAPTR 10 20 "s" "SIPS+D2T" "" _sips._tcp.example.com.',
        "_sip._udp.example.com. 60 IN SRV 0 5 5060 a.example.com.",
        "_sip._udp.example.com. 60 IN SRV 0 0 5060 b.example.com.",
        "_sips._tcp.example.com. 60 IN SRV 1 0 5061 alias.example.com.",
        "alias.example.com. 60 IN CNAME a.example.com.",
        "a.example.com. 60 IN A 192.0.2.1",
        "a.example.com. 60 IN AAAA 2001:db8::1",
        "b.example.com. 60 IN A 192.0.2.2",
    ]
)
URIS = ["sip:example.com", "sips:example.com", "sip:alias.example.com;transport=tcp", "sip:b.example.com:5060"]
NAME_SERVER = ("192.0.2.53", 53)

Edit = Callable[[bytes], bytes]


def _edit(kind: str, place: int, new: bytes) -> Edit:
    def edit(wire: bytes) -> bytes:
        at = 2 + place % max(1, len(wire) - 2)  # the ID stays, else nobody would look at the rest
        match kind:
            case "overwrite":
                return wire[:at] + new + wire[at + len(new) :]
            case "insert":
                return wire[:at] + new + wire[at:]
            case "delete":
                return wire[:at] + wire[at + len(new) :]
            case "cut":
                return wire[:at]
            case _:
                return wire[:at] + wire[12:] + new

    return edit


edits = st.builds(
    _edit,
    st.sampled_from(["overwrite", "insert", "delete", "cut", "repeat"]),
    st.one_of(st.integers(0, 9), st.integers(0, 250)),
    st.one_of(st.binary(min_size=1, max_size=6), st.sampled_from([b"\xc0\x0c", b"\xc0\x00", b"\xff\xff", b"\x00\x00"])),
)
spoilt = st.lists(st.lists(edits, max_size=3), min_size=1, max_size=8)
"""The edits of the first answer, of the second and so on; those after the last are good."""


class _Stream(dns.asyncbackend.StreamSocket):
    """Holds the answer to whatever is sent."""

    def __init__(self, family: int, answer: Callable[[bytes, str], bytes]) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._answer = answer
        self._received = b""

    async def sendall(self, what: bytes, _timeout: float | None) -> None:
        wire = self._answer(what[2:], "tcp")
        self._received = len(wire).to_bytes(2) + wire

    async def recv(self, size: int, _timeout: float | None) -> bytes:
        received, self._received = self._received[:size], self._received[size:]
        return received

    async def close(self) -> None: ...


@contextmanager
def answering(spoiling: Sequence[Sequence[Edit]]) -> Iterator[None]:
    """The network is ZONE here, its answers edited by *spoiling*."""
    edits_of = chain(spoiling, repeat(()))

    def answer(query: bytes, over: str) -> bytes:
        wire = ZONE.answer(dns.message.from_wire(query), over)
        for edit in next(edits_of):
            wire = edit(wire)
        return wire

    async def ask(_address: str, _port: int, query: Query) -> dns.message.Message:
        if (reply := query.read(answer(query.octets, "udp"))) is None:
            raise dns.exception.Timeout
        return reply

    class Backend(dns.asyncbackend.Backend):
        async def make_socket(self, family: int, *_: Any, **__: Any) -> _Stream:
            return _Stream(family, answer)

    with (
        mock.patch("pjfail.lookup.nameservers.ask", ask),
        mock.patch("dns.asyncbackend.get_default_backend", return_value=Backend()),
    ):
        yield


def look_up(uri: str, spoiling: Sequence[Sequence[Edit]]) -> list[Candidate] | LookupFailed:
    """What comes of a lookup; AssertionError where it is neither candidates as they should be nor LookupFailed."""
    lookup = DnsLookup([NAME_SERVER[0]], hosts=None, has_route=lambda _address: True)
    with answering(spoiling):
        try:
            found = asyncio.run(lookup.lookup(Target.parse(uri)))
        except LookupFailed as failure:
            return failure
    assert found
    assert [each.priority for each in found] == sorted(each.priority for each in found)
    assert len({each.server for each in found}) == len(found)
    assert all(0 < each.ttl <= 86400 for each in found)
    assert all(each.server.transport == "tls" for each in found) or not uri.startswith("sips:")
    return found


@pytest.mark.timeout(0)
@settings(max_examples=50_000, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(URIS), spoilt)
def test_whatever_the_bytes(uri: str, spoiling: list[list[Edit]]) -> None:
    look_up(uri, spoiling)
