"""An attached program that does nothing: no thread of pjfail wakes up."""

from __future__ import annotations

import pytest
from rig.app import run_app

from pjfail.testing import Registrar

SERVER = "127.0.106.1"

APP = """
    import sys, time
    from pathlib import Path
    import pjfail
    from rig.prelude import Account, Endpoint, emit

    TASKS = Path("/proc/self/task")

    def threads():
        return {each.name for each in TASKS.iterdir()}

    def wakeups(ours):
        # Each time that a thread goes to sleep; the polling thread of pjsua does so by itself.
        lines = [(TASKS / each / "status").read_text().splitlines() for each in ours]
        return sum(int(line.split()[1]) for text in lines for line in text if line.startswith("voluntary_ctxt"))

    def quietest(ours):
        # The fewest wakeups in some stretches of time: a request is watched for 32 s at the most.
        found = []
        while len(found) < 15 and 0 not in found:
            before = wakeups(ours)
            time.sleep(3)
            found.append(wakeups(ours) - before)
        return min(found)

    with Endpoint() as endpoint:
        before = threads()
        pjfail.attach(servers={"voip.test": [sys.argv[1]]}, follow=False)
        ours = threads() - before
        account = Account(endpoint, retries=False)
        idle = quietest(ours)
        answer = account.register("sip:alice@voip.test", "sip:voip.test")
        emit(threads=len(ours), idle=idle, code=answer.code, after=quietest(ours))
"""


@pytest.mark.slow
def test_nothing_wakes_up_while_nothing_happens() -> None:
    with Registrar(SERVER):
        [found] = run_app(APP, SERVER).lines
    assert found == {"threads": 2, "idle": 0, "code": 200, "after": 0}
