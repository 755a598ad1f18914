"""The shared cases through DnsLookup against a real name server: Knot, with each zone file as its root zone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from rig.knot import Knot
from rig.resolve_cases import CASES, ZONES, check

ADDRESS = "127.0.63.53"
FIRST_PORT = 5400


class RootKnot(Knot):
    """Knot with authority for everything. *records* are lines of zone text with absolute names."""

    def __init__(self, records: list[str], port: int) -> None:
        super().__init__(ADDRESS, "\n".join(records), origin=".", port=port)

    def _write(self, zone: str) -> None:
        head = f". 60 SOA ns.rig. rig. 1 3600 600 86400 60\n. 60 NS ns.rig.\nns.rig. 60 A {ADDRESS}\n"
        (self.run / "zone").write_text(f"{head}{zone}\n")


@pytest.fixture(scope="module")
def knots() -> Iterator[dict[str, Knot]]:
    """One for each zone of zones.yaml."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(RootKnot(zone["records"], FIRST_PORT + number))
            for number, (name, zone) in enumerate(ZONES.items())
        }


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_shared_case(case: dict[str, Any], knots: dict[str, Knot]) -> None:
    check(case, knots[case["zone"]].nameserver)
