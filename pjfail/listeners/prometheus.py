"""Events and counters for Prometheus.

Events are counted as they happen; the C core's counters and the servers' states are read at each scrape. No label takes
its values from the wire: ``server`` has the servers of the plans, up to a bound.
"""

from __future__ import annotations

import itertools
import weakref
from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, get_args

from .. import events
from ..bridge import counts
from ..bridge.counts import Counters, RoundTrips
from ..model import Health, OutcomeKind, Server, State, Transport
from ..shared.sharing import SharedStatus

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError('PrometheusListener needs prometheus_client: pip install "pjfail[prometheus]"') from error

if TYPE_CHECKING:
    from ..failover import Failover

RECOVERY_BUCKETS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
# What can be held against a server, as labels have it.
_OUTCOMES = [kind.name.lower() for kind in OutcomeKind if kind is not OutcomeKind.ANSWERED]
# The most servers for which a recovery is awaited: a server that leaves the plans while it is down never comes up.
MOST_DOWN = 10_000


class PrometheusListener:
    """Metrics named ``pjfail_...`` in *registry*, by default prometheus_client's own.

    pjfail's worker calls it; the thread that scrapes reads it, and never waits for the worker. If there are more than
    *most_servers* servers, those that are not up come first, and the rest is counted in ``pjfail_servers`` only. Needs
    ``pjfail[prometheus]``. Raises ValueError if *registry* has such a listener already.
    """

    def __init__(self, registry: CollectorRegistry | None = None, most_servers: int = 200) -> None:
        registry = REGISTRY if registry is None else registry
        if not isinstance(registry, CollectorRegistry):
            raise TypeError(f"registry is {registry!r}; give a prometheus_client.CollectorRegistry")
        if not (isinstance(most_servers, int) and most_servers >= 0):
            raise ValueError(f"most_servers is {most_servers!r}; give a whole number")
        self._events = Counter("pjfail_events", "Events told to listeners.", ["event"], registry=registry)
        self._detections = Counter(
            "pjfail_detections", "Times a server was taken for down.", ["reason"], registry=registry
        )
        self._probes = Counter("pjfail_probe_failures", "Probes without an answer.", ["reason"], registry=registry)
        self._lookups = Counter(
            "pjfail_lookup_failures", "Lookups that found nothing.", ["temporary"], registry=registry
        )
        self._failovers = Counter(
            "pjfail_failovers", "Requests that failed over to another server.", ["reason"], registry=registry
        )
        self._certificates = Counter(
            "pjfail_certificates_rejected",
            "TLS handshakes that ended with the server's certificate.",
            registry=registry,
        )
        self._recovery = Histogram(
            "pjfail_server_recovery_seconds",
            "From the time a server was taken down to its next answer.",
            buckets=RECOVERY_BUCKETS,
            registry=registry,
        )
        # Counted from 0: of a series that begins with its first event Prometheus sees no increase.
        for counter, values in (
            (self._events, [kind.__name__ for kind in get_args(events.Event)]),
            (self._detections, [*_OUTCOMES, "application", "told"]),
            (self._probes, _OUTCOMES),
            (self._lookups, ["true", "false"]),
            (self._failovers, [reason.name.lower() for reason in events.Reason]),
        ):
            for value in values:
                counter.labels(value)
        self._down_since: dict[Server, float] = {}
        self._read = _AtScrape(most_servers)
        registry.register(self._read)

    def on_attach(self, failover: Failover) -> None:
        """Called by :func:`pjfail.attach`: reads the counters of *failover* from now on, until it is detached."""
        self._read.failover = weakref.ref(failover)

    def __call__(self, event: events.Event) -> None:
        self._events.labels(type(event).__name__).inc()
        match event:
            case events.ServerDown(server, health, outcome):
                unseen = "told" if health.told else "application"
                self._detections.labels(unseen if outcome is None else outcome.seen.name.lower()).inc()
                if outcome is not None and len(self._down_since) < MOST_DOWN:
                    self._down_since.setdefault(server, health.since)
            case events.ServerUp(server, health):
                since = self._down_since.pop(server, None)
                if since is not None:
                    self._recovery.observe(health.since - since)
            case events.ProbeFailed(_, outcome):
                self._probes.labels(outcome.seen.name.lower()).inc()
            case events.FailedOver(why=why):
                self._failovers.labels(why.name.lower()).inc()
            case events.CertificateRejected():
                self._certificates.inc()
            case events.LookupFailed(temporary=temporary):
                self._lookups.labels("true" if temporary else "false").inc()


class _AtScrape(Collector):
    """Reads counters and states when Prometheus scrapes; returns nothing while detached."""

    def __init__(self, most_servers: int) -> None:
        self.failover: weakref.ref[Failover] | None = None
        self._most_servers = most_servers

    def describe(self) -> list[Metric]:
        return []  # registering must read nothing

    def collect(self) -> Iterator[Metric]:
        failover = None if self.failover is None else self.failover()
        if failover is None or not failover.attached:
            return
        yield from _core(failover.counters())
        yield _round_trips(failover.round_trips())
        yield from self._servers(failover.servers())
        yield self._accounts(failover.accounts())
        if (status := failover.shared()) is not None:
            yield from _shared(status)

    def _accounts(self, kept: Mapping[int, Server | None]) -> Metric:
        """By server: those of the most accounts, and all others as "other"; "none" where an account's plan decides."""
        on = Tally("none" if server is None else str(server) for server in kept.values())
        shown = dict(on.most_common(self._most_servers))
        if len(on) > len(shown):
            shown["other"] = on.total() - sum(shown.values())
        return _gauge("accounts", "Accounts that are followed or pinned, by server.", "server", shown)

    def _servers(self, known: Mapping[Server, Health]) -> Iterator[Metric]:
        states = Tally(health.state for health in known.values())
        yield _gauge("servers", "Servers by state.", "state", {state.value: states[state] for state in State})
        worst_first = sorted(known.items(), key=lambda item: (item[1].state is State.UP, item[0]))
        shown = dict(worst_first[: self._most_servers])
        up = GaugeMetricFamily("pjfail_server_up", "Whether requests should go there.", labels=["server"])
        failures = GaugeMetricFamily(
            "pjfail_server_consecutive_failures", "Failures since it was last well.", labels=["server"]
        )
        round_trip = GaugeMetricFamily("pjfail_server_round_trip_seconds", "Smoothed round trip.", labels=["server"])
        answers = CounterMetricFamily("pjfail_server_answers", "Answers it gave.", labels=["server"])
        failed = CounterMetricFamily("pjfail_server_failures", "What it did badly.", labels=["server", "reason"])
        for server, health in shown.items():
            name = [str(server)]
            up.add_metric(name, health.usable)
            failures.add_metric(name, health.failures)
            if health.rtt is not None:
                round_trip.add_metric(name, health.rtt)
            stats = counts.stats(server)
            if stats is not None:
                answers.add_metric(name, stats.answers)
                failed.add_metric([*name, "silent"], stats.silences)
                failed.add_metric([*name, "connection"], stats.refusals)
                failed.add_metric([*name, "unavailable"], stats.unavailable)
        yield from (up, failures, round_trip, answers, failed)


def _core(counters: Counters) -> Iterator[Metric]:
    yield _counter(
        "resolutions",
        "Times pjsip asked for a server, by who answered.",
        "source",
        {"numeric": counters.numeric, "plan": counters.from_plan, "worker": counters.questions},
    )
    yield _counter(
        "question_fallbacks",
        "Questions that ended without a plan of the day: by an old plan, the system's resolver, an error.",
        "source",
        {"stale": counters.from_stale, "system": counters.from_system, "error": counters.failed},
    )
    yield CounterMetricFamily("pjfail_dropped", "News of the C core that Python came too late for.", counters.dropped)
    yield CounterMetricFamily(
        "pjfail_requests_unwatched", "Requests that were too many to be watched.", counters.unwatched
    )
    yield CounterMetricFamily("pjfail_dialogs_forgotten", "Dialogs that had to go for newer ones.", counters.forgotten)
    yield GaugeMetricFamily("pjfail_plans", "Plans in force.", counters.plans)
    yield GaugeMetricFamily("pjfail_questions_waiting", "Questions that wait for an answer.", counters.waiting)
    yield GaugeMetricFamily("pjfail_requests_outstanding", "Requests without a final answer.", counters.outstanding)
    yield GaugeMetricFamily("pjfail_dialogs", "Dialogs that live.", counters.dialogs)


def _shared(status: SharedStatus) -> Iterator[Metric]:
    yield GaugeMetricFamily("pjfail_shared_up", "Whether the memory that processes share is there.", status.connected)
    yield GaugeMetricFamily("pjfail_shared_entries", "Entries of other processes that are known.", status.entries)
    yield GaugeMetricFamily("pjfail_shared_believed", "Servers that are down because others told so.", status.believed)
    yield GaugeMetricFamily("pjfail_shared_strangers", "Entries that this pjfail cannot read.", status.strangers)
    yield _counter(
        "shared_entries_told",
        "Entries by what became of them: written, heard from others, dropped.",
        "way",
        {"written": status.written, "heard": status.heard, "dropped": status.dropped},
    )
    yield CounterMetricFamily(
        "pjfail_shared_contradictions", "Times that an own success outranked others.", status.contradicted
    )
    yield CounterMetricFamily("pjfail_shared_operations", "Operations on the store.", status.commands)


def _round_trips(measured: Mapping[Transport, RoundTrips]) -> Metric:
    family = HistogramMetricFamily(
        "pjfail_round_trip_seconds", "From a request to its first answer, where it was sent once.", labels=["transport"]
    )
    for transport, trips in measured.items():
        bounds = [*map(str, trips.bounds), "+Inf"]
        buckets = list(zip(bounds, map(float, itertools.accumulate(trips.counts)), strict=True))
        family.add_metric([transport], buckets, trips.seconds)
    return family


def _counter(name: str, documentation: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"pjfail_{name}", documentation, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _gauge(name: str, documentation: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(f"pjfail_{name}", documentation, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
