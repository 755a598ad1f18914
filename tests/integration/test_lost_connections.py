"""One connection carries many requests, and ends."""

from __future__ import annotations

import pytest
from rig.app import App

from pjfail.testing import SILENT, Registrar

FIRST, SECOND = "127.0.47.1", "127.0.47.2"

# Opens a connection with one request, then sends as many at once as the test says and prints how each ended.
APP = f"""
    from collections import Counter
    import pjfail
    from rig.prelude import Account, Endpoint, emit, heard

    table = {{"sip.test": [("{FIRST}:5060", 1, 0), ("{SECOND}:5060", 2, 0)]}}
    uri = "sip:sip.test;transport=tcp"
    with Endpoint() as endpoint:
        pjfail.attach(lookup=pjfail.StaticLookup(table), retry=pjfail.RetryPolicy(hedge_budget=0))
        account = Account(endpoint)
        account.open("sip:alice@sip.test")
        emit(**account.request("MESSAGE", uri)._asdict())
        while count := heard():
            for _ in range(int(count)):
                account.send("MESSAGE", uri)
            answers = [account.answer() for _ in range(int(count))]
            emit(**Counter(f"{{answer.code}} {{answer.server}}" for answer in answers))
"""


@pytest.mark.parametrize("count", [100, 150])
def test_all_requests_on_a_connection_that_is_reset_go_on(first: Registrar, second: Registrar, count: int) -> None:
    """MESSAGE waits for its server, so nothing but the reset makes it go on."""
    with App(APP) as app:
        assert app.next()["server"] == f"{FIRST}:5060"
        first.fault = SILENT
        app.tell(str(count))
        waiting = first.wait_for("MESSAGE", count=1 + count)
        assert len({request.source for request in waiting}) == 1
        first.reset()
        assert app.next() == {f"200 {SECOND}:5060": count}
        assert len({request.branch for request in second.wait_for("MESSAGE", count)}) == count
