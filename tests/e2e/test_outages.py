"""Outages of a real registrar under a real pjsua2 program: who heard which request, by the servers' own logs.

The request that finds a server failing goes on to the next one. Every other must be heard by exactly one server, and
answered 200 by it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rig.app import App
from rig.kamailio import Kamailio
from rig.knot import Knot

APP = Path(__file__).with_name("outage_app.py")
FIRST, SECOND, NAME_SERVER = "127.0.64.1", "127.0.64.2", "127.0.64.53"
ZONE = f"""\
_sip._udp SRV 10 0 5060 first
_sip._udp SRV 20 0 5060 second
_sip._tcp SRV 10 0 5060 first
_sip._tcp SRV 20 0 5060 second
first A {FIRST}
second A {SECOND}
"""


class Program:
    """The program under test: the requests it was told to send, their answers, and pjfail's events."""

    def __init__(self, app: App, transport: str) -> None:
        self._app = app
        self.first = f"{transport}:{FIRST}:5060"
        self.sent = 0
        self.discoveries: set[int] = set()
        self.answers: dict[int, tuple[int, str]] = {}
        self.events: list[tuple[str, str]] = []

    def _read(self) -> None:
        line = self._app.next(timeout=20)
        if "event" in line:
            self.events.append((line["event"], line["server"]))
        else:
            self.answers[line["number"]] = line["code"], line["server"].rpartition(":")[0]

    def _send(self) -> int:
        self.sent += 1
        self._app.tell(f"OPTIONS {self.sent}")
        return self.sent

    def standing(self) -> list[str]:
        """How the first server has stood with pjfail, once for each change."""
        changes = {"ServerDown": "down", "ServerUp": "up"}
        return collapsed(changes[name] for name, server in self.events if server == self.first and name in changes)

    def becomes(self, standing: str) -> None:
        """Waits until the first server is "down" or "up"."""
        while self.standing()[-1:] != [standing]:
            self._read()

    def message(self) -> str:
        """Sends one that must be answered 200; by whom."""
        return self.answer(self._send())

    def answer(self, number: int) -> str:
        """Who answers request *number*, which must be with 200."""
        while number not in self.answers:
            self._read()
        code, server = self.answers[number]
        assert code == 200, f"request {number} was answered {code}"
        return server

    def discover(self) -> int:
        """Sends one that finds the first server failing; its number."""
        number = self._send()
        self.discoveries.add(number)
        self.becomes("down")
        return number

    def return_to(self, server: str, within: float = 15) -> None:
        """Sends one after the other until one is answered by *server*."""
        deadline = time.monotonic() + within
        while self.message() != server:
            assert time.monotonic() < deadline, f"nothing went to {server} within {within:g} s"
            time.sleep(0.2)


def collapsed(values: Iterable[str]) -> list[str]:
    return [value for value, _run in itertools.groupby(values)]


Registrars = tuple[Kamailio, Kamailio]


@pytest.fixture
def registrars() -> Iterator[Registrars]:
    with ExitStack() as stack:
        first, second = (stack.enter_context(Kamailio(address)) for address in (FIRST, SECOND))
        stack.enter_context(Knot(NAME_SERVER, ZONE))
        yield first, second


@pytest.fixture
def program(registrars: Registrars, transport: str) -> Iterator[Program]:
    with App(APP, f"{NAME_SERVER}:5353", transport) as app:
        yield Program(app, transport)


def heard(registrars: Registrars, number: int) -> list[str]:
    """Who has heard request *number*, in order of time, by their logs; retransmissions count once."""
    every = [
        (heard.at, server.address) for server in registrars for heard in server.heard() if heard.subject == str(number)
    ]
    return collapsed(address for _at, address in sorted(every))


def route(registrars: Registrars, program: Program) -> list[str]:
    """The servers that heard the requests, in order; all but the discoveries were heard by one alone."""
    servers = []
    for number in range(1, program.sent + 1):
        if number not in program.discoveries:
            [server] = heard(registrars, number)
            assert program.answers[number] == (200, server)
            servers.append(server)
    return collapsed(servers)


Act = Callable[[Kamailio], None]


@pytest.mark.parametrize(
    ("transport", "fail", "recover"),
    [
        pytest.param("udp", Kamailio.stop, Kamailio.serve, id="udp-killed"),
        pytest.param("tcp", Kamailio.stop, Kamailio.serve, id="tcp-killed"),
        pytest.param("udp", Kamailio.pause, Kamailio.resume, id="udp-hung"),
        pytest.param("tcp", Kamailio.pause, Kamailio.resume, id="tcp-hung"),
    ],
)
def test_the_second_serves_until_the_first_is_back(
    registrars: Registrars, program: Program, fail: Act, recover: Act
) -> None:
    assert program.message() == FIRST
    fail(registrars[0])
    number = program.discover()
    assert program.answer(number) == SECOND
    for _ in range(3):
        assert program.message() == SECOND
    recover(registrars[0])
    program.becomes("up")
    program.return_to(FIRST)
    assert route(registrars, program) == [FIRST, SECOND, FIRST]
    assert program.standing() == ["down", "up"]


@pytest.mark.parametrize("transport", ["udp"])
def test_a_hung_server_reads_in_the_end_what_it_missed(registrars: Registrars, program: Program) -> None:
    """So the log tells also of what found it hung: that request had gone there, and nowhere before."""
    assert program.message() == FIRST
    registrars[0].pause()
    number = program.discover()
    registrars[0].resume()
    program.becomes("up")
    assert FIRST in heard(registrars, number)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_no_request_is_lost_to_a_server_that_is_slow(registrars: Registrars, program: Program, transport: str) -> None:
    assert program.message() == FIRST
    registrars[0].fault(Kamailio.SLOW)
    slow = [program.sent + 1, program.sent + 2]
    began = time.monotonic()
    for _ in slow:
        program.message()
    assert time.monotonic() - began < 10
    assert heard(registrars, slow[0])[0] == FIRST
    registrars[0].fault(0)
    program.return_to(FIRST)
    assert heard(registrars, program.sent) == [FIRST]


@pytest.mark.parametrize("transport", ["udp"])
def test_a_server_that_asks_for_rest_by_503_has_it(registrars: Registrars, program: Program) -> None:
    first, _second = registrars
    assert program.message() == FIRST
    first.fault(503, retry_after=5)
    number = program.discover()
    assert program.answer(number) == SECOND
    first.fault(0)
    program.return_to(FIRST)
    asked = next(each.at for each in first.heard() if each.subject == str(number))
    later = [each for each in first.heard() if each.at > asked and each.subject != str(number)]
    assert later[0].at - asked > 4.5
    assert (later[0].method, later[0].subject) == ("OPTIONS", "")  # a probe comes before the requests
    assert route(registrars, program) == [FIRST, SECOND, FIRST]
    assert heard(registrars, number) == [FIRST, SECOND]


@pytest.mark.parametrize("transport", ["udp"])
def test_a_server_that_flaps_is_left_and_returned_to_each_time(registrars: Registrars, program: Program) -> None:
    rounds = 3
    program.return_to(FIRST)
    for _ in range(rounds):
        registrars[0].fault(Kamailio.SILENT)
        assert program.answer(program.discover()) == SECOND
        assert program.message() == SECOND
        registrars[0].fault(0)
        program.becomes("up")
        program.return_to(FIRST)
    assert route(registrars, program) == [FIRST, *[SECOND, FIRST] * rounds]
    assert program.standing() == ["down", "up"] * rounds
