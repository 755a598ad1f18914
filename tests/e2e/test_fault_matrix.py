"""Every cell of the fault matrix with pjfail: the request that meets the failure, and the next one, get through.

Sent by an unmodified pjsua2 program; servers, name server and certificates are real, and packets vanish in a network of
the cell's own. The bounds here bear with a busy machine; `make bench` prints the times.
"""

from __future__ import annotations

import pytest
from rig.faults import Cell, Outcomes, cells, run

CELLS = cells(("pjfail",))
WITHIN, INVITE_WITHIN, NEXT_WITHIN = 3.0, 6.0, 1.0

MESSAGE_MAY_BE_LOST = (
    "a MESSAGE that may have arrived is not sent again unless the user says so: its recipient would read it twice"
)
MESSAGE_IS_LOST_BY = {
    ("refused", "udp"),
    ("packets vanish", "udp"),
    ("silent", "udp"),
    ("silent", "tcp"),
    ("dead connection", "tcp"),
    ("dead connection", "tls"),
    ("RST after the request", "tcp"),
    ("dies before it answers", "udp"),
    ("dies before it answers", "tcp"),
}


@pytest.fixture(scope="module")
def matrix() -> dict[Cell, Outcomes]:
    return run(CELLS, at_once=len(CELLS))


def may_be_lost(cell: Cell) -> str:
    """Why the first request need not get through; "" where it must."""
    return MESSAGE_MAY_BE_LOST * (cell.method == "MESSAGE" and (cell.failure, cell.transport) in MESSAGE_IS_LOST_BY)


def who_may_answer(cell: Cell) -> tuple[str, ...]:
    """Who may; the slow one may too: its late answer is as good as the second one's early one."""
    return ("first", "second") if cell.failure == "slow, 3 s" else ("second",)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_request_that_meets_the_failure(cell: Cell, matrix: dict[Cell, Outcomes]) -> None:
    outcome = matrix[cell]["first"]
    assert outcome.answers == 1, outcome
    if not may_be_lost(cell):
        assert outcome.code == 200, outcome
        assert outcome.server in who_may_answer(cell), outcome
        slow = 3.0 * (cell.failure == "slow, 3 s")
        assert outcome.seconds < (INVITE_WITHIN if cell.method == "INVITE" else WITHIN) + slow, outcome


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_the_next_request(cell: Cell, matrix: dict[Cell, Outcomes]) -> None:
    outcome = matrix[cell]["next"]
    assert (outcome.code, outcome.answers) == (200, 1), outcome
    assert outcome.server in who_may_answer(cell), outcome
    slow = 3.0 * (cell.failure == "slow, 3 s")
    assert outcome.seconds < NEXT_WITHIN + slow, outcome
