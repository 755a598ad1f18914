"""RFC 3263 section 4: from a SIP URI's target to its servers, in the order in which a client must try them.

Every question goes through a :class:`Resolver`; this module knows neither sockets nor caches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import dns.exception
import dns.name
from dns.name import Name
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV

from .._values import dataclass
from ..errors import LookupFailed
from ..model import DEFAULT_PORT, TRANSPORTS, Candidate, Family, Server, Target, Transport
from .patience import settle
from .resolver import Answer, Asked, Kind, Resolver, Silence

UseOfNaptr = Literal["on", "off", "always"]

SERVICE_LABELS: Mapping[Transport, str] = {"udp": "_sip._udp", "tcp": "_sip._tcp", "tls": "_sips._tcp"}
NAPTR_SERVICES: Mapping[str, Transport] = {"SIP+D2U": "udp", "SIP+D2T": "tcp", "SIPS+D2T": "tls"}
ADDRESS_KINDS: Mapping[Family, Kind] = {"ipv4": "A", "ipv6": "AAAA"}

MAX_SRV_RECORDS = 256  # in one answer; more would be a query storm, and pjsip takes 32 at most
MAX_SRV_HOSTS = 256  # hosts of SRV records whose addresses one lookup asks for
MAX_SERVICES = 8  # services that NAPTR records may lead to
MAX_CANDIDATES = 256  # of one service; also addresses of one host; a plan has room for so many
SILENCE_TTL = 30.0  # of the host's addresses where they serve because the name servers are silent to SRV questions
NUMERIC_TTL = 86400.0  # seconds: an address in the URI does not change, so a day stands for ever


@dataclass(frozen=True, slots=True)
class Client:
    """What the client can do. ``transports`` and ``families`` are in its order of preference.

    ``naptr`` "on" asks for NAPTR records where RFC 3263 does, "always" also where the URI names a transport.
    ``patience`` is how many seconds optional or further answers may take once there is enough to go on; after as many
    without any answer to the questions for SRV records the host's addresses are asked for, too. A lookup takes three
    times as long at the most.
    ``has_route`` tells of a numeric address whether packets can reach it.
    """

    transports: tuple[Transport, ...]
    families: tuple[Family, ...]
    naptr: UseOfNaptr
    patience: float
    has_route: Callable[[str], bool]


class NothingThere(LookupFailed):
    """The name service has neither a SIP service nor an address of the host."""


class Service(NamedTuple):
    """A name to ask for SRV records, and the transport of its servers."""

    name: Name
    transport: Transport
    ttl: float


class Address(NamedTuple):
    """One address of a host and its TTL in seconds."""

    text: str
    ttl: float


async def locate(
    target: Target, resolver: Resolver, client: Client, on_silence: Callable[[str], object] = lambda _: None
) -> list[Candidate]:
    """Returns the candidates of *target*, at least one, by ascending priority; each server once, in its first position.

    The addresses of one SRV record are adjacent. If several sets of SRV records apply (one for each transport, or
    several NAPTR records of one order), each set follows the one before it as a whole, with its priorities raised above
    that set's: RFC 3263 does not merge them. If the name servers answer everything but the questions for SRV records,
    the addresses of the host are used for ``SILENCE_TTL`` seconds, and *on_silence* gets the questions. Raises
    :class:`pjfail.LookupFailed`, temporary if a name service failed, and :class:`NothingThere`.
    """
    if not (client.transports and client.families):
        raise LookupFailed(f"{target}: the lookup may use no transport, or no kind of address, that the endpoint has")
    transports = _usable_transports(target, client.transports)
    fallback: Transport = "udp" if "udp" in transports else transports[0]  # section 4.1: UDP for sip
    if target.is_numeric:
        return [numeric_candidate(target, fallback)]
    host = name_of(target.host)
    if target.ipv6:
        client = replace(client, families=("ipv6",))
    if target.port:
        return await _by_host(target, host, fallback, resolver, client, "address")

    services: list[Service] = []
    if client.naptr == "always" or (client.naptr == "on" and target.transport is None):
        # Most domains have no NAPTR records. So that they are found one question sooner, what comes next is asked, too.
        ahead = asyncio.get_running_loop().create_task(_ask_ahead(host, transports, resolver, client.patience))
        try:
            services = await _naptr_services(target, host, transports, resolver, client)
        finally:
            ahead.cancel()
        if services:
            fallback = services[0].transport
    if not services:
        services = _usual_services(host, transports)
    asked = {service.transport for service in services}
    over = "" if asked.issuperset(TRANSPORTS) else f" over {' or '.join(each for each in TRANSPORTS if each in asked)}"
    sought = f"SRV record{over} and no address"
    questions = [resolver.resolve(service.name, "SRV") for service in services]
    answers = asyncio.get_running_loop().create_task(settle(questions, client.patience))
    try:
        by_host = partial(_by_host, target, host, fallback, resolver, client, sought)
        if found := await _unless_answered(answers, by_host, client.patience):
            on_silence(", ".join(f"SRV {_text(service.name)}" for service in services))
            return [replace(candidate, ttl=min(candidate.ttl, SILENCE_TTL)) for candidate in found]
        found = await _by_services(target, services, await answers, resolver, client)
    finally:
        answers.cancel()
    return _once(found) or await by_host()


def _usual_services(host: Name, transports: Iterable[Transport]) -> list[Service]:
    """The services of a host without NAPTR records."""
    return [Service(_under(SERVICE_LABELS[each], host), each, NUMERIC_TTL) for each in transports]


async def _ask_ahead(host: Name, transports: Iterable[Transport], resolver: Resolver, patience: float) -> None:
    """Has *resolver* learn the answers that are needed where there are no NAPTR records: it keeps them."""
    with suppress(LookupFailed):
        services = _usual_services(host, transports)
        await settle([resolver.resolve(service.name, "SRV") for service in services], patience)


def numeric_candidate(target: Target, transport: Transport) -> Candidate:
    """Returns the candidate of a numeric target: its own address, over *transport*."""
    server = Server(target.host, target.port or DEFAULT_PORT[transport], transport)
    return Candidate(server, target.host, ttl=NUMERIC_TTL)


def _usable_transports(target: Target, transports: tuple[Transport, ...]) -> tuple[Transport, ...]:
    """Returns the client's transports that *target* allows; for a secure target only TLS."""
    wanted = "tls" if target.secure else target.transport
    if wanted is None:
        return transports
    if wanted not in transports:
        raise LookupFailed(f"{target} needs {wanted}, and this client has only {', '.join(transports)}")
    return (wanted,)


def name_of(host: str) -> Name:
    """Returns *host* as a DNS name, an international one in ASCII (IDNA 2008). Raises :class:`pjfail.LookupFailed`."""
    try:
        return dns.name.from_text(host, idna_codec=dns.name.IDNA_2008_Practical)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise LookupFailed(f"{host!r} is not a valid DNS name: {error}") from None


def _under(labels: str, host: Name) -> Name:
    try:
        return dns.name.from_text(labels, host)
    except dns.name.NameTooLong:
        raise LookupFailed(f"{labels}.{_text(host)} is longer than a DNS name may be") from None


def _text(name: Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


async def _naptr_services(
    target: Target, host: Name, transports: Sequence[Transport], resolver: Resolver, client: Client
) -> list[Service]:
    """Returns the services that NAPTR records offer, best first; none if there is no NAPTR record for SIP (section
    4.1).

    NAPTR is optional, and some name servers drop the question: no answer counts as no record.
    """
    try:
        async with asyncio.timeout(client.patience):
            answer = await resolver.resolve(host, "NAPTR")
    except (LookupFailed, TimeoutError):
        return []
    offered = _sip_records(answer, [host, answer.name] if target.secure else None)
    usable = [
        (record, transport)
        for record in offered
        if (transport := NAPTR_SERVICES.get(_service_field(record))) and transport in transports
    ]
    if offered and not usable and target.transport is None:
        services = ", ".join(sorted({_service_field(record) for record in offered}))
        allowed = ", ".join(transports)
        raise LookupFailed(f"{target}: {_text(host)} offers only {services}, and none of that uses {allowed}")
    # RFC 3403 section 4.1: after a match no record of another order counts, so a TLS failure never ends in plain TCP.
    order = min((record.order for record, _ in usable), default=0)
    usable = sorted((pair for pair in usable if pair[0].order == order), key=lambda pair: pair[0].preference)
    return [Service(record.replacement, transport, answer.ttl) for record, transport in usable[:MAX_SERVICES]]


def _sip_records(answer: Answer, inside: Sequence[Name] | None) -> list[NAPTR]:
    """Returns the well-formed NAPTR records for SIP; with *inside*, only those whose replacement lies in one of these
    domains.
    """
    return [
        record
        for record in answer.records
        if isinstance(record, NAPTR)
        and _service_field(record).startswith(("SIP+D2", "SIPS+D2"))
        and record.flags.lower() == b"s"
        and not record.regexp
        and record.replacement != dns.name.root
        and (inside is None or any(record.replacement.is_subdomain(domain) for domain in inside))
    ]


def _service_field(record: NAPTR) -> str:
    return record.service.decode("ascii", "replace").upper()


async def _unless_answered(
    answers: asyncio.Task[list[Answer | LookupFailed]],
    by_host: Callable[[], Coroutine[Any, Any, list[Candidate]]],
    patience: float,
) -> list[Candidate]:
    """What *by_host* finds while no name server says anything that *answers* waits for; nothing where one does.

    By_host begins after *patience* seconds of silence, and has three quarters of that time: the rest is room for a busy
    machine, since a lookup that takes three times *patience* has failed.
    """
    await asyncio.wait({answers}, timeout=patience)
    if not _is_silent(answers):
        return []
    host = asyncio.get_running_loop().create_task(settle([by_host()], patience))
    try:
        await asyncio.wait({answers, host}, timeout=0.75 * patience)
        [found] = host.result() if host.done() and _is_silent(answers) else [[]]
    finally:
        host.cancel()
    return [] if isinstance(found, LookupFailed) else found


def _is_silent(answers: asyncio.Task[list[Answer | LookupFailed]]) -> bool:
    """Whether there is no answer so far, or in the end one that tells of silence alone."""
    if not answers.done():
        return True
    said = [answer for answer in answers.result() if answer]  # an answer without records is false
    return bool(said) and all(isinstance(answer, Silence) for answer in said)


async def _by_services(
    target: Target,
    services: Sequence[Service],
    answers: Sequence[Answer | LookupFailed],
    resolver: Resolver,
    client: Client,
) -> list[Candidate]:
    """The candidates behind *answers* to the questions for the SRV records of *services* (section 4.2).

    None only where there are no such records.
    """
    failures = [answer for answer in answers if isinstance(answer, LookupFailed)]
    sets = [
        (service, min(service.ttl, answer.ttl), _usable_records(answer))
        for service, answer in zip(services, answers, strict=True)
        if not isinstance(answer, LookupFailed) and answer
    ]
    if not sets:
        if failures:
            raise failures[0]  # a failed name service has not said "there is none"
        return []
    hosts = list({record.target: None for _, _, records in sets for record in records})[:MAX_SRV_HOSTS]
    beside = {
        asked: Answer(asked.name, found, answer.ttl)
        for answer in answers
        if not isinstance(answer, LookupFailed)
        for asked, found in answer.beside.items()
    }
    resolved = await settle([_addresses(host, resolver, client, beside) for host in hosts], client.patience)
    addresses = {host: each for host, each in zip(hosts, resolved, strict=True) if not isinstance(each, LookupFailed)}
    found = _stacked(
        list(islice(_candidates_of(service, ttl, records, addresses), MAX_CANDIDATES)) for service, ttl, records in sets
    )
    if found:
        return found
    failures += [each for each in resolved if isinstance(each, LookupFailed)]
    if failures:
        raise failures[0]
    if hosts:
        names = ", ".join(_text(host) for host in hosts)
        raise LookupFailed(f"{target}: its SRV records lead nowhere: {names} has no address")
    raise LookupFailed(f'{target}: its SRV record says "not available here" (RFC 2782, target ".")')


def _candidates_of(
    service: Service, ttl: float, records: Iterable[SRV], addresses: Mapping[Name, Sequence[Address]]
) -> Iterator[Candidate]:
    """Yields the candidates that *records* lead to, the addresses of each record adjacent."""
    query = f"{_text(service.name)} SRV"
    for record in records:
        name = _text(record.target)
        for address in addresses.get(record.target, ()):
            server = Server(address.text, record.port, service.transport)
            yield Candidate(server, name, record.priority, record.weight, min(ttl, address.ttl), query)


def _usable_records(answer: Answer) -> list[SRV]:
    """Returns the SRV records that name a server, by priority and weight, at most MAX_SRV_RECORDS."""
    records = [
        record
        for record in answer.records
        if isinstance(record, SRV) and record.port and record.target != dns.name.root
    ]
    return sorted(records, key=lambda record: (record.priority, -record.weight))[:MAX_SRV_RECORDS]


def _stacked(sets: Iterable[list[Candidate]]) -> list[Candidate]:
    """Joins the sets; raises the priorities of each set above those of the set before it, unless they are higher
    already.
    """
    stacked: list[Candidate] = []
    for candidates in sets:
        if stacked and candidates:
            raised = max(0, stacked[-1].priority + 1 - candidates[0].priority)
            stacked += [replace(candidate, priority=candidate.priority + raised) for candidate in candidates]
        else:
            stacked += candidates
    return stacked


async def _by_host(
    target: Target, host: Name, transport: Transport, resolver: Resolver, client: Client, sought: str
) -> list[Candidate]:
    """Returns the candidates by the addresses of the host itself (end of section 4.2); *sought* is a part of the
    error's text.
    """
    port = target.port or DEFAULT_PORT[transport]
    addresses = await _addresses(host, resolver, client)
    if not addresses:
        raise NothingThere(f"{target}: {_text(host)} has no {sought}")
    name = _text(host)
    return _once(
        Candidate(
            Server(address.text, port, transport),
            name,
            ttl=address.ttl,
            query=f"{name} {'AAAA' if ':' in address.text else 'A'}",
        )
        for address in addresses
    )


def _once(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Returns each server once, in its first position."""
    first: dict[Server, Candidate] = {}
    for candidate in candidates:
        first.setdefault(candidate.server, candidate)
    return list(first.values())


async def _addresses(
    host: Name, resolver: Resolver, client: Client, beside: Mapping[Asked, Answer] = MappingProxyType({})
) -> list[Address]:
    """Returns the addresses of *host*: those with a route first, then by family in the client's order (RFC 6724, RFC
    7984).

    What *beside* has is not asked for. If the question for one family fails, the addresses of the other are still
    returned.
    """
    asked = [Asked(host, ADDRESS_KINDS[family]) for family in client.families]
    missing = [each for each in asked if each not in beside]
    enough = len(missing) < len(asked)
    further = await settle([resolver.resolve(*each) for each in missing], client.patience, enough=enough)
    told = {**beside, **dict(zip(missing, further, strict=True))}
    answers = [told[each] for each in asked]
    found = [
        Address(record.address, answer.ttl)
        for answer in answers
        if not isinstance(answer, LookupFailed)
        for record in answer.records[:MAX_CANDIDATES]
        if isinstance(record, A | AAAA)
    ]
    failures = [answer for answer in answers if isinstance(answer, LookupFailed)]
    if failures and not found:
        raise failures[0]
    if len(found) == 1:  # as it mostly is, and looking for a route takes system calls
        return found
    return sorted(found, key=lambda address: not client.has_route(address.text))
