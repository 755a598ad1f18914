"""What a caller gives that is of another kind than asked for: refused at once, in words that name it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

import pjfail
from pjfail._validation import is_amount, is_async

ONE: Any = "one"  # a number that is a string, as configuration files give them
SERVER = pjfail.Server("192.0.2.1", 5060)
NO_LIST: Any = 5


async def in_a_coroutine(*_: object) -> Any: ...


class AsyncOnAttach:
    def __call__(self, _event: object) -> None: ...

    async def on_attach(self, _failover: object) -> None: ...


class Called:
    async def __call__(self, *_: object) -> Any: ...


@pytest.mark.parametrize("value", [0, 0.0, 5, 2.5, 1e300])
def test_a_number_is_an_amount(value: object) -> None:
    assert is_amount(value)


@pytest.mark.parametrize("value", ["5", None, True, math.nan, math.inf, 10**400, -1, -0.1, [5]], ids="{!r:.9}".format)
def test_what_is_no_number_of_anything_is_no_amount(value: object) -> None:
    assert not is_amount(value)


@pytest.mark.parametrize(("value", "inside"), [(0.04, False), (0.05, True), (32, True), (33, False), (math.inf, False)])
def test_an_amount_lies_within_its_bounds(value: float, inside: bool) -> None:
    assert is_amount(value, 0.05, 32) is inside


def test_an_amount_may_be_infinite_where_it_is_said_so() -> None:
    assert is_amount(math.inf, most=math.inf)
    assert not is_amount(math.nan, most=math.inf)


def test_what_must_be_awaited_is_told_from_what_is_called() -> None:
    assert is_async(in_a_coroutine)
    assert is_async(Called())
    assert not is_async(print)
    assert not is_async(pjfail.PreferFastest())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: pjfail.Server("192.0.2.1", ONE), "'one' is not a valid port number"),
        (lambda: pjfail.Server(NO_LIST, 5060), "5 is not a valid numeric address"),
        (lambda: pjfail.Candidate(SERVER, "a", priority=ONE), "'one' is not a valid priority"),
        (lambda: pjfail.Candidate(SERVER, "a", weight=ONE), "'one' is not a valid weight"),
        (lambda: pjfail.Candidate(SERVER, "a", ttl=ONE), "'one' is not a valid TTL"),
        (lambda: pjfail.StaticLookup({"a": ["192.0.2.1:5060"]}, ttl=ONE), "ttl is 'one'"),
        (lambda: pjfail.StaticLookup({"a": NO_LIST}), "a: 5 is not a valid list of servers"),
        (lambda: pjfail.DnsLookup(NO_LIST), "nameservers is 5"),
        (lambda: pjfail.DnsLookup([NO_LIST]), "5 is not a valid name server"),
        (lambda: pjfail.DnsLookup(["192.0.2.53"], timeout=ONE), "timeout is 'one'"),
        (lambda: pjfail.DnsLookup(["192.0.2.53"], max_stale=ONE), "max_stale is 'one'"),
        (lambda: pjfail.Probe(interval=ONE), "interval='one'"),
        (lambda: pjfail.Probe(jitter=ONE), "jitter='one'"),
        (lambda: pjfail.RetryPolicy(timeouts={"INVITE": ONE}), "'one' is not a valid timeout of INVITE"),
        (lambda: pjfail.RetryPolicy(timeouts={NO_LIST: 1.0}), "5 is not a valid method"),
        (lambda: pjfail.RetryPolicy(codes=(ONE,)), "'one' is not a valid code"),
        (lambda: pjfail.RetryPolicy(connection_attempt_delay=ONE), "connection_attempt_delay is 'one'"),
        (lambda: pjfail.RetryPolicy(hedge_budget=ONE), "hedge_budget is 'one'"),
        (lambda: pjfail.Policy(failback=ONE), "failback is 'one'"),
        (lambda: pjfail.Policy(window=ONE), "window is 'one'"),
        (lambda: pjfail.Policy(rise=ONE), "rise is 'one'"),
        (lambda: pjfail.Policy(replan=ONE), "replan is 'one'"),
        (lambda: pjfail.Consecutive(failures=ONE), "failures='one'"),
        (lambda: pjfail.FailureRate(above=ONE), "above='one'"),
        (lambda: pjfail.ExponentialBackoff(base=ONE), "base='one'"),
        (lambda: pjfail.ExponentialBackoff(base=-1), "base=-1"),
        (lambda: pjfail.ExponentialBackoff(jitter=2), "jitter=2"),
        (lambda: pjfail.PreferFastest(band=ONE), "band is 'one'"),
        (lambda: pjfail.Panic(below=3), "below is 3"),
        (lambda: pjfail.MaxExcluded(share=ONE), "share is 'one'"),
        (lambda: pjfail.listeners.QueueListener(size=ONE), "size is 'one'"),
        (lambda: pjfail.listeners.PrometheusListener(most_servers=ONE), "most_servers is 'one'"),
    ],
)
def test_a_number_that_is_none_is_named(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: pjfail.Server.parse(NO_LIST), "5 is not a valid server"),
        (lambda: pjfail.Target(NO_LIST), "5 is not a valid host"),
        (lambda: pjfail.Candidate("192.0.2.1:5060", "a"), "'192.0.2.1:5060' is not a valid server; give a Server"),  # type: ignore[arg-type]
        (lambda: pjfail.Candidate(SERVER, NO_LIST), "name is 5"),
        (lambda: pjfail.RetryPolicy(timeouts=NO_LIST), "timeouts is 5"),
        (lambda: pjfail.RetryPolicy(codes=NO_LIST), "codes is 5"),
        # The first parameter of these is the order that they refine, not their number.
        (lambda: pjfail.Panic(0.3), "within is 0.3; give a function"),  # type: ignore[arg-type]
        (lambda: pjfail.MaxExcluded(0.3), "within is 0.3; give a function"),  # type: ignore[arg-type]
        (lambda: pjfail.PreferFastest(0.05), "within is 0.05; give a function"),  # type: ignore[arg-type]
        (lambda: pjfail.Sticky("call_id"), "within is 'call_id'; give a function"),  # type: ignore[arg-type]
        (lambda: pjfail.Panic(in_a_coroutine), "is async"),
        (pjfail.any_of, "at least one"),
        (lambda: pjfail.any_of(NO_LIST), "a failure detector is 5"),
        (lambda: pjfail.Policy(order=in_a_coroutine), "order is .* is async"),
        (lambda: pjfail.Policy(detect=Called()), "detect is .* is async"),
        (lambda: pjfail.listeners.LogListener("voip"), "logger is 'voip'"),  # type: ignore[arg-type]
        (lambda: pjfail.listeners.PrometheusListener(NO_LIST), "registry is 5"),
        (lambda: pjfail.attach(policy=in_a_coroutine), "is async"),
        (lambda: pjfail.attach(listeners=[in_a_coroutine]), "is async.*QueueListener"),
        (lambda: pjfail.attach(listeners=[AsyncOnAttach()]), r"has an async on_attach\(\), and nobody would await it"),
        (lambda: pjfail.attach(policy=pjfail.Consecutive()), r"a function \(health, outcome\); give a Policy, or a"),  # type: ignore[arg-type]
        (lambda: pjfail.any_of(pjfail.by_priority), r"a function \(candidates, health\); give a function"),  # type: ignore[arg-type]
        (lambda: pjfail.Panic(pjfail.Consecutive()), r"a function \(health, outcome\); give a function"),  # type: ignore[arg-type]
        (lambda: pjfail.attach(listeners=NO_LIST), "listeners is 5; give a list"),
        (lambda: pjfail.attach(listeners="told"), "listeners is 'told'; give a list"),
        (lambda: pjfail.attach(listeners=print), "listeners is .*print.*; give a list"),  # type: ignore[arg-type]
    ],
)
def test_a_thing_of_another_kind_is_named(make: Callable[[], object], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        make()
