"""Knot as an authoritative name server on one loopback address; it keeps the order of a record set."""

from __future__ import annotations

import subprocess
from types import TracebackType

import dns.exception
import dns.message
import dns.query
import dns.rcode

from .daemon import Daemon, find

_CONFIGURATION = """\
server:
    rundir: "{run}"
    listen: {address}@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
control:
    listen: "{run}/control"
log:
  - target: stderr
    any: info
database:
    storage: "{run}"
zone:
  - domain: {origin}
    file: "{run}/zone"
    journal-content: none
    zonefile-load: whole
    zonefile-sync: -1
"""

_HEAD = """\
$ORIGIN {origin}.
$TTL 60
@ SOA ns hostmaster {serial} 3600 600 86400 60
@ NS ns
ns A {address}
"""


class Knot(Daemon):
    """A name server for *origin* at *address* and *port*. *zone* is master file text, without SOA and NS.

    The port is not 53, so that an ordinary user can have it.
    """

    def __init__(self, address: str, zone: str, origin: str = "example.com", port: int = 5353) -> None:
        super().__init__("knot")
        self.address = address
        self.port = port
        self.origin = origin
        self._serial = 0
        (self.run / "knot.conf").write_text(
            _CONFIGURATION.format(run=self.run, address=address, port=port, origin=origin)
        )
        self._write(zone)

    def __enter__(self) -> Knot:
        self.start([find("knotd"), "-c", f"{self.run}/knot.conf"], self._answers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def nameserver(self) -> str:
        """Its address and port, as resolvers are given it."""
        return f"{self.address}:{self.port}"

    def reload(self, zone: str) -> None:
        """Serves *zone* from now on."""
        self._write(zone)
        command = [find("knotc"), "-s", f"{self.run}/control", "-b", "zone-reload", self.origin]
        subprocess.run(command, check=True, capture_output=True, timeout=10)

    def _write(self, zone: str) -> None:
        self._serial += 1
        head = _HEAD.format(origin=self.origin, serial=self._serial, address=self.address)
        (self.run / "zone").write_text(head + zone)

    def _answers(self) -> bool:
        query = dns.message.make_query(self.origin, "SOA")
        try:
            answer = dns.query.udp(query, self.address, timeout=0.5, port=self.port)
        except (dns.exception.DNSException, OSError):
            return False
        return answer.rcode() == dns.rcode.NOERROR
