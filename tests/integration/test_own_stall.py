"""A time in which this process did not run its SIP thread convicts no server, and moves no account or request."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from rig.app import App

from pjfail.model import Transport
from pjfail.testing import WELL, Fault, Registrar

FIRST, SECOND = "127.0.79.1", "127.0.79.2"
STALL_S = 6.0  # more than a probe's time (2.2 s), and than a silent connection's (5 s)

# Registers, and follows its account, whose server is probed each second. "block" has pjsip's thread sleep within a
# callback; any other word is the method of a request.
APP = f"""
    import sys
    import threading
    import time
    import pjfail
    from rig.prelude import Account, Endpoint, emit, heard

    class Blocking(Account):
        block = 0.0

        def onRegState(self, prm):
            seconds = self.block  # before the answer is there: the program may ask to block by then
            super().onRegState(prm)
            if seconds:
                blocked.set()
                time.sleep(seconds)

    transport, *servers = sys.argv[1:]
    table = {{"sip.test": [(server, number, 0) for number, server in enumerate(servers)]}}
    uri = "sip:sip.test" + ("" if transport == "udp" else f";transport={{transport}}")
    told, blocked = [], threading.Event()
    with Endpoint() as endpoint:
        failover = pjfail.attach(
            lookup=pjfail.StaticLookup(table),
            retry=pjfail.RetryPolicy(timeouts={{**pjfail.retry.TIMEOUTS, "OPTIONS": 1.0}}, hedge_budget=0.0),
            follow=pjfail.Follow(watch=1.0),
            listeners=[told.append],
        )
        account = Blocking(endpoint)
        account.open("sip:alice@sip.test", uri)
        while word := heard():
            if word == "block":
                account.block = {STALL_S}
                account.send_register()
                blocked.wait()
                account.block = 0.0
                account.answer()
                emit(blocked=True)
            elif word == "told":
                emit(
                    told=[type(event).__name__ for event in told],
                    servers={{server.address: health.state.value for server, health in failover.servers().items()}},
                )
            elif word == "REGISTER":
                emit(**account.reregister()._asdict())
            else:
                account.send(word, uri)
                while (answer := account.answer()).method != word:
                    pass  # the follower may have registered it in between
                emit(**answer._asdict())
"""
BAD_NEWS = {"ProbeFailed", "ServerDown", "ServerSuspected", "FailedOver"}


@contextmanager
def app_on(transport: Transport) -> Iterator[tuple[Registrar, Registrar, App]]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(Registrar(address)) for address in (FIRST, SECOND))
        app = stack.enter_context(App(APP, transport, f"{FIRST}:5060", f"{SECOND}:5060"))
        assert app.ask("REGISTER")["server"] == f"{FIRST}:5060"
        yield first, second, app


def expect_no_harm(app: App, second: Registrar) -> None:
    time.sleep(3)  # probes whose time has come, and what would follow
    seen = app.ask("told")
    assert not BAD_NEWS & set(seen["told"]), seen
    assert seen["told"].count("AccountMoved") == 1, "it registered, and moved no more"
    assert set(seen["servers"].values()) == {"up"}
    assert not second.requests


OVER = pytest.mark.parametrize("transport", ["udp", "tcp"])


@OVER
def test_a_callback_that_blocks_convicts_nobody(transport: Transport) -> None:
    with app_on(transport) as (first, second, app):
        first.fault = Fault(latency=0.3)  # when its answer comes, the program has sent: both want pjsip's lock
        assert app.ask("block")["blocked"]
        first.fault = WELL
        # It leaves from this thread, and is answered at once; nobody reads that for a while.
        answer = app.ask("OPTIONS")
        assert (answer["code"], answer["server"]) == (200, f"{FIRST}:5060")
        assert answer["seconds"] > STALL_S / 2, "pjsip's thread was not blocked, so this test has shown nothing"
        expect_no_harm(app, second)


@OVER
def test_a_process_that_was_stopped_convicts_nobody(transport: Transport) -> None:
    """Its probe is answered while it is stopped."""
    with app_on(transport) as (first, second, app):
        first.fault = Fault(latency=0.5)
        for _ in range(4):
            before, until = len(first.requests), time.monotonic() + 10
            while len(first.requests) == before:
                assert time.monotonic() < until, "no probe came"
                time.sleep(0.01)
            app.signal(signal.SIGSTOP)
            time.sleep(3.0)
            app.signal(signal.SIGCONT)
            time.sleep(0.5)
        expect_no_harm(app, second)


@OVER
def test_a_server_that_died_meanwhile_is_found_out_afterwards(transport: Transport) -> None:
    with app_on(transport) as (first, _, app):
        first.fault = Fault(latency=0.3)  # as above
        assert app.ask("block")["blocked"]
        first.fault = Fault(answers=False)
        answer = app.ask("OPTIONS")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert STALL_S / 2 < answer["seconds"] < STALL_S + 10
