"""``python -m bench``: times pjfail beside stock pjsip, prints tables, writes ``bench/out``, draws ``docs/*.svg``."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pjsua2 as pj

import pjfail
from pjfail.events import Listener
from pjfail.host import find
from pjfail.testing import NameServer

from . import faults, fleet, imports, inflight, judging, lookups, native, observer, shared, stall

ADDRESS = "127.0.90.1"
NAME_SERVER = "127.0.90.53"
HOST = "bench.test"

ZONE = f"""\
$TTL 3600
@          SOA ns hostmaster 1 3600 600 86400 60
           NS  ns
ns         A   {NAME_SERVER}
_sip._udp  SRV 1 1 {{port}} a
_sip._udp  SRV 2 1 {{port}} b
a          A   {ADDRESS}
b          A   127.0.90.2
"""

RESOLUTIONS = 100_000
PYTHON_RESOLUTIONS = 20_000
# Beside busy threads, Python inline waits for the GIL each time, 5 ms a thread.
HINDERED_PYTHON_RESOLUTIONS = 5_000
COLD, COLD_ROUND = 200, 40
ROUNDS, REQUESTS, WINDOW = 21, 6_000, 48

Figures = dict[str, float]


# --- running beside Python --------------------------------------------------------------------------------------------


@contextmanager
def busy_python_threads(count: int) -> Iterator[None]:
    """Python threads that compute without pause, as an application's may."""
    stop = False

    def compute() -> None:
        number = 0
        while not stop:
            number = (number * 31 + 7) % 1_000_003

    threads = [threading.Thread(target=compute, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop = True
        for thread in threads:
            thread.join()


class Bench:
    """One endpoint, and the loops that are timed on it."""

    def __init__(self) -> None:
        module = native.load()
        self.lib: Any = module.lib
        self.ffi: Any = module.ffi
        self.endpoint = pj.Endpoint()
        self.endpoint.libCreate()
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 1
        config.logConfig.level = config.logConfig.consoleLevel = 1
        self.endpoint.libInit(config)
        transport = pj.TransportConfig()
        transport.boundAddress = "127.0.0.1"
        self.endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
        self.endpoint.libStart()
        path = find()
        assert path is not None
        assert self.lib.bench_bind(path.encode())
        self.port = int(self.lib.bench_serve(ADDRESS.encode()))
        assert self.port

        @self.ffi.def_extern()
        def python_resolver(_host: Any, _length: int, answer: Any) -> None:
            for server in self.table[HOST]:
                self.lib.bench_add_answer(answer, server, self.port)

        self.table = {HOST: [ADDRESS.encode(), b"127.0.90.2"]}

    def resolve(self, count: int) -> Figures:
        """p50 and p99 of one resolution (microseconds), and resolutions a second."""
        seconds = self.ffi.new("double[]", count)
        answered = self.lib.bench_resolve(HOST.encode(), count, seconds)
        assert answered == count, f"{count - answered} of {count} resolutions were not answered on the spot"
        ordered = sorted(seconds)
        return {
            "p50_us": ordered[count // 2] * 1e6,
            "p99_us": ordered[count * 99 // 100] * 1e6,
            "per_second": count / sum(ordered),
        }

    def alone_and_hindered(self, count: int, hindered: int) -> dict[str, Figures]:
        alone = self.resolve(count)
        with busy_python_threads(2):
            return {"alone": alone, "beside_python": self.resolve(hindered)}

    def requests(self) -> float:
        """Requests a second, each a transaction, all answered 200."""
        seconds = float(self.lib.bench_requests(f"sip:{HOST}".encode(), REQUESTS, WINDOW))
        assert seconds > 0, "a request was not answered 200"
        return REQUESTS / seconds

    def use_built_in(self, address: str = NAME_SERVER, port: int = 5353, host: str = HOST) -> None:
        """Stock pjsip with its DNS resolver, *host* in its cache."""
        assert self.lib.bench_use_built_in(address.encode(), port)
        seconds = self.ffi.new("double[]", 1)
        deadline = time.monotonic() + 10
        while not self.lib.bench_resolve(host.encode(), 1, seconds):
            assert time.monotonic() < deadline, "the name server does not answer"

    def attach(self, *listeners: Listener) -> pjfail.Failover:
        lookup = pjfail.StaticLookup(
            {HOST: [(f"{ADDRESS}:{self.port}", 1, 0), (f"127.0.90.2:{self.port}", 2, 0)]}, ttl=3600
        )
        failover = pjfail.attach(lookup=lookup, listeners=listeners)
        failover.resolve(f"sip:{HOST}")
        return failover


# --- what is measured -------------------------------------------------------------------------------------------------


def resolutions(bench: Bench) -> dict[str, dict[str, Figures]]:
    with bench.attach():
        plan_hit = bench.alone_and_hindered(RESOLUTIONS, RESOLUTIONS)
    built_in = bench.alone_and_hindered(RESOLUTIONS // 4, RESOLUTIONS // 4)
    return {"plan_hit": plan_hit, "builtin_cache": built_in}


def inline_python(bench: Bench) -> dict[str, Figures]:
    assert bench.lib.bench_use_python(bench.lib.python_resolver)
    return bench.alone_and_hindered(PYTHON_RESOLUTIONS, HINDERED_PYTHON_RESOLUTIONS)


def requests(bench: Bench) -> Figures:
    """Rounds in turn, so that a machine that slows down slows both."""
    attached: list[float] = []
    detached: list[float] = []
    bench.requests()
    for _ in range(ROUNDS):
        detached.append(bench.requests())
        with bench.attach():
            attached.append(bench.requests())
    return {
        "attached_per_second": statistics.median(attached),
        "detached_per_second": statistics.median(detached),
        "ratio": statistics.median(one / other for one, other in zip(attached, detached, strict=True)),
    }


def cold_lookups(bench: Bench, domain: str) -> Figures:
    """Milliseconds from pjsip's question to its answer, where nothing is known: SRV, and two addresses.

    And seconds for a thousand of them at once.
    """

    def asked(numbers: range) -> float:
        seconds = [float(bench.lib.bench_ask(f"t{number}.{domain}".encode())) for number in numbers]
        assert min(seconds) > 0, "a lookup found nothing"
        return statistics.median(seconds) * 1e3

    with lookups.Served():
        bench.use_built_in(lookups.NAME_SERVER, lookups.PORT, f"t999.{domain}")
        stock, ours, policy = [], [], []
        for number in range(0, 2 * COLD, 2 * COLD_ROUND):
            # In turn, so that a machine that slows down slows both; each attach has a cache of its own.
            bench.use_built_in(lookups.NAME_SERVER, lookups.PORT, f"t999.{domain}")
            stock.append(asked(range(number, number + COLD_ROUND)))
            with pjfail.attach(lookup=lookups.lookup()):
                ours.append(asked(range(number + COLD_ROUND, number + 2 * COLD_ROUND)))
            with pjfail.attach(lookup=lookups.NoLookup()):
                policy.append(asked(range(number, number + COLD_ROUND)))
        at_once = min(lookups.at_once_seconds(domain) for _ in range(3))
    # The best round of each: on a busy machine three threads that wake each other wait for a processor, too.
    return {
        "stock_ms": min(stock),
        "pjfail_ms": min(ours),
        "policy_ms": min(policy),
        "ratio": min(ours) / min(stock),
        "at_once_s": at_once,
    }


TARGETS, SERVERS_EACH = 10_000, 10

# Fills the core with plans in a process of its own, and prints the octets that a server takes.
FILL = f"""
import os, time
import pjfail
from pjfail.bridge import plans

def resident():
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def publish(number):
    target = pjfail.Target(f"t{{number}}.bench.test")
    places = []
    for n in range(number * {SERVERS_EACH}, (number + 1) * {SERVERS_EACH}):
        server = pjfail.Server(f"10.{{n >> 16}}.{{n >> 8 & 255}}.{{n & 255}}", 5060)
        places.append(pjfail.PlanEntry(pjfail.Candidate(server, target.host, 0, 1, 60), 0, ""))
    plans.publish(pjfail.Plan(target, tuple(places), until), until)

until = time.monotonic() + 3600
publish(0)
before = resident()
for number in range(1, {TARGETS}):
    publish(number)
"""


def many_targets(bench: Bench) -> Figures:
    """10 000 targets with ten servers each: one resolution, and the memory that a server takes."""
    measure = f"{FILL}\nprint((resident() - before) / ({TARGETS} * {SERVERS_EACH}))"
    memory = float(subprocess.run([sys.executable, "-c", measure], check=True, capture_output=True, text=True).stdout)
    with bench.attach():
        few = bench.resolve(RESOLUTIONS // 2)
        exec(FILL, {})
        many = bench.resolve(RESOLUTIONS // 2)
    return {"few_p50_us": few["p50_us"], "many_p50_us": many["p50_us"], "bytes_a_server": memory}


# --- printing ---------------------------------------------------------------------------------------------------------


def show(results: dict[str, Any]) -> None:
    names = {
        "plan_hit": "pjfail, plan at hand",
        "builtin_cache": "stock, in its DNS cache",
        "inline_python": "Python inline",
    }
    stock = results["resolve"]["builtin_cache"]
    print(f"\n{'one resolution':47s}{'p50 us':>10s}{'p99 us':>12s}{'a second':>12s}{'p50 to stock':>15s}")
    for key, title in names.items():
        for load, words in (("alone", ""), ("beside_python", ", beside 2 busy threads")):
            row = results["resolve"][key][load]
            ratio = row["p50_us"] / stock[load]["p50_us"]
            print(
                f"{title + words:47s}{row['p50_us']:10.2f}{row['p99_us']:12.2f}{row['per_second']:12,.0f}{ratio:15.2f}"
            )
    plan = results["resolve"]["plan_hit"]
    hindrance = plan["beside_python"]["p99_us"] / plan["alone"]["p99_us"]
    print(f"plan at hand, p99 beside busy Python threads against alone: {hindrance:.2f} (aim: at most 2)")
    row = results["requests"]
    print(
        f"\nrequests a second: {row['attached_per_second']:,.0f} attached, {row['detached_per_second']:,.0f} detached, "
        f"ratio {row['ratio']:.3f} (aim: at least 0.97)"
    )
    row = results["many"]
    print(
        f"10 000 targets, 100 000 servers: p50 {row['many_p50_us']:.2f} us (one target: {row['few_p50_us']:.2f} us), "
        f"{row['bytes_a_server']:.0f} bytes a server (aim: at most 300)"
    )
    row = results["observer"]
    print(
        f"the core takes {row['sending_p50_us']:.2f} us of each request (aim: 0.4; p99 {row['sending_p99_us']:.2f}), "
        f"{row['receiving_p50_us']:.2f} us of each response (aim: 0.2; p99 {row['receiving_p99_us']:.2f})"
    )
    row = results["stall"]
    print(
        f"worker stalled for {row['seconds']:.0f} s: {row['stalled_per_second']:,.0f} requests a second, "
        f"{row['well_per_second']:,.0f} before and after; {row['requests']:,.0f} sent meanwhile, none lost"
    )
    lookups.show(results["lookup"])
    imports.show(results["import"])
    judging.show(results["judging"])
    inflight.show(results["inflight"])
    shared.show(results["shared"])


def main() -> None:
    bench = Bench()
    with NameServer(ZONE.format(port=bench.port), HOST, NAME_SERVER, 5353):
        bench.use_built_in()
        results: dict[str, Any] = {
            "resolve": resolutions(bench),
            "requests": requests(bench),
            "many": many_targets(bench),
        }
        with bench.attach():
            results["observer"] = observer.cost(bench.lib, bench.ffi, f"sip:{HOST}")
        results["stall"] = stall.measure(bench.attach, bench.requests)
        results["lookup"] = {name: cold_lookups(bench, domain) for name, domain in lookups.DOMAINS.items()}
        results["judging"] = judging.figures()
        results["resolve"]["inline_python"] = inline_python(bench)
    results["import"] = imports.measure()
    results["inflight"] = inflight.measure()
    results["shared"] = shared.measure_apart()
    show(results)
    native.OUT.mkdir(exist_ok=True)
    path = native.OUT / "bench.json"
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}")
    faults.main()
    fleet.main()
    sys.stdout.flush()
    # Python inline is installed still, and pjsip's threads would call it while the interpreter ends.
    os._exit(0)


if __name__ == "__main__":
    main()
