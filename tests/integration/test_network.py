"""Addresses that change under a registered program, which is at the other end of a cable in a network of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from rig.app import PYTHON, App
from rig.network import BECOME, Cable, alone

from pjfail.testing import Registrar
from pjfail.testing.sip import Request

SERVER, FIRST, SECOND, THIRD = "192.0.2.1", "192.0.2.11", "192.0.2.12", "192.0.2.13"
SERVER6, FIRST6, SECOND6 = "2001:db8::1", "2001:db8::11", "2001:db8::12"

# Lines from the test: "end" destroys the endpoint, everything else is answered with what is known.
APP = """
    import logging
    import sys
    import threading
    import time
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    transport, server, network = sys.argv[1:4]
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

    host = f"[{server}]" if ":" in server else server
    endpoint = Endpoint(transports=[transport], address="", ending=0, log_level=4)
    events = []
    failover = pjfail.attach(listeners=[lambda event: events.append(event.as_dict())])
    account = Rewriting(endpoint, retries=False)
    uri = f"sip:{host};transport={transport.rstrip('6')}"
    account.open(f"sip:alice@{host}", uri)
    failover.follow(account, network=network == "True")
    answer = account.reregister()
    emit(code=answer.code)
    while (line := heard()) != "end":
        emit(said=said, events=events, health={str(each): each_health.state.value
             for each, each_health in failover.servers().items()})
    started = time.monotonic()
    endpoint.destroy()
    emit(seconds=time.monotonic() - started)
"""


@contextmanager
def app(
    tmp_path: Path, transport: str = "udp", server: str = SERVER, network: bool = True
) -> Iterator[tuple[App, Cable, Registrar]]:
    """The program, registered with *server* over its cable."""
    program = tmp_path / "program.py"
    program.write_text("if True:\n" + APP)
    with ExitStack() as stack:
        running = stack.enter_context(App(BECOME, *alone(), PYTHON, str(program), transport, server, str(network)))
        running.next()
        cable = stack.enter_context(Cable(running.pid))
        cable.give(f"{SERVER}/24")
        cable.give(f"{SERVER6}/64")
        cable.move(("add", f"{FIRST}/24"), ("add", f"{FIRST6}/64"))
        registrar = stack.enter_context(Registrar(server))
        assert running.ask("go")["code"] == 200
        yield running, cable, registrar


def wait(condition: Callable[[], bool], timeout: float = 15) -> float:
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
