"""What attach() says of its arguments before it looks at pjsip."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

import pjfail
from pjfail import failover
from pjfail.bridge import core

LOOKUP = pjfail.StaticLookup({"example.com": ["192.0.2.1:5060"]})


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Has attach() end where its arguments have been read; gives what Failover would be made of."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(failover, "Failover", lambda *arguments: calls.append(arguments))
    return calls


@pytest.mark.parametrize("servers", ["voip.example=192.0.2.1", ["192.0.2.1"]])
def test_servers_that_are_not_a_table_are_a_type_error(servers: Any) -> None:
    with pytest.raises(TypeError, match=r'^.* is not a valid table of servers; write {"voip\.example": \["192'):
        pjfail.attach(servers=servers)


def test_a_server_that_is_not_one_is_refused_by_the_name_of_its_host() -> None:
    with pytest.raises(pjfail.BadServer, match=r"^voip\.example: 'sip:192\.0\.2\.1' is a URI; write its host alone"):
        pjfail.attach({"voip.example": ["sip:192.0.2.1"]})


def test_what_the_table_does_not_know_is_for_the_lookup(made: list[tuple[Any, ...]]) -> None:
    table = pjfail.StaticLookup({"voip.example": ["192.0.2.1"]})
    pjfail.attach(servers=table, lookup=LOOKUP)
    chain = made[0][0]
    for host, address in (("voip.example", "192.0.2.1"), ("example.com", "192.0.2.1")):
        (candidate,) = asyncio.run(chain.lookup(pjfail.Target(host)))
        assert candidate.server == pjfail.Server(address, 5060)
    table.update({"voip.example": ["192.0.2.2"]})
    assert asyncio.run(chain.lookup(pjfail.Target("voip.example")))[0].server.address == "192.0.2.2"


@pytest.mark.parametrize("policy", [3, "round robin", ["192.0.2.1:5060"]])
def test_a_policy_that_cannot_be_called_is_a_type_error(policy: Any) -> None:
    with pytest.raises(TypeError, match=r"policy is .*; give a Policy, or a function"):
        pjfail.attach(lookup=LOOKUP, policy=policy)


@pytest.mark.parametrize(
    "policy",
    [
        lambda candidates: candidates,
        lambda candidates, _health, _rtt: candidates,
        lambda candidates, _health, *, region: [region, *candidates],
    ],
)
def test_a_policy_that_takes_other_arguments_is_a_type_error(policy: Any) -> None:
    """It would fail at the first request."""
    with pytest.raises(TypeError, match=r"policy is .*, which takes other arguments: .*; give a Policy, or a function"):
        pjfail.attach(lookup=LOOKUP, policy=policy)


def test_a_policy_may_ask_for_the_request(made: list[tuple[Any, ...]]) -> None:
    pjfail.attach(lookup=LOOKUP, policy=lambda candidates, _health, *, request: [*candidates, request])
    assert made[0][1].per_request


def test_a_listener_that_takes_other_arguments_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"a listener is .*, which takes other arguments"):
        pjfail.attach(lookup=LOOKUP, listeners=[lambda: None])  # type: ignore[list-item, misc]


@pytest.mark.parametrize("lookup", [object(), {"example.com": ["192.0.2.1:5060"]}, lambda target: [target]])
def test_a_lookup_without_the_method_is_a_type_error(lookup: Any) -> None:
    with pytest.raises(TypeError, match=r"lookup is .*async def lookup"):
        pjfail.attach(lookup=lookup)


def test_a_plain_function_is_the_order_of_the_default_policy(made: list[tuple[Any, ...]]) -> None:
    def as_they_come(
        candidates: Sequence[pjfail.Candidate], _health: Mapping[pjfail.Server, pjfail.Health]
    ) -> Sequence[pjfail.Candidate]:
        return candidates

    pjfail.attach(lookup=LOOKUP, policy=as_they_come)
    assert made[0][:2] == (LOOKUP, pjfail.Policy(order=as_they_come))


def test_a_policy_is_taken_as_it_is(made: list[tuple[Any, ...]]) -> None:
    policy = pjfail.Policy(retry_after_ceiling=5.0)
    pjfail.attach(lookup=LOOKUP, policy=policy)
    assert made[0][1] is policy


def test_the_defaults_are_the_dns_and_the_default_policy(made: list[tuple[Any, ...]]) -> None:
    pjfail.attach()
    lookup, policy, probe, retry, follow, listeners, host, control, shared = made[0]
    assert (probe, retry, follow) == (pjfail.Probe(), pjfail.RetryPolicy(), pjfail.Follow())
    assert isinstance(lookup, pjfail.DnsLookup)
    assert (policy, listeners, host, control, shared) == (pjfail.Policy(), (), None, None, None)


@pytest.mark.parametrize(("follow", "all_of"), [(True, pjfail.Follow()), (False, None), (pjfail.Follow(watch=4),) * 2])
def test_accounts_are_followed_as_it_is_said(made: list[tuple[Any, ...]], follow: Any, all_of: object) -> None:
    pjfail.attach(lookup=LOOKUP, follow=follow)
    assert made[0][4] == all_of


@pytest.mark.parametrize("follow", [None, 4, "udp", pjfail.Follow])
def test_what_does_not_say_how_to_follow_is_a_type_error(follow: Any) -> None:
    with pytest.raises(TypeError, match=r"follow is .*; give True, False or a Follow"):
        pjfail.attach(lookup=LOOKUP, follow=follow)


@pytest.mark.parametrize("control", [5, "", ["a.sock"]])
def test_a_control_socket_is_asked_for_by_true_or_a_path(control: Any) -> None:
    with pytest.raises(TypeError, match=r"control is .*; give True, False, or a path for the socket"):
        pjfail.attach(lookup=LOOKUP, control=control)


@pytest.mark.parametrize("shared", [5, True, ["a.db"]])
def test_the_shared_memory_is_a_place(shared: Any) -> None:
    words = r"shared is .*; give a path, \"redis://host:port/db\", a pjfail\.Shared, or False"
    with pytest.raises(TypeError, match=words):
        pjfail.attach(lookup=LOOKUP, shared=shared)


def test_the_environment_names_the_shared_memory_where_the_program_does_not(
    made: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PJFAIL_SHARED", "redis://192.0.2.9:6379/0")
    pjfail.attach(lookup=LOOKUP)
    pjfail.attach(lookup=LOOKUP, shared="/var/lib/pjfail.db")
    pjfail.attach(lookup=LOOKUP, shared=False)
    assert [arguments[8] for arguments in made] == [
        pjfail.Shared("redis://192.0.2.9:6379/0"),
        pjfail.Shared("/var/lib/pjfail.db"),
        None,
    ]


def test_no_control_socket_whatever_the_environment_says(
    made: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PJFAIL_CONTROL", "1")
    pjfail.attach(lookup=LOOKUP, control=False)
    pjfail.attach(lookup=LOOKUP)
    assert made[0][7] is None
    assert made[1][7] is not None


def test_listeners_may_come_one_by_one(made: list[tuple[Any, ...]]) -> None:
    pjfail.attach(lookup=LOOKUP, listeners=(each for each in [print, repr]))
    assert made[0][5] == (print, repr)


def test_a_lookup_that_is_empty_so_far_is_a_lookup_too(made: list[tuple[Any, ...]]) -> None:
    class Table(dict[str, list[pjfail.Candidate]]):
        async def lookup(self, target: pjfail.Target) -> list[pjfail.Candidate]:
            return self[target.host]

    table = Table()
    pjfail.attach(lookup=table)
    assert made[0][0] is table


@pytest.mark.parametrize("host", ["/nowhere/libpjsip.so", pytest, sys], ids=["no file", "a package", "built in"])
def test_a_host_that_carries_no_pjsip_is_named(host: Any) -> None:
    with pytest.raises(pjfail.NoPjsip, match=r"nowhere|module pytest|main program"):
        pjfail.attach(lookup=LOOKUP, host=host)


@pytest.mark.parametrize("host", [5, b"libpjsip.so", ["pjsua2"]])
def test_a_host_that_is_neither_module_nor_path_is_a_type_error(host: Any) -> None:
    with pytest.raises(TypeError, match=r"host is .*; give a module or a path"):
        pjfail.attach(lookup=LOOKUP, host=host)


def test_an_attach_that_failed_leaves_nothing_behind() -> None:
    with pytest.raises(pjfail.NoPjsip):
        pjfail.attach(lookup=LOOKUP, host="/nowhere/libpjsip.so")
    assert not core.attachment()
    assert "pjfail" not in {thread.name for thread in threading.enumerate()}


def test_where_nothing_is_attached_there_is_no_failover() -> None:
    assert pjfail.attached() is None


def test_without_pjsip_the_error_says_what_to_do_first() -> None:
    """In a process of its own: whoever runs these tests may have imported pjsua2."""
    program = "import pjfail; pjfail.attach(lookup=pjfail.StaticLookup({'example.com': ['192.0.2.1:5060']}))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 1
    assert "NoPjsip: this process has no pjsip: import pjsua2 and create its Endpoint" in ended.stderr
