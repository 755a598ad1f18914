"""Listeners and metrics of a pjsua2 program, against registrars that fail."""

from __future__ import annotations

import time

import pytest
from rig.app import App

from pjfail.testing import SILENT, UNAVAILABLE, Fault, Registrar

pytest.importorskip("prometheus_client", reason="make test installs it")

FIRST, SECOND = "127.0.37.1", "127.0.37.2"
SERVERS = f"{FIRST}:5060", f"{SECOND}:5060"

# A method on standard input sends it; "servers", "events", "metrics", "mark_down" and "detach" do what they say.
APP = f"""
    import logging, sys
    import prometheus_client
    import pjfail
    from pjfail.listeners import LogListener, PrometheusListener
    from rig.prelude import Account, Endpoint, emit, heard

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    how, most_servers = sys.argv[1:]
    policy = {{
        "never": pjfail.Policy(detect=lambda health, outcome: False),
        "soon": pjfail.Policy(backoff=lambda failures, random: 0.3),
    }}[how]
    told = []

    def broken(event):
        raise RuntimeError("out of order")

    def metrics():
        found = {{}}
        for family in prometheus_client.REGISTRY.collect():
            for sample in family.samples:
                labels = ",".join(f"{{name}}={{value}}" for name, value in sorted(sample.labels.items()))
                if sample.name.startswith("pjfail_"):
                    found[f"{{sample.name}}{{{{{{labels}}}}}}" if labels else sample.name] = sample.value
        return found

    listeners = [broken, told.append, LogListener(), PrometheusListener(most_servers=int(most_servers))]
    table = {{"sip.test": [("{SERVERS[0]}", 10, 0), ("{SERVERS[1]}", 20, 0)]}}
    with Endpoint() as endpoint:
        failover = pjfail.attach(lookup=pjfail.StaticLookup(table), policy=policy, listeners=listeners)
        account = Account(endpoint)
        account.open("sip:alice@sip.test", "sip:sip.test")
        while word := heard():
            if word == "events":
                emit(events=[(type(event).__name__, str(getattr(event, "server", ""))) for event in told])
            elif word == "metrics":
                emit(**metrics())
            elif word == "servers":
                emit(servers=sorted(map(str, failover.servers())))
            elif word.startswith("mark_down "):
                failover.mark_down(word.removeprefix("mark_down "))
            elif word == "detach":
                failover.detach()
            elif word.startswith("send "):
                account.send(word.removeprefix("send "), "sip:sip.test")
            else:
                emit(**account.request(word, "sip:sip.test")._asdict())
"""
UP, OTHER = f"udp:{SERVERS[0]}", f"udp:{SERVERS[1]}"


def events_until(app: App, *expected: str, timeout: float = 10) -> list[list[str]]:
    """The events, once one of each kind that is *expected* has been told."""
    deadline = time.monotonic() + timeout
    while True:
        found: list[list[str]] = app.ask("events")["events"]
        if set(expected) <= {name for name, _server in found}:
            return found
        assert time.monotonic() < deadline, f"{expected} not in {found}"
        time.sleep(0.05)


def test_one_that_does_badly_not_taken_down_is_suspected_once_until_it_answers(
    first: Registrar, second: Registrar
) -> None:
    with App(APP, "never", "10") as app:
        for fault, code in ((UNAVAILABLE, 503), (UNAVAILABLE, 503), (Fault(), 200), (UNAVAILABLE, 503)):
            first.fault = second.fault = fault
            for _ in range(2):
                assert app.ask("OPTIONS")["code"] == code
        for _ in range(2):  # in the worker's turn, twice: what came before has been told by then
            app.tell(f"mark_down {OTHER}")
        events = events_until(app, "ServerDown")
        suspicions = [server for name, server in events if name == "ServerSuspected"]
        assert suspicions.count(UP) == 2
        assert [server for name, server in events if name == "ServerDown"] == [OTHER] * 2
        stderr = app.finish().stderr
    assert f"pjfail.events INFO {UP} is suspect: answered 503 to OPTIONS" in stderr
    assert stderr.count("a listener failed on ServerSuspected") == len(suspicions)


def test_a_probe_that_fails_and_a_recovery_are_told_and_counted(first: Registrar, second: Registrar) -> None:
    with App(APP, "soon", "10") as app:
        assert app.ask("OPTIONS")["server"] == SERVERS[0]
        first.fault = SILENT
        app.tell("send MESSAGE")
        events_until(app, "ServerDown", "PlanChanged", "ProbeFailed")
        first.fault = Fault()
        events = events_until(app, "ServerUp")
        assert [server for name, server in events if name in ("ServerDown", "ProbeFailed", "ServerUp")][:2] == [UP, UP]
        counted = app.ask("metrics")
        assert counted["pjfail_probe_failures_total{reason=silent}"] >= 1
        assert counted["pjfail_detections_total{reason=silent}"] >= 1
        assert counted["pjfail_server_recovery_seconds_count"] == 1
        assert 2 < counted["pjfail_server_recovery_seconds_sum"] < 20  # the probe alone took 2.2 s
        stderr = app.finish().stderr
    assert f"pjfail.events WARNING {UP} is down, next tried within 0 s: silent to MESSAGE" in stderr
    assert f"pjfail.events INFO {UP} failed a probe: silent to OPTIONS (probe)" in stderr


def test_the_cores_counters_and_every_server_are_read_at_the_scrape(first: Registrar, second: Registrar) -> None:
    with App(APP, "soon", "10") as app:
        assert "pjfail_resolutions_total{source=worker}" in app.ask("metrics")
        for _ in range(3):
            assert app.ask("OPTIONS")["server"] == SERVERS[0]
        assert app.ask("servers")["servers"] == [UP, OTHER]
        counted = app.ask("metrics")
        assert counted["pjfail_resolutions_total{source=worker}"] == 1
        assert counted["pjfail_resolutions_total{source=plan}"] == 2
        assert counted["pjfail_servers{state=up}"] == 2
        assert counted[f"pjfail_server_up{{server={UP}}}"] == counted[f"pjfail_server_up{{server={OTHER}}}"] == 1
        assert counted[f"pjfail_server_answers_total{{server={UP}}}"] == 3
        assert counted[f"pjfail_server_answers_total{{server={OTHER}}}"] == 0
        assert 0 < counted[f"pjfail_server_round_trip_seconds{{server={UP}}}"] < 1
        assert counted["pjfail_round_trip_seconds_count{transport=udp}"] == 3
        assert counted["pjfail_round_trip_seconds_bucket{le=+Inf,transport=udp}"] == 3
        assert counted["pjfail_round_trip_seconds_bucket{le=10.0,transport=udp}"] == 3
        assert 0 < counted["pjfail_round_trip_seconds_sum{transport=udp}"] < 3
        assert counted["pjfail_round_trip_seconds_count{transport=tcp}"] == 0
        app.tell("detach")
        assert "pjfail_resolutions_total{source=plan}" not in app.ask("metrics")


def test_a_slow_answer_lies_in_its_bucket(first: Registrar, second: Registrar) -> None:
    first.fault = Fault(delay=0.3)  # before the first retransmission, so that it is a round trip
    with App(APP, "never", "10") as app:
        assert app.ask("OPTIONS")["code"] == 200
        counted = app.ask("metrics")
        assert counted["pjfail_round_trip_seconds_bucket{le=0.25,transport=udp}"] == 0
        assert counted["pjfail_round_trip_seconds_bucket{le=0.5,transport=udp}"] == 1
        assert 0.3 <= counted["pjfail_round_trip_seconds_sum{transport=udp}"] < 0.5


def test_of_too_many_servers_the_worst_are_shown(first: Registrar, second: Registrar) -> None:
    with App(APP, "soon", "1") as app:
        assert app.ask("OPTIONS")["code"] == 200
        app.tell(f"mark_down {OTHER}")
        counted = app.ask("metrics")
        shown = {name: value for name, value in counted.items() if name.startswith("pjfail_server_up{")}
        assert shown == {f"pjfail_server_up{{server={OTHER}}}": 0}
        assert (counted["pjfail_servers{state=up}"], counted["pjfail_servers{state=down}"]) == (1, 1)
        assert counted["pjfail_detections_total{reason=application}"] == 1
