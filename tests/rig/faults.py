"""The fault matrix: each way in which a server fails x each request x the request that meets it and the next one.

What fails is the first of two servers behind one domain; the second is well. A cell is run by fault_cell.py in a
process and a network of its own, once with stock pjsip and once with pjfail attached.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from pjfail.model import Transport
from pjfail.testing import DYING, REFUSING, RESETTING, SILENT, STALLING, UNAVAILABLE, WELL, Fault

from .app import PYTHON, App
from .certificates import Authority
from .network import BECOME, alone

DOMAIN = "fault.test"
ANOTHER_DOMAIN = "another.test"
METHODS = ("REGISTER", "OPTIONS", "MESSAGE", "SUBSCRIBE", "INVITE", "large INVITE", "bound REGISTER")
FIRST, SECOND = "127.0.80.1", "127.0.80.2"

Stack = Literal["stock", "pjfail"]
Order = Literal["first", "next"]

STACKS: tuple[Stack, ...] = ("stock", "pjfail")


@dataclass(frozen=True, slots=True)
class Failure:
    """How the first server fails, over which transports.

    ``fault`` is its own; ``vanishes``: the network drops its packets; ``connected``: but only once a request has gone
    well, so that a connection is open; ``name``: whom its certificate is for; ``address``: where it listens; ``other``:
    the transport that the second server speaks, if it is another one.
    """

    transports: tuple[Transport, ...]
    fault: Fault = WELL
    vanishes: bool = False
    connected: bool = False
    name: str = DOMAIN
    address: str = FIRST
    other: Transport | None = None


FAILURES = {
    "refused": Failure(("udp", "tcp"), REFUSING),
    "packets vanish": Failure(("udp", "tcp"), vanishes=True),
    "silent": Failure(("udp", "tcp"), SILENT),
    "dead connection": Failure(("tcp", "tls"), vanishes=True, connected=True),
    "RST after the request": Failure(("tcp",), RESETTING),
    "dies before it answers": Failure(("udp", "tcp"), DYING),
    "handshake stalls": Failure(("tls",), STALLING),
    "wrong certificate": Failure(("tls",), name=ANOTHER_DOMAIN),
    "503": Failure(("udp", "tcp"), UNAVAILABLE),
    "503, Retry-After": Failure(("udp", "tcp"), Fault(code=503, retry_after=30)),
    "slow, 3 s": Failure(("udp", "tcp"), Fault(delay=3.0)),
    "UDP to TCP": Failure(("udp",), SILENT, other="tcp"),
    "IPv6 to IPv4": Failure(("udp",), SILENT, address="::1"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A program that sends the same request twice, the second time as soon as the first has ended.

    ``method``: "large", it is too large for UDP; "bound", the account is bound to its transport (transportId).
    """

    failure: str
    transport: Transport
    method: str
    stack: Stack

    def __str__(self) -> str:
        return f"{self.failure}, {self.transport}, {self.method}, {self.stack}"

    @property
    def exists(self) -> bool:
        """Whether there is such a cell: UDP has what is too large for it, TCP and TLS have listeners."""
        needed = {"large": self.transport == "udp", "bound": self.transport != "udp"}
        return needed.get(self.method.split()[0], True)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one of the two requests, as the application saw it.

    ``code`` is 0 where nothing had been heard after 33 s; ``server`` is "first", "second", or "" where nobody
    answered, by the servers' own logs; ``answers`` counts how often the application was told of an end.
    """

    request: Order
    seconds: float
    code: int
    server: str
    answers: int

    @property
    def succeeded(self) -> bool:
        return self.code // 100 == 2


Outcomes = dict[Order, Outcome]


def cells(stacks: Iterable[Stack]) -> list[Cell]:
    every = (
        Cell(name, transport, method, stack)
        for stack in stacks
        for name, failure in FAILURES.items()
        for transport in failure.transports
        for method in METHODS
    )
    return [cell for cell in every if cell.exists]


def run(cells: Sequence[Cell], at_once: int = 64) -> dict[Cell, Outcomes]:
    """Runs *cells*, so many at once: they mostly sleep."""
    # One at a time gets up, so that those that are being timed have the machine's other core.
    getting_up = threading.Semaphore(1)
    with _certificates() as folder, ThreadPoolExecutor(at_once) as pool:
        outcomes = pool.map(lambda cell: _run(cell, folder, getting_up), cells)
        return dict(zip(cells, outcomes, strict=True))


def _run(cell: Cell, certificates: str, getting_up: threading.Semaphore) -> Outcomes:
    command = [*alone(), PYTHON, "-X", "faulthandler", str(_PROGRAM), *asdict(cell).values(), certificates]
    with ExitStack() as stack:
        with getting_up:
            app = stack.enter_context(App(BECOME, *command))
            app.next()
        outcomes = [Outcome(**line) for line in app.finish(timeout=120).lines[1:]]
        assert [outcome.request for outcome in outcomes] == ["first", "next"], f"{cell} has not come to its end"
    return {outcome.request: outcome for outcome in outcomes}


@contextmanager
def _certificates() -> Iterator[str]:
    with TemporaryDirectory(prefix="pjfail-certificates-") as folder:
        authority = Authority(Path(folder))
        for name in (DOMAIN, ANOTHER_DOMAIN):
            certificate = authority.issue(name)
            certificate.key.rename(Path(folder, f"{name}.key"))
            certificate.chain.rename(Path(folder, f"{name}.crt"))
        yield folder


_PROGRAM = Path(__file__).with_name("fault_cell.py")
