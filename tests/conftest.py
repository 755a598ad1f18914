"""Because this file is here, pytest puts this folder on the path: tests say `from rig.app import run_app`.

With `-n auto` (pytest-xdist) several files run at a time, each worker in a network of its own: their servers have fixed
addresses. Where the machine allows no such networks, everything runs in this one process.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from rig.network import alone

# A shell without job control puts commands into the background with SIGINT ignored, which all their children inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long one example takes is the machine's business; what hangs is pytest-timeout's.
hypothesis.settings.register_profile("pjfail", deadline=None)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=20)
hypothesis.settings.load_profile("pjfail")

TESTS = Path(__file__).parent
WITHOUT_PJSIP = {
    *("test_dns_faults.py", "test_dns_lookup.py", "test_dns_names.py", "test_dns_outage.py", "test_lookup_command.py"),
    *("test_resolve_cases_on_knot.py", "fuzz_dns_answers.py"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test outside of `tests/unit`: it starts programs and servers, and waits for them."""
    for item in items:
        if item.path.relative_to(TESTS).parts[0] != "unit":
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.network)
            if item.path.name not in WITHOUT_PJSIP:
                item.add_marker(pytest.mark.pjsip)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Returns the number of processors for `-n logical`; for `-n auto` one more, or what xdist's own variable says."""
    try:
        alone()
    except AssertionError as error:
        print(f"one test after the other: {error}")
        return 0
    processors = len(os.sched_getaffinity(0))
    if config.option.numprocesses == "logical":
        return processors
    return int(os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS", processors + 1))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[Any]) -> None:
    for spec in specs:
        spec.python = shlex.join([*alone(), sys.executable])
