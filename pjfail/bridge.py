"""The only module that touches the C core: values in, values out.

Every function may be called from any Python thread; the GIL is released inside. The core's locks are held for
microseconds, and no Python runs under them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from . import errors, events
from ._native import ffi, lib
from .model import (
    FAMILIES,
    TRANSPORTS,
    CertificateProblem,
    Family,
    Outcome,
    Place,
    Plan,
    Question,
    Seen,
    Server,
    Target,
    Transport,
)
from .planning import weighted
from .steering import Steering

T = TypeVar("T")

MAX_SERVERS: int = lib.PF_MAX_ENTRIES
MAX_HOST: int = lib.PF_MAX_HOST - 1

_SEEN = tuple(Seen)
_WHY = (
    events.Why.SILENT,
    events.Why.SLOW,
    events.Why.CODE,
    events.Why.LOST,
    events.Why.RACE,
    events.Why.REFUSED,
)
_BATCH = 256
_A, _AAAA = 1, 28  # RFC 1035, RFC 3596

# pj_status_t (pj/errno.h, pjsip/sip_errno.h): PJ_ENOTFOUND, PJ_ETIMEDOUT, PJ_EINVALIDOP, PJSIP_EBUSY
NOT_FOUND = 70006
TIMED_OUT = 70009
INVALID_OPERATION = 70013
REGISTERING = 171001


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
class HostFacts:
    """What :func:`check_host` has found of this process's pjsip.

    ``layout`` is the name of its row in the table of layouts (see :func:`known_layouts`), "" before that. ``addresses``
    is how many servers an answer may name (PJSIP_MAX_RESOLVED_ADDRESSES), ``packet`` the octets that a received message
    may have, about (PJSIP_MAX_PKT_LEN). ``accounts`` tells whether accounts can be read and changed, each with up to
    ``proxies`` (PJSUA_ACC_MAX_PROXIES); ``native_affinity`` whether pjsip has server affinity of its own;
    ``state_callback`` whether pjsua's own state can be read, as it takes to share the transport state callback with a
    pjsua that creates a transport later.
    """

    version: str
    layout: str
    addresses: int
    packet: int
    accounts: bool
    proxies: int
    native_affinity: bool
    state_callback: bool


@dataclass(frozen=True, slots=True)
class Counters:
    """What the C core has counted since it was attached, and (the last four) what it holds now.

    ``resolved``: times pjsip asked for a server; of these ``numeric`` were an address already, ``from_plan`` were
    answered at once, and ``questions`` had to wait for Python. Of those that waited, ``from_stale`` were answered by an
    old plan, ``from_system`` by the system's resolver, ``failed`` with an error. ``dropped``: outcomes that Python came
    too late for. ``steered`` and ``hedged``: times a request under way went on, and went on sooner by the server's
    round trips; ``swallowed``: final responses that the application did not see; ``raced``: questions for which
    connections were raced. Now: ``plans`` in force, ``servers`` in them, questions ``waiting``, requests
    ``outstanding`` without a final answer.
    """

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
class RoundTrips:
    """How long requests sent once took to their first answer.

    ``counts`` has a number for each of ``bounds`` (seconds, up to and with it, from the one before) and one for all
    beyond the last; ``seconds`` is the sum of all.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    seconds: float


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


@dataclass(frozen=True, slots=True)
class Account:
    """What pjsua has an account set to.

    ``aor`` is its user@host[:port] as in From; ``next_hop`` is where its requests go, None for an account that has
    neither proxy nor registrar. ``secure`` tells of TLS: a sips URI, or transport=tls, in it, its registrar or a proxy.
    ``affinity`` tells whether pjsip's own server affinity is enabled, None where that is inherited, or pjsip has none.
    """

    id: int
    aor: str
    next_hop: Target | None
    next_hop_uri: str
    secure: bool
    registers: bool
    registered: bool
    transport_id: int | None
    affinity: bool | None
    proxies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pin:
    """One account's server: for all its requests to ``next_hop``, and ``registrar``, if any, for its REGISTERs alone.

    A pin that is ``idle`` changes nothing; its server is watched all the same. The registrations of an account that is
    ``followed`` are told.
    """

    account: int
    aor: str
    next_hop: Target
    server: Server | None
    registrar: Server | None = None
    idle: bool = False
    followed: bool = False


@dataclass(frozen=True, slots=True)
class Registration:
    """A followed account's REGISTER: answered with ``code``, just sent (0), or without a server, unsent for ``status``.

    ``retry_after`` is in seconds. ``removed``: it takes the binding away. Neither server nor status: the account is
    there, and ``registered`` or not.
    """

    account: int
    aor: str
    server: Server | None
    code: int
    status: int
    retry_after: float | None
    removed: bool
    registered: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """How request ``number`` ended: with a ``code`` and what came with it, or without one (0) for ``status``.

    ``headers`` are lines, each unfolded.
    """

    number: int
    status: int
    at: float
    server: Server | None
    code: int = 0
    reason: str = ""
    headers: tuple[str, ...] = ()
    body: bytes = b""


# --- values to and from C (Any stands for C data) ---------------------------------------------------------------------


def _text(array: Any) -> str:
    return str(ffi.string(array).decode("utf-8", "replace"))


def _own_text(array: Any) -> str:
    """What may go back to C, or is compared, to the letter (:func:`_own_octets`): a user part may have any octets."""
    return str(ffi.string(array).decode("utf-8", "surrogateescape"))


def _own_octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


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


def _server_or_none(c: Any) -> Server | None:
    return _server(c) if c.family else None


def _known(value: float) -> float | None:
    return None if value < 0 else value


def _detail(c: Any) -> str:
    if c.seen == lib.PF_REFUSED and c.server.transport == lib.PF_UDP:
        return "port unreachable"
    return strerror(c.status) if c.status else ""


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
        detail=_detail(c),
        certificate=CertificateProblem(c.certificate),
        sequence=c.sequence,
        began=c.began,
        answers=c.answers,
    )


def _question(c: Any) -> Question:
    return Question(
        target=_target(c.target),
        number=int(c.id),
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


def _failover(c: Any) -> events.FailedOver:
    return events.FailedOver(
        method=_text(c.method),
        call_id=_text(c.call_id),
        left=_server(c.left),
        taken=_server(c.taken),
        why=_WHY[c.why],
        after=c.after,
        code=c.code,
    )


def _answer(c: Any) -> Answer:
    message = bytes(ffi.buffer(c.message, c.head + c.body))
    reason, *headers = message[: c.head].decode("utf-8", "replace").split("\0")[:-1] or [""]
    return Answer(
        number=int(c.id),
        status=int(c.status),
        at=float(c.at),
        server=_server_or_none(c.server),
        code=int(c.code),
        reason=reason,
        headers=tuple(headers),
        body=message[c.head :],
    )


def _registration(c: Any) -> Registration:
    return Registration(
        account=int(c.account),
        aor=_own_text(c.aor),
        server=_server_or_none(c.server),
        code=int(c.code),
        status=int(c.status),
        retry_after=_known(c.retry_after),
        removed=bool(c.removed),
        registered=bool(c.registered),
    )


def _taken(fetch: Callable[[], Any], value: Callable[[Any], T], free: Callable[[Any], object]) -> Iterator[T]:
    """The values of what *fetch* hands out until there is no more; each is ours, and freed once it has been read."""
    while (c := fetch()) != ffi.NULL:
        try:
            taken = value(c)
        finally:
            free(c)
        yield taken


# --- the host ---------------------------------------------------------------------------------------------------------


def _object(path: str | None) -> Any:
    return ffi.NULL if path is None else ffi.new("char[]", os.fsencode(path))


def _path(c: Any) -> str | None:
    return os.fsdecode(ffi.string(c)) or None


def loaded_objects() -> list[str]:
    """The loader's paths of the shared objects in this process, of libraries too; the main program has none."""
    room = 0
    while (size := lib.pf_loaded_objects(paths := ffi.new("char[]", room), room)) > room:
        room = size
    return [os.fsdecode(path) for path in ffi.buffer(paths, size)[:].split(b"\0") if path]


def loaded(path: str) -> str | None:
    """The loader's own path of the object that *path* is; None when it is not loaded."""
    name = lib.pf_object(_object(path))
    return None if name == ffi.NULL else _path(name)


def symbol(path: str | None, name: str) -> int:
    """The address of *name* in the loaded object *path* (None: the main program) or what it needs, 0 for none."""
    return int(ffi.cast("uintptr_t", lib.pf_symbol(_object(path), name.encode())))


def object_of(address: int) -> str | None:
    """The path of the loaded object that *address*, a symbol's, lies in; None for the main program."""
    return _path(lib.pf_object_of(ffi.cast("void *", address)))


def data_of(path: str | None) -> int:
    """An address within the data on which the pjsip of the object *path* works, in whatever object that is."""
    return int(ffi.cast("uintptr_t", lib.pf_pjsip_data(_object(path))))


def foreign() -> bool:
    """Whether this is a forked child of the process that attached."""
    return bool(lib.pf_foreign())


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


def known_layouts() -> tuple[str, ...]:
    """The versions of pjsip whose layout is known, as ranges: "2.14 to 2.14.1", "2.16"."""
    return tuple(_text(name) for index in range(64) if (name := lib.pf_known_layout(index)) != ffi.NULL)


def layout_of(version: str) -> str | None:
    """The layout for a *version* as pjsip tells it, None for an unknown one."""
    name = lib.pf_layout_of(version.encode())
    return None if name == ffi.NULL else _text(name)


def host_facts() -> HostFacts:
    """What is known of the host. Any thread; of use after :func:`check_host`."""
    c = ffi.new("pf_host_facts *")
    lib.pf_read_host_facts(c)
    return HostFacts(
        version=_text(c.version),
        layout=_text(c.layout),
        addresses=int(c.addresses),
        packet=int(c.packet),
        accounts=bool(c.proxies),
        proxies=int(c.proxies),
        native_affinity=bool(c.native_affinity),
        state_callback=bool(c.state_callback),
    )


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
        raise errors.UnsupportedVersion(
            f"the pjsip in this process shows no {problem}(), which pjfail needs: it is older than 2.14, or the object "
            "that carries it hides a part of it"
        )
    if result == lib.PF_NO_ENDPOINT:
        raise errors.NoEndpoint(
            "pjsip has no initialised endpoint in this process; call libCreate() and libInit() before pjfail.attach()"
        )
    if result == lib.PF_BAD_LAYOUT:
        version = _text(lib.pf_host_version())
        raise errors.LayoutMismatch(
            f"{problem} lies otherwise in this process's pjsip {version} than in the one that pjfail knows; "
            f"{errors.WHAT_TO_DO}"
        )
    if result == lib.PF_ALREADY_ATTACHED:
        raise errors.AlreadyAttached(errors.ATTACHED_ALREADY)
    if result == lib.PF_NO_ACCOUNT:
        raise errors.UnknownAccount(f"pjsua has no account {problem}")
    if result == lib.PF_BAD_URI:
        raise errors.BadURI(f"pjsip cannot make sense of {problem!r}")
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
    c.port_check = steering.port_check
    lib.pf_steer(c)


def attach(deadline: float, steering: Steering) -> int:
    """Plugs the core into the endpoint and returns the attachment's number, which is not 0.

    *deadline*: seconds a question may wait for :func:`publish`.
    """
    _steer(steering)
    number = ffi.new("int *")
    _check(lib.pf_attach(deadline, number))
    return int(number[0])


def detach(number: int) -> None:
    """Takes the core out again; harmless when that attachment is over. May wait two seconds for pjsip to let go."""
    lib.pf_detach(number)


def attachment() -> int:
    """The number of the attachment in force, 0 for none: one ends with its endpoint, and another may follow."""
    return int(lib.pf_attached())


def counters() -> Counters:
    c = ffi.new("pf_counters *")
    lib.pf_read_counters(c)
    return Counters(*(int(getattr(c, name)) for name in Counters.__dataclass_fields__))


def event_fd() -> int:
    """The descriptor that is readable when there is something to fetch; negative when detached."""
    return int(lib.pf_event_fd())


def questions() -> Iterator[Question]:
    """Takes the questions that have come; call it before :func:`outcomes`, it resets the descriptor."""
    return _taken(lib.pf_next_question, _question, lib.pf_free_question)


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
    return _taken(lib.pf_next_dns_answer, _dns_answer, lib.pf_free_dns_answer)


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
    return _taken(lib.pf_next_failover, _failover, lib.pf_free_failover)


def _record_of(place: Place) -> tuple[object, ...]:
    """What the places of a tier have in common that are addresses of one SRV record, and come together."""
    candidate = place.candidate
    return candidate.name, candidate.server.port, candidate.server.transport, candidate.weight, place.share


def ask_each(each: bool) -> None:
    """Before :func:`attach`: whether each request asks a question of its own, which :func:`answer` answers."""
    lib.pf_ask_each(each)


def _entries(places: Sequence[Place], watched: Sequence[Server]) -> Any:
    entries = ffi.new("pf_entry[]", len(places) + len(watched))
    group = 0
    weights = weighted(places)
    for index, place in enumerate(places):
        if index and _record_of(places[index - 1]) != _record_of(place):
            group += 1
        entry = entries[index]
        _fill_address(entry.server, place.server)
        entry.tier = place.tier
        entry.group = group
        entry.weight = weights[index]
        entry.last_resort = place.last_resort
    for index, server in enumerate(watched, len(places)):
        _fill_address(entries[index].server, server)
    return entries


def answer(number: int, plan: Plan) -> None:
    """Answers the request that asked question *number* with a plan of its own, if it still waits."""
    places = plan.places[:MAX_SERVERS]
    lib.pf_answer(number, _c_target(plan.target), _entries(places, ()), len(places))


def publish(plan: Plan, refresh_at: float, left_out: Iterable[Server] = ()) -> None:
    """Makes *plan* the one for its target and answers those who wait for it; at most MAX_SERVERS places of it.

    *refresh_at*: from when on a use of the plan asks for a new one. Servers *left_out* are watched all the same.
    """
    places = plan.places[:MAX_SERVERS]
    watched = list(left_out)[: MAX_SERVERS - len(places)]
    entries = _entries(places, watched)
    if not places:
        raise ValueError(f"the plan of {plan.target} has no servers")
    count = len(entries)
    if not lib.pf_publish(_c_target(plan.target), entries, count, len(places), refresh_at, plan.valid_until):
        raise MemoryError(f"no memory for the plan of {plan.target}")


def fail(target: Target, *, stale: bool, number: int = 0) -> None:
    """Tells those who wait for *target* that there is nothing; with *stale* an old plan may serve instead.

    With *number* it is the one request that asked that question.
    """
    lib.pf_fail(_c_target(target), number, stale)


def pass_on(target: Target, number: int = 0) -> None:
    """Has those who wait for *target* (with *number*: the one request) answered by the system's resolver."""
    lib.pf_pass(_c_target(target), number)


def forget(target: Target) -> None:
    """Drops the plan of *target*."""
    lib.pf_forget(_c_target(target))


def forgive(server: Server, sequence: int) -> None:
    """Ends the core's own suspicion of *server*: its outcomes up to *sequence* have been judged."""
    lib.pf_forgive(_c_address(server), sequence)


def sendable() -> frozenset[tuple[Transport, Family]]:
    """What the endpoint can send over, empty when that is not known. Not from a SIP thread."""
    found = ffi.new("unsigned *")
    if lib.pf_transports(found) != lib.PF_OK:
        return frozenset()
    return frozenset(
        (transport, family)
        for number, transport in enumerate(TRANSPORTS, 1)
        for bit, family in enumerate(FAMILIES)
        if found[0] & 1 << (2 * number + bit)
    )


def transports() -> tuple[tuple[Transport, ...], tuple[Family, ...]]:
    """The endpoint's transports and its address families, both empty when that is not known. Not from a SIP thread."""
    over = sendable()
    return (
        tuple(transport for transport in TRANSPORTS if any(transport == each for each, _ in over)),
        tuple(family for family in FAMILIES if any(family == each for _, each in over)),
    )


def request(
    number: int,
    method: str,
    uri: str,
    *,
    server: Server | None,
    from_uri: str,
    to_uri: str,
    headers: Sequence[tuple[str, str]],
    content_type: str,
    body: bytes,
) -> None:
    """Sends one request outside of any dialog, to exactly *server* if given; :func:`answers` has its end.

    Not from a SIP thread. Raises :class:`pjfail.PjfailError` when it cannot be sent.
    """
    names = [ffi.new("char[]", name.encode()) for name, _ in headers]
    values = [ffi.new("char[]", value.encode()) for _, value in headers]
    result = lib.pf_request(
        number,
        ffi.NULL if server is None else _c_address(server),
        method.encode(),
        uri.encode(),
        from_uri.encode(),
        to_uri.encode(),
        ffi.new("char *[]", names),
        ffi.new("char *[]", values),
        len(headers),
        content_type.encode(),
        body,
        len(body),
    )
    _check(result)


def answers() -> Iterator[Answer]:
    """Takes the ends of requests that have come."""
    return _taken(lib.pf_next_response, _answer, lib.pf_free_response)


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


def round_trips() -> Mapping[Transport, RoundTrips]:
    """The round trips measured so far, by transport."""
    measured: dict[Transport, RoundTrips] = {}
    c = ffi.new("pf_round_trips *")
    for index, transport in enumerate(TRANSPORTS, 1):
        lib.pf_read_round_trips(index, c)
        measured[transport] = RoundTrips(tuple(c.bounds), tuple(c.counts), c.seconds)
    return measured


def used_at(target: Target) -> float | None:
    """When a request last went by the plan of *target*; None when there is none."""
    return _known(lib.pf_used_at(_c_target(target)))


def draw(target: Target, seed: int) -> list[Server]:
    """One use's order of the plan of *target* as the core draws it from *seed*; empty when there is no plan."""
    servers = ffi.new("pf_address[]", MAX_SERVERS)
    count = lib.pf_draw(_c_target(target), seed, servers, MAX_SERVERS)
    return [_server(servers[index]) for index in range(count)]


# --- accounts ---------------------------------------------------------------------------------------------------------


def read_account(number: int) -> Account:
    """What pjsua has account *number* set to. Raises :class:`pjfail.UnknownAccount`, :class:`pjfail.HostError`."""
    c = ffi.new("pf_account *")
    _check(lib.pf_read_account(number, c))
    uri = _text(c.next_hop_uri)
    affinity = {lib.PF_AFFINITY_ENABLED: True, lib.PF_AFFINITY_DISABLED: False}.get(c.affinity)
    return Account(
        id=number,
        aor=_own_text(c.aor),
        next_hop=_target(c.next_hop) if uri else None,
        next_hop_uri=uri,
        secure=bool(c.secure),
        registers=bool(c.registers),
        registered=bool(c.registered),
        transport_id=None if c.transport_id < 0 else int(c.transport_id),
        affinity=affinity,
        proxies=tuple(_own_text(c.proxy[index]) for index in range(c.proxies)),
    )


def account_exists(number: int) -> bool:
    return bool(lib.pf_account_is_valid(number))


def account_is(number: int, aor: str) -> bool:
    """Whether account *number* is still that of *aor*."""
    try:
        return read_account(number).aor == aor
    except errors.PjfailError:
        return False


def set_proxies(number: int, proxies: Sequence[str]) -> None:
    """Gives account *number* these proxies, in order, by ``pjsua_acc_modify()``. Raises :class:`pjfail.PjfailError`."""
    texts = [ffi.new("char[]", _own_octets(proxy)) for proxy in proxies]
    _check(lib.pf_set_proxies(number, ffi.new("char *[]", texts), len(texts)))


def has_native_affinity() -> bool:
    """Whether this pjsip has server affinity of its own (after 2.17)."""
    return bool(lib.pf_has_native_affinity())


def native_pin(number: int, server: Server | None) -> None:
    """``pjsua_acc_set_affinity_addr()``; None: ``pjsua_acc_refresh_transport()``. Raises :class:`pjfail.PjsipError`."""
    _check(lib.pf_native_pin(number, _optional_address(server)))


def _optional_address(server: Server | None) -> Any:
    return ffi.new("pf_address *") if server is None else _c_address(server)


def set_pin(pin: Pin) -> None:
    """Has *pin* decide from now on, in place of the one for the same AOR and account."""
    c = ffi.new("pf_pin *")
    c.account = pin.account
    c.aor = _own_octets(pin.aor)
    ffi.memmove(ffi.addressof(c, "next_hop"), _c_target(pin.next_hop), ffi.sizeof("pf_target"))
    if pin.server is not None:
        _fill_address(c.server, pin.server)
    if pin.registrar is not None:
        _fill_address(c.registrar, pin.registrar)
    c.idle = pin.idle
    c.followed = pin.followed
    if not lib.pf_set_pin(c):
        raise errors.NotAttached(f"account {pin.account} is not pinned: {errors.DETACHED}")


def drop_pin(pin: Pin) -> None:
    """Ends *pin*."""
    lib.pf_drop_pin(_own_octets(pin.aor), pin.account)


def register(number: int, aor: str) -> None:
    """Has account *number* register, soon and on pjsip's polling thread, if its AOR is still *aor*.

    What becomes of it is told by :func:`registrations` where the account is followed.
    """
    lib.pf_account_job(lib.PF_REGISTER, number, _own_octets(aor), ffi.NULL)


def ask_after(number: int, aor: str) -> None:
    """Has :func:`registrations` tell whether account *number*'s AOR is still *aor*, and whether it is registered."""
    lib.pf_account_job(lib.PF_ASK_AFTER, number, _own_octets(aor), ffi.NULL)


def native_pin_soon(number: int, aor: str, server: Server | None) -> None:
    """As :func:`native_pin`, on pjsip's polling thread; what fails there is pjsip's log's."""
    job = lib.PF_NATIVE_UNPIN if server is None else lib.PF_NATIVE_PIN
    lib.pf_account_job(job, number, _own_octets(aor), _optional_address(server))


def registrations() -> Iterator[Registration]:
    """Takes what is told of followed accounts and their REGISTERs, oldest first."""
    return _taken(lib.pf_next_registration, _registration, lib.pf_free_registration)
