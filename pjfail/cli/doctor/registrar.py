"""What pjfail makes of a registrar's URI: which servers it leads to, and what keeps requests from failing over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ...errors import LookupFailed, UnknownTarget
from ...model import Candidate, Target

if TYPE_CHECKING:
    from ...lookup import DnsLookup

Kind = Literal["address", "SRV", "host", "nothing"]

_KINDS: dict[Kind, str] = {
    "address": "a numeric address: nothing is looked up",
    "SRV": "a domain with SRV records",
    "host": "a host name: its addresses, and no SRV records",
    "nothing": "a name that leads to no server",
}


@dataclass(frozen=True, slots=True)
class Registrar:
    """What *uri* is, the *servers* that it leads to, the first one first, and *advice* in sentences."""

    uri: str
    kind: Kind
    servers: tuple[str, ...]
    advice: tuple[str, ...]

    def rows(self) -> list[tuple[str, str]]:
        """The table: what, and what was found of it."""
        servers = [("server", server) for server in self.servers] or [("server", "none")]
        return [("URI", self.uri), ("is", _KINDS[self.kind]), *servers]


def examined(uri: str, nameservers: Sequence[str] | None = None) -> Registrar:
    """Looks *uri* up as pjfail does. Raises :class:`pjfail.BadURI`, and :class:`pjfail.BadServer` for a name server."""
    import asyncio  # it imports ssl, which a doctor without a URI needs not

    from ...lookup import DnsLookup

    return asyncio.run(_examine(Target.parse(uri), DnsLookup(nameservers)))


async def _examine(target: Target, dns: DnsLookup) -> Registrar:
    try:
        found = await _find(target, dns)
    except LookupFailed as error:
        only = f"{error}; until that is mended, only servers= helps: {_listing(target)}"
        return Registrar(str(target), "nothing", (), (only,))
    kind: Kind = "host"
    if target.is_numeric:
        kind = "address"
    elif any(each.query.endswith(" SRV") for each in found):
        kind = "SRV"
    advice = [_count(target, found)]
    if target.is_numeric and (target.secure or target.transport == "tcp"):
        advice.append(
            "for the Contact of such an account pjsua connects to that very address, whichever server is in use: set "
            "natConfig.contactUseSrcPort = 0"
        )
    if target.port and not target.is_numeric:
        advice += await _unused(target, found, dns)
    return Registrar(str(target), kind, tuple(each.label for each in found), tuple(advice))


async def _find(target: Target, dns: DnsLookup) -> Sequence[Candidate]:
    """The candidates by the DNS, or by the system's resolver, which pjsip is left to where the DNS knows nothing."""
    try:
        found = await dns.lookup(target)
    except UnknownTarget:
        from ...lookup import SystemLookup

        found = await SystemLookup().lookup(target)
    return sorted(found, key=lambda each: (each.priority, -each.weight))


async def _unused(target: Target, found: Sequence[Candidate], dns: DnsLookup) -> list[str]:
    """What the port of *target* keeps from being found."""
    plain = replace(target, port=0)
    try:
        unused = [each for each in await dns.lookup(plain) if each.query.endswith(" SRV")]
    except LookupFailed:
        return []
    known = {each.server for each in found}
    labels = dict.fromkeys(each.label for each in unused if each.server not in known)
    if not labels:
        return []
    return [
        f"the port keeps the SRV records of {target.host} from being asked (RFC 3263 section 4.2); they lead to "
        f"{', '.join(labels)}: write {plain}"
    ]


def _count(target: Target, found: Sequence[Candidate]) -> str:
    """Whether there is anything to fail over to: one address over several transports is one server."""
    addresses = {each.server.address for each in found}
    if len(addresses) > 1:
        return f"{len(addresses)} servers: pjfail fails over among them"
    return f"one server: there is nothing to fail over to. If there is another one, list both: {_listing(target)}"


def _listing(target: Target) -> str:
    """How the application lists the servers of *target* itself."""
    first = target.host if target.is_numeric else "192.0.2.1"
    return f'pjfail.attach(servers={{"{target.host}": ["{first}", "192.0.2.2"]}}), with the addresses of yours'
