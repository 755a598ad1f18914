"""One question to one name server over UDP: a socket of its own with a random port, a random id, and the reply to it.

dnspython reads the replies. Its own sockets and queries took two thirds of the time of a lookup.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import dns.entropy
import dns.flags
import dns.message
import dns.rcode
from dns.name import Name
from dns.rdataclass import IN
from dns.rdatatype import OPT, RdataType

from .resolver import Kind

EDNS_PAYLOAD = 1232  # octets that pass without fragments (DNS flag day 2020)

_HEADER = struct.Struct("!HHHHHH")  # RFC 1035 section 4.1.1
_EDNS = struct.pack("!BHHIH", 0, OPT, EDNS_PAYLOAD, 0, 0)  # RFC 6891 section 6.1.2
_OPCODE, _RCODE = 0x7800, 0xF  # of the flags; the opcode of a query is 0
_MAY_LACK_QUESTION = (dns.rcode.FORMERR, dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED)
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class Truncated(Exception):
    """The reply has not all there is: the question must be asked over TCP."""


class Query:
    """A question on the wire, with an id that nobody can guess; with or without EDNS."""

    def __init__(self, name: Name, kind: Kind, *, edns: bool) -> None:
        self._id = dns.entropy.random_16()
        self._question = b"".join(_labels(name)) + struct.pack("!HH", RdataType[kind], IN)
        self.octets = _HEADER.pack(self._id, dns.flags.RD, 1, 0, 0, edns) + self._question + (_EDNS if edns else b"")

    def read(self, octets: bytes) -> dns.message.Message | None:
        """Returns what *octets* say; None if they are not a reply to this very question. Raises Truncated."""
        if not self._is_answered_by(octets):
            return None
        if _HEADER.unpack_from(octets)[1] & dns.flags.TC:
            raise Truncated
        try:
            return dns.message.from_wire(octets)
        except Exception:  # whatever its octets provoke: another reply may still come
            return None

    def _is_answered_by(self, octets: bytes) -> bool:
        if len(octets) < _HEADER.size:
            return False
        number, flags, questions, _, _, _ = _HEADER.unpack_from(octets)
        if number != self._id or not flags & dns.flags.QR or flags & _OPCODE:
            return False
        if not questions:
            return flags & _RCODE in _MAY_LACK_QUESTION
        said = octets[_HEADER.size : _HEADER.size + len(self._question)]
        return questions == 1 and said.lower() == self._question.lower()  # no type and no class looks like a letter


def _labels(name: Name) -> Iterator[bytes]:
    for label in name.labels:
        yield bytes([len(label)])
        yield label


async def ask(address: str, port: int, query: Query) -> dns.message.Message:
    """Returns the reply of the name server at *address*, for which it waits without a limit.

    Whatever is not a reply to *query*, from that server, is ignored. Raises OSError, and Truncated.
    """
    [(family, _, _, _, server), *_] = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM, flags=_NUMERIC)
    loop = asyncio.get_running_loop()
    reply: asyncio.Future[dns.message.Message] = loop.create_future()
    # A connected socket takes packets from the server alone, and learns at once that nobody listens on the port.
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as udp:
        udp.connect(server)
        with suppress(BlockingIOError):  # as if it were lost on its way
            udp.send(query.octets)
        number = udp.fileno()  # asyncio writes each new reader into a message: a socket asks the system for its text
        loop.add_reader(number, _read, udp, query, reply)
        try:
            return await reply
        finally:
            loop.remove_reader(number)


def _read(udp: socket.socket, query: Query, reply: asyncio.Future[dns.message.Message]) -> None:
    if reply.done():
        return
    try:
        if (message := query.read(udp.recv(65536))) is not None:
            reply.set_result(message)
    except BlockingIOError:  # it was not whole
        pass
    except (OSError, Truncated) as error:
        reply.set_exception(error)
