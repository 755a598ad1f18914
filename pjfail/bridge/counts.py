"""What the core has counted: of itself, of each server, of each transport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .._native import ffi, lib
from ..model import TRANSPORTS, Server, Transport
from .values import c_address, known


@dataclass(frozen=True, slots=True)
class Counters:
    """What the C core has counted since it was attached, and (the last five) what it holds now.

    ``resolved``: times pjsip asked for a server; of these ``numeric`` were an address already, ``from_plan`` were
    answered at once, and ``questions`` had to wait for Python. Of those that waited, ``from_stale`` were answered by an
    old plan, ``from_system`` by the system's resolver, ``failed`` with an error. ``dropped``: outcomes,
    failovers, registrations and refreshes of plans that Python came too late for. ``retried``: times a request under
    way failed over to another server because of its timeout, a response or a lost connection; ``hedged``: times, not
    counted in ``retried``, it did so before its timeout, because the answer was later than the server's round trips; ``suppressed``: final responses that the application did not see; ``raced``: questions for
    which connections were raced; ``unwatched``: requests sent while 65 536 were under way, neither watched nor tried at
    another server; ``forgotten``: dialogs that had to go for newer ones. Now: ``plans`` in force, ``servers`` in them,
    questions ``waiting``, requests ``outstanding`` without a final answer, ``dialogs`` that live.
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
    """How long requests sent once took to their first answer.

    ``counts`` has a number for each of ``bounds`` (seconds, up to and with it, from the one before) and one for all
    beyond the last; ``seconds`` is the sum of all.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    seconds: float


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


def unwatched() -> int:
    """That of :class:`Counters`, at the cost of a memory access."""
    return int(lib.pf_unwatched())


def counters() -> Counters:
    c = ffi.new("pf_counters *")
    lib.pf_read_counters(c)
    return Counters(*(int(getattr(c, name)) for name in Counters.__dataclass_fields__))


def round_trips() -> Mapping[Transport, RoundTrips]:
    """The round trips measured so far, by transport."""
    measured: dict[Transport, RoundTrips] = {}
    c = ffi.new("pf_round_trips *")
    for index, transport in enumerate(TRANSPORTS, 1):
        lib.pf_read_round_trips(index, c)
        measured[transport] = RoundTrips(tuple(c.bounds), tuple(c.counts), c.seconds)
    return measured


def stats(server: Server) -> Stats | None:
    """What the core has counted of *server*, None when it is in no plan."""
    c = ffi.new("pf_stats *")
    if not lib.pf_read_stats(c_address(server), c):
        return None
    return Stats(
        last_answer=known(c.last_answer),
        rtt=known(c.rtt),
        rtt_deviation=c.rtt_deviation,
        answers=c.answers,
        silences=c.silences,
        refusals=c.refusals,
        unavailable=c.unavailable,
        suspect=bool(c.suspect),
    )
