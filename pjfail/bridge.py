"""The only module that touches the C core: values in, values out.

Every function may be called from any Python thread; the GIL is released inside. The core's locks are held for
microseconds, and no Python runs under them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from . import errors, events
from ._native import ffi, lib
from .model import FAMILIES, TRANSPORTS, Candidate, Family, Outcome, Plan, Question, Seen, Server, Target, Transport
from .steering import Steering

MAX_SERVERS: int = lib.PF_MAX_ENTRIES
MAX_HOST: int = lib.PF_MAX_HOST - 1

_SEEN = (Seen.ANSWERED, Seen.SILENT, Seen.REFUSED, Seen.DISCONNECTED, Seen.UNAVAILABLE, Seen.CERTIFICATE)
_WHY = (events.Why.SILENT, events.Why.SLOW, events.Why.CODE, events.Why.LOST, events.Why.RACE)
_BATCH = 256
_A, _AAAA = 1, 28  # RFC 1035, RFC 3596


@dataclass(frozen=True, slots=True)
class Stats:
    """What the C core has counted of one server; ``last_answer`` and ``rtt`` are None before the first answer."""

    last_answer: float | None
    rtt: float | None
    rtt_deviation: float
    answers: int
    silences: int
    refusals: int
    unavailable: int
    suspect: bool


@dataclass(frozen=True, slots=True)
class Counters:
    """What the C core has counted since it was attached, and (the last four) what it holds now."""

    resolved: int
    numeric: int
    from_plan: int
    questions: int
    from_stale: int
    from_system: int
    failed: int
    dropped: int
    steered: int
    hedged: int
    swallowed: int
    raced: int
    plans: int
    servers: int
    waiting: int
    outstanding: int


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """A record as pjsip's DNS resolver has parsed it; ``type`` is the DNS's number, ``address`` numeric text."""

    name: str
    type: int
    ttl: int
    priority: int
    weight: int
    port: int
    target: str
    address: str


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """What pjsip's DNS resolver said to question ``number``; ``problem`` is empty when all went well."""

    number: int
    exists: bool
    problem: str
    records: tuple[DnsRecord, ...]


# --- values to and from C (Any stands for C data) ---------------------------------------------------------------------


def _text(array: Any) -> str:
    return str(ffi.string(array).decode("utf-8", "replace"))


def _c_target(target: Target) -> Any:
    host = target.host.encode("utf-8")
    if len(host) > MAX_HOST:
        raise errors.BadURI(f"{target}: the host is longer than {MAX_HOST} octets")
    c = ffi.new("pf_target *")
    c.host = host
    c.port = target.port
    c.transport = 0 if target.transport is None else TRANSPORTS.index(target.transport) + 1
    c.secure = target.secure
    c.ipv6 = target.ipv6
    return c


def _target(c: Any) -> Target:
    transport = TRANSPORTS[c.transport - 1] if c.transport else None
    return Target(_text(c.host), c.port, transport, bool(c.secure), bool(c.ipv6))


def _fill_address(c: Any, server: Server) -> Any:
    address, _, scope = server.address.partition("%")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    octets = socket.inet_pton(family, address)
    ffi.memmove(c.ip, octets, len(octets))
    c.family = 6 if family == socket.AF_INET6 else 4
    c.transport = TRANSPORTS.index(server.transport) + 1
    c.port = server.port
    if scope:
        c.scope = int(scope)
    return c


def _c_address(server: Server) -> Any:
    return _fill_address(ffi.new("pf_address *"), server)


def _server(c: Any) -> Server:
    octets = bytes(ffi.buffer(c.ip, 16 if c.family == 6 else 4))
    address = socket.inet_ntop(socket.AF_INET6 if c.family == 6 else socket.AF_INET, octets)
    return Server(f"{address}%{c.scope}" if c.scope else address, c.port, TRANSPORTS[c.transport - 1])


def _known(value: float) -> float | None:
    return None if value < 0 else value


def _outcome(c: Any) -> Outcome:
    return Outcome(
        server=_server(c.server),
        seen=_SEEN[c.seen],
        at=c.at,
        method=_text(c.method),
        code=c.code,
        rtt=_known(c.rtt),
        retry_after=_known(c.retry_after),
        after_provisional=bool(c.after_provisional),
        detail=strerror(c.status) if c.status else "",
        sequence=c.sequence,
    )


def _question(c: Any) -> Question:
    return Question(
        target=_target(c.target),
        refresh=bool(c.refresh),
        method=_text(c.method),
        from_uri=_text(c.from_uri),
        call_id=_text(c.call_id),
        to_tag=_text(c.to_tag),
    )


def _record(c: Any) -> DnsRecord:
    address = ""
    if c.type == _A:
        address = socket.inet_ntop(socket.AF_INET, bytes(ffi.buffer(c.ip, 4)))
    elif c.type == _AAAA:
        address = socket.inet_ntop(socket.AF_INET6, bytes(ffi.buffer(c.ip, 16)))
    return DnsRecord(_text(c.name), c.type, c.ttl, c.priority, c.weight, c.port, _text(c.target), address)


def _dns_answer(c: Any) -> DnsAnswer:
    records = tuple(_record(c.records[index]) for index in range(c.count))
    return DnsAnswer(c.id, bool(c.exists), strerror(c.status) if c.status else "", records)


# --- the host ---------------------------------------------------------------------------------------------------------


def _object(path: str | None) -> Any:
    return ffi.NULL if path is None else ffi.new("char[]", path.encode())


def symbol(path: str | None, name: str) -> int:
    """The address of *name* in the loaded object *path* (None: the main program), 0 when it has none."""
    return int(ffi.cast("uintptr_t", lib.pf_symbol(_object(path), name.encode())))


def built_for() -> str:
    """The version of pjproject that the core was compiled against."""
    return _text(lib.pf_built_for())


def open_host(path: str | None) -> str:
    """Binds the pjsip in the loaded object *path* and returns its version. Raises :class:`pjfail.HostError`."""
    _check(lib.pf_host_open(_object(path)))
    return _text(lib.pf_host_version())


def check_host() -> None:
    """Checks endpoint and layout, installing nothing. Raises :class:`pjfail.HostError`."""
    _check(lib.pf_host_check())


def strerror(status: int) -> str:
    """pjsip's words for a ``pj_status_t``."""
    text = ffi.new("char[128]")
    lib.pf_strerror(status, text, 128)
    return _text(text) or f"status {status}"


def _check(result: int) -> None:
    """Turns a result of the core into its exception."""
    if result == lib.PF_OK:
        return
    problem = _text(lib.pf_problem())
    if result == lib.PF_NO_OBJECT:
        raise errors.NoPjsip(f"{problem} is not loaded into this process; import it first")
    if result == lib.PF_NO_SYMBOL:
        raise errors.UnsupportedVersion(f"the pjsip in this process lacks {problem}(), which pjfail needs")
    if result == lib.PF_NO_ENDPOINT:
        raise errors.NoEndpoint(
            "pjsip has no initialised endpoint in this process; call libCreate() and libInit() before pjfail.attach()"
        )
    if result == lib.PF_BAD_LAYOUT:
        raise errors.LayoutMismatch(
            f"{problem} lies otherwise in this process's pjsip than in the pjproject {built_for()} that pjfail was "
            "compiled for; build pjfail with PJPROJECT_DIR set to the tree (and the config_site.h) of that pjsip"
        )
    if result == lib.PF_ALREADY_ATTACHED:
        raise errors.AlreadyAttached(errors.ATTACHED_ALREADY)
    status = lib.pf_status()
    raise errors.PjsipError(problem, status, strerror(status))


# --- attached ---------------------------------------------------------------------------------------------------------


def _steer(steering: Steering) -> None:
    c = ffi.new("pf_steering *")
    c.on = steering.enabled
    for index, (method, seconds) in enumerate(steering.silence.items()):
        c.silence[index].method = method.encode("ascii")
        c.silence[index].after = seconds
    c.silences = len(steering.silence)
    for index, code in enumerate(steering.codes):
        c.codes[index] = code
    c.code_count = len(steering.codes)
    c.race_gap = -1.0 if steering.race_gap is None else steering.race_gap
    c.budget = steering.budget
    lib.pf_steer(c)


def attach(deadline: float, steering: Steering) -> None:
    """Plugs the core into the endpoint. *deadline*: seconds a question may wait for :func:`publish`."""
    _steer(steering)
    _check(lib.pf_attach(deadline))


def detach() -> None:
    """Takes the core out again; harmless when it is out. May wait two seconds for pjsip to let go."""
    lib.pf_detach()


def attached() -> bool:
    return bool(lib.pf_attached())


def counters() -> Counters:
    c = ffi.new("pf_counters *")
    lib.pf_read_counters(c)
    return Counters(*(int(getattr(c, name)) for name in Counters.__dataclass_fields__))


def event_fd() -> int:
    """The descriptor that is readable when there is something to fetch; negative when detached."""
    return int(lib.pf_event_fd())


def questions() -> Iterator[Question]:
    """Takes the questions that have come; call it before :func:`outcomes`, it resets the descriptor."""
    while True:
        c = lib.pf_next_question()
        if c == ffi.NULL:
            return
        try:
            question = _question(c)
        finally:
            lib.pf_free_question(c)
        yield question


def dns_open(servers: Sequence[tuple[str, int]]) -> int:
    """A DNS resolver of pjsip's that asks *servers* (address, port); with none, the one that pjsua was configured with.

    It ends with the attachment. Worker. Raises :class:`pjfail.PjfailError`.
    """
    texts = [ffi.new("char[]", address.encode()) for address, _ in servers]
    handle = ffi.new("int *")
    ports = [port for _, port in servers]
    result = lib.pf_dns_open(ffi.new("char *[]", texts), ffi.new("unsigned short[]", ports), len(texts), handle)
    if result == lib.PF_NO_RESOLVER:
        raise errors.NoEndpoint(
            "pjsip has no DNS resolver of its own; set uaConfig.nameserver before libInit(), or give nameservers="
        )
    _check(result)
    return int(handle[0])


def dns_ask(handle: int, name: str, kind: int, number: int) -> bool:
    """Asks for the records of type *kind* at *name*; the answer comes through :func:`dns_answers`, with *number*.

    False when there is no such resolver any more. Worker. Raises :class:`pjfail.PjfailError`.
    """
    result = lib.pf_dns_ask(handle, name.encode("ascii"), kind, number)
    if result == lib.PF_NO_RESOLVER:
        return False
    _check(result)
    return True


def dns_answers() -> Iterator[DnsAnswer]:
    """Takes the answers of pjsip's DNS resolver that have come."""
    while True:
        c = lib.pf_next_dns_answer()
        if c == ffi.NULL:
            return
        try:
            answer = _dns_answer(c)
        finally:
            lib.pf_free_dns_answer(c)
        yield answer


def outcomes() -> list[Outcome]:
    """Takes the outcomes that have been seen, oldest first."""
    seen: list[Outcome] = []
    batch = ffi.new("pf_outcome[]", _BATCH)
    while True:
        count = lib.pf_next_outcomes(batch, _BATCH)
        seen.extend(_outcome(batch[index]) for index in range(count))
        if count < _BATCH:
            return seen


def failovers() -> Iterator[events.FailedOver]:
    """Takes what requests under way have gone on to another server, oldest first."""
    while True:
        c = lib.pf_next_failover()
        if c == ffi.NULL:
            return
        try:
            event = events.FailedOver(
                method=_text(c.method),
                call_id=_text(c.call_id),
                left=_server(c.left),
                taken=_server(c.taken),
                why=_WHY[c.why],
                after=c.after,
                code=c.code,
            )
        finally:
            lib.pf_free_failover(c)
        yield event


def _same_record(one: Candidate, other: Candidate) -> bool:
    """Whether two candidates of a tier are addresses of one SRV record."""
    return (one.name, one.server.port, one.server.transport, one.weight) == (
        other.name,
        other.server.port,
        other.server.transport,
        other.weight,
    )


def publish(plan: Plan, refresh_at: float, left_out: Iterable[Server] = ()) -> None:
    """Makes *plan* the one for its target and answers those who wait for it; at most MAX_SERVERS places of it.

    *refresh_at*: from when on a use of the plan asks for a new one. Servers *left_out* are watched all the same.
    """
    places = plan.places[:MAX_SERVERS]
    watched = list(left_out)[: MAX_SERVERS - len(places)]
    entries = ffi.new("pf_entry[]", len(places) + len(watched))
    group = 0
    for index, place in enumerate(places):
        if index and not _same_record(places[index - 1].candidate, place.candidate):
            group += 1
        entry = entries[index]
        _fill_address(entry.server, place.server)
        entry.tier = place.tier
        entry.group = group
        entry.weight = place.candidate.weight
    for index, server in enumerate(watched, len(places)):
        _fill_address(entries[index].server, server)
    if not places:
        raise ValueError(f"the plan of {plan.target} has no servers")
    count = len(entries)
    if not lib.pf_publish(_c_target(plan.target), entries, count, len(places), refresh_at, plan.valid_until):
        raise MemoryError(f"no memory for the plan of {plan.target}")


def fail(target: Target, *, stale: bool) -> None:
    """Tells those who wait for *target* that there is nothing; with *stale* an old plan may serve instead."""
    lib.pf_fail(_c_target(target), stale)


def pass_on(target: Target) -> None:
    """Has those who wait for *target* answered by the system's resolver."""
    lib.pf_pass(_c_target(target))


def forget(target: Target) -> None:
    """Drops the plan of *target*."""
    lib.pf_forget(_c_target(target))


def forgive(server: Server, sequence: int) -> None:
    """Ends the core's own suspicion of *server*: its outcomes up to *sequence* have been judged."""
    lib.pf_forgive(_c_address(server), sequence)


def transports() -> tuple[tuple[Transport, ...], tuple[Family, ...]]:
    """What the endpoint can send over: its transports and its address families, both empty when that is not known.

    Not from a SIP thread.
    """
    found = ffi.new("unsigned *")
    if lib.pf_transports(found) != lib.PF_OK:
        return (), ()
    over = {
        (transport, family)
        for number, transport in enumerate(TRANSPORTS, 1)
        for bit, family in enumerate(FAMILIES)
        if found[0] & 1 << (2 * number + bit)
    }
    return (
        tuple(transport for transport in TRANSPORTS if any(transport == each for each, _ in over)),
        tuple(family for family in FAMILIES if any(family == each for _, each in over)),
    )


def probe(server: Server, host: str) -> None:
    """Sends one OPTIONS for *host* to exactly *server*, which must be in a plan; its answer comes as an outcome.

    Not from a SIP thread. Raises :class:`pjfail.PjsipError` when it cannot be sent.
    """
    _check(lib.pf_probe(_c_address(server), host.encode("utf-8")))


def stats(server: Server) -> Stats | None:
    """What the core has counted of *server*, None when it is in no plan."""
    c = ffi.new("pf_stats *")
    if not lib.pf_read_stats(_c_address(server), c):
        return None
    return Stats(
        last_answer=_known(c.last_answer),
        rtt=_known(c.rtt),
        rtt_deviation=c.rtt_deviation,
        answers=c.answers,
        silences=c.silences,
        refusals=c.refusals,
        unavailable=c.unavailable,
        suspect=bool(c.suspect),
    )


def draw(target: Target, seed: int) -> list[Server]:
    """One use's order of the plan of *target* as the core draws it from *seed*; empty when there is no plan."""
    servers = ffi.new("pf_address[]", MAX_SERVERS)
    count = lib.pf_draw(_c_target(target), seed, servers, MAX_SERVERS)
    return [_server(servers[index]) for index in range(count)]
