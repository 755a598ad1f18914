"""Addresses that change under a registered program, which is at the other end of a cable in a network of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from rig.app import PYTHON, App
from rig.network import BECOME, Cable, alone

from pjfail.testing import SILENT, WELL, Fault, Registrar
from pjfail.testing.sip import Request
from pjfail.testing.sockets import bind

SERVER, FIRST, SECOND, THIRD = "192.0.2.1", "192.0.2.11", "192.0.2.12", "192.0.2.13"
STAYS = "192.0.2.99"
ELSEWHERE, FAR = "198.51.100.1", "198.51.100.11"  # another server, and the address that leads there
SERVER6, FIRST6, SECOND6 = "2001:db8::1", "2001:db8::11", "2001:db8::12"

OPTIONS = "\r\n".join([
    f"OPTIONS sip:alice@{STAYS} SIP/2.0", f"Via: SIP/2.0/TCP {SERVER}:5060;branch=z9hG4bK-listens",
    f"From: <sip:server@{SERVER}>;tag=1", f"To: <sip:alice@{STAYS}>", "Call-ID: listens", "CSeq: 1 OPTIONS",
    "Max-Forwards: 70", "Content-Length: 0", "", "",
])  # fmt: skip

# Lines from the test: "call" calls, "end" destroys the endpoint; all others are answered with what is known.
APP = """
    import logging
    import socket
    import sys
    import time
    import pjfail
    import pjsua2 as pj
    from pjfail.network import Clocks
    from rig.prelude import Account, Call, Endpoint, emit, heard

    transport, server, network, calls, address = sys.argv[1:6]
    said = []

    class Keeping(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())

    logging.getLogger("pjfail").addHandler(Keeping())
    logging.getLogger("pjfail").setLevel(logging.INFO)
    emit(started=True)
    heard()

    class Rewriting(Account):
        contact_rewrite = 1

    tones = []

    def speak(call):
        if not tones:
            tones.append(pj.ToneGenerator())
            tones[0].createToneGenerator(8000, 1)
            tone = pj.ToneDesc()
            tone.freq1, tone.on_msec, tone.off_msec = 440, 2000, 0
            tones[0].play(pj.ToneDescVector([tone]), True)
        tones[0].startTransmit(call.getAudioMedia(-1))

    Call.onCallMediaState = lambda call, _: speak(call)
    servers = {"voip.test": server.split(",")} if "," in server else None
    host = "voip.test" if servers else f"[{server}]" if ":" in server else server
    endpoint = Endpoint(transports=[transport], address=address, ending=0, log_level=4)
    events = []
    failover = pjfail.attach(servers, listeners=[lambda event: events.append(event.as_dict())])
    account = Rewriting(endpoint, retries=False)
    uri = f"sip:{host};transport={transport.rstrip('6')}"
    account.open(f"sip:alice@{host}", uri)
    failover.follow(account, network=network == "True", calls=calls or None)
    answer = account.reregister()
    emit(code=answer.code, port=endpoint.pj.transportGetInfo(endpoint.listeners[transport]).localAddress)
    port = int(endpoint.pj.transportGetInfo(endpoint.listeners[transport]).localAddress.rpartition(":")[2])
    if address:
        taken = socket.create_server(("127.0.0.1", port))
    call = None
    while (line := heard()) != "end":
        if line == "call":
            call = account.call(uri)
            assert account.answer().code == 200
        elif line == "message":
            account.send("MESSAGE", uri)
        elif line == "sleep":  # as if it had slept for an hour just before the last five seconds
            watch, now = failover._worker._network, Clocks.now()

            def wake():
                watch._clocks = Clocks(now.monotonic - 5, now.boottime - 5 - 3600)
                watch.tick(now)

            failover._worker.call(wake)
            failover._worker.call(watch._look)
        elif line == "hang up":
            call.hangup(pj.CallOpParam())
        emit(said=said, events=events, health={str(each): each_health.state.value
             for each, each_health in failover.servers().items()},
             call=call.getInfo().stateText if call is not None and call.isActive() else "")
    started = time.monotonic()
    endpoint.destroy()
    emit(seconds=time.monotonic() - started)
"""


@contextmanager
def app(
    tmp_path: Path,
    transport: str = "udp",
    server: str = SERVER,
    network: bool = True,
    calls: str = "",
    address: str = "",
) -> Iterator[tuple[App, Cable, Registrar]]:
    """The program, registered with *server* over its cable."""
    program = tmp_path / "program.py"
    program.write_text("if True:\n" + APP)
    arguments = [transport, server, str(network), calls, address]
    with ExitStack() as stack:
        running = stack.enter_context(App(BECOME, *alone(), PYTHON, str(program), *arguments))
        running.next()
        cable = stack.enter_context(Cable(running.pid))
        cable.give(f"{SERVER}/24")
        cable.give(f"{SERVER6}/64")
        cable.move(("add", f"{FIRST}/24"), ("add", f"{FIRST6}/64"), ("add", f"{STAYS}/32"))
        cable.give(f"{ELSEWHERE}/24")
        cable.move(("add", f"{FAR}/24"))
        registrar = stack.enter_context(Registrar(server.partition(",")[0]))
        assert running.ask("go")["code"] == 200
        yield running, cable, registrar


class Media(threading.Thread):
    """Counts the RTP packets that come to where a registrar's calls send them, by their source."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.packets: Counter[str] = Counter()
        self._socket = bind(SERVER, 9, "udp")
        self._socket.setblocking(True)
        self._ended = False

    def __enter__(self) -> Media:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._socket.settimeout(0.1)
        self.join(5)
        self._socket.close()

    def run(self) -> None:
        self._socket.settimeout(0.1)
        while not self._ended:
            with suppress(TimeoutError):
                _, (source, _) = self._socket.recvfrom(2048)
                self.packets[source] += 1


def wait(condition: Callable[[], bool], timeout: float = 60) -> float:
    """Waits for *condition*, and returns for how long."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout
        time.sleep(0.01)
    return time.monotonic() - started


def registers(registrar: Registrar, source: str) -> list[Request]:
    return [request for request in registrar.requests if request.method == "REGISTER" and request.source[0] == source]


def contacts(registrar: Registrar, address: str) -> list[Request]:
    return [each for each in registrar.requests if each.method == "REGISTER" and address in each.header("contact")]


@pytest.mark.parametrize(
    ("transport", "server", "old", "new"),
    [
        ("udp", SERVER, f"{FIRST}/24", f"{SECOND}/24"),
        ("tcp", SERVER, f"{FIRST}/24", f"{SECOND}/24"),
        ("tcp6", SERVER6, f"{FIRST6}/64", f"{SECOND6}/64"),
    ],
)
def test_an_account_registers_at_once_when_the_address_has_changed(
    tmp_path: Path, transport: str, server: str, old: str, new: str
) -> None:
    """With the new address in its Contact; no server is judged for what was lost in between."""
    with app(tmp_path, transport, server) as (running, cable, registrar):
        cable.move(("del", old), ("add", new))
        address = new.partition("/")[0]
        seconds = wait(lambda: bool(contacts(registrar, address)))
        assert seconds < 3
        print(f"{transport}: {seconds:.3f} s")
        time.sleep(1.5)
        assert len(registers(registrar, address)) <= 3
        state = running.ask("state")
        assert set(state["health"].values()) == {"up"}
        assert not [event for event in state["events"] if event["event"] in ("ServerDown", "ServerSuspected")]


def test_nothing_is_done_without_the_setting(tmp_path: Path) -> None:
    with app(tmp_path, network=False) as (running, cable, registrar):
        cable.move(("del", f"{FIRST}/24"), ("add", f"{SECOND}/24"))
        wait(lambda: any("looked up again" in line for line in running.ask("state")["said"]))
        time.sleep(1.5)
        assert not registers(registrar, SECOND)


def test_a_network_that_was_lost_and_is_back_has_the_account_register_once(tmp_path: Path) -> None:
    """Meanwhile no server is judged, though nothing can be sent."""
    with app(tmp_path) as (running, cable, registrar):
        cable.move(("del", f"{FIRST}/24"))
        wait(lambda: any("no server can be reached" in line for line in running.ask("state")["said"]))
        time.sleep(6)  # the server is asked, as it has been quiet
        before = len(registers(registrar, FIRST))
        cable.move(("add", f"{FIRST}/24"))
        wait(lambda: len(registers(registrar, FIRST)) > before)
        time.sleep(1.5)
        assert len(registers(registrar, FIRST)) == before + 1
        state = running.ask("state")
        assert set(state["health"].values()) == {"up"}
        assert not [event for event in state["events"] if event["event"] in ("ServerDown", "ServerSuspected")]


def test_an_account_leaves_a_server_that_cannot_be_reached_any_more_for_one_that_can(tmp_path: Path) -> None:
    with app(tmp_path, server=f"{SERVER},{ELSEWHERE}") as (running, cable, _), Registrar(ELSEWHERE) as other:
        cable.move(("del", f"{FIRST}/24"))
        running.ask("message")
        wait(lambda: bool(other.requests))
        wait(lambda: bool(registers(other, FAR)), 30)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_register_that_fails_during_the_change_is_repeated(tmp_path: Path, transport: str) -> None:
    """pjsip repeats none (2.17)."""
    with app(tmp_path, transport) as (_, cable, registrar):
        registrar.fault = Fault(code=500, methods=("REGISTER",))
        cable.move(("del", f"{FIRST}/24"), ("add", f"{SECOND}/24"))
        wait(lambda: bool(registers(registrar, SECOND)))
        registrar.fault = Fault()
        wait(lambda: any(each.code == 200 and each.request.source[0] == SECOND for each in registrar.answers))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_an_address_that_flaps_causes_no_storm(tmp_path: Path, transport: str) -> None:
    """The account ends up with the last address."""
    with app(tmp_path, transport) as (running, cable, registrar):
        before, started = len(registrar.requests), time.monotonic()
        for _ in range(6):
            cable.move(("del", f"{FIRST}/24"), ("add", f"{SECOND}/24"))
            time.sleep(0.4)
            cable.move(("del", f"{SECOND}/24"), ("add", f"{FIRST}/24"))
            time.sleep(0.4)
        cable.move(("del", f"{FIRST}/24"), ("add", f"{THIRD}/24"))
        wait(lambda: bool(contacts(registrar, THIRD)))
        seconds = time.monotonic() - started
        branches = {each.branch for each in registrar.requests[before:] if each.method == "REGISTER"}
        assert len(branches) <= 3 * (seconds / 2 + 1)
        assert set(running.ask("state")["health"].values()) == {"up"}


def test_the_tcp_listener_stays_where_it_is(tmp_path: Path) -> None:
    """Told to start it anew, pjsip (2.17) binds to all addresses, loses its listener for good where another program has
    the port at one of them, and then sends nothing over TCP either.
    """
    with app(tmp_path, "tcp", address=STAYS) as (running, cable, registrar):
        before = len(registers(registrar, STAYS))
        cable.move(("del", f"{FIRST}/24"), ("add", f"{SECOND}/24"))
        wait(lambda: len(registers(registrar, STAYS)) > before)
        port = int(running.lines[-1]["port"].rpartition(":")[2])
        with socket.create_connection((STAYS, port), 5) as connection:
            connection.sendall(OPTIONS.encode())
            assert connection.recv(4096).startswith(b"SIP/2.0 200")


def test_a_request_under_way_judges_no_server_when_the_network_is_lost(tmp_path: Path) -> None:
    """It is silence to pjfail: the connection is there, and nothing comes."""
    with app(tmp_path, "tcp") as (running, cable, registrar):
        cable.move(("del", f"{FIRST}/24"))
        wait(lambda: any("no server can be reached" in line for line in running.ask("state")["said"]))
        running.ask("message")
        time.sleep(7)
        cable.move(("add", f"{SECOND}/24"))
        wait(lambda: bool(contacts(registrar, SECOND)))
        state = running.ask("state")
        assert set(state["health"].values()) == {"up"}
        assert not [event for event in state["events"] if event["event"] in ("ServerDown", "ServerSuspected")]


def test_a_machine_that_wakes_up_registers_and_forgets_what_it_held_against_servers(tmp_path: Path) -> None:
    with app(tmp_path) as (running, _, registrar):
        registrar.fault = SILENT
        running.ask("message")
        wait(lambda: any(event["event"] == "ServerDown" for event in running.ask("state")["events"]))
        before = len(registers(registrar, FIRST))
        registrar.fault = WELL
        assert set(running.ask("sleep")["health"].values()) == {"up"}
        wait(lambda: len(registers(registrar, FIRST)) > before)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("wait_for", [0.0, 0.25, 0.3, 0.6])
def test_the_endpoint_may_end_during_the_change(tmp_path: Path, transport: str, wait_for: float) -> None:
    with app(tmp_path, transport) as (running, cable, _):
        cable.move(("del", f"{FIRST}/24"), ("add", f"{SECOND}/24"))
        time.sleep(wait_for)
        assert running.ask("end")["seconds"] < 20
        assert running.finish().returncode == 0


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_call_goes_on_when_the_address_changes(tmp_path: Path, transport: str) -> None:
    """Media comes from the new address, and the server has the new one to send its requests to."""
    with app(tmp_path, transport) as (running, cable, registrar), Media() as media:
        assert running.ask("call")["call"] == "CONFIRMED"
        wait(lambda: media.packets[FIRST] > 50)
        cable.move(("del", f"{FIRST}/24"), ("add", f"{SECOND}/24"))
        seconds = wait(lambda: media.packets[SECOND] > 0)
        print(f"{transport}: RTP again after {seconds:.3f} s")
        invites = wait_for_invite(registrar, SECOND)
        assert SECOND in invites[-1].header("contact")
        received = media.packets[SECOND]
        time.sleep(1)
        assert media.packets[SECOND] - received > 30
        assert running.ask("state")["call"] == "CONFIRMED"


def wait_for_invite(registrar: Registrar, address: str) -> list[Request]:
    """Waits for a re-INVITE that has *address* in its Contact."""

    def found() -> list[Request]:
        return [each for each in registrar.requests if each.method == "INVITE" and address in each.header("contact")]

    wait(lambda: bool(found()))
    return found()
