"""Every cell of the fault matrix with pjfail: the request that meets the failure, and the next one, get through.

Sent by an unmodified pjsua2 program; servers, name server and certificates are real, and packets vanish in a network of
the cell's own. The bounds here bear with a busy machine; `make bench` prints the times.
"""

from __future__ import annotations

import pytest
from rig.faults import Cell, Outcomes, cells, run

pytestmark = pytest.mark.timeout(600)  # the programs get up one after the other

CELLS = cells(("pjfail",))
WITHIN, INVITE_WITHIN, NEXT_WITHIN = 3.0, 6.0, 1.0

# What cannot be demanded of the request that meets the failure, and why.
MESSAGE_MAY_BE_LOST = (
    "a MESSAGE that may have arrived is not sent again unless the user says so: it would be read twice"
)
EXCUSED = {
    (failure, transport, "MESSAGE"): MESSAGE_MAY_BE_LOST
    for failure, transport in (
        ("packets vanish", "udp"),
        ("silent", "udp"),
        ("silent", "tcp"),
        ("dead connection", "tcp"),
        ("dead connection", "tls"),
        ("RST after the request", "tcp"),
        ("dies before it answers", "udp"),
        ("dies before it answers", "tcp"),
        ("UDP to TCP", "udp"),
        ("IPv6 to IPv4", "udp"),
    )
}
# Where the first server may be the one that answers, how much later, and why.
LATE = {"slow, 3 s": (3.0, "its late answer is as good as the second one's early one, and a call that rings stays")}


@pytest.fixture(scope="module")
def matrix() -> dict[Cell, Outcomes]:
    return run(CELLS, at_once=len(CELLS))


def within(cell: Cell, seconds: float) -> float:
    extra, _ = LATE.get(cell.failure, (0.0, ""))
    return seconds + extra


def answered_by(cell: Cell) -> tuple[str, ...]:
    return ("first", "second") if cell.failure in LATE else ("second",)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_request_that_meets_the_failure(cell: Cell, matrix: dict[Cell, Outcomes]) -> None:
    outcome = matrix[cell]["first"]
    assert outcome.answers == 1, outcome
    if (cell.failure, cell.transport, cell.method) in EXCUSED:
        return
    assert outcome.code == 200, outcome
    assert outcome.server in answered_by(cell), outcome
    assert outcome.seconds < within(cell, INVITE_WITHIN if "INVITE" in cell.method else WITHIN), outcome


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_next_request(cell: Cell, matrix: dict[Cell, Outcomes]) -> None:
    outcome = matrix[cell]["next"]
    assert (outcome.code, outcome.answers) == (200, 1), outcome
    assert outcome.server in answered_by(cell), outcome
    assert outcome.seconds < within(cell, NEXT_WITHIN), outcome
