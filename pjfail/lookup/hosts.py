"""The hosts file in front of a resolver."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import dns.rdata
from dns.name import Name
from dns.rdata import Rdata

from .files import Version, version_of
from .resolver import Answer, Kind, Resolver

TTL = 60.0  # seconds: the file has no TTLs


class HostsFile:
    """A :class:`Resolver` that answers for the addresses of the hosts in the file at *path*, and asks *resolver* for
    all else.

    As with the system's own resolver, a listed host has only the listed addresses: a host that is listed with IPv4 has
    no IPv6 address. The file never has SRV or NAPTR records. A file that has changed is read again when it is next
    needed; without the file no host is listed.
    """

    def __init__(self, path: Path, resolver: Resolver) -> None:
        self._path = path
        self._resolver = resolver
        self._read: Version = None
        self._table: dict[str, list[str]] = {}

    async def resolve(self, name: Name, kind: Kind) -> Answer:
        """Does what :meth:`Resolver.resolve` says."""
        listed = self._addresses(name) if kind in ("A", "AAAA") else None
        if listed is not None:
            return Answer(name, _records(listed, kind), TTL)
        answer = await self._resolver.resolve(name, kind)
        if answer.beside:
            beside = {asked: found for asked, found in answer.beside.items() if not self.lists(asked.name)}
            answer = replace(answer, beside=beside)
        return answer

    def lists(self, name: Name) -> bool:
        """Returns whether *name* is in the file."""
        return self._addresses(name) is not None

    def _addresses(self, name: Name) -> list[str] | None:
        try:
            version = version_of(self._path)
            if version is None or version != self._read:
                self._table = parse(self._path.read_text("utf-8", "replace"))
                self._read = version
        except OSError:
            self._table, self._read = {}, None
        return self._table.get(_key(name.to_text()))


def parse(text: str) -> dict[str, list[str]]:
    """Returns the addresses of each host, in the order of the lines; the format is that of hosts(5)."""
    table: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *hosts = line.partition("#")[0].split() or [""]
        for host in hosts:
            table.setdefault(_key(host), []).append(address)
    return table


def _key(host: str) -> str:
    return host.rstrip(".").lower()


def _records(addresses: list[str], kind: Kind) -> tuple[Rdata, ...]:
    """Returns records of *kind* for those of *addresses* that fit; others (a typing error, one with a scope) are left
    out.
    """
    records = []
    for address in addresses:
        try:
            parsed = ip_address(address)
        except ValueError:
            continue
        if "%" not in address and (parsed.version == 4) is (kind == "A"):
            records.append(dns.rdata.from_text("IN", kind, str(parsed)))
    return tuple(records)
