"""The RetryPolicy value: what it takes, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pjfail
from pjfail._native import lib
from pjfail.retry import MAX_ATTEMPTS, TIMEOUTS


def test_the_defaults() -> None:
    retry = pjfail.RetryPolicy()
    assert retry.enabled
    assert retry.timeouts == {"REGISTER": 0.5, "OPTIONS": 0.5, "SUBSCRIBE": 0.5, "PUBLISH": 0.5, "INVITE": 1.5}
    assert retry.codes == (503,)
    assert retry.port_check
    assert retry.attempts == 8
    assert not pjfail.RetryPolicy.off().enabled


def test_a_method_more_leaves_the_defaults_alone() -> None:
    retry = pjfail.RetryPolicy(timeouts={**TIMEOUTS, "MESSAGE": 1.0})
    assert retry.timeouts["MESSAGE"] == 1.0
    assert "MESSAGE" not in pjfail.RetryPolicy().timeouts


def test_it_does_not_change_with_the_mapping_that_it_was_made_of() -> None:
    timeouts = {"MESSAGE": 1.0}
    retry = pjfail.RetryPolicy(timeouts=timeouts)
    timeouts["OPTIONS"] = 1.0
    assert dict(retry.timeouts) == {"MESSAGE": 1.0}


@pytest.mark.parametrize(
    "make",
    [
        lambda: pjfail.RetryPolicy(timeouts={"ACK": 1.0}),
        lambda: pjfail.RetryPolicy(timeouts={"CANCEL": 1.0}),
        lambda: pjfail.RetryPolicy(timeouts={"register": 1.0}),
        lambda: pjfail.RetryPolicy(timeouts={"": 1.0}),
        lambda: pjfail.RetryPolicy(timeouts={"A" * 16: 1.0}),
        lambda: pjfail.RetryPolicy(timeouts={"OP TIONS": 1.0}),
        lambda: pjfail.RetryPolicy(timeouts={"OPTIONS": 0.0}),
        lambda: pjfail.RetryPolicy(timeouts={"OPTIONS": float("nan")}),
        lambda: pjfail.RetryPolicy(timeouts={"OPTIONS": 33.0}),
        lambda: pjfail.RetryPolicy(timeouts={f"METHOD{'ABCDEFGHIJKLMNOPQ'[n]}": 1.0 for n in range(17)}),
        lambda: pjfail.RetryPolicy(codes=(200,)),
        lambda: pjfail.RetryPolicy(codes=(401,)),
        lambda: pjfail.RetryPolicy(codes=(700,)),
        lambda: pjfail.RetryPolicy(codes=("2xx",)),
        lambda: pjfail.RetryPolicy(codes=("5XX",)),
        lambda: pjfail.RetryPolicy(codes=("503",)),
        lambda: pjfail.RetryPolicy(codes=("",)),
        lambda: pjfail.RetryPolicy(codes=(5,)),
        lambda: pjfail.RetryPolicy(codes=(True,)),
        lambda: pjfail.RetryPolicy(codes=(None,)),  # type: ignore[arg-type]
        lambda: pjfail.RetryPolicy(connection_attempt_delay=0.0),
        lambda: pjfail.RetryPolicy(hedge_budget=1.5),
        lambda: pjfail.RetryPolicy(hedge_budget=float("nan")),
        lambda: pjfail.RetryPolicy(attempts=0),
        lambda: pjfail.RetryPolicy(attempts=9),
        lambda: pjfail.RetryPolicy(attempts=2.0),  # type: ignore[arg-type]
        lambda: pjfail.RetryPolicy(attempts=True),
    ],
)
def test_what_is_no_time_code_or_share_is_refused(make: Callable[[], pjfail.RetryPolicy]) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        make()


class AsyncDecide:
    async def __call__(self, *_: object) -> bool:
        return True


async def decide_async(*_: object) -> bool:
    return True


def decide_in_steps(*_: object) -> Iterator[bool]:
    yield True


@pytest.mark.parametrize(
    "decide",
    [
        "yes",
        1,
        lambda: True,
        lambda _: True,
        AsyncDecide(),
        decide_async,
        decide_in_steps,
    ],
)
def test_what_cannot_be_asked_about_a_response_is_refused(decide: Any) -> None:
    with pytest.raises(TypeError, match="decide is"):
        pjfail.RetryPolicy(decide=decide)


@pytest.mark.parametrize("value", ["no", "off", 1, 0, None])
def test_what_is_neither_true_nor_false_is_refused(value: Any) -> None:
    """The core once refused it in attach(), and not by name."""
    for name in ("enabled", "port_check"):
        with pytest.raises(ValueError, match=f"^{name} is {value!r}; give True or False$"):
            pjfail.RetryPolicy(**{name: value})


@pytest.mark.parametrize("decide", [lambda *_: True, lambda _1, _2, _3, _4=0: True, max])
def test_any_plain_function_of_three_can_be_asked(decide: Any) -> None:
    assert pjfail.RetryPolicy(decide=decide).decide is decide


@pytest.mark.parametrize(
    "name",
    ["", ".", "sip:voip.example", "voip.example:5060", "192.0.2.1", "[2001:db8::1]", "2001:db8::1", "*.example", "a..b",
     "-a.example", "voip.example ", "a" * 256, "v\u00f6ip.example", 5, None],
)  # fmt: skip
def test_a_cluster_that_is_no_host_name_is_refused(name: Any) -> None:
    with pytest.raises(ValueError, match="not a valid host name in dialogs"):
        pjfail.RetryPolicy(dialogs={"voip.example", name})


@pytest.mark.parametrize("dialogs", ["voip.example", b"voip.example", 5, None])
def test_clusters_that_are_no_set_of_names_are_refused(dialogs: Any) -> None:
    with pytest.raises(TypeError, match="give a set of host names"):
        pjfail.RetryPolicy(dialogs=dialogs)


def test_clusters_are_kept_in_lower_case_and_no_more_than_there_is_room_for() -> None:
    names = [f"Sip-{number}.VoIP.example" for number in range(16)]
    assert pjfail.RetryPolicy(dialogs=names).dialogs == {name.lower() for name in names}
    assert pjfail.RetryPolicy(dialogs={"pbx", "_sip.example", "xn--vip-sna.example"}).dialogs
    with pytest.raises(ValueError, match="more than 16"):
        pjfail.RetryPolicy(dialogs=[*names, "one.more"])


def test_something_else_than_a_retry_policy_is_refused() -> None:
    with pytest.raises(TypeError, match="RetryPolicy"):
        pjfail.attach(retry="off")  # type: ignore[arg-type]


def test_the_core_has_room_for_as_many_attempts_as_can_be_asked_for() -> None:
    assert MAX_ATTEMPTS == lib.PF_MAX_ATTEMPTS
