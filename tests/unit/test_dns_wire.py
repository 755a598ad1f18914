"""What goes over the wire for one question, and what counts as a reply to it."""

from __future__ import annotations

import asyncio
import socket

import dns.flags
import dns.message
import dns.name
import dns.rcode
import pytest

from pjfail.lookup.resolver import Kind
from pjfail.lookup.wire import EDNS_PAYLOAD, Query, Truncated, ask

NAME = dns.name.from_text("_sip._udp.Voip.test")


@pytest.mark.parametrize("edns", [True, False])
@pytest.mark.parametrize("kind", ["NAPTR", "SRV", "A", "AAAA"])
def test_the_octets_are_those_of_dnspython(kind: Kind, edns: bool) -> None:
    octets = Query(NAME, kind, edns=edns).octets
    options = {"use_edns": 0, "payload": EDNS_PAYLOAD} if edns else {}
    message = dns.message.make_query(NAME, kind, **options)
    message.id = int.from_bytes(octets[:2])
    assert octets == message.to_wire()


def reply(query: Query) -> dns.message.Message:
    return dns.message.make_response(dns.message.from_wire(query.octets))


def test_a_reply_to_this_very_question_is_read() -> None:
    query = Query(NAME, "SRV", edns=True)
    assert query.read(reply(query).to_wire()) is not None
    lower = reply(query).to_wire().replace(b"Voip", b"voip")
    assert query.read(lower) is not None


@pytest.mark.parametrize("code", [dns.rcode.FORMERR, dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED])
def test_a_reply_that_refuses_may_lack_the_question(code: dns.rcode.Rcode) -> None:
    query = Query(NAME, "SRV", edns=True)
    message = reply(query)
    message.question = []
    assert query.read(message.to_wire()) is None
    message.set_rcode(code)
    assert query.read(message.to_wire()) is not None


def test_whatever_else_comes_is_not_a_reply() -> None:
    query = Query(NAME, "SRV", edns=True)
    good = reply(query).to_wire()
    for other in (
        query.octets,  # a mirror
        bytes([good[0] ^ 1]) + good[1:],
        bytes([good[0], good[1] ^ 1]) + good[2:],
        good[:2] + bytes([good[2] | 0x28]) + good[3:],  # an update
        good.replace(b"Voip", b"Void"),
        good.replace(b"\0\x21\0\1", b"\0\x01\0\1"),
        good.replace(b"\0\x21\0\1", b"\0\x21\0\3"),
        good[:4] + b"\0\2" + good[6:],
        good[:6] + b"\0\1" + good[8:],  # cut short
        good[:11],
        b"",
    ):
        assert query.read(other) is None


def test_a_truncated_reply_is_told() -> None:
    query = Query(NAME, "SRV", edns=True)
    message = reply(query)
    message.flags |= dns.flags.TC
    with pytest.raises(Truncated):
        query.read(message.to_wire())


async def _asked(times: int) -> list[tuple[tuple[str, int], bytes]]:
    """Asks so often; a stranger replies first, each time. Returns who has asked, and the ids."""
    with socket.socket(type=socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as stranger:
        for each in (server, stranger):
            each.bind(("127.0.0.1", 0))
            each.setblocking(False)
        loop, seen = asyncio.get_running_loop(), []
        for _ in range(times):
            query = Query(NAME, "SRV", edns=True)
            answer = loop.create_task(ask("127.0.0.1", server.getsockname()[1], query))
            octets, client = await loop.sock_recvfrom(server, 4096)
            forged = reply(query)
            forged.set_rcode(dns.rcode.NXDOMAIN)
            stranger.sendto(forged.to_wire(), client)
            await asyncio.sleep(0.01)
            assert not answer.done()
            server.sendto(reply(query).to_wire(), client)
            assert (await asyncio.wait_for(answer, 5)).rcode() == dns.rcode.NOERROR
            seen.append((client, octets[:2]))
        return seen


def test_each_question_has_a_port_and_an_id_of_its_own_and_only_the_server_is_heard() -> None:
    seen = asyncio.run(_asked(40))
    assert len({client for client, _ in seen}) > 30
    assert len({number for _, number in seen}) > 30


def test_nobody_there_is_told_at_once() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(asyncio.wait_for(ask("127.0.0.1", port, Query(NAME, "A", edns=True)), 5))
