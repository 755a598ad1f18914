"""The figures that pages tell in their sentences are those of the source; docs/limits.md has a test of its own."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from test_limits import value

import pjfail
from pjfail import failover, following, machine, network, resolution, retry, standby, targets
from pjfail.cli.control import watch
from pjfail.listeners.prometheus import PrometheusListener
from pjfail.shared import board, link, orders, sharing

ROOT = Path(__file__).resolve().parent.parent.parent

BACKOFF, FOLLOW, POLICY, PROBE, RETRY = (
    pjfail.ExponentialBackoff(),
    pjfail.Follow(),
    pjfail.Policy(),
    pjfail.Probe(),
    pjfail.RetryPolicy(),
)
NAMES = {
    "query": failover.QUESTION_DEADLINE,
    "system": value("pjfail/_core/queries.c", "SYSTEM_TIMEOUT_S"),
    "dns": inspect.signature(pjfail.DnsLookup).parameters["timeout"].default,
    "lookup": resolution.LOOKUP_TIMEOUT,
    "register": RETRY.timeouts["REGISTER"],
    "invite": RETRY.timeouts["INVITE"],
    "in_dialog": value("pjfail/_core/retriable.c", "DIALOG_TIMEOUT_S"),
    "ruling": retry.RULING_TIME,
    "attempt_delay": RETRY.connection_attempt_delay,
    "silent_udp": value("pjfail/_core/failover_decide.c", "OVERTAKEN_SILENT_S"),
    "silent_connection": value("pjfail/_core/failover_decide.c", "CONNECTION_SILENT_S"),
    "suspicion": value("pjfail/_core/servers.c", "LOCAL_SUSPICION_S"),
    "base": BACKOFF.base,
    "ceiling": BACKOFF.ceiling,
    "jitter": 100 * BACKOFF.jitter,
    "floor": POLICY.retry_after_floor,
    "most": POLICY.retry_after_ceiling,
    "slow_start": POLICY.slow_start,
    "probe": PROBE.timeout,
    "plan_floor": targets.PLAN_FLOOR,
    "refresh": 100 * targets.REFRESH_AT,
    "quiet": network.QUIET,
    "max_wait": network.MAX_WAIT,
    "files": machine.INTERVAL,
    "watch": FOLLOW.watch,
    "failback": FOLLOW.failback,
    "keepalive": FOLLOW.keepalive,
    "refused_floor": following.MIN_REFUSED_HOLD,
    "refused": following.REFUSAL_HOLD,
    "alive_least": 0.8 * standby.KEEP_ALIVE,
    "alive_most": standby.KEEP_ALIVE,
    "lease": sharing.LEASE_S,
    "unsure": sharing.UNSURE_S,
    "window": board.WINDOW_S,
    "word": board.CEILING_S,
    "order": orders.DEFAULT_ORDER_S,
    "read": link.READ_AGAIN_S,
    "retry_floor": link.RETRY_FLOOR_S,
    "retry_ceiling": link.RETRY_CEILING_S,
    "mark_down": watch.MARK_DOWN / 60,
    "metrics": inspect.signature(PrometheusListener).parameters["most_servers"].default,
}

SENTENCES = [
    ("README.md", "is unanswered after {register:g} s (sooner where"),
    ("README.md", "an INVITE after {invite:g} s, and any request after a 503"),
    ("README.md", "New connections are raced, one started every {attempt_delay:g} s."),
    ("README.md", "(two retransmissions over UDP, {silent_udp:g} s; five seconds on a connection)"),
    ("README.md", "for about {base:g} s, doubled with each further failure up to {ceiling:g} s"),
    ("README.md", "it gets a tenth of its share at first, all of it after {slow_start:g} s."),
    ("README.md", "If Python does not answer pjsip's query within {query:g} s, the core"),
    (
        "docs/how-it-works.md",
        "| a query waits for the worker | {query:g} s; then the core answers it from the last plan",
    ),
    ("docs/how-it-works.md", "or, without one, the system's resolver gets another {system:g} s"),
    ("docs/how-it-works.md", "| a lookup in the DNS | {dns:g} s |"),
    ("docs/how-it-works.md", "| a lookup of yours | {lookup:g} s; then pjfail cancels it"),
    ("docs/how-it-works.md", "after {register:g} s; an INVITE after {invite:g} s"),
    ("docs/how-it-works.md", "| connections of a race start | {attempt_delay:g} s apart |"),
    (
        "docs/how-it-works.md",
        "after {silent_udp:g} s over UDP (two retransmissions), after {silent_connection:g} s on a connection",
    ),
    ("docs/how-it-works.md", "| about {base:g} s, doubled each time up to {ceiling:g} s;"),
    ("docs/how-it-works.md", "| a probe waits | {probe:g} s |"),
    ("docs/how-it-works.md", "for the shortest TTL, at least {plan_floor:g} s; from {refresh:g} % of that on"),
    ("docs/how-it-works.md", "after {quiet:g} s without a further one, {max_wait:g} s at the most"),
    ("docs/how-it-works.md", "or the machine's waking up, is noticed | within {files:g} s"),
    ("docs/how-it-works.md", "If Python says nothing, the suspicion ends after {suspicion:g} s."),
    ("docs/howto/retries.md", "SUBSCRIBE or PUBLISH | after {register:g} s |"),
    ("docs/howto/retries.md", "| no answer at all to an INVITE, not even 100 | after {invite:g} s |"),
    ("docs/howto/retries.md", "BYE, UPDATE and NOTIFY wait {in_dialog:g} s for an answer"),
    ("docs/howto/retries.md", "the answer is held, for {ruling:g} s at the most"),
    (
        "docs/howto/policy.md",
        "makes that {base:g} s, plus or minus {jitter:g} %, doubled each time up to {ceiling:g} s.",
    ),
    ("docs/howto/policy.md", "limited to between {floor:g} and {most:g} s."),
    ("docs/howto/servers.md", "(by default pjfail honours values from {floor:g} to {most:g})"),
    ("docs/howto/servers.md", "no answer within {probe:g} s"),
    ("docs/howto/servers.md", "sends to a quiet server (after {watch:g} s over UDP"),
    ("docs/howto/affinity.md", "when the server has said nothing for {watch:g} seconds, give or take a fifth"),
    ("docs/howto/affinity.md", "({refused_floor:g} at the least, {refused:g} without a failback)"),
    ("docs/howto/incoming.md", "`failback` seconds later ({failback:g} by default)"),
    ("docs/howto/incoming.md", "`pjfail.Follow(keepalive={keepalive})`"),
    ("docs/howto/incoming.md", "every {alive_least:g} to {alive_most:g} seconds, so that NATs"),
    ("docs/howto/shared.md", "It holds a lease in the store for {lease:g} s."),
    (
        "docs/howto/shared.md",
        "it waits {unsure:g} s before it says so, and is believed once another says the same within {window:g} s",
    ),
    ("docs/howto/shared.md", "No word holds longer than {word:g} s, whatever it says."),
    ("docs/howto/shared.md", "a time to live: {order:g} s if you do not say otherwise, a day at the most"),
    (
        "docs/howto/shared.md",
        "tries again after {retry_floor:g} s, then after twice as long each time, up to {retry_ceiling:g} s",
    ),
    ("docs/howto/shared.md", "each process reads all every {read:g} s"),
    ("docs/howto/control.md", "| m | mark it down for {mark_down:g} minutes |"),
    ("docs/howto/metrics.md", "If there are more than {metrics} servers, only the worst {metrics}"),
    ("docs/when-not.md", "after {watch:g} quiet seconds to a UDP server that accounts are on"),
]


@pytest.mark.parametrize(("page", "sentence"), SENTENCES)
def test_a_figure_in_a_sentence_is_that_of_the_source(page: str, sentence: str) -> None:
    told = sentence.format(**NAMES)
    assert told in " ".join((ROOT / page).read_text("utf-8").split()), told


def test_each_figure_is_used() -> None:
    assert [name for name in NAMES if not any(f"{{{name}" in sentence for _, sentence in SENTENCES)] == []
