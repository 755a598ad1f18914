"""Two hundred accounts with standbys over two registrars, of which one falls silent: every account stays reachable, and
no registrar is stormed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from rig.app import App

from pjfail.testing import SILENT, Registrar, Request

COUNT = 200
SPREAD = 2.0
ADDRESSES = FIRST, SECOND = "127.0.133.1", "127.0.133.2"

APP = """
    import sys
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Endpoint, emit, heard

    count, spread, *servers = sys.argv[1:]
    calls = []

    class Called(pj.Account):
        def onIncomingCall(self, prm):
            calls.append(pj.Call(self, prm.callId))
            busy = pj.CallOpParam()
            busy.statusCode = 486
            calls[-1].answer(busy)

    with Endpoint(transports=("udp",), log_level=1) as endpoint:
        failover = pjfail.attach(
            servers={"many.test": [(server, 0, 1) for server in servers]},
            follow=pjfail.Follow(standby=True, spread=float(spread), watch=4.0),
        )
        accounts = []
        for number in range(int(count)):
            account, config = Called(), pj.AccountConfig()
            config.idUri, config.regConfig.registrarUri = f"sip:user{number}@many.test", "sip:many.test"
            account.create(config)
            accounts.append(account)
            failover.follow(account)
        emit(ready=True)
        while heard():
            emit(on=[server and server.address for server in failover.accounts().values()])
"""


def registered(registrar: Registrar) -> set[str]:
    """The users with a binding there."""
    return {
        each.request.header("to").partition("@")[0].rpartition(":")[2]
        for each in registrar.answers
        if each.request.method == "REGISTER" and each.code == 200
    }


def most_at_once(requests: Sequence[Request], seconds: float = 0.1) -> int:
    """The most REGISTERs that came within so many seconds, repetitions of one not counted."""
    first = {each.branch: each for each in reversed(requests) if each.method == "REGISTER"}
    counts = Counter(int(each.at / seconds) for each in first.values())
    return max(counts.values(), default=0)


def test_everybody_stays_reachable_and_nobody_is_stormed() -> None:
    registrars = {address: Registrar(address) for address in ADDRESSES}
    with registrars[FIRST] as first, registrars[SECOND] as second, App(APP, str(COUNT), str(SPREAD), *ADDRESSES) as app:
        assert app.next(60) == {"ready": True}
        until = time.monotonic() + 30
        everybody = {f"user{number}" for number in range(COUNT)}
        while not (registered(first) == registered(second) == everybody):
            assert time.monotonic() < until, (len(registered(first)), len(registered(second)))
            time.sleep(0.2)
        begun = len(second.requests)
        own = sum(address == FIRST for address in app.ask("where")["on"])
        assert COUNT / 4 < own < COUNT * 3 / 4
        first.fault = SILENT
        until = time.monotonic() + 60
        while FIRST in app.ask("where")["on"]:
            assert time.monotonic() < until
            time.sleep(0.2)
        time.sleep(SPREAD + 1)
        after = second.requests[begun:]
        assert most_at_once(after) <= COUNT / 5
        per_user = Counter(
            each.to for each in {each.branch: each for each in after if each.method == "REGISTER"}.values()
        )
        assert len(per_user) == own  # those that were at the first; the others have nothing to say
        assert set(per_user.values()) == {1}
        assert not [each for each in after if each.method == "REGISTER" and not each.expires]
