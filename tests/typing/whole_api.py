"""The whole public API, used as a program uses it. Nothing here is ever run: `make lint` has mypy --strict read it.

What a user gets wrong must be an error for mypy too: an ignore that is not needed is one (warn_unused_ignores).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from random import Random
from typing import Any, assert_never, assert_type

import pjfail
import pjfail.retry
from pjfail import Candidate, Failover, Health, Server, Target, events, listeners
from pjfail.lookup import Adaptive, Caching, NamesFiles, ReadsFiles, ServesStale

assert_type(pjfail.__version__, str)
pjfail.atach()  # type: ignore[attr-defined]


# --- attaching --------------------------------------------------------------------------------------------------------


def by_name(candidates: Sequence[Candidate], health: Mapping[Server, Health]) -> Sequence[Candidate]:
    return sorted(candidates, key=lambda candidate: (not health[candidate.server].usable, candidate.name))


def by_account(
    candidates: Sequence[Candidate], health: Mapping[Server, Health], *, request: pjfail.Request
) -> list[list[Candidate]]:
    assert_type(request.target, Target | None)
    assert_type((request.method, request.account, request.call_id), tuple[str, str, str])
    return [list(candidates)] if health else []


def no_order(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    return candidates


def hear(event: events.Event) -> None:
    assert_type(event.as_dict(), dict[str, Any])
    if isinstance(event, events.ServerDown):
        assert_type(event.outcome, pjfail.Outcome | None)
        assert_type(event.health.until, float | None)
    elif isinstance(event, events.ServerSuspected | events.ProbeFailed | events.CertificateRejected):
        assert_type(event.outcome, pjfail.Outcome)
    elif isinstance(event, events.ServerUp):
        assert_type(event.server, Server)
    elif isinstance(event, events.PlanChanged):
        assert_type((event.before, event.plan), tuple[pjfail.Plan, pjfail.Plan])
    elif isinstance(event, events.AccountMoved):
        assert_type((event.account, event.aor, event.server), tuple[int, str, Server | None])
    elif isinstance(event, events.CallRefreshed | events.CallStranded):
        assert_type((event.account, event.call, event.call_id, event.server), tuple[int, int, str, Server])
    elif isinstance(event, events.LookupFailed | events.LookupStale):
        assert_type((event.target, event.reason), tuple[Target, str])
    elif isinstance(event, events.FailedOver):
        assert_type((event.left, event.taken, event.why), tuple[Server, Server, events.Reason])
    elif isinstance(event, events.SharedDown):
        assert_type((event.store, event.reason), tuple[str, str])
    elif isinstance(event, events.SharedUp):
        assert_type((event.store, event.after), tuple[str, float])
    else:
        assert_never(event)  # a new kind of event is a line here, and in the changelog


class Table:
    async def lookup(self, target: Target) -> list[Candidate]:
        if target.host != "voip.example":
            raise pjfail.UnknownTarget(f"{target.host} is not in the table")
        return [Candidate(Server("192.0.2.1", 5061, "tls"), target.host, priority=10, weight=60, ttl=30)]


class Blocking:
    def lookup(self, target: Target) -> list[Candidate]:
        return [Candidate(Server("192.0.2.1", 5060), target.host)]


def attaching(path: Path) -> None:
    assert_type(pjfail.attach(), Failover)
    lookup = pjfail.ChainLookup(
        Table(),
        pjfail.StaticLookup({"voip.example": ["192.0.2.1:5060", ("192.0.2.2:5060", 10, 60), Server("192.0.2.3", 80)]}),
        pjfail.DnsLookup(["192.0.2.53"], transports=["udp", "tls"], families=["ipv4"], cache_file=path),
        pjfail.SystemLookup(ttl=60),
    )
    pjfail.attach({"voip.example": ["192.0.2.1", ("tls:sip2.example.com", 10, 60)], "192.0.2.9": [Server("::1", 5060)]})
    failover = pjfail.attach(
        servers=pjfail.StaticLookup({}),
        lookup=lookup,
        policy=pjfail.Policy(
            order=pjfail.Panic(pjfail.MaxExcluded(pjfail.PreferFastest(band=0.02))),
            detect=pjfail.any_of(pjfail.Consecutive(failures=3, fall=2), pjfail.FailureRate(above=0.5, samples=20)),
            backoff=pjfail.ExponentialBackoff(base=10),
            rise=2,
            replan=10,
        ),
        probe=pjfail.Probe(interval=30, accounts=None),
        retry=pjfail.RetryPolicy(
            timeouts={**pjfail.retry.TIMEOUTS, "MESSAGE": 1.0}, codes=(503, 480), connection_attempt_delay=None
        ),
        follow=pjfail.Follow(watch=4, standby=True, calls="refresh", keepalive=None),
        listeners=[hear, listeners.LogListener(getLogger("voip")), listeners.PrometheusListener(most_servers=10)],
        host=path,
        control=path,
        shared=pjfail.Shared("redis://192.0.2.9:6379/0", namespace="eu", trust=2),
    )
    with failover as same:
        assert_type(same, Failover)
    assert_type((failover.attached, failover.native_affinity), tuple[bool, bool])
    assert_type(failover.pjsip_version, str)
    if (status := failover.shared()) is not None:
        assert_type((status.connected, status.believed), tuple[bool, int])
    failover.detach()
    any_lookup: pjfail.Lookup = pjfail.PjsipDnsLookup(["192.0.2.53"], families=["ipv6"])
    listener: events.Listener = hear
    pjfail.attach(lookup=any_lookup, listeners=(each for each in (listener, print)))
    wants_to_know: tuple[Adaptive, NamesFiles, Caching, ReadsFiles, ServesStale, pjfail.listeners.Attached]
    wants_to_know = pjfail.DnsLookup(), lookup, lookup, lookup, lookup, listeners.PrometheusListener()
    assert wants_to_know


def policies() -> None:
    pjfail.attach(policy=by_name)
    pjfail.attach(policy=by_account)
    for order in (pjfail.by_priority, pjfail.spread, pjfail.PreferFastest()):
        pjfail.attach(policy=order)
    pjfail.Policy(order=pjfail.Sticky(), detect=pjfail.Consecutive())
    pjfail.Policy(order=pjfail.Sticky(key="call_id"), backoff=lambda failures, random: failures * random.random())
    pjfail.Policy(detect=lambda health, outcome: health.streak > 3 and outcome.seen is pjfail.OutcomeKind.SILENT)
    assert_type(pjfail.ExponentialBackoff()(1, Random(1)), float)


def not_attaching() -> None:
    pjfail.attach(policy=no_order)  # type: ignore[arg-type]
    pjfail.attach(policy=pjfail.Policy)  # type: ignore[arg-type]
    pjfail.attach(lookup=Blocking())  # type: ignore[arg-type]
    pjfail.attach(lookup=["192.0.2.53"])  # type: ignore[arg-type]
    pjfail.attach(probe=30)  # type: ignore[arg-type]
    pjfail.attach(retry=False)  # type: ignore[arg-type]
    pjfail.attach(follow=False)
    pjfail.attach(follow=pjfail.Follow)  # type: ignore[arg-type]
    pjfail.attach(listeners=hear)  # type: ignore[arg-type]
    pjfail.DnsLookup(transports=["sctp"])  # type: ignore[list-item]
    pjfail.DnsLookup(naptr="sometimes")  # type: ignore[arg-type]
    pjfail.Sticky(key="domain")  # type: ignore[arg-type]
    Server("192.0.2.1", "5060")  # type: ignore[arg-type]
    Server("192.0.2.1", 5060, "sctp")  # type: ignore[arg-type]
    Server("192.0.2.1", 5060).port = 5061  # type: ignore[misc]
    pjfail.RetryPolicy(timeouts={"INVITE": "1.5"})  # type: ignore[dict-item]
    pjfail.RetryPolicy(codes=("5xx", 480), decide=decides)
    pjfail.RetryPolicy(decide=lambda _: True)  # type: ignore[arg-type, misc]


# --- asking, saying ---------------------------------------------------------------------------------------------------


def asking(failover: Failover) -> None:
    plan = failover.resolve("sip:voip.example;transport=tls", timeout=2)
    assert_type(plan, pjfail.Plan)
    assert_type(plan.servers, tuple[Server, ...])
    assert_type(plan.tiers, tuple[tuple[Candidate, ...], ...])
    for place in plan.entries:
        assert_type(place, pjfail.PlanEntry)
        assert_type((place.server, place.tier, place.reason, place.share), tuple[Server, int, str, float])
    for server, health in failover.servers().items():
        assert_type(server, Server)
        assert_type(health.state, pjfail.State)
        assert_type((health.rtt, health.last_answer), tuple[float | None, float | None])
    failover.servers().clear()  # type: ignore[attr-defined]
    assert_type(failover.counters().from_plan, int)
    assert_type(failover.round_trips()["udp"].counts, tuple[int, ...])
    failover.round_trips()["sctp"]  # type: ignore[index]


def saying(failover: Failover, server: Server) -> None:
    failover.mark_down(server, seconds=600)
    failover.mark_down("tls:192.0.2.1:5061")
    failover.drain(server)
    failover.refresh("sip:voip.example")
    failover.restore("192.0.2.1:5060")
    failover.restore(("192.0.2.1", 5060))  # type: ignore[arg-type]


def accounts(failover: Failover, account: object, server: Server) -> None:
    """A pjsua2 Account is an object to type checkers: pjsua2 has no types."""
    failover.pin(account, server)
    failover.pin(0, "192.0.2.1:5060")
    assert_type(failover.pinned(account), Server | None)
    failover.unpin(account)
    failover.follow(account, failback=None, spread=0, watch=4)
    failover.follow(account, fallback=1)  # type: ignore[call-arg]
    failover.unfollow(account)
    failover.route_via(account, None)
    failover.enable_affinity(account)
    assert_type(failover.accounts(), Mapping[int, Server | None])
    failover.pin(account)  # type: ignore[call-arg]


# --- requests ---------------------------------------------------------------------------------------------------------


def decides(request: pjfail.SentRequest, response: pjfail.Response, remaining: tuple[Server, ...]) -> bool:
    assert_type((request.method, request.uri, request.body), tuple[str, str, bytes])
    assert_type(request.header("Subject"), str | None)
    return response.code == 480 and bool(remaining)


def requesting(failover: Failover) -> None:
    response = failover.request("OPTIONS", "sip:voip.example", server="192.0.2.1:5060", headers={"Subject": "hello"})
    assert_type(response, pjfail.Response)
    assert_type((response.code, response.body, response.server, response.rtt), tuple[int, bytes, Server, float])
    assert_type(response.header("Server"), str | None)
    failover.request("MESSAGE", "sip:a@voip.example", headers=[("Subject", "hello")], body="text", timeout=1)
    failover.request("OPTIONS", "sip:voip.example", headers={"Max-Breadth": 60})  # type: ignore[arg-type]


async def requesting_in_asyncio(failover: Failover) -> None:
    assert_type(await failover.request_async("OPTIONS", "sip:voip.example"), pjfail.Response)
    failover.request_async("OPTIONS", "sip:voip.example").result()  # type: ignore[attr-defined]
    queue = listeners.QueueListener(size=100)
    assert_type(await queue.get(), events.Event)
    async for event in queue:
        hear(event)
    assert_type(queue.dropped, int)


# --- what can go wrong ------------------------------------------------------------------------------------------------


def catching(failover: Failover, account: object) -> str:
    try:
        failover.pin(account, "192.0.2.1:5060")
    except pjfail.PjsipError as error:
        assert_type(error.status, int)
    except (pjfail.AffinityDisabled, pjfail.RouteRefused, pjfail.AffinityError) as error:
        return str(error)
    except pjfail.LookupFailed as error:
        assert_type(error.temporary, bool)
    except (pjfail.RequestTimeout, pjfail.RequestFailed, pjfail.NotAttached, pjfail.WorkerBusy):
        raise
    return ""


def every_error() -> Iterable[type[pjfail.PjfailError]]:
    yield from (pjfail.AlreadyAttached, pjfail.HostError, pjfail.LayoutMismatch, pjfail.NoEndpoint, pjfail.NoPjsip)
    yield from (pjfail.TwoPjsips, pjfail.UnsupportedVersion, pjfail.UnusablePjsip, pjfail.ControlError)
    errors_of_what_was_written: tuple[type[ValueError], ...] = (pjfail.BadServer, pjfail.BadURI, pjfail.UnknownAccount)
    assert errors_of_what_was_written


def problems(outcome: pjfail.Outcome) -> bool:
    return pjfail.CertificateProblem.WRONG_NAME in outcome.certificate
