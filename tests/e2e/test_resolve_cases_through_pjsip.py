"""The shared cases through the whole stack: where does an OPTIONS of a pjsua2 program with pjfail attached go?

Name servers, certificates, transports and sockets are real. The cases' addresses are public ones, so the programs run
in a network of their own, in which every address is the machine's. One program for each kind of client sends all its
cases. No case is left out.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from rig.app import PYTHON, Line, run_app
from rig.resolve_cases import CASES, expected

PROGRAM = Path(__file__).with_name("resolving_app.py")
CLIENTS = sorted({tuple(case["ua"]["transports"]) for case in CASES.values()})

UNSHARE = (["unshare", "--net"], ["unshare", "--map-root-user", "--net"])  # as root, as anybody
EVERY_ADDRESS = 'ip link set lo up && ip route add local 0.0.0.0/0 dev lo && exec "$@"'
BECOME = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"


@pytest.fixture(scope="module")
def unshare() -> list[str]:
    for command in UNSHARE:
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    raise AssertionError("this machine allows no network namespace: these tests need root, or user namespaces")


@pytest.fixture(scope="module")
def outcomes(unshare: list[str]) -> dict[str, Line]:
    """How the OPTIONS of each case ended, and which servers saw it."""
    alone = [*unshare, "sh", "-c", EVERY_ADDRESS, "sh"]
    ended = [run_app(BECOME, *alone, PYTHON, "-X", "faulthandler", str(PROGRAM), *client) for client in CLIENTS]
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
