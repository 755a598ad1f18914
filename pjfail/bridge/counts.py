"""What the core counts: for itself, for each server, for each transport."""

from __future__ import annotations

from collections.abc import Mapping

from .._native import ffi, lib
from .._values import dataclass
from ..model import TRANSPORTS, Server, Transport
from .values import c_address, known


@dataclass(frozen=True, slots=True)
class Counters:
    """What the C core has counted since it was attached, and (the last five) what it holds now.

    ``resolved``: times pjsip asked for a server; of these ``numeric`` were an address already, ``from_plan`` were
    answered at once, and ``questions`` had to wait for Python. Of those that waited, ``from_stale`` were answered by an
    old plan, ``from_system`` by the system's resolver, ``failed`` with an error. ``dropped``: events that Python did
    not fetch in time (docs/limits.md lists their kinds). ``retried``: times a request under way
    failed over to another server because of its timeout, a response or a lost connection; ``hedged``: times, not
    counted in ``retried``, a request failed over before its timeout, because the answer was later than the server's
    round trips; ``suppressed``: final responses that the application did not see; ``raced``: queries for which several
    connections were tried; ``unwatched``: requests sent while 65 536 were under way, which pjfail neither watches nor
    tries at another server; ``forgotten``: dialogs that were dropped to make room for newer ones. Now: ``plans`` in
    force, ``servers`` in them, queries ``waiting``, requests ``outstanding`` without a final answer, ``dialogs`` that
    exist.
    """

    resolved: int
    numeric: int
    from_plan: int
    questions: int
    from_stale: int
    from_system: int
    failed: int
    dropped: int
    retried: int
    hedged: int
    suppressed: int
    raced: int
    unwatched: int
    forgotten: int
    plans: int
    servers: int
    waiting: int
    outstanding: int
    dialogs: int


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """How long requests took from sending to the first answer; requests that were retransmitted do not count.

    ``counts[i]`` is the number of round trips longer than ``bounds[i - 1]`` and up to ``bounds[i]`` seconds; the last
    number counts those longer than every bound. ``seconds`` is the sum of all.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Stats:
    """What the C core has counted of one server; what is a time, and ``rtt``, is None before the first answer.

    ``answered_options`` and ``answered_other`` tell when it last answered an OPTIONS and another request, but with 408.
    """

    last_answer: float | None
    answered_options: float | None
    answered_other: float | None
    rtt: float | None
    rttvar: float
    answers: int
    silences: int
    refusals: int
    unavailable: int
    suspect: bool


def unwatched() -> int:
    """Returns the counter ``unwatched`` of :class:`Counters`; reads it without a lock."""
    return int(lib.pf_unwatched())


def counters() -> Counters:
    c = ffi.new("pf_counters *")
    lib.pf_read_counters(c)
    return Counters(*(int(getattr(c, name)) for name in Counters.__dataclass_fields__))


def round_trips() -> Mapping[Transport, RoundTrips]:
    """Returns the round trips measured so far, by transport."""
    measured: dict[Transport, RoundTrips] = {}
    c = ffi.new("pf_round_trips *")
    for index, transport in enumerate(TRANSPORTS, 1):
        lib.pf_read_round_trips(index, c)
        measured[transport] = RoundTrips(tuple(c.bounds), tuple(c.counts), c.seconds)
    return measured


def stats(server: Server) -> Stats | None:
    """Returns what the core has counted for *server*, or None if no plan has that server."""
    c = ffi.new("pf_stats *")
    if not lib.pf_read_stats(c_address(server), c):
        return None
    return Stats(
        last_answer=known(c.last_answer),
        answered_options=known(c.answered_options),
        answered_other=known(c.answered_other),
        rtt=known(c.rtt),
        rttvar=c.rttvar,
        answers=c.answers,
        silences=c.silences,
        refusals=c.refusals,
        unavailable=c.unavailable,
        suspect=bool(c.suspect),
    )
