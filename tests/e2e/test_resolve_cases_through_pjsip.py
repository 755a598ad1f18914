"""The shared cases through the whole stack: where does an OPTIONS of a pjsua2 program with pjfail attached go?

Name servers, certificates, transports and sockets are real. The cases' addresses are public ones, so the programs run
in a network of their own, in which every address is the machine's. One program for each kind of client sends all its
cases. No case is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rig.app import PYTHON, Line, run_app
from rig.network import BECOME, alone
from rig.resolve_cases import CASES, expected

PROGRAM = Path(__file__).with_name("resolving_app.py")
CLIENTS = sorted({tuple(case["ua"]["transports"]) for case in CASES.values()})

EVERY_ADDRESS = "ip route add local 0.0.0.0/0 dev lo"


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Line]:
    """How the OPTIONS of each case ended, and which servers saw it."""
    command = [*alone(EVERY_ADDRESS), PYTHON, "-X", "faulthandler", str(PROGRAM)]
    ended = [run_app(BECOME, *command, *client) for client in CLIENTS]
    return {line["case"]: line for each in ended for line in each.lines}


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_shared_case(case: dict[str, Any], outcomes: dict[str, Line]) -> None:
    outcome = outcomes[case["id"]]
    if expected(case) == "fail":
        assert (outcome["code"], outcome["seen"]) == (502, []), outcome
    else:
        first_group = expected(case)[0]
        assert outcome["code"] == 200, outcome
        assert outcome["seen"] in [[server] for server in first_group], outcome


def test_every_case_is_sent_by_a_client_like_its_own(outcomes: dict[str, Line]) -> None:
    assert outcomes.keys() == CASES.keys()
    assert len(outcomes) == 121
    assert {tuple(case["ua"]["families"]) for case in CASES.values()} == {("v4",)}  # all that rig.prelude binds
