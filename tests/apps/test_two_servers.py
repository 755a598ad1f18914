"""All registrars that people have, all ways in which a server fails, all transports: two minutes."""

from __future__ import annotations

from pathlib import Path

from rig.two_servers import CELLS, Cell, check, matrix


@matrix(CELLS)
def test_a_program_with_two_servers_outlives_the_first(cell: Cell, tmp_path: Path) -> None:
    check(cell, tmp_path)
