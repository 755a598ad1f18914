"""Publishes plans to the core, and gives the other answers to the queries that wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .._native import ffi, lib
from ..model import Plan, PlanEntry, Server, Target
from ..planning import weighted
from .values import c_address, c_target, fill_address, known, server_of

MAX_SERVERS: int = lib.PF_MAX_ENTRIES


def ask_each(each: bool) -> None:
    """Sets, before the core is attached, whether each request asks its own question, which :func:`answer` answers."""
    lib.pf_ask_each(each)


def publish(plan: Plan, refresh_at: float, left_out: Iterable[Server] = ()) -> None:
    """Puts *plan* in force for its target and answers the queries that wait for it; uses at most MAX_SERVERS entries.

    *refresh_at*: from then on, a use of the plan asks for a new one. The servers *left_out* are watched, too.
    """
    places = plan.entries[:MAX_SERVERS]
    watched = list(left_out)[: MAX_SERVERS - len(places)]
    entries = _entries(places, watched)
    if not places:
        raise ValueError(f"the plan of {plan.target} has no servers")
    count = len(entries)
    if not lib.pf_publish(c_target(plan.target), entries, count, len(places), refresh_at, plan.valid_until):
        raise MemoryError(f"no memory for the plan of {plan.target}")


def answer(number: int, plan: Plan) -> None:
    """Answers the request that asked question *number* with a plan of its own, if it still waits."""
    places = plan.entries[:MAX_SERVERS]
    lib.pf_answer(number, c_target(plan.target), _entries(places, ()), len(places))


def _entries(places: Sequence[PlanEntry], watched: Sequence[Server]) -> Any:
    entries = ffi.new("pf_entry[]", len(places) + len(watched))
    group = 0
    weights = weighted(places)
    for index, place in enumerate(places):
        if index and _record_of(places[index - 1]) != _record_of(place):
            group += 1
        entry = entries[index]
        fill_address(entry.server, place.server)
        entry.tier = place.tier
        entry.group = group
        entry.weight = weights[index]
        entry.last_resort = place.last_resort
    for index, server in enumerate(watched, len(places)):
        fill_address(entries[index].server, server)
    return entries


def _record_of(place: PlanEntry) -> tuple[object, ...]:
    """Returns what the addresses of one SRV record have in common, which stay together within a tier."""
    candidate = place.candidate
    return candidate.name, candidate.server.port, candidate.server.transport, candidate.weight, place.share


def fail(target: Target, *, stale: bool, number: int = 0) -> None:
    """Answers the queries that wait for *target* with an error; if *stale* is True, an old plan may serve instead.

    *number* limits that to the one request that asked that question.
    """
    lib.pf_fail(c_target(target), number, stale)


def pass_on(target: Target, number: int = 0) -> None:
    """Has the system's resolver answer the queries that wait for *target* (with *number*: the one request)."""
    lib.pf_pass(c_target(target), number)


def forget(target: Target) -> None:
    """Drops the plan of *target*."""
    lib.pf_forget(c_target(target))


def answer_for(hosts: Iterable[tuple[str, int]]) -> None:
    """Has plans answer for these numeric hosts, each an address and a port (0: none named); all others are pjsip's."""
    each = list(hosts)
    addresses = ffi.new("pf_address[]", len(each))
    for index, (address, port) in enumerate(each):
        fill_address(addresses[index], Server(address, port or 1))
        addresses[index].transport = 0
        addresses[index].port = port
    if not lib.pf_answer_for(addresses, len(each)):
        raise MemoryError("no memory for the hosts that are addresses")


def clear_suspect(server: Server, sequence: int) -> None:
    """Ends the core's own suspicion of *server*: its outcomes up to *sequence* have been judged."""
    lib.pf_clear_suspect(c_address(server), sequence)


def used_at(target: Target) -> float | None:
    """Returns when a request last used the plan of *target*; None if there is no plan."""
    return known(lib.pf_used_at(c_target(target)))


def draw(target: Target, seed: int) -> list[Server]:
    """Returns the servers of *target*'s plan in the order that the core draws from *seed*; empty without a plan."""
    servers = ffi.new("pf_address[]", MAX_SERVERS)
    count = lib.pf_draw(c_target(target), seed, servers, MAX_SERVERS)
    return [server_of(servers[index]) for index in range(count)]
