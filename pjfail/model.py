"""pjfail's values: target, server, candidate, plan, outcome, health.

All are immutable. Times are ``time.monotonic()`` seconds and durations are seconds, unless a name says otherwise.
"""

from __future__ import annotations

import enum
import ipaddress
import math
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import field, fields
from types import MappingProxyType
from typing import Literal, get_args

from ._validation import is_amount
from ._values import dataclass
from .errors import BadServer, BadURI
from .window import Window

Transport = Literal["udp", "tcp", "tls"]
TRANSPORTS: tuple[Transport, ...] = get_args(Transport)

Family = Literal["ipv4", "ipv6"]
FAMILIES: tuple[Family, ...] = get_args(Family)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# What pjsip takes for a host, and what else international names have; IDNA decides about that.
_HOST = r"(?:[\w.-]|[^\x00-\x7f\s])+"

DEFAULT_PORT: Mapping[Transport, int] = {"udp": 5060, "tcp": 5060, "tls": 5061}


def parse_transport(text: str) -> Transport | None:
    """Returns the transport named by *text*, in any case; None if pjfail does not speak it."""
    lowered = text.lower()
    for transport in TRANSPORTS:
        if lowered == transport:
            return transport
    return None


def _parse_port(text: str) -> int:
    """A port from 1 to 65535; ValueError otherwise."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ValueError(f"{text!r} is not a valid port number; write 1 to 65535")
    return int(text)


def _canonical_address(text: str) -> str:
    """Returns a numeric address as it is usually written, with its scope as a number. Raises ValueError or OSError if
    *text* is not one.
    """
    bare, percent, scope = text.partition("%")
    address = ipaddress.ip_address(bare)
    if not percent:
        return str(address)
    if address.version == 4 or not scope:
        raise ValueError(f"{text!r} is not a valid address; its scope is wrong")
    index = int(scope) if scope.isascii() and scope.isdigit() else socket.if_nametoindex(scope)
    if index >= 2**32:
        raise ValueError(f"{text!r} is not a valid address; its scope is wrong")
    return f"{address}%{index}" if index else str(address)


def _is_address(text: str) -> bool:
    """Whether *text* is a numeric address, with or without a scope; it has no brackets."""
    try:
        _canonical_address(text)
    except (ValueError, OSError):
        return False
    return True


def canonical_host(host: str) -> str:
    """*host* in lower case, without a dot at its end; an address, with brackets or without, in its canonical form."""
    bare = host.strip("[]").lower()
    return _canonical_address(bare) if _is_address(bare) else bare.rstrip(".")


def _is_name(text: str) -> bool:
    """Whether *text* may be a host name; labels whose last is a number are a mistyped address (RFC 3696 section 2)."""
    labels = text.removesuffix(".").split(".")
    return all(re.fullmatch(r"\w(?:[\w-]{0,61}\w)?", label) for label in labels) and not labels[-1].isdigit()


def parse_server(text: str) -> tuple[Transport | None, str, int]:
    """The transport that *text* names, its host (a canonical address, or a name in lower case), and its port, else 0.

    An IPv6 address may have brackets; it needs them where a port follows. Raises :class:`BadServer`.
    """
    if not isinstance(text, str):
        raise TypeError(f'{text!r} is not a valid server; give it as a string, "address:port"')
    bare = text.strip()
    if uri := re.fullmatch(r"<?sips?:(?:[^@]*@)?([^;?>]*).*", bare, re.IGNORECASE):
        raise BadServer(f"{text!r} is a URI; write its host alone, {uri.group(1)!r}")
    prefix, colon, rest = bare.partition(":")
    transport = parse_transport(prefix) if colon else None
    if transport is not None:
        bare = rest
    if _is_address(bare):
        return transport, _canonical_address(bare), 0
    match = re.fullmatch(r"(?:\[([^]]+)]|([^:\[\]]+))(?::(\d+))?", bare)
    if match is None:
        if re.fullmatch(r"[a-z]+", prefix, re.IGNORECASE) and transport is None:
            raise BadServer(f"{text!r}: {prefix!r} is not a valid transport; use one of {', '.join(TRANSPORTS)}")
        raise BadServer(f'{text!r} is not a valid server; write "address:port", an IPv6 address in brackets')
    v6, host, digits = match.groups()
    try:
        port = 0 if digits is None else _parse_port(digits)
    except ValueError as error:
        raise BadServer(f"{text!r}: {error}") from None
    if _is_address(v6 or host):
        return transport, _canonical_address(v6 or host), port
    if v6 or not _is_name(host):
        where = "" if host == text else f"{text!r}: "
        raise BadServer(f"{where}{v6 or host!r} is not a valid host name or numeric address")
    return transport, canonical_host(host), port


@dataclass(frozen=True, slots=True, order=True)
class Server:
    """One SIP server as the transport layer sees it: a numeric address, a port, a transport."""

    address: str
    port: int
    transport: Transport = "udp"

    def __post_init__(self) -> None:
        try:
            canonical = _canonical_address(self.address)
        except (ValueError, OSError, AttributeError, TypeError):
            raise BadServer(f"{self.address!r} is not a valid numeric address; write an IPv4 or IPv6 address") from None
        object.__setattr__(self, "address", canonical)
        if not (isinstance(self.port, int) and 0 < self.port < 65536):
            raise BadServer(f"{self.port!r} is not a valid port number; write 1 to 65535")
        if self.transport not in TRANSPORTS:
            raise BadServer(f"{self.transport!r} is not a valid transport; use one of {', '.join(TRANSPORTS)}")

    @classmethod
    def parse(cls, text: str, transport: Transport = "udp") -> Server:
        """``"192.0.2.1"``, ``"192.0.2.1:5060"``, ``"[2001:db8::1]:5061"`` or, with a transport, ``"tls:192.0.2.1"``.

        *transport* is used where *text* names none; where *text* names no port, the transport's own is: 5060, or 5061
        for TLS. Raises :class:`BadServer`.
        """
        named, host, port = parse_server(text)
        if not _is_address(host):
            raise BadServer(f"{text!r} is a host name, and a server has a numeric address; write that")
        transport = named or transport
        return cls(host, port or DEFAULT_PORT[transport], transport)

    @property
    def endpoint(self) -> str:
        """``address:port``, with brackets around an IPv6 address."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def __str__(self) -> str:
        return f"{self.transport}:{self.endpoint}"


@dataclass(frozen=True, slots=True)
class Target:
    """What pjsip asks for: where a request should go, before any lookup.

    ``port`` 0 and ``transport`` None mean that the URI names none (by RFC 3263 section 4 an explicit port, even 5060,
    means something else). ``secure``: only TLS is allowed (a sips URI, or transport=tls). ``ipv6``: only IPv6 is.
    """

    host: str
    port: int = 0
    transport: Transport | None = None
    secure: bool = False
    ipv6: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.host, str):
            raise TypeError(f"{self.host!r} is not a valid host; give it as a string")
        object.__setattr__(self, "host", self.host.strip("[]").lower())

    @classmethod
    def parse(cls, uri: str) -> Target:
        """Parses a SIP or SIPS URI, with or without ``<>`` and display name; ``maddr`` takes precedence over the host.

        Raises :class:`BadURI`.
        """
        if not isinstance(uri, str):
            raise TypeError(f"{uri!r} is not a valid SIP URI; give it as a string")
        text = uri.strip()
        bracketed = re.search(r"<([^>]*)>", text)
        if bracketed is not None:
            text = bracketed.group(1)
        match = re.fullmatch(
            rf"(sips?):(?:[^@]*@)?(\[[^]]+]|{_HOST})(?::([^;?]*))?((?:;[^?]*)?)(?:\?.*)?", text, re.IGNORECASE
        )
        if match is None or _CONTROL.search(text):
            raise BadURI(
                f"{uri!r} is not a valid SIP URI; write sip:host, sip:user@host:port;transport=tcp or sips:host"
            )
        scheme, host, port_text, parameter_text = match.groups()
        parts = (part.partition("=") for part in parameter_text.split(";") if part)
        parameters = {name.lower(): value for name, _, value in parts}
        try:
            port = 0 if port_text is None else _parse_port(port_text)
        except ValueError as error:
            raise BadURI(f"{uri!r}: {error}") from None
        secure = scheme.lower() == "sips"
        transport = None
        if "transport" in parameters:
            transport = parse_transport(parameters["transport"])
            if transport is None:
                raise BadURI(f"{uri!r}: pjfail speaks {', '.join(TRANSPORTS)}, not {parameters['transport']!r}")
            if secure:
                transport = "tls"  # RFC 3261 section 26.2.2: sips;transport=tcp is TLS over TCP
        if parameters.get("maddr"):
            host = parameters["maddr"]
            if not (host.startswith("[") or _is_address(host) or re.fullmatch(_HOST, host)):
                raise BadURI(f"{uri!r}: {host!r} in maddr is not a valid host")
        if host.startswith("["):
            try:
                ipaddress.IPv6Address(host.strip("[]"))
            except ValueError:
                raise BadURI(f"{uri!r}: {host} is not a valid IPv6 address; write one as in [2001:db8::1]") from None
        return cls(host, port, transport, secure or transport == "tls")

    @property
    def is_numeric(self) -> bool:
        """Whether the host is an IP address, so that no lookup is needed."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def usual_port(self) -> int:
        """The port that it means where it names none: 5060, or 5061 for TLS."""
        return DEFAULT_PORT["tls" if self.secure else self.transport or "udp"]

    def allows(self, transport: Transport) -> bool:
        """Returns whether a request to this target may go over *transport*: only TLS if it is secure, else what the URI
        names.
        """
        return transport == "tls" if self.secure else self.transport in (None, transport)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "sips" if self.secure and self.transport is None else "sip"
        port = f":{self.port}" if self.port else ""
        transport = f";transport={self.transport}" if self.transport else ""
        return f"{scheme}:{host}{port}{transport}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One server that a lookup found for a target.

    ``name`` is the host name that this address belongs to (the SRV target, else the host of the URI). ``priority`` and
    ``weight`` are those of RFC 2782: lower priorities come first, higher weights (0 to 65535) more often. ``ttl`` is in
    seconds. ``query`` says, for people, which query found it. Raises ValueError for an invalid priority, weight or TTL,
    and TypeError if ``server`` is not a ``Server``.
    """

    server: Server
    name: str
    priority: int = 0
    weight: int = 0
    ttl: float = 0.0
    query: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.server, Server):
            raise TypeError(f"{self.server!r} is not a valid server; give a Server, from text by Server.parse()")
        if not isinstance(self.name, str):
            raise TypeError(f"name is {self.name!r}; give a host name as a string")
        if not isinstance(self.priority, int):
            raise ValueError(f"{self.priority!r} is not a valid priority (RFC 2782); give a whole number")
        if not (isinstance(self.weight, int) and 0 <= self.weight < 65536):
            raise ValueError(f"{self.weight!r} is not a valid weight (RFC 2782); give 0 to 65535")
        if not is_amount(self.ttl, most=math.inf):
            raise ValueError(f"{self.ttl!r} is not a valid TTL; give seconds")

    @property
    def label(self) -> str:
        """The server and its host name, where it has one: ``udp:192.0.2.1:5060 (sip1.example)``."""
        return str(self.server) if Target(self.name).is_numeric else f"{self.server} ({self.name})"


_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def _ordinal(number: int) -> str:
    """Returns ``first`` for 1, ``second`` for 2, and so on."""
    return _ORDINALS[number - 1] if number <= len(_ORDINALS) else f"number {number}"


@dataclass(frozen=True, slots=True)
class PlanEntry:
    """A candidate's position in a plan: its tier (0 is tried first) and, in words, the reason for it.

    ``share`` (above 0, up to 1) is the part of its weight that counts at the moment: less than 1 after a recovery.
    ``last_resort``: no server of this tier or of a later one is usable. A server that has just left a request
    unanswered is still tried before a last resort.
    """

    candidate: Candidate
    tier: int
    reason: str
    share: float = 1.0
    last_resort: bool = False

    @property
    def server(self) -> Server:
        """The candidate's server."""
        return self.candidate.server

    def __str__(self) -> str:
        return f"{_ordinal(self.tier + 1)}: {self.candidate.label} {self.reason}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Where requests for a target go: tiers of servers, valid until a time.

    ``entries`` are in order of tier. At each use of the plan, the weights of RFC 2782 decide the order within a tier.
    """

    target: Target
    entries: tuple[PlanEntry, ...]
    valid_until: float

    @property
    def servers(self) -> tuple[Server, ...]:
        """The servers, in order of tier."""
        return tuple(place.server for place in self.entries)

    @property
    def tiers(self) -> tuple[tuple[Candidate, ...], ...]:
        """The candidates of each tier, the first tier first."""
        grouped: dict[int, list[Candidate]] = {}
        for place in self.entries:
            grouped.setdefault(place.tier, []).append(place.candidate)
        return tuple(tuple(grouped[tier]) for tier in sorted(grouped))

    def __str__(self) -> str:
        return "; ".join(map(str, self.entries))


class OutcomeKind(enum.Enum):
    """What pjfail saw of a server; the value says it in words."""

    ANSWERED = "answered"
    SILENT = "silent"  # no answer after two retransmissions (UDP), or for 5 s (TCP, TLS)
    REFUSED = "refused the connection"
    DISCONNECTED = "closed the connection with a request unanswered"
    UNAVAILABLE = "answered 503"
    CERTIFICATE = "showed a certificate that was not accepted"
    SERVER_ERROR = "answered with a server error"  # 500, 502 or 504 of its own; still an answer


class CertificateProblem(enum.Flag, boundary=enum.KEEP):
    """What pjsip found wrong with a server's certificate; the values are those of its PJ_SSL_CERT_E* bits."""

    NONE = 0
    NO_ISSUER = 1 << 0
    UNTRUSTED = 1 << 1
    OUT_OF_DATE = 1 << 2
    MALFORMED = 1 << 3
    WRONG_PURPOSE = 1 << 4
    WRONG_ISSUER = 1 << 5
    NO_REVOCATION_LIST = 1 << 6
    REVOKED = 1 << 7
    CHAIN_TOO_LONG = 1 << 8
    WEAK_SIGNATURE = 1 << 9
    WRONG_NAME = 1 << 30
    UNKNOWN = 1 << 31


@dataclass(frozen=True, slots=True)
class Outcome:
    """What pjfail saw of one server at one moment.

    ``at`` is when; ``method`` is the request's method, ``code`` the response's code (0: no response), ``detail`` the
    system's or pjsip's text for the end of a connection. ``after_provisional``: the server had sent a provisional
    response before, so this may come from further downstream.

    ``rtt`` is the smoothed round trip in seconds (without retransmitted requests), ``retry_after`` the seconds of a
    503's Retry-After (None: it had none), ``certificate`` what was wrong with a certificate that was not accepted.
    ``sequence`` numbers a server's failures in the C core. ``began`` is when a silence began, with the sending of the
    request; None: ``at``. ``answers`` counts the server's good answers from its previous outcome up to this one.
    ``probe``: the request was pjfail's, not the application's.
    """

    server: Server
    seen: OutcomeKind
    at: float
    method: str = ""
    code: int = 0
    rtt: float | None = None
    retry_after: float | None = None
    after_provisional: bool = False
    detail: str = ""
    certificate: CertificateProblem = CertificateProblem.NONE
    sequence: int = 0
    began: float | None = None
    answers: int = 0
    probe: bool = False


class State(enum.Enum):
    """The state of a server.

    ``UP``: requests go there in its turn; so they do to a server that nothing is known about. ``SUSPECT``: it failed,
    but not badly enough to be down; it stands behind the servers that are up, and is probed. ``DOWN``: it stands last
    until its hold-down ends. ``HALF_OPEN``: the hold-down has ended; it is probed, and stands last until it answers.
    ``DRAINING``: the application wants no new requests there.
    """

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"
    HALF_OPEN = "half-open"
    DRAINING = "draining"


_NO_METHODS: Mapping[str, Health] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Health:
    """What pjfail knows of one server.

    ``since`` is when the state began, ``until`` when its hold-down ends (None: not by itself). ``reason``,
    ``failed_at`` and ``failed_method`` are the last failure in words, its time, and the request's method. ``held``: an
    answer does not end the hold-down, because the server itself (503) or the application asked for it. ``returning``:
    the server is up again but does not have its tier back before ``returns_at`` (None: it has not been down).

    Counted: ``failures``, how often in a row it was taken down, and ``hold``, the seconds of the last hold-down;
    ``streak`` and ``errors``, consecutive failures and consecutive 5xx answers; ``successes``, consecutive answers
    while half-open; ``window``, recent answers and failures. ``rtt`` and ``rttvar`` are those of RFC 6298, in
    seconds.

    ``told``: so many other processes told that it is down; 0: this one found out (:class:`pjfail.Shared`).

    ``generation`` counts the changes of state. An outcome that began before ``since`` belongs to an earlier generation
    and changes nothing. Comparing two values ignores measurements and counts, except ``failures``.

    ``methods`` has the methods that do worse than the rest (:attr:`pjfail.Policy.per_method`), each with its health.
    """

    state: State = State.UP
    failures: int = 0
    since: float = 0.0
    until: float | None = None
    reason: str = ""
    held: bool = False
    rtt: float | None = field(default=None, compare=False)
    last_answer: float | None = field(default=None, compare=False)
    rttvar: float | None = field(default=None, compare=False)
    failed_at: float | None = field(default=None, compare=False)
    failed_method: str = field(default="", compare=False)
    hold: float = field(default=0.0, compare=False)
    streak: int = field(default=0, compare=False)
    errors: int = field(default=0, compare=False)
    successes: int = field(default=0, compare=False)
    window: Window = field(default=Window(), compare=False)
    generation: int = field(default=0, compare=False)
    returning: bool = False
    returns_at: float | None = field(default=None, compare=False)
    told: int = field(default=0, compare=False)
    methods: Mapping[str, Health] = field(default_factory=lambda: _NO_METHODS, hash=False)

    def __repr__(self) -> str:
        """Shows the fields that differ from those of an unknown server; :meth:`__str__` is for people."""
        differing = (
            f"{each.name}={value!r}"
            for each in fields(self)
            if (value := getattr(self, each.name)) != getattr(_NOTHING_KNOWN, each.name)
        )
        return f"Health({', '.join(differing)})"

    def __str__(self) -> str:
        """Says it in words, as of now: ``down, next tried within 24 s: silent to REGISTER (failure 2)``."""
        now = time.monotonic()
        words = [self.state.value]
        if self.state is State.DOWN and self.until is not None:
            words.append(f"next tried within {max(self.until - now, 0):.0f} s")
        if self.returning and self.returns_at is not None:
            words.append(f"back in its tier in {max(self.returns_at - now, 0):.0f} s")
        if self.rtt is not None:
            words.append(f"round trip {self.rtt * 1000:.0f} ms")
        failure = f" (failure {self.failures})" if self.failures else ""
        return f"{', '.join(words)}{f': {self.reason}' if self.reason else ''}{failure}"

    @property
    def usable(self) -> bool:
        """Whether new requests may go to this server: False while it is down, draining, or half-open and waiting for a
        probe.
        """
        return self.state in (State.UP, State.SUSPECT)

    def to(self, method: str) -> Health:
        """Returns the health that counts for a request with *method*."""
        own = self.methods.get(method)
        return own if own is not None and self.usable and not own.usable else self


_NOTHING_KNOWN = Health()


@dataclass(frozen=True, slots=True)
class Request:
    """What an order may know of the request that it orders servers for; an unknown field is empty.

    ``account`` is the URI in From.
    """

    target: Target | None = None
    method: str = ""
    account: str = ""
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """pjsip's query: where does a request for this target go?

    ``number`` identifies the query of one request; 0: the query is about the target. ``refresh``: no request waits, but
    the plan in use will soon be too old. The other fields describe the request; an unknown one is empty.
    """

    target: Target
    number: int = 0
    refresh: bool = False
    method: str = ""
    from_uri: str = ""
    call_id: str = ""
    to_tag: str = ""


Headers = tuple[tuple[str, str], ...]
"""The headers of a message: names and values, in their order."""


def _header(headers: Headers, name: str) -> str | None:
    return next((value for header, value in headers if header.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request under way, as it was sent first."""

    method: str
    uri: str
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of the header called *name*, in any case; None when there is none."""
        return _header(self.headers, name)


@dataclass(frozen=True, slots=True)
class Response:
    """A server's final response.

    ``rtt`` is in seconds, from sending the request: connecting, and the servers tried before, are included.
    """

    code: int
    reason: str
    headers: Headers
    body: bytes
    server: Server
    rtt: float

    def header(self, name: str) -> str | None:
        """The first value of the header called *name*, in any case; None when there is none."""
        return _header(self.headers, name)
