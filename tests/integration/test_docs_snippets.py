"""What the documentation gives to be copied, run with what it is for: pjsip, Kamailio."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from rig.app import PYTHON

SNIPPETS = Path(__file__).resolve().parent.parent.parent / "docs" / "snippets"


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=SNIPPETS, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_test_of_a_program_that_loses_its_server() -> None:
    run(PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "failover_test.py")


def test_the_parts_of_a_kamailio_configuration() -> None:
    modules = next(Path("/usr/lib").glob("*/kamailio/modules"))
    run("kamailio", "-c", "-L", f"{modules}/", "-f", "kamailio-failover.cfg")
