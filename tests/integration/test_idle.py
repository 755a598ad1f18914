"""An attached program that does nothing: no thread of pjfail wakes up, whether it has an account or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig.app import run_app

from pjfail.testing import Registrar

SERVER, OTHER = "127.0.106.1", "127.0.106.2"

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

    def is_quiet(ours, seconds):
        # Whether there is a stretch of so many seconds without a wakeup: a request is watched for 32 s at the most, a
        # plan is renewed every 24 s, and a standby over UDP renews its NAT's binding every 12 to 15 s.
        until, before, since = time.monotonic() + 50, wakeups(ours), time.monotonic()
        while (now := time.monotonic()) < until and now - since < seconds:
            time.sleep(0.5)
            if (after := wakeups(ours)) != before:
                before, since = after, time.monotonic()
        return now - since >= seconds

    with Endpoint() as endpoint:
        before = threads()
        servers, transport, standby, store = sys.argv[1].split(), sys.argv[2], int(sys.argv[3]), sys.argv[4]
        follow = pjfail.Follow(watch=None, standby=standby) if transport != "none" else False
        failover = pjfail.attach(servers={"voip.test": servers}, follow=follow, shared=store or None)
        ours = threads() - before
        account = Account(endpoint, retries=False)
        idle = is_quiet(ours, 3)
        answer = account.register("sip:alice@voip.test", "sip:voip.test" + ";transport=tcp" * (transport == "tcp"))
        after = is_quiet(ours, 7 if store else 10)  # a store is read again every 8 to 12 s
        emit(threads=len(ours), idle=idle, code=answer.code, after=after, followed=len(failover.accounts()))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("transport", "standby", "store"),
    [("none", 0, ""), ("udp", 0, ""), ("tcp", 0, ""), ("udp", 1, ""), ("tcp", 1, ""), ("udp", 0, "shared.db")],
    ids=str,
)
def test_nothing_wakes_up_while_nothing_happens(transport: str, standby: int, store: str, tmp_path: Path) -> None:
    with Registrar(SERVER), Registrar(OTHER) as other:
        servers = " ".join(f"{each}:5060" for each in (SERVER, OTHER))
        path = str(tmp_path / store) if store else ""
        [found] = run_app(APP, servers, transport, str(standby), path, timeout=120).lines
    threads, followed = 2 + bool(store), int(transport != "none")
    assert found == {"threads": threads, "idle": True, "code": 200, "after": True, "followed": followed}
    assert ("REGISTER" in {each.method for each in other.requests}) == bool(standby)
