"""The lookup in the application's own table."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from .._validation import is_amount
from .._values import dataclass
from ..errors import BadServer, LookupFailed, UnknownTarget
from ..model import (
    DEFAULT_PORT,
    FAMILIES,
    TRANSPORTS,
    Candidate,
    Family,
    Server,
    Target,
    Transport,
    canonical_host,
    parse_server,
)
from .dns import DnsLookup
from .patience import settle
from .protocol import Lookup, TellTable
from .system import SystemLookup

log = logging.getLogger("pjfail")

Listed = str | Server | Candidate | tuple[str | Server, int, int]
"""A server in the table: ``"192.0.2.1"``, ``"192.0.2.1:5080"``, ``"[2001:db8::1]:5080"``, ``"sip1.example"``,
``"sip1.example:5080"``, each also with a transport before it (``"tls:192.0.2.1"``); a :class:`Server`, a
:class:`Candidate`; or any but the last with priority and weight."""

# Once a server of a host is found, its names have so long to be resolved, and are left out then (seconds).
PATIENCE = 0.5
# How soon a name is looked up again that was left out because no name server answered (seconds).
RETRY = 5.0


@dataclass(frozen=True, slots=True)
class _Row:
    """One server of a host, as listed: an address or a name; ``port`` 0 and ``transport`` None leave these open."""

    host: str
    port: int
    transport: Transport | None
    priority: int
    weight: int | None = None
    candidate: Candidate | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{f'{self.transport}:' if self.transport else ''}{host}{f':{self.port}' if self.port else ''}"

    @property
    def is_name(self) -> bool:
        """Whether it has to be looked up."""
        return not Target(self.host).is_numeric

    def servers(self) -> frozenset[tuple[str, int, Transport]]:
        """What it stands for, over each transport."""
        transports = TRANSPORTS if self.transport is None else (self.transport,)
        return frozenset((self.host, self.port or DEFAULT_PORT[each], each) for each in transports)


class StaticLookup:
    """Finds the servers of a host in *table*: host to a list of servers.

    ``{"voip.example": ["192.0.2.1", "sip2.example.com:5080", "tls:[2001:db8::1]:5061"]}`` is tried in the order given:
    a server's place in the list is its priority. ``("192.0.2.1", 10, 60)`` has priority 10 and weight 60 as in RFC
    2782, and a candidate stands as it is. A server without a transport has the target's, else UDP where the endpoint
    has it; one without a port has the transport's: 5060, or 5061 for TLS.

    A server that is a host name is looked up each time, by the lookups that follow this one in a :class:`ChainLookup`
    (alone: a :class:`DnsLookup` of its own), as any host is: without a port that is RFC 3263, with SRV records. One
    that is not found leaves the others. It is not looked for in the table, so a host may be among its own servers.

    A host is a name, for whatever port the target has; a name and a port (``"voip.example:5060"``), for that port, and
    for no port where it is the one that none means; or an address, for these ports too.

    *ttl* is how many seconds an answer is good for, and so how soon an update is felt; a candidate's own TTL above 0
    precedes it, and a name's where that is shorter. Raises :class:`pjfail.BadServer` for anything in the table that is
    not a valid host or server, and for a server that is listed twice.
    """

    def __init__(self, table: Mapping[str, Iterable[Listed]], *, ttl: float = 30.0) -> None:
        if not is_amount(ttl):
            raise ValueError(f"ttl is {ttl!r}; give seconds")
        self._ttl = ttl
        self._table = _read(table, ttl)
        self._on_table: TellTable = lambda _: None
        self._names: Lookup | None = None
        self._system = SystemLookup()
        self._transports: Sequence[Transport] = TRANSPORTS
        self._families: Sequence[Family] = FAMILIES
        self._told: set[str] = set()  # the names that are not found, the servers whose transport the endpoint has not

    def update(self, table: Mapping[str, Iterable[Listed]]) -> None:
        """Replaces the whole table. Any thread.

        Raises :class:`pjfail.BadServer`; the old table then stays.
        """
        self._table = _read(table, self._ttl)
        self._tell_of_transports()
        self._on_table(frozenset(self._table))

    async def lookup(self, target: Target) -> list[Candidate]:
        """The servers of the target's host that it allows, and that the endpoint can use.

        Raises :class:`pjfail.UnknownTarget` for a host that is not in the table, and :class:`pjfail.LookupFailed` for a
        host without a server of the kind that the target asks for, temporary if one of its names may be found later.
        """
        rows = self._rows_of(target)
        if rows is None:
            raise UnknownTarget(f"{target.host} is not in the table")
        wanted: Transport | None = "tls" if target.secure else target.transport
        rows = [row for row in rows if wanted in (None, row.transport or wanted) and self._can_use(row)]
        results = await settle([self._candidates(row, target, wanted) for row in rows], PATIENCE)
        missing = False
        found: list[tuple[_Row, Sequence[Candidate]]] = []
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, LookupFailed):
                self._leave_out(row, result)
                missing = missing or result.temporary
            else:
                self._told.discard(row.host)
                found.append((row, result))
        candidates = _merged(found)
        if not candidates:
            kind = f"{'IPv6 ' if target.ipv6 else ''}server{f' over {wanted}' if wanted else ''}"
            raise LookupFailed(
                f"{target}: the table has no {kind} for {target.host} that this endpoint can use", temporary=missing
            )
        return [replace(each, ttl=min(each.ttl, RETRY)) for each in candidates] if missing else candidates

    async def prepare(self) -> None:
        """Looks up each name in the table once, so that those that lead nowhere are in the log early."""
        for rows in list(self._table.values()):
            for row in rows:
                if row.is_name and self._can_use(row):
                    try:
                        await self._look_up(row, Target(row.host), row.transport)
                    except LookupFailed as error:
                        self._leave_out(row, error)

    def adapt(self, transports: Sequence[Transport], families: Sequence[Family]) -> None:
        """From now on finds only what an endpoint with these can use; nothing given means that it is not known.

        Called by the worker.
        """
        self._transports = transports or TRANSPORTS
        self._families = families or FAMILIES
        self._tell_of_transports()

    def _tell_of_transports(self) -> None:
        """Tells of the servers whose transport the endpoint has not."""
        for (host, _), rows in list(self._table.items()):
            for row in rows:
                if not self._can_use(row):
                    self._tell(
                        str(row),
                        f"{host}: {row} is not used: this endpoint has no {row.transport} transport; create one, or "
                        "leave the server out",
                    )

    def on_table(self, tell: TellTable) -> None:
        """Has *tell* called with the hosts in the table, now and after each update, on the thread that updates."""
        self._on_table = tell
        tell(frozenset(self._table))

    def resolve_names_by(self, lookup: Lookup) -> None:
        """Has *lookup* find the servers that are host names; a :class:`pjfail.ChainLookup` calls this."""
        self._names = lookup

    def _rows_of(self, target: Target) -> Sequence[_Row] | None:
        """What the table has for *target*'s host and port."""
        host, usual, table = canonical_host(target.host), target.usual_port, self._table
        keys = [(host, target.port), (host, 0)] if target.port else [(host, 0), (host, usual)]
        if target.is_numeric and target.port not in (0, usual):
            del keys[1:]  # another service of the same machine
        return next((table[key] for key in keys if key in table), None)

    async def _candidates(self, row: _Row, target: Target, wanted: Transport | None) -> list[Candidate]:
        """The candidates that *row* has for a target that asks for transport *wanted*; none is no failure."""
        if row.candidate is not None:
            found = [row.candidate]
        elif row.is_name:
            found = await self._look_up(row, target, wanted)
        else:
            usual: Transport = "udp" if "udp" in self._transports else self._transports[0]
            transport = row.transport or wanted or usual
            server = Server(row.host, row.port or DEFAULT_PORT[transport], transport)
            # One with a weight is a record of its own in the draw, as an SRV record is by its target.
            name = canonical_host(target.host) if row.weight is None else server.address
            found = [Candidate(server, name, row.priority, row.weight or 0, self._ttl)]
        return [each for each in found if self._is_usable(each.server, target)]

    async def _look_up(self, row: _Row, target: Target, wanted: Transport | None) -> list[Candidate]:
        """The candidates of a row that is a host name. Raises LookupFailed."""
        transport = row.transport or wanted
        sought = Target(row.host, row.port, transport, transport == "tls", target.ipv6)
        if self._names is None:
            self._names = DnsLookup()
        try:
            found = await self._names.lookup(sought)
        except UnknownTarget:
            found = await self._system.lookup(sought)
        ttl = self._ttl
        return [replace(each, ttl=min(each.ttl or ttl, ttl)) for each in found if sought.allows(each.server.transport)]

    def _is_usable(self, server: Server, target: Target) -> bool:
        family: Family = "ipv6" if ":" in server.address else "ipv4"
        return (
            target.allows(server.transport)
            and server.transport in self._transports
            and family in self._families
            and (family == "ipv6" or not target.ipv6)
        )

    def _can_use(self, row: _Row) -> bool:
        return row.transport is None or row.transport in self._transports

    def _leave_out(self, row: _Row, error: LookupFailed) -> None:
        self._tell(row.host, f"{row} is left out for now, it was not found: {error}")

    def _tell(self, what: str, words: str) -> None:
        """Warns once of *what*, until it is taken out of ``_told``."""
        if what not in self._told:
            self._told.add(what)
            log.warning("%s", words)


def _merged(found: Sequence[tuple[_Row, Sequence[Candidate]]]) -> list[Candidate]:
    """All candidates by the priorities of their rows, within a name by its own; each server once: the first."""
    ranked: list[tuple[tuple[int, int], Candidate]] = []
    for row, candidates in found:
        own = sorted({each.priority for each in candidates})
        for each in candidates:
            weight = each.weight if row.weight is None else row.weight
            ranked.append(((row.priority, own.index(each.priority)), replace(each, weight=weight)))
    if any(within for (_, within), _ in ranked):
        places = sorted({rank for rank, _ in ranked})
        ranked = [((places.index(rank), 0), each) for rank, each in ranked]
    first: dict[Server, Candidate] = {}
    for (priority, _), each in sorted(ranked, key=lambda pair: pair[0]):
        first.setdefault(each.server, replace(each, priority=priority))
    return list(first.values())


def _key(text: object) -> tuple[str, int]:
    """The host and port of a key, port 0 where it has none. Raises :class:`pjfail.BadServer`."""
    try:
        if not isinstance(text, str):
            raise BadServer("give a string")
        transport, host, port = parse_server(text)
        if transport is not None:
            raise BadServer("a host has no transport here; write that before its servers")
    except BadServer as error:
        advice = "write the host of the URI alone, or host:port, without sip: and user"
        raise BadServer(f"{text!r} is not a valid host ({error}); {advice}") from None
    return host, port


def _read(table: Mapping[str, Iterable[Listed]], ttl: float) -> dict[tuple[str, int], tuple[_Row, ...]]:
    if not isinstance(table, Mapping):
        raise TypeError(f'{table!r} is not a valid table of servers; write {{"voip.example": ["192.0.2.1", ...]}}')
    rows: dict[tuple[str, int], tuple[_Row, ...]] = {}
    for host, listed in table.items():
        key = _key(host)
        if key in rows:
            raise BadServer(f"{host} is in the table twice; write one list of its servers")
        if isinstance(listed, str):
            raise BadServer(f"{host}: {listed!r} is one server; write a list of servers")
        if isinstance(listed, Mapping) or not isinstance(listed, Iterable):
            raise BadServer(f'{host}: {listed!r} is not a valid list of servers; write ["192.0.2.1", ...]')
        try:
            rows[key] = tuple(_each_once(_row(each, place, ttl) for place, each in enumerate(listed)))
        except BadServer as error:
            raise BadServer(f"{host}: {error}") from None
        if not rows[key]:
            raise BadServer(f"{host}: no server is listed; leave the host out, or list one")
    return rows


def _each_once(rows: Iterable[_Row]) -> Iterator[_Row]:
    """Raises BadServer for a server that is listed a second time."""
    seen: dict[tuple[str, int, Transport], _Row] = {}
    for row in rows:
        for server in row.servers():
            if server in seen:
                raise BadServer(f"{row} is listed twice, first as {seen[server]}; list it once")
            seen[server] = row
        yield row


def _row(listed: Listed, place: int, ttl: float) -> _Row:
    match listed:
        case Candidate():
            candidate = listed if listed.ttl > 0 else replace(listed, ttl=ttl)
            server = listed.server
            return _Row(server.address, server.port, server.transport, listed.priority, candidate=candidate)
        case (str() | Server() as server, int() as priority, int() as weight):
            if not (0 <= priority < 65536 and 0 <= weight < 65536):
                raise BadServer(f"{listed!r}: priority and weight are numbers from 0 to 65535")
            return replace(_row(server, place, ttl), priority=priority, weight=weight)
        case Server():
            return _Row(listed.address, listed.port, listed.transport, place)
        case str():
            transport, host, port = parse_server(listed)
            return _Row(host, port, transport, place)
        case _:
            raise BadServer(f'{listed!r} is not a valid server; write "address:port", or (server, priority, weight)')
