"""What a pjsua2 program does with pjfail while one of its two servers fails, however it has been told of them.

Two Kamailios that share nothing: the first fails, the second has Debian's default configuration. The program registers,
calls bob, who is registered with both, and is called by him through the second; each way that people have to write
down a registrar is one of KINDS.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from .app import App, Line
from .certificates import Authority
from .dns_server import DnsServer
from .kamailio import DebianKamailio, Kamailio

FIRST, SECOND, NAME_SERVER = "127.0.94.1", "127.0.94.2", "127.0.94.53"
APP = Path(__file__).with_name("two_servers_app.py")
HOSTS = [f"sip1.test 60 A {FIRST}", f"sip2.test 60 A {SECOND}"]
SRV = [
    f"{service}.voip.test 60 SRV {priority} 0 {port} {host}.test."
    for service, port in (("_sip._udp", 5060), ("_sip._tcp", 5060), ("_sips._tcp", 5061))
    for priority, host in ((10, "sip1"), (20, "sip2"))
]


@dataclass(frozen=True)
class Kind:
    """How the registrar is written: its host, with a port or not; the table, what becomes of it, the DNS records."""

    host: str = "voip.test"
    port: bool = False
    table: dict[str, list[str]] | None = None
    updated: dict[str, list[str]] | None = None
    records: list[str] = field(default_factory=lambda: HOSTS)


BOTH = [FIRST, SECOND]
KINDS = {
    "srv": Kind(records=[*HOSTS, *SRV]),
    "two-a": Kind(records=[f"voip.test 60 A {FIRST}", f"voip.test 60 A {SECOND}"]),
    "ip": Kind(host=FIRST, table={FIRST: BOTH}),
    "port": Kind(port=True, table={"voip.test": BOTH}),
    "names": Kind(table={"voip.test": ["sip1.test", "sip2.test"]}),
    "table": Kind(table={"voip.test": [FIRST]}, updated={"voip.test": BOTH}),
}
FAULTS: dict[str, Callable[[Kamailio], None]] = {
    "silent": Kamailio.pause,
    "killed": Kamailio.stop,
    "503": lambda server: server.fault(503),
}
TRANSPORTS = ("udp", "tcp", "tls")


class Cell(NamedTuple):
    kind: str
    fault: str
    transport: str

    def __str__(self) -> str:
        return "-".join(self)


CELLS = [
    Cell(kind, fault, transport)
    for kind in KINDS
    for fault in FAULTS
    for transport in TRANSPORTS
    if (kind, transport) != ("ip", "tls")  # no certificate is for an address
]
DIAGONAL = [
    Cell("srv", "silent", "udp"),
    Cell("two-a", "killed", "tcp"),
    Cell("ip", "503", "udp"),
    Cell("port", "silent", "tcp"),
    Cell("names", "killed", "tls"),
    Cell("table", "503", "tls"),
]


@contextmanager
def servers(folder: Path, records: list[str]) -> Iterator[tuple[Kamailio, DebianKamailio, DnsServer, str]]:
    """Both servers, the name server, and the file of the authority that has signed their certificates."""
    with ExitStack() as stack:
        authority = Authority(folder)
        first = stack.enter_context(Kamailio(FIRST, "voip.test", authority=authority))
        second = stack.enter_context(DebianKamailio(SECOND, "voip.test", FIRST, SECOND, authority=authority))
        yield first, second, stack.enter_context(DnsServer(records, NAME_SERVER)), str(authority.path)


def told(app: App, words: str, key: str, timeout: float = 30) -> Line:
    """The next line with *key*, after the program was told *words*."""
    if words:
        app.tell(words)
    while key not in (line := app.next(timeout)):
        pass
    return line


def program(cell: Cell, name_server: DnsServer, ca: str) -> App:
    kind = KINDS[cell.kind]
    port = f":{5061 if cell.transport == 'tls' else 5060}" if kind.port else ""
    settings: dict[str, Any] = {
        "transport": cell.transport,
        "nameserver": f"{name_server.address}:{name_server.port}",
        "ca": ca,
        "second": SECOND,
        "table": kind.table,
        "id": f"sip:alice@{kind.host}",
        "registrar": f"sip:{kind.host}{port};transport={cell.transport}",
        "bob": f"sip:bob@{kind.host};transport={cell.transport}",
    }
    return App(APP, json.dumps(settings))


def check(cell: Cell, folder: Path) -> None:
    """Runs one cell of the matrix."""
    kind = KINDS[cell.kind]
    with servers(folder, kind.records) as (first, second, name_server, ca), program(cell, name_server, ca) as app:
        peer = App(APP, json.dumps({"peers": BOTH, "transport": "udp"}))
        with peer:
            assert [told(peer, "", "registered")["registered"] for _ in BOTH] == [200, 200]
            assert told(app, "", "code")["code"] == 200
            assert told(app, "", "on")["on"] == FIRST
            if kind.updated:
                app.tell(f"update({kind.updated!r})")
            second.forget("alice")
            FAULTS[cell.fault](first)

            registered = told(app, "register()", "code")
            assert (registered["code"], registered["seconds"] < 12) == (200, True)
            assert told(app, f"moved_to({SECOND!r})", "on")["on"] == SECOND
            called = told(app, "call()", "call")
            assert (called["call"], called["seconds"] < 12) == (200, True)
            assert "alice" in second.locations()
            ringing = told(peer, f"call('sip:alice@{SECOND}')", "call")
            assert ringing["call"] == 200
            assert told(app, "", "called")["called"]


def matrix(cells: list[Cell]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("cell", cells, ids=str)
