"""Servers in use are asked whether they are alive when that is wanted, and idle ones are left alone."""

from __future__ import annotations

import time

import pytest
from rig.app import App

from pjfail.probe import Probe
from pjfail.testing import SILENT, Fault, Registrar

FIRST, SECOND = "127.0.37.1", "127.0.37.2"
DROPS_OPTIONS = Fault(answers=False, methods=("OPTIONS",))

APP = """
    import sys
    import pjfail
    from rig.prelude import Account, Endpoint, emit, heard

    first, second, *times = sys.argv[1:]
    probe = pjfail.Probe(**dict(zip(("interval", "timeout"), map(float, times))), idle=5.0) if times else None
    table = {"sip.test": [(f"{first}:5060", 10, 0), (f"{second}:5060", 20, 0)]}

    def told(event):
        if isinstance(event, pjfail.events.ServerDown):
            emit(down=str(event.server), reason=event.health.reason)

    with Endpoint() as endpoint:
        pjfail.attach(lookup=pjfail.StaticLookup(table), probe=probe, listeners=[told])
        account = Account(endpoint)
        account.open("sip:alice@sip.test")
        while heard():
            emit(**account.request("MESSAGE", "sip:sip.test")._asdict())
"""


def probes(registrar: Registrar) -> int:
    return sum("pjfail@" in request.from_ for request in registrar.requests)


def test_a_server_that_dies_between_two_requests_is_found_out_before_the_second() -> None:
    with Registrar(FIRST) as first, Registrar(SECOND) as second, App(APP, FIRST, SECOND, "0.5") as app:
        app.tell("send")
        assert app.next()["server"] == f"{FIRST}:5060"
        first.wait_for("OPTIONS", count=2)
        second.wait_for("OPTIONS")  # that is in the plan too
        first.fault = SILENT
        assert app.next(20) == {"down": f"udp:{FIRST}:5060", "reason": "silent to OPTIONS"}
        app.tell("send")
        answer = app.next()
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert len([request for request in first.requests if request.method == "MESSAGE"]) == 1


def test_idle_targets_are_left_alone() -> None:
    with Registrar(FIRST) as first, Registrar(SECOND), App(APP, FIRST, SECOND, "0.5") as app:
        app.tell("send")
        app.next()
        time.sleep(6)
        while_in_use = probes(first)
        time.sleep(2)
        assert while_in_use > 3
        assert probes(first) - while_in_use <= 1


def test_nobody_is_asked_unless_it_is_wanted() -> None:
    with Registrar(FIRST) as first, Registrar(SECOND) as second, App(APP, FIRST, SECOND) as app:
        app.tell("send")
        app.next()
        time.sleep(3)
        assert not probes(first)
        assert not second.requests
    assert Probe().interval is None  # nor later


COMES_BACK = """
    import sys
    import pjfail
    from rig.prelude import Account, Endpoint, emit, heard

    def told(event):
        if isinstance(event, (pjfail.events.ServerDown, pjfail.events.ServerUp)):
            emit(server=str(event.server), state=event.health.state.value, reason=event.health.reason)

    with Endpoint() as endpoint:
        table = {"sip.test": [(f"{address}:5060", 10 * number, 0) for number, address in enumerate(sys.argv[1:], 1)]}
        policy = pjfail.Policy(backoff=lambda failures, random: 0.3)
        pjfail.attach(
            lookup=pjfail.StaticLookup(table), policy=policy, probe=pjfail.Probe(timeout=0.6), listeners=[told]
        )
        account = Account(endpoint)
        account.open("sip:alice@sip.test")
        while heard():
            emit(**account.request("REGISTER", "sip:sip.test")._asdict())
"""


def test_a_server_that_never_answered_an_options_comes_back_by_its_traffic() -> None:
    with Registrar(FIRST) as first, Registrar(SECOND), App(COMES_BACK, FIRST, SECOND) as app:
        assert app.ask("send")["server"] == f"{FIRST}:5060"
        first.fault = SILENT
        assert app.ask("send", 10)["server"] == f"{SECOND}:5060"
        assert app.next(10)["reason"] == "silent to REGISTER"
        first.fault = DROPS_OPTIONS
        while (change := app.next(20))["state"] == "down":
            assert change["reason"].startswith("silent to OPTIONS")
        assert "OPTIONS" in change["reason"]
        assert app.ask("send")["server"] == f"{FIRST}:5060"
        probed = probes(first)
        assert 3 <= probed <= 20


def test_a_probe_is_not_repeated_once_its_time_is_over() -> None:
    """pjsip repeats an OPTIONS for 32 s: a dead server got 96 of them in 30 s."""
    with Registrar(FIRST) as first, Registrar(SECOND), App(APP, FIRST, SECOND, "2", "1") as app:
        app.tell("send")
        assert app.next()["server"] == f"{FIRST}:5060"
        first.fault = SILENT
        assert app.next(20)["down"] == f"udp:{FIRST}:5060"
        time.sleep(5)
        sent: dict[str, list[float]] = {}
        for request in first.requests:
            if "pjfail@" in request.from_:
                sent.setdefault(request.branch, []).append(request.at)
        for times in sent.values():
            assert times[-1] - times[0] < 1.3  # the second is for a machine that is busy
            assert len(times) <= 2


@pytest.mark.parametrize("wrong", [{"interval": 0.0}, {"timeout": -1.0}, {"jitter": 1.0}, {"accounts": float("nan")}])
def test_what_is_no_time_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive numbers of seconds"):
        Probe(**wrong)
