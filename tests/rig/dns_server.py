"""A name server on the wire, UDP and TCP, whose faults are switched while it runs."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import NamedTuple, Self, cast

import dns.flags
import dns.message
import dns.name
import dns.node
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zone
from dns.message import Message
from dns.name import Name


class Query(NamedTuple):
    """A question as it arrived; ``over`` is "udp" or "tcp"."""

    name: str
    kind: str
    over: str


Fault = Callable[[Message, bytes], list[bytes]]
"""From a query and its good answer to what is sent instead."""


def _rcode(code: dns.rcode.Rcode) -> Fault:
    def fault(query: Message, _answer: bytes) -> list[bytes]:
        response = dns.message.make_response(query)
        response.set_rcode(code)
        return [response.to_wire()]

    return fault


def _wrong_id(query: Message, answer: bytes) -> list[bytes]:
    return [struct.pack("!H", query.id ^ 1) + answer[2:]]


def _wrong_question(query: Message, _answer: bytes) -> list[bytes]:
    other = dns.message.make_query("another.example.", query.question[0].rdtype, id=query.id)
    return [dns.message.make_response(other).to_wire()]


def _truncate(query: Message, _answer: bytes) -> list[bytes]:
    response = dns.message.make_response(query)
    response.flags |= dns.flags.TC
    return [response.to_wire()]


def _pointer_loop(query: Message, _answer: bytes) -> list[bytes]:
    """One answer record whose owner is a compression pointer to itself."""
    bare = dns.message.make_response(query)
    bare.use_edns(False)
    wire = bytearray(bare.to_wire())
    wire[6:8] = b"\x00\x01"
    here = len(wire)
    return [bytes(wire + struct.pack("!HHHIH", 0xC000 | here, 1, 1, 60, 4) + b"\x7f\x00\x00\x01")]


EMPTY = cast(Callable[[], dns.node.Node], dns.node.Node)()

FAULTS: dict[str, Fault] = {
    "silent": lambda _query, _answer: [],
    "servfail": _rcode(dns.rcode.SERVFAIL),
    "refused": _rcode(dns.rcode.REFUSED),
    "notimp": _rcode(dns.rcode.NOTIMP),
    "garbage": lambda query, _answer: [struct.pack("!H", query.id) + b"\xff" * 40],
    "half": lambda _query, answer: [answer[: len(answer) // 2]],
    "inflated": lambda _query, answer: [answer[:6] + b"\xff\xff" + answer[8:]],
    "pointer loop": _pointer_loop,
    "wrong id": _wrong_id,
    "forged first": lambda query, answer: [*_wrong_id(query, answer), *_wrong_question(query, answer), answer],
    "wrong question": _wrong_question,
    "truncate": _truncate,
}


class DnsServer:
    """Answers with authority for everything, from *records* (lines of zone text), between ``with`` and its end.

    Wildcards, CNAMEs, NXDOMAIN and NODATA as in RFC 1034 and RFC 4592; answers that are too big for the client's EDNS
    size are truncated. With ``lone_cnames`` a CNAME comes without what it leads to. ``edns=False`` answers FORMERR to
    a query with EDNS, as servers of old do. ``negative_ttl=None`` leaves the SOA record out where there is no answer.
    ``beside`` ("A", "AAAA") are the addresses of their servers that SRV records come with, in the additional section.
    Faults and records may be changed from any thread.
    """

    def __init__(
        self,
        records: Iterable[str] = (),
        address: str = "127.0.0.1",
        port: int = 0,
        *,
        negative_ttl: int | None = 60,
        lone_cnames: bool = False,
        edns: bool = True,
        beside: Sequence[str] = (),
    ) -> None:
        self.address = address
        self.port = port
        self.queries: list[Query] = []
        self._lone_cnames = lone_cnames
        self._edns = edns
        self._beside = beside
        self._faults: dict[tuple[str, str], str] = {}
        self._delays: dict[str, float] = {}
        self._zone = dns.zone.Zone(dns.name.root)
        soa = f"ns.rig. rig. 1 3600 600 86400 {negative_ttl}"
        self._soa = [] if negative_ttl is None else [dns.rrset.from_text(".", 3600, "IN", "SOA", soa)]
        self.records(records)

    def records(self, records: Iterable[str]) -> None:
        """Serves *records* from now on, and none of the old."""
        self._zone = dns.zone.from_text("\n".join(records), ".", relativize=False, check_origin=False)

    def fault(self, name: str, *kinds: str, over: Sequence[str] = ("udp", "tcp")) -> None:
        """Gives questions of *kinds* ("SRV", ...; all, where none is given) a fault of :data:`FAULTS`."""
        assert name in FAULTS, name
        self._faults |= {(kind, each): name for kind in kinds or ("ANY",) for each in over}

    def delay(self, seconds: float, *kinds: str) -> None:
        """Answers questions of *kinds* (all, where none is given) that much later."""
        self._delays.update(dict.fromkeys(kinds or ("ANY",), seconds))

    def mend(self) -> None:
        """Ends all faults and delays."""
        self._faults.clear()
        self._delays.clear()

    def asked(self, kind: str | None = None) -> list[str]:
        """The names asked for so far (of one kind), in order."""
        return [query.name for query in list(self.queries) if kind in (None, query.kind)]

    @property
    def idle(self) -> bool:
        """Whether all that has arrived is answered, over TCP too. From any thread."""
        answered = asyncio.run_coroutine_threadsafe(self._is_idle(), self._loop)
        return answered.result(10)

    async def _is_idle(self) -> bool:
        await asyncio.sleep(0)  # a turn of the loop, in which it reads what has arrived
        return len(asyncio.all_tasks()) == 2  # this one, and the one that serves

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(ready,), name=f"dns {self.address}", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self, ready: threading.Event) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(ready))

    async def _serve(self, ready: threading.Event) -> None:
        self._end = asyncio.Event()
        stream = await asyncio.start_server(self._on_stream, self.address, self.port)
        self.port = stream.sockets[0].getsockname()[1]
        datagram, _ = await self._loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=(self.address, self.port)
        )
        ready.set()
        await self._end.wait()
        datagram.close()
        stream.close()

    async def _on_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
                for answer in await self.respond(await reader.readexactly(size), "tcp"):
                    writer.write(struct.pack("!H", len(answer)) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def respond(self, wire: bytes, over: str) -> list[bytes]:
        """What is sent in response to one query."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        self.queries.append(Query(question.name.to_text(omit_final_dot=True), kind, over))
        fault = self._faults.get((kind, over), self._faults.get(("ANY", over)))
        await asyncio.sleep(self._delays.get(kind, self._delays.get("ANY", 0)))
        answer = self.answer(query, over)
        return [answer] if fault is None else FAULTS[fault](query, answer)

    def answer(self, query: Message, over: str) -> bytes:
        """The good answer to *query*; no server need run for it."""
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA | dns.flags.RA
        if query.edns >= 0 and not self._edns:
            response.use_edns(False)
            response.set_rcode(dns.rcode.FORMERR)
            return response.to_wire()
        question = query.question[0]
        name, hops = question.name, 0
        while True:
            node = self._node(name)
            if node is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                break
            found = node.get_rdataset(question.rdclass, question.rdtype)
            link = node.get_rdataset(question.rdclass, dns.rdatatype.CNAME)
            if found is not None or link is None:
                if found is not None:
                    response.answer.append(dns.rrset.from_rdata_list(name, found.ttl, list(found)))
                break
            response.answer.append(dns.rrset.from_rdata_list(name, link.ttl, list(link)))
            name, hops = link[0].target, hops + 1
            if self._lone_cnames or hops > 20:
                return self._to_wire(response, query, over)
        self._put_beside(response)
        if not response.answer or (name != question.name and response.answer[-1].rdtype == dns.rdatatype.CNAME):
            response.authority += self._soa
        return self._to_wire(response, query, over)

    def _put_beside(self, response: Message) -> None:
        records = [record for rrset in response.answer if rrset.rdtype == dns.rdatatype.SRV for record in rrset]
        for target in dict.fromkeys(record.target for record in records):
            for kind in self._beside:
                found = self._zone.get_rrset(target, kind)
                if found is not None:
                    response.additional.append(found)

    def _node(self, name: Name) -> dns.node.Node | None:
        """The node at *name*, an empty one above other names, a wildcard's, or None."""
        if (node := self._zone.get_node(name)) is not None:
            return node
        if any(other.is_subdomain(name) for other in self._zone):
            return EMPTY
        encloser = name.parent()
        while not any(other.is_subdomain(encloser) for other in self._zone) and encloser != dns.name.root:
            encloser = encloser.parent()
        return self._zone.get_node(Name((b"*", *encloser.labels)))

    @staticmethod
    def _to_wire(response: Message, query: Message, over: str) -> bytes:
        if over == "tcp":
            return response.to_wire(max_size=65535)
        return response.to_wire(max_size=query.payload if query.edns >= 0 else 512, prefer_truncation=True)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._responses: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
        response = asyncio.get_running_loop().create_task(self._respond(data, client))
        self._responses.add(response)
        response.add_done_callback(self._responses.discard)

    async def _respond(self, data: bytes, client: tuple[str, int]) -> None:
        for answer in await self._server.respond(data, "udp"):
            if not self._transport.is_closing():
                self._transport.sendto(answer, client)
