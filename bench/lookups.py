"""Lookups that nothing is known for: a name server of their own, and a thousand targets at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pjfail

NAME_SERVER, PORT = "127.0.90.54", 5353
AT_ONCE = 1_000

# The name server has a process, and so a GIL, of its own.
SERVE = f"""
import sys
from pjfail.testing import NameServer
zone = "$TTL 3600\\n@ SOA ns hostmaster 1 3600 600 86400 60\\n NS ns\\nns A {NAME_SERVER}\\n"
for number in range({AT_ONCE}):
    zone += f"_sip._udp.t{{number}} SRV 1 1 5060 a{{number}}\\n_sip._udp.t{{number}} SRV 2 1 5060 b{{number}}\\n"
    zone += f"a{{number}} A 127.0.91.1\\nb{{number}} A 127.0.91.2\\n"
with NameServer(zone, "bench.test", "{NAME_SERVER}", {PORT}):
    print("ready", flush=True)
    sys.stdin.read()
"""


def lookup() -> pjfail.DnsLookup:
    return pjfail.DnsLookup([f"{NAME_SERVER}:{PORT}"], transports=("udp",), families=("ipv4",), naptr="off", timeout=30)


async def at_once() -> float:
    """Seconds until a thousand targets, asked for together, are all found."""
    fresh = lookup()
    began = time.perf_counter()
    found = await asyncio.gather(*(fresh.lookup(pjfail.Target(f"t{n}.bench.test")) for n in range(AT_ONCE)))
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
        self._process.communicate()


def at_once_seconds() -> float:
    with Served():
        return asyncio.run(at_once())
