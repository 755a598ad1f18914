"""The lookup in the application's own table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .._validation import is_amount
from ..errors import BadServer, LookupFailed, UnknownTarget
from ..model import Candidate, Server, Target, Transport

Listed = str | Server | Candidate | tuple[str | Server, int, int]
"""A server in the table: ``"address:port"``, ``"tls:address:port"``, a :class:`Server`, a :class:`Candidate`, or a
tuple of one of the first three with priority and weight.
"""


@dataclass(frozen=True, slots=True)
class _Row:
    """A server of a host; with ``any_transport`` it has the transport that the target names."""

    candidate: Candidate
    any_transport: bool

    def over(self, wanted: Transport | None) -> Candidate | None:
        """Returns the candidate for a target that asks for transport *wanted*; None if this server has another
        transport.
        """
        if self.any_transport and wanted is not None:
            return replace(self.candidate, server=replace(self.candidate.server, transport=wanted))
        return self.candidate if wanted in (None, self.candidate.server.transport) else None


class StaticLookup:
    """Finds the servers of a host in *table*: host name to a list of servers.

    ``{"example.com": ["192.0.2.1:5060", "tls:[2001:db8::1]:5061"]}`` is tried in the given order: a server's position
    in the list is its priority. ``("192.0.2.1:5060", 10, 60)`` has priority 10 and weight 60 as in RFC 2782, and a
    candidate is used as it is. A server without a transport has the target's, or UDP if the target names none. *ttl* is
    how many seconds an answer is valid, and so the longest time until an update takes effect; a candidate's own TTL
    above 0 takes precedence.

    Raises :class:`pjfail.BadServer` if the table has an invalid host or server.
    """

    def __init__(self, table: Mapping[str, Iterable[Listed]], *, ttl: float = 30.0) -> None:
        if not is_amount(ttl):
            raise ValueError(f"ttl is {ttl!r}; give seconds")
        self._ttl = ttl
        self._table = _read(table, ttl)

    def update(self, table: Mapping[str, Iterable[Listed]]) -> None:
        """Replaces the whole table. Any thread.

        Raises :class:`pjfail.BadServer`; the old table then stays.
        """
        self._table = _read(table, self._ttl)

    async def lookup(self, target: Target) -> list[Candidate]:
        """Returns the servers of the target's host, whatever its port: only TLS for a secure target, only IPv6 if it
        asks for that.

        Raises :class:`pjfail.UnknownTarget` for a host that is not in the table, and :class:`pjfail.LookupFailed` for a
        host without a server of the kind that the target asks for.
        """
        rows = self._table.get(_key(target.host))
        if rows is None:
            raise UnknownTarget(f"{target.host} is not in the table")
        wanted: Transport | None = "tls" if target.secure else target.transport
        found = [candidate for row in rows if (candidate := row.over(wanted)) is not None]
        if target.ipv6:
            found = [candidate for candidate in found if ":" in candidate.server.address]
        if not found:
            kind = f"{'IPv6 ' if target.ipv6 else ''}server{f' over {wanted}' if wanted else ''}"
            raise LookupFailed(f"{target}: the table has no {kind} for {target.host}")
        return sorted(found, key=lambda candidate: candidate.priority)


def _key(host: str) -> str:
    return Target(host).host.rstrip(".")


def _is_host(host: object) -> bool:
    """Returns whether a URI may have this host, a name or an address; no target would ever find another one."""
    return isinstance(host, str) and (
        re.fullmatch(r"[^:;?@<>\[\]\s]+", host) is not None or (":" in host and Target(host).is_numeric)
    )


def _read(table: Mapping[str, Iterable[Listed]], ttl: float) -> dict[str, tuple[_Row, ...]]:
    if not isinstance(table, Mapping):
        raise TypeError(f"table is {table!r}; give a mapping of each host to its list of servers")
    rows = {}
    for host, listed in table.items():
        if not _is_host(host):
            raise BadServer(f"{host!r} is not a valid host; write that of the URI alone, without sip:, user and port")
        if isinstance(listed, str):
            raise BadServer(f"{host}: {listed!r} is one server; write a list of servers")
        if not isinstance(listed, Iterable):
            raise BadServer(f'{host}: {listed!r} is not a valid list of servers; write ["address:port", ...]')
        try:
            rows[_key(host)] = tuple(_row(each, host, place, ttl) for place, each in enumerate(listed))
        except BadServer as error:
            raise BadServer(f"{host}: {error}") from None
        if not rows[_key(host)]:
            raise BadServer(f"{host}: no server is listed; leave the host out, or list one")
    return rows


def _row(listed: Listed, host: str, place: int, ttl: float) -> _Row:
    match listed:
        case Candidate():
            return _Row(listed if listed.ttl > 0 else replace(listed, ttl=ttl), any_transport=False)
        case (str() | Server() as server, int() as priority, int() as weight):
            if not (0 <= priority < 65536 and 0 <= weight < 65536):
                raise BadServer(f"{listed!r}: priority and weight are numbers from 0 to 65535")
            parsed, any_transport = _server(server)
            # With its address as its name, each server is a record of its own in the draw, as an SRV record is.
            return _Row(Candidate(parsed, parsed.address, priority, weight, ttl), any_transport)
        case str() | Server():
            parsed, any_transport = _server(listed)
            return _Row(Candidate(parsed, _key(host), place, 0, ttl), any_transport)
        case _:
            raise BadServer(
                f'{listed!r} is not a valid server; write "address:port", or ("address:port", priority, weight)'
            )


def _server(listed: str | Server) -> tuple[Server, bool]:
    """Returns the server, and whether its text leaves the transport open."""
    if isinstance(listed, Server):
        return listed, False
    return Server.parse(listed), Server.parse(listed, "udp") != Server.parse(listed, "tcp")
