"""Metrics: what events count for, and what they are called; those of a running core: integration/test_listeners."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest

from pjfail import events, listeners
from pjfail.bridge.counts import Counters, RoundTrips
from pjfail.model import Health, Outcome, OutcomeKind, Server, State, Target, Transport
from pjfail.shared.sharing import SharedStatus

prometheus_client = pytest.importorskip("prometheus_client", reason="make test installs it")
prometheus = pytest.importorskip("pjfail.listeners.prometheus")

ONE, OTHER = Server("192.0.2.1", 5060), Server("192.0.2.2", 5060)
TARGET = Target("example.com")


class Metrics:
    """A listener with a registry of its own, and its samples."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.listener = listeners.PrometheusListener(self.registry)

    def value(self, name: str, **labels: str) -> float | None:
        value: float | None = self.registry.get_sample_value(name, labels)
        return value


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def down(server: Server, at: float, seen: OutcomeKind | None = OutcomeKind.SILENT) -> events.ServerDown:
    outcome = None if seen is None else Outcome(server, seen, at)
    return events.ServerDown(server, Health(State.DOWN, 1, since=at, until=at + 30), outcome)


def test_every_event_is_counted_by_its_name_also_one_never_heard_of(metrics: Metrics) -> None:
    class ServerPraised:
        pass

    metrics.listener(events.LookupStale(TARGET, "silent"))
    metrics.listener(ServerPraised())  # type: ignore[arg-type]  # from a pjfail of the future
    metrics.listener(ServerPraised())  # type: ignore[arg-type]
    assert metrics.value("pjfail_events_total", event="LookupStale") == 1
    assert metrics.value("pjfail_events_total", event="ServerPraised") == 2


def test_what_is_counted_begins_with_0_so_that_its_first_event_is_an_increase(metrics: Metrics) -> None:
    assert metrics.value("pjfail_events_total", event="LookupStale") == 0
    assert metrics.value("pjfail_detections_total", reason="application") == 0
    assert metrics.value("pjfail_probe_failures_total", reason="silent") == 0
    assert metrics.value("pjfail_lookup_failures_total", temporary="true") == 0
    assert metrics.value("pjfail_failovers_total", reason="slow") == 0


def test_detections_probes_and_lookups_are_counted_by_reason(metrics: Metrics) -> None:
    metrics.listener(down(ONE, 1.0))
    metrics.listener(down(OTHER, 2.0, OutcomeKind.UNAVAILABLE))
    metrics.listener(down(OTHER, 3.0, None))
    metrics.listener(events.ProbeFailed(ONE, Outcome(ONE, OutcomeKind.REFUSED, 4.0)))
    metrics.listener(events.LookupFailed(TARGET, "silent", temporary=True))
    metrics.listener(events.FailedOver("OPTIONS", "1@here", ONE, OTHER, events.Reason.RACE, 0.4))
    metrics.listener(events.CertificateRejected(ONE, "expired", Outcome(ONE, OutcomeKind.CERTIFICATE, 5.0)))
    for reason in ("silent", "unavailable", "application"):
        assert metrics.value("pjfail_detections_total", reason=reason) == 1
    assert metrics.value("pjfail_probe_failures_total", reason="refused") == 1
    assert metrics.value("pjfail_lookup_failures_total", temporary="true") == 1
    assert metrics.value("pjfail_failovers_total", reason="race") == 1
    assert metrics.value("pjfail_certificates_rejected_total") == 1


def test_the_time_to_recovery_counts_from_the_first_detection(metrics: Metrics) -> None:
    metrics.listener(down(ONE, 100.0))
    metrics.listener(down(ONE, 131.0))  # the probe had no answer
    metrics.listener(events.ServerUp(ONE, Health(since=192.0)))
    metrics.listener(events.ServerUp(OTHER, Health(since=193.0)))  # never taken down: restored by the application
    assert metrics.value("pjfail_server_recovery_seconds_count") == 1
    assert metrics.value("pjfail_server_recovery_seconds_sum") == pytest.approx(92.0)
    assert metrics.value("pjfail_server_recovery_seconds_bucket", le="60.0") == 0
    assert metrics.value("pjfail_server_recovery_seconds_bucket", le="120.0") == 1


def test_no_more_than_so_many_recoveries_are_waited_for(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "MOST_DOWN", 5)
    servers = [Server(f"192.0.2.{number}", 5060) for number in range(10)]
    for server in servers:
        metrics.listener(down(server, 100.0))
    for server in servers:
        metrics.listener(events.ServerUp(server, Health(since=101.0)))
    assert metrics.value("pjfail_server_recovery_seconds_count") == 5


def test_what_the_application_marks_down_and_restores_is_no_recovery(metrics: Metrics) -> None:
    metrics.listener(down(ONE, 100.0, None))
    metrics.listener(events.ServerUp(ONE, Health(since=192.0)))
    assert metrics.value("pjfail_server_recovery_seconds_count") == 0


def test_unattached_it_shows_nothing_of_the_core(metrics: Metrics) -> None:
    names = {family.name for family in metrics.registry.collect()}
    assert names == {
        "pjfail_events",
        "pjfail_detections",
        "pjfail_probe_failures",
        "pjfail_lookup_failures",
        "pjfail_failovers",
        "pjfail_certificates_rejected",
        "pjfail_server_recovery_seconds",
    }


class Running:
    """What the listener reads of a Failover."""

    attached = True

    def __init__(self, **counted: int) -> None:
        self._counters = Counters(**dict.fromkeys(Counters.__dataclass_fields__, 0) | counted)

    def counters(self) -> Counters:
        return self._counters

    def round_trips(self) -> Mapping[Transport, RoundTrips]:
        return {}

    def servers(self) -> Mapping[Server, Health]:
        return {}

    def accounts(self) -> Mapping[int, Server | None]:
        return {0: ONE, 1: ONE, 2: None, 3: OTHER}

    def shared(self) -> SharedStatus | None:
        return SharedStatus("x.db", True, 3, 5, 1, 2, 0, 0, 40, 6)


@pytest.mark.parametrize(
    ("counted", "name"),
    [
        ("dropped", "pjfail_dropped_total"),
        ("unwatched", "pjfail_requests_unwatched_total"),
        ("forgotten", "pjfail_dialogs_forgotten_total"),
        ("dialogs", "pjfail_dialogs"),
    ],
)
def test_what_tells_of_a_bound_is_shown(metrics: Metrics, counted: str, name: str) -> None:
    running = Running(**{counted: 7})
    metrics.listener.on_attach(running)  # type: ignore[arg-type]
    assert metrics.value(name) == 7


def test_the_shared_memory_is_shown(metrics: Metrics) -> None:
    running = Running()
    metrics.listener.on_attach(running)  # type: ignore[arg-type]
    assert metrics.value("pjfail_shared_up") == 1
    assert metrics.value("pjfail_shared_entries") == 6
    assert metrics.value("pjfail_shared_believed") == 1
    assert metrics.value("pjfail_shared_entries_told_total", way="heard") == 5
    assert metrics.value("pjfail_shared_contradictions_total") == 2
    assert metrics.value("pjfail_shared_operations_total") == 40


def test_a_server_that_others_told_is_down_is_counted_as_that(metrics: Metrics) -> None:
    metrics.listener(events.ServerDown(ONE, Health(State.DOWN, told=2), None))
    assert metrics.value("pjfail_detections_total", reason="told") == 1
    assert metrics.value("pjfail_detections_total", reason="application") == 0


def test_accounts_are_counted_by_server(metrics: Metrics) -> None:
    running = Running()
    metrics.listener.on_attach(running)  # type: ignore[arg-type]
    assert metrics.value("pjfail_accounts", server=str(ONE)) == 2
    assert metrics.value("pjfail_accounts", server=str(OTHER)) == 1
    assert metrics.value("pjfail_accounts", server="none") == 1
    assert metrics.value("pjfail_accounts", server="other") is None


def test_accounts_of_more_servers_than_are_shown_are_counted_together() -> None:
    registry = prometheus_client.CollectorRegistry()
    listener = listeners.PrometheusListener(registry, most_servers=1)
    running = Running()
    listener.on_attach(running)  # type: ignore[arg-type]
    assert registry.get_sample_value("pjfail_accounts", {"server": str(ONE)}) == 2
    assert registry.get_sample_value("pjfail_accounts", {"server": "other"}) == 2


def test_two_in_one_registry_are_refused(metrics: Metrics) -> None:
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        listeners.PrometheusListener(metrics.registry)


def test_without_prometheus_client_the_extra_is_named_and_the_others_are_there() -> None:
    program = """
import sys
sys.modules["prometheus_client"] = None
from pjfail.listeners import LogListener, QueueListener
assert "prometheus_client.core" not in sys.modules
try:
    from pjfail.listeners import PrometheusListener
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == 'PrometheusListener needs prometheus_client: pip install "pjfail[prometheus]"\n'


def test_pjfail_imports_it_only_when_it_is_asked_for() -> None:
    program = "import sys, pjfail.listeners; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
