"""Connections that were there before pjfail attached are as good as its own."""

from __future__ import annotations

import time

import pytest
from rig.app import App

from pjfail.testing import Registrar

FIRST, SECOND = "127.0.48.1", "127.0.48.2"

# Opens the connections that the test names, attaches, sends one request, and looks at the first server when told.
APP = f"""
    import time
    import pjfail
    from rig.prelude import Account, Endpoint, emit, heard

    table = {{"sip.test": [("{FIRST}:5060", 1, 0), ("{SECOND}:5060", 2, 0)]}}
    with Endpoint() as endpoint:
        account = Account(endpoint)
        account.open("sip:alice@sip.test")
        for server in heard().split():
            account.request("OPTIONS", f"sip:{{server}};transport=tcp")
        with pjfail.attach(lookup=pjfail.StaticLookup(table)) as failover:
            start = time.monotonic()
            answer = account.request("OPTIONS", "sip:sip.test;transport=tcp")
            emit(server=answer.server, code=answer.code, took=time.monotonic() - start)
            heard()
            emit(down=[str(server) for server, health in failover.servers().items() if health.state.value != "up"])
"""


@pytest.mark.parametrize("before", [(FIRST,), (FIRST, SECOND)], ids=["first", "both"])
def test_the_first_request_takes_a_connection_of_before(
    first: Registrar, second: Registrar, before: tuple[str, ...]
) -> None:
    """It would wait for a connect that is long over, and the first server would be down for that connect."""
    with App(APP) as app:
        app.tell(" ".join(before))
        answer = app.next()
        assert (answer["server"], answer["code"]) == (f"{FIRST}:5060", 200)
        assert answer["took"] < 1
        time.sleep(6)
        app.tell("")
        assert app.next() == {"down": []}
        assert len({request.source for request in first.wait_for("OPTIONS", 2)}) == 1
