"""Bounds of docs/limits.md that show only in a real pjsip: what is one more than fits is left out, and harms nobody."""

from __future__ import annotations

import subprocess
import textwrap
from contextlib import ExitStack
from pathlib import Path

import pytest
from rig.app import App, run_app
from rig.network import unanswered_connects

from pjfail.testing import Registrar

HEAD = """
    import asyncio, ctypes, os, socket, struct, threading, time
    import pjsua2 as pj
    import pjfail
    from pjfail.bridge.host import host_facts
    from rig.prelude import Account, Endpoint, emit

    def connecting():
        own = {os.readlink(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd")
               if os.path.islink(f"/proc/self/fd/{each}")}
        sockets = [each.split() for each in open("/proc/net/tcp").read().splitlines()[1:]]
        return {each[2] for each in sockets if each[3] == "02" and f"socket:[{each[9]}]" in own}

"""


def app(body: str) -> str:
    return HEAD + textwrap.indent(textwrap.dedent(body), "    ")


def test_an_answer_to_pjsip_names_as_many_servers_as_it_has_room_for() -> None:
    """Half as many over UDP: pjsip puts a TCP copy of each in front when the request is a large one."""
    [line] = run_app(
        app("""
        class Target(ctypes.Structure):
            _fields_ = [("flag", ctypes.c_uint), ("type", ctypes.c_int), ("host", ctypes.c_char_p),
                        ("length", ctypes.c_ssize_t), ("port", ctypes.c_int)]

        @ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint))
        def answered(status, token, addresses):
            counts.append(addresses[0])

        counts = []
        servers = [(f"127.0.66.{number}:5060", 1, 1) for number in range(1, 101)]
        pjsip = ctypes.CDLL(pj._pjsua2.__file__)
        pjsip.pjsua_get_pjsip_endpt.restype = ctypes.c_void_p
        with Endpoint() as endpoint:
            failover = pjfail.attach(lookup=pjfail.StaticLookup({"many.test": servers}))
            for kind, transport in ((pj.PJSIP_TRANSPORT_UDP, "udp"), (pj.PJSIP_TRANSPORT_TCP, "tcp")):
                failover.resolve(f"sip:many.test;transport={transport}")
                pjsip.pjsip_endpt_resolve(ctypes.c_void_p(pjsip.pjsua_get_pjsip_endpt()), None,
                                          ctypes.byref(Target(0, kind, b"many.test", 9, 0)), None, answered)
            emit(counts=counts, room=host_facts().addresses)
        """)
    ).lines
    assert line["room"] in (16, 32)
    assert line["counts"] == [line["room"] // 2, line["room"]]


SLOW_NAMES = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <netdb.h>
    #include <string.h>
    #include <unistd.h>

    int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
    {
        __typeof__(&getaddrinfo) real = (__typeof__(&getaddrinfo))dlsym(RTLD_NEXT, "getaddrinfo");

        if (name && strstr(name, ".slow.test"))
            sleep(4);
        return real(name, service, hints, found);
    }
"""


@pytest.fixture
def slow_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver takes four seconds for each name in slow.test."""
    slow, source = tmp_path / "slow.so", tmp_path / "slow.c"
    source.write_text(SLOW_NAMES)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", slow, source], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(slow))


@pytest.mark.usefixtures("slow_names")
def test_so_many_calls_of_the_systems_resolver_are_under_way() -> None:
    """Python does not answer, and neither does the system: each call has a thread of its own."""
    [line] = run_app(
        app("""
        class Stalled:
            async def lookup(self, target):
                await asyncio.sleep(60)

        def threads():
            return len(os.listdir("/proc/self/task"))

        with Endpoint() as endpoint:
            failover = pjfail.attach(lookup=Stalled())
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            for number in range(40):
                account.send("OPTIONS", f"sip:{number}.slow.test")
            time.sleep(2)
            before = most = threads()
            codes = []
            while len(codes) < 40:
                answer = endpoint.wait(account.answers, 0.02)
                most = max(most, threads())
                codes += [answer.code] if answer else []
            emit(calls=most - before, codes=codes, failed=failover.counters().failed)
        """)
    ).lines
    assert line == {"calls": 16, "codes": [502] * 40, "failed": 40}


@pytest.mark.usefixtures("slow_names")
def test_a_detach_does_not_wait_for_a_lookup_by_the_system() -> None:
    """It waited two seconds for the thread of getaddrinfo, and left the worker behind."""
    [line] = run_app(
        app("""
        with Endpoint() as endpoint:
            failover = pjfail.attach(lookup=pjfail.SystemLookup())
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            account.send("OPTIONS", "sip:1.slow.test")
            until = time.monotonic() + 5
            while not any("getaddrinfo" in each.name for each in threading.enumerate()):
                assert time.monotonic() < until, "the name is not being looked up"
                time.sleep(0.01)
            begun = time.monotonic()
            failover.detach()
            seconds = time.monotonic() - begun
            emit(seconds=seconds, worker=any(each.name == "pjfail" for each in threading.enumerate()))
        """)
    ).lines
    assert line["seconds"] < 1
    assert not line["worker"]


def test_eight_connections_are_raced_for_one_request() -> None:
    """The plan has twelve servers, and none of them answers a connect."""
    addresses = [f"127.0.67.{number}" for number in range(1, 13)]
    with ExitStack() as stack:
        for address in addresses:
            stack.enter_context(unanswered_connects(address, 5060))
        [line] = run_app(
            app(f"""
            servers = [(f"{{address}}:5060", number, 1) for number, address in enumerate({addresses})]
            retry = pjfail.RetryPolicy(connection_attempt_delay=0.05)
            with Endpoint() as endpoint:
                failover = pjfail.attach(lookup=pjfail.StaticLookup({{"sip.test": servers}}), retry=retry)
                account = Account(endpoint)
                account.open("sip:alice@sip.test")
                account.send("OPTIONS", "sip:sip.test;transport=tcp")
                until = time.monotonic() + 2
                most = 0
                while time.monotonic() < until:
                    most = max(most, len(connecting()))
                    time.sleep(0.05)
                emit(connecting=most, raced=failover.counters().raced)
            """)
        ).lines
    assert line == {"connecting": 8, "raced": 1}


def test_a_connection_that_is_late_is_closed_whatever_becomes_of_the_request() -> None:
    """The request that won the race is none of pjfail's: its table has other servers by now."""
    first, second, third = (f"127.0.67.{number}" for number in (21, 22, 23))
    with unanswered_connects(second, 5060), ExitStack() as slow:
        slow.enter_context(unanswered_connects(first, 5060))
        with App(
            app(f"""
            table = pjfail.StaticLookup({{"sip.test": [("{first}:5060", 1, 1), ("{second}:5060", 2, 1)]}})
            with Endpoint() as endpoint:
                failover = pjfail.attach(lookup=table, retry=pjfail.RetryPolicy(connection_attempt_delay=0.1))
                account = Account(endpoint)
                account.open("sip:alice@sip.test")
                failover.resolve("sip:sip.test;transport=tcp")
                time.sleep(1)  # no ticks are needed any more
                account.send("OPTIONS", "sip:sip.test;transport=tcp")
                while len(connecting()) < 2:
                    time.sleep(0.01)
                table.update({{"sip.test": ["{third}:5060"]}})
                failover.refresh("sip:sip.test;transport=tcp")
                emit(servers=[str(each) for each in failover.resolve("sip:sip.test;transport=tcp").servers])
                emit(code=account.answer().code, connecting=len(connecting()))
                until = time.monotonic() + 40
                while connecting() and time.monotonic() < until:
                    time.sleep(0.05)
                emit(connecting=len(connecting()))
            """)
        ) as running:
            assert running.next() == {"servers": [f"tcp:{third}:5060"]}
            slow.close()
            with Registrar(first):
                assert running.next() == {"code": 200, "connecting": 1}
                assert running.next() == {"connecting": 0}
                running.finish()


def test_so_many_ports_are_checked_at_once() -> None:
    """A check ends after half a second without an ICMP, and its place is free after one."""
    [line] = run_app(
        app("""
        def listen():
            while True:
                if asked.recv(4000) == b"\\r\\n":
                    checks.append(time.monotonic())

        checks = []
        asked = socket.socket(type=socket.SOCK_DGRAM)
        asked.bind(("0.0.0.0", 6066))
        threading.Thread(target=listen, daemon=True).start()
        servers = {f"{number}.test": [(f"127.0.68.{number}:6066", 1, 1), (f"127.0.69.{number}:6066", 2, 1)]
                   for number in range(1, 65)}
        with Endpoint() as endpoint:
            failover = pjfail.attach(lookup=pjfail.StaticLookup(servers))
            for name in servers:
                failover.resolve(f"sip:{name}")
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            for name in servers:
                account.send("OPTIONS", f"sip:{name}")
            time.sleep(1.5)
            emit(checks=sum(each < checks[0] + 0.9 for each in checks))
        """)
    ).lines
    assert line == {"checks": 32}


def test_an_account_is_kept_no_longer_than_pjsua_has_it() -> None:
    """Each round has new accounts, with the ids of those that were deleted. Some are pinned, others follow a server."""
    [line] = run_app(
        app("""
        def opened(aor):
            account = Account(endpoint)
            account.open(f"sip:{aor}@sip.test", "sip:sip.test")
            return account

        def kept():
            return [len(maintenance.pins._held), len(maintenance.follower._followed), failover.counters().servers]

        with Endpoint(log_level=0) as endpoint:
            failover = pjfail.attach(lookup=pjfail.StaticLookup({"sip.test": ["127.0.66.1:5060"]}))
            maintenance = failover._worker.maintenance
            rounds = []
            for round in range(1, 5):
                accounts = [opened(f"{round}-{number}") for number in range(50)]
                for account in accounts[:30]:
                    failover.enable_affinity(account)
                    failover.pin(account, f"127.{round}.68.{1 + account.getId()}:5060")
                for account in accounts[30:]:
                    failover.follow(account)
                failover.resolve("sip:sip.test")  # by the worker, which follows them by then
                rounds.append(kept())
                accounts.clear()
                del account
            until = time.monotonic() + 10
            while kept() != [0, 0, 1] and time.monotonic() < until:
                time.sleep(0.05)
            emit(rounds=rounds, at_last=kept())
        """)
    ).lines
    assert line == {"rounds": [[30, 20, 31]] * 4, "at_last": [0, 0, 1]}
