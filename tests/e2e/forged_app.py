"""A program that is told of a closed port by an ICMP that somebody has forged, and what becomes of the server.

Its first server is alive and a little slow. It runs as root, if only of a network of its own: a raw socket is root's.
"""

from __future__ import annotations

import socket
import struct
import time

from rig.prelude import Account, Endpoint, emit

import pjfail
from pjfail.testing import Registrar
from pjfail.testing.sip import parse_request

FIRST, SECOND = ("127.0.84.1", 5060), ("127.0.84.2", 5060)
PING = b"\r\n"


def forge_port_unreachable(server: tuple[str, int], client: tuple[str, int]) -> None:
    """What *server*'s machine would tell *client* of a datagram of its, were the port closed."""
    datagram = struct.pack("!HHHH", client[1], server[1], 10, 0)
    addresses = socket.inet_aton(client[0]) + socket.inet_aton(server[0])
    quoted = struct.pack("!BBHHHBBH", 0x45, 0, 30, 1, 0, 64, socket.IPPROTO_UDP, 0) + addresses + datagram
    total = sum(struct.unpack(f"!{len(quoted) // 2}H", quoted)) + 0x0303
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.sendto(struct.pack("!BBHI", 3, 3, ~total & 0xFFFF, 0) + quoted, client)


with (
    Registrar(SECOND[0]),
    socket.socket(type=socket.SOCK_DGRAM) as first,
    Endpoint(transports=("udp",)) as endpoint,
):
    first.bind(FIRST)
    first.settimeout(5)
    ours = [(f"{address}:{port}", priority, 0) for priority, (address, port) in enumerate((FIRST, SECOND))]
    failover = pjfail.attach(lookup=pjfail.StaticLookup({"sip.test": ours}))
    account = Account(endpoint)
    account.open("sip:alice@sip.test")

    def down() -> bool:
        return any(
            server.address == FIRST[0] and health.state is pjfail.State.DOWN
            for server, health in failover.servers().items()
        )

    account.send("OPTIONS", "sip:sip.test")
    # The request, and the line from a socket of its own.
    arrived = {source: octets for octets, source in (first.recvfrom(65535) for _ in range(2))}
    [pinged] = [source for source, octets in arrived.items() if octets == PING]
    [(asked, raw)] = [(source, octets) for source, octets in arrived.items() if octets != PING]
    forge_port_unreachable(FIRST, pinged)
    answer = account.answer()
    emit(code=answer.code, server=answer.server, seconds=answer.seconds)
    octets, again = first.recvfrom(65535)
    emit(second=octets == PING and again != pinged)
    emit(suspect=account.options("sip:sip.test").server, down=down())
    request = parse_request(raw, time.monotonic(), "udp", asked)
    assert request is not None
    first.sendto(request.response(200, tag="1"), asked)
    endpoint.run(0.7)
    account.send("MESSAGE", "sip:sip.test")
    emit(next=first.recvfrom(65535)[0].split()[0].decode(), down=down())
