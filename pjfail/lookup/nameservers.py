"""Asks name servers: several of them, over UDP with EDNS, and over TCP where UDP is too small."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
from dns.name import Name
from dns.rdata import Rdata
from dns.rdataclass import IN
from dns.rdatatype import RdataType
from dns.rdtypes.IN.SRV import SRV
from dns.rrset import RRset

from .._values import dataclass
from ..errors import BadServer, LookupFailed
from .resolver import Answer, Asked, Kind, Silence
from .wire import Query, Truncated, ask

REST = 30.0  # seconds during which a silent name server is asked after the others
MAX_QUESTIONS = 100  # on the wire at once, each with one socket or a few

_ADDRESSES: Mapping[RdataType, Kind] = {RdataType.A: "A", RdataType.AAAA: "AAAA"}

SILENT = "is silent"
GARBLED = "gives no usable answer"


@dataclass(frozen=True, slots=True)
class NameServer:
    """A name server's numeric address and port."""

    address: str
    port: int = 53

    @classmethod
    def parse(cls, text: str) -> NameServer:
        """Parses ``"192.0.2.53"``, ``"192.0.2.53:5353"``, ``"2001:db8::53"`` or ``"[2001:db8::53]:5353"``.

        Raises :class:`pjfail.BadServer`.
        """
        try:
            match = re.fullmatch(r"(?:\[([^]]+)]|([^:\[\]]+))(?::(\d+))?|([^\[\]]+)", text.strip())
            if match is None:
                raise ValueError
            bracketed, plain, port, v6 = match.groups()
            server = cls(str(ipaddress.ip_address(bracketed or plain or v6)), int(port or 53))
            if not 0 < server.port < 65536:
                raise ValueError
        except (ValueError, AttributeError):  # AttributeError: text is not a string
            raise BadServer(
                f'{text!r} is not a valid name server; write "192.0.2.53", "192.0.2.53:5353" or "[2001:db8::53]:5353"'
            ) from None
        return server

    @classmethod
    def parse_all(cls, texts: Iterable[str]) -> list[NameServer]:
        """Parses each of *texts*. Raises :class:`pjfail.BadServer`, also for one string in place of a list."""
        if isinstance(texts, str):
            raise BadServer(f"nameservers is one string; give a list of them: [{texts!r}]")
        if not isinstance(texts, Iterable):
            raise BadServer(f"nameservers is {texts!r}; give a list of them")
        return [cls.parse(text) for text in texts]

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class _Reply(NamedTuple):
    """A name server's answer, and how many CNAMEs led there."""

    answer: Answer
    links: int


class NameServers:
    """A :class:`Resolver` that asks name servers in order; those that were silent lately come last.

    *servers* gives those to ask, which may be others the next time; none are a temporary failure. Who does not answer
    within a tenth of *timeout* gets company: the next one is asked too, and then all of them again, while the first
    good answer wins. So a dead name server costs one short wait, and a slow one is still heard. A question ends after
    *timeout* seconds. For one asyncio loop at a time.
    """

    def __init__(
        self,
        servers: Callable[[], Sequence[NameServer]],
        *,
        timeout: float,
        cname_limit: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = servers
        self._timeout = timeout
        self._cname_limit = cname_limit
        self._clock = clock
        self._resting: dict[NameServer, float] = {}
        self._turns: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None

    async def resolve(self, name: Name, kind: Kind) -> Answer:
        """Returns the records of *kind* at *name*, also if a server answers with a CNAME only and the rest must be
        asked for.

        Raises :class:`pjfail.LookupFailed`: temporary when no name server has a usable answer (:class:`Silence` when
        all of them are silent), and for good when the CNAMEs are more than the limit or go in a circle.
        """
        asked, links, ttl = name, 0, float("inf")
        while True:
            answer, more = await self._ask(asked, kind)
            links += more
            ttl = min(ttl, answer.ttl)
            if links > self._cname_limit:
                start = name.to_text(omit_final_dot=True)
                raise LookupFailed(f"{start} leads through more than {self._cname_limit} CNAMEs, or in a circle")
            if answer or answer.name == asked:
                return replace(answer, ttl=ttl) if links else answer
            asked = answer.name

    async def _ask(self, name: Name, kind: Kind) -> _Reply:
        """Returns the first good reply of any name server."""
        turn = self._turn()
        try:
            if turn.locked():
                async with asyncio.timeout(self._timeout):
                    await turn.acquire()
            else:
                await turn.acquire()  # at once
        except TimeoutError:
            asked = f"{kind} {name.to_text(omit_final_dot=True)}"
            reason = f"{asked} was not asked: {MAX_QUESTIONS} other questions were under way for {self._timeout:g} s"
            raise LookupFailed(reason, temporary=True) from None
        try:
            return await self._ask_all(name, kind)
        finally:
            turn.release()

    async def _ask_all(self, name: Name, kind: Kind) -> _Reply:
        """Does what :meth:`_ask` does, without the limit on sockets."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        servers = self._in_order()
        if not servers:
            asked = f"{kind} {name.to_text(omit_final_dot=True)}"
            raise LookupFailed(f"{asked} was not asked: there is no name server", temporary=True)
        trouble: dict[NameServer, str] = {}
        waiting: dict[asyncio.Task[_Reply | str], NameServer] = {}
        try:
            for server, wait in self._schedule(servers, trouble):
                waiting[loop.create_task(_exchange(server, name, kind, self._timeout))] = server
                until = min(loop.time() + wait, deadline)
                while server not in trouble and (left := until - loop.time()) > 0:
                    done, _ = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        who, reply = waiting.pop(task), task.result()
                        if isinstance(reply, _Reply):
                            self._resting.pop(who, None)
                            return reply
                        trouble[who] = reply
                if server not in trouble:
                    self._resting[server] = self._clock() + REST
                if until == deadline:
                    break
        finally:
            for task in waiting:
                task.cancel()
        words = {server: trouble.get(server, SILENT) for server in servers}
        said = ", ".join(f"{server} {each}" for server, each in words.items())
        failure = Silence if set(words.values()) == {SILENT} else LookupFailed
        raise failure(f"no answer to {kind} {name.to_text(omit_final_dot=True)}: {said}", temporary=True)

    def _turn(self) -> asyncio.Semaphore:
        """Returns the semaphore that limits the open sockets; each loop has its own."""
        loop = asyncio.get_running_loop()
        if self._turns is None or self._turns[0] is not loop:
            self._turns = loop, asyncio.Semaphore(MAX_QUESTIONS)
        return self._turns[1]

    def _in_order(self) -> list[NameServer]:
        now = self._clock()
        return sorted(self._servers(), key=lambda server: self._resting.get(server, now) > now)

    def _schedule(
        self, servers: Sequence[NameServer], trouble: Mapping[NameServer, str]
    ) -> Iterator[tuple[NameServer, float]]:
        """Yields the name server to ask next, and how long to wait before the one after it; skips servers in
        *trouble*.
        """
        wait = self._timeout / 10
        while any(server not in trouble for server in servers):
            for server in servers:
                if server not in trouble:
                    yield server, wait
            wait *= 2


async def _exchange(server: NameServer, name: Name, kind: Kind, timeout: float) -> _Reply | str:
    """Returns the reply of one name server, or says in words why there is none."""
    try:
        response = await _send(server, name, kind, timeout, edns=True)
        if response.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP):
            response = await _send(server, name, kind, timeout, edns=False)  # the server may not know EDNS
        if response.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return f"says {dns.rcode.to_text(response.rcode())}"
        if not isinstance(response, dns.message.QueryMessage) or response.flags & dns.flags.TC:
            return GARBLED
        chain = response.resolve_chaining()
    except dns.message.ChainTooLong:
        return _Reply(Answer(name, (), 0.0), dns.message.MAX_CHAIN + 1)
    except dns.exception.Timeout:
        return SILENT
    except ConnectionRefusedError:
        return "refuses the connection"
    except OSError as error:
        return f"cannot be reached ({error})"
    except Exception as error:  # whatever its bytes provoke, only this name server has failed
        return f"{GARBLED} ({type(error).__name__})"
    records = tuple(chain.answer) if chain.answer is not None else ()
    # RFC 2308 section 5: "there is none" without a SOA record must not be cached.
    lasts = records or chain.cnames or any(rrset.rdtype == dns.rdatatype.SOA for rrset in response.authority)
    beside = _beside(chain.canonical_name, records, response.additional)
    ttl = float(min([chain.minimum_ttl, *(rrset.ttl for rrset in beside.values())])) if lasts else 0.0
    addresses = {asked: tuple(rrset) for asked, rrset in beside.items()}
    return _Reply(Answer(chain.canonical_name, records, ttl, beside=addresses), len(chain.cnames))


def _beside(owner: Name, records: Sequence[Rdata], additional: Iterable[RRset]) -> dict[Asked, RRset]:
    """Returns the addresses in *additional* of the servers in *records*, the SRV records of *owner*.

    Only of servers in the domain whose SRV records were asked for ("in bailiwick"): whoever answers for that domain may
    name any address for them. An address of a server elsewhere is asked for, as if it were not there. So is a kind of
    address that is not there: that it is missing does not say that there is none.
    """
    domain = owner
    while domain.labels[0].startswith(b"_"):
        domain = domain.parent()
    servers = {record.target for record in records if isinstance(record, SRV) and record.target.is_subdomain(domain)}
    return {
        Asked(rrset.name, kind): rrset
        for rrset in additional
        if (kind := _ADDRESSES.get(rrset.rdtype)) is not None and rrset.rdclass == IN and rrset.name in servers
    }


async def _send(server: NameServer, name: Name, kind: Kind, timeout: float, *, edns: bool) -> dns.message.Message:
    """Returns the response over UDP, or over TCP if that is truncated. Ignores whatever is not an answer."""
    try:
        return await ask(server.address, server.port, Query(name, kind, edns=edns))
    except Truncated:
        return await _send_over_tcp(server, name, kind, timeout, edns=edns)


async def _send_over_tcp(
    server: NameServer, name: Name, kind: Kind, timeout: float, *, edns: bool
) -> dns.message.Message:
    import dns.asyncquery  # few answers are that long, and it imports much

    query = dns.message.from_wire(Query(name, kind, edns=edns).octets)
    return await dns.asyncquery.tcp(query, server.address, timeout, server.port)
