"""RFC 2782: the order in which the SRV records of one answer are tried."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable

from ..model import Candidate


def draw(candidates: Iterable[Candidate], rng: random.Random) -> list[Candidate]:
    """Returns *candidates* by ascending priority and, within a priority, in an order drawn by RFC 2782's weights.

    The addresses of one SRV record (same name, port, transport, priority, weight) count once in the draw and stay
    together, in the given order. Pure except for *rng*; any thread.
    """
    tiers: dict[int, dict[Hashable, list[Candidate]]] = {}
    for candidate in candidates:
        record = (candidate.name, candidate.server.port, candidate.server.transport, candidate.weight)
        tiers.setdefault(candidate.priority, {}).setdefault(record, []).append(candidate)
    return [
        candidate
        for priority in sorted(tiers)
        for record in _draw_records(list(tiers[priority].values()), rng)
        for candidate in record
    ]


def _draw_records(records: list[list[Candidate]], rng: random.Random) -> list[list[Candidate]]:
    """Returns the records of one priority, in the order of RFC 2782's "Weight" algorithm."""
    left = list(records)
    rng.shuffle(left)
    left.sort(key=lambda record: record[0].weight > 0)  # weight 0 first, so that it wins if the draw is 0
    drawn = []
    while left:
        # The RFC draws from 0; if no weight is 0, that would only favour the first record.
        lowest = 0 if left[0][0].weight == 0 else 1
        threshold = rng.randint(lowest, sum(record[0].weight for record in left))
        running = 0
        for index, record in enumerate(left):
            running += record[0].weight
            if running >= threshold:
                drawn.append(left.pop(index))
                break
    return drawn
