"""What the demo prints at the end: the rows of its table, and the closing sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .program import Program, Transaction
from .scenario import Scenario

HEADINGS = ("first is", "request", "went to", "took", "ended")


@dataclass(frozen=True, slots=True)
class Row:
    """One request of a program, or several with the same result, in words."""

    first_server: str
    request: str
    route: str
    took: str
    ended: str
    mood: Literal["good", "bad", "waiting"]

    @property
    def cells(self) -> tuple[str, ...]:
        return self.first_server, self.request, self.route, self.took, self.ended


def rows(scenario: Scenario, program: Program, now: float) -> list[Row]:
    """Returns the requests of *program* at *now*, those with the same result in one row, in the order in which they
    began.
    """
    groups: dict[tuple[object, ...], list[Transaction]] = {}
    for one in program.transactions:
        alike = one.method, one.code, _route(scenario, program, one), _first_server(scenario, one)
        groups.setdefault(alike, []).append(one)
    return [_row(scenario, program, group, now) for group in groups.values()]


def servers(scenario: Scenario, now: float) -> str:
    """Returns how the servers are at *now*, in words."""
    first = "well" if scenario.died_at is None else f"silent for {duration(now - scenario.died_at)}"
    return f"first ({scenario.first}) {first}, second ({scenario.second}) well"


def closing_sentence(scenario: Scenario, now: float) -> str:
    """Returns the comparison, in one sentence."""
    shares = []
    for program in scenario.programs:
        sent = scenario.since_death(program)
        succeeded = [one for one in sent if one.succeeded]
        share = f"{len(succeeded)} of {len(sent)} requests got through {program.title}"
        if succeeded:
            share += f", the slowest in {duration(max(one.took for one in succeeded))}"
        shares.append(share)
    died_at = now if scenario.died_at is None else scenario.died_at
    return f"In the {duration(now - died_at)} since the first server fell silent, {'; '.join(shares)}."


def duration(seconds: float) -> str:
    """Returns *seconds* as a person would say them."""
    if seconds < 0.001:
        return "< 1 ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _row(scenario: Scenario, program: Program, group: list[Transaction], now: float) -> Row:
    one = group[0]
    request = one.method if len(group) == 1 else f"{one.method} x {len(group)}"
    took, ended = f"{now - one.sent_at:.1f} s", "no answer yet"
    mood: Literal["good", "bad", "waiting"] = "waiting"
    if one.code:
        took, ended = duration(max(each.took for each in group)), f"{one.code} {one.reason}"
        mood = "good" if one.succeeded else "bad"
    return Row(_first_server(scenario, one), request, ", ".join(_route(scenario, program, one)), took, ended, mood)


def _route(scenario: Scenario, program: Program, one: Transaction) -> tuple[str, ...]:
    return tuple(scenario.name(server) for server in scenario.route(program, one))


def _first_server(scenario: Scenario, one: Transaction) -> str:
    return "silent" if scenario.died_at is not None and one.sent_at >= scenario.died_at else "well"
