"""Lookups that nothing is known for: a name server of their own, and a thousand targets at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pjfail

NAME_SERVER, PORT = "127.0.90.54", 5353
AT_ONCE = 1_000
# With authority for them, a name server sends the addresses of the servers, too; one that asks others often does not.
DOMAINS = {
    "addresses asked for": "bench.test",
    "addresses beside the SRV records": "beside.bench.test",
    "a name server 5 ms away": "far.bench.test",
}

# The name server has a process, and so a GIL, of its own. All answers are made before the first question, for else the
# bench would time a name server in Python: 0.3 to 0.9 ms of each question.
SERVE = f"""
import collections, select, socket, sys, threading, time
import dns.flags, dns.message, dns.rrset

answers = {{}}

def add(name, kind, *records, beside=()):
    query = dns.message.make_query(name, kind)
    response = dns.message.make_response(query)
    response.flags |= dns.flags.AA
    if records:
        response.answer.append(dns.rrset.from_text(name, 3600, "IN", kind, *records))
    for host, address in beside:
        response.additional.append(dns.rrset.from_text(host, 3600, "IN", "A", address))
    wire = response.to_wire()
    end = wire.index(b"\\0", 12) + 5
    answers[wire[12:end]] = wire[2:]

for number in range({AT_ONCE}):
    for domain in (f"t{{number}}.{{each}}." for each in {list(DOMAINS.values())}):
        a, b = f"a.{{domain}}", f"b.{{domain}}"
        addresses = [(a, "127.0.91.1"), (b, "127.0.91.2")]
        beside = addresses if "beside" in domain else []
        add(f"_sip._udp.{{domain}}", "SRV", f"1 1 5060 {{a}}", f"2 1 5060 {{b}}", beside=beside)
        for host, address in addresses:
            add(host, "A", address)
            add(host, "AAAA")  # pjsip asks for them, too
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
server.bind(("{NAME_SERVER}", {PORT}))
threading.Thread(target=sys.stdin.read, daemon=True).start()
print("ready", flush=True)
late = collections.deque()  # what to send, to whom, and when
while True:
    wait = max(late[0][2] - time.monotonic(), 0) if late else None
    if not late or select.select([server], [], [], wait)[0]:
        query, client = server.recvfrom(4096)
        question = query[12:query.index(b"\\0", 12) + 5].lower()
        answer = query[:2] + answers[question]
        if b"\\3far" in question:
            late.append((answer, client, time.monotonic() + 0.005))
        else:
            server.sendto(answer, client)
    while late and late[0][2] <= time.monotonic():
        server.sendto(*late.popleft()[:2])
"""


class NoLookup:
    """Knows the candidates without asking anybody: what remains is the way to the worker, a plan, and the way back."""

    async def lookup(self, target: pjfail.Target) -> list[pjfail.Candidate]:
        return [
            pjfail.Candidate(pjfail.Server(address, 5060), f"{host}.{target.host}", priority, 1, 3600)
            for priority, (host, address) in enumerate((("a", "127.0.91.1"), ("b", "127.0.91.2")), 1)
        ]


def lookup() -> pjfail.DnsLookup:
    return pjfail.DnsLookup([f"{NAME_SERVER}:{PORT}"], transports=("udp",), families=("ipv4",), naptr="off", timeout=30)


def at_once_seconds(domain: str) -> float:
    """Seconds until a thousand targets in *domain*, asked for together, are all found."""
    return asyncio.run(_at_once(domain))


async def _at_once(domain: str) -> float:
    fresh = lookup()
    began = time.perf_counter()
    found = await asyncio.gather(*(fresh.lookup(pjfail.Target(f"t{n}.{domain}")) for n in range(AT_ONCE)))
    assert all(len(candidates) == 2 for candidates in found)
    return time.perf_counter() - began


class Served:
    """The name server, between ``with`` and its end."""

    def __enter__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def show(rows: dict[str, dict[str, float]]) -> None:
    for name, row in rows.items():
        print(
            f"a cold lookup, {name}: {row['pjfail_ms']:.2f} ms with pjfail (of it {row['policy_ms']:.2f} ms without "
            f"asking anybody), {row['stock_ms']:.2f} ms with stock pjsip, ratio {row['ratio']:.2f} (aim: at most 1); "
            f"1 000 targets at once: {row['at_once_s']:.2f} s (aim: 1 s)"
        )
