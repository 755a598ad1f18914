"""The control socket of a pjsua2 program whose server dies: what it tells, what it changes, how it ends."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rig.app import App, run_app
from rig.console import Console

from pjfail.control.client import Client
from pjfail.errors import ControlError
from pjfail.testing import SILENT, Registrar

FIRST, SECOND = "127.0.93.1", "127.0.93.2"
ONE, OTHER = f"udp:{FIRST}:5060", f"udp:{SECOND}:5060"
REGISTERED = """
account = opened("sip:alice@sip.test", "sip:sip.test")
failover.follow(account, spread=0)
"""
LOGGING = """
import logging
handler = logging.Handler()
handler.emit = lambda record: logged.append(record.getMessage())
logging.getLogger("pjfail").addHandler(handler)
logging.getLogger("pjfail").setLevel(logging.INFO)
"""
ATTACHED = """
    import os, sys, threading, time
    import pjfail
    from rig.prelude import Endpoint, emit, heard
    with Endpoint() as endpoint:
"""


@pytest.fixture
def program(first: Registrar, second: Registrar, tmp_path: Path) -> Iterator[Console]:
    with Console([f"{FIRST}:5060", f"{SECOND}:5060"], control=str(tmp_path / "control.sock")) as console:
        console.run(REGISTERED)
        assert console.get("account.reregister().code") == 200
        yield console


@pytest.fixture
def client(program: Console, tmp_path: Path) -> Iterator[Client]:
    with Client(tmp_path / "control.sock") as one:
        yield one


def until(ask: Callable[[], Any], true: Callable[[Any], bool], timeout: float = 15) -> Any:
    """What *ask* returns, once *true* says that it is so."""
    deadline = time.monotonic() + timeout
    while not true(found := ask()):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def test_it_tells_of_a_server_that_dies_and_of_the_account_that_moves(
    program: Console, client: Client, first: Registrar
) -> None:
    until(lambda: client.ask("accounts"), lambda rows: bool(rows) and rows[0]["server"] == ONE)
    before = client.ask("snapshot")
    assert before["process"]["pid"] == program.pid == client.pid
    assert {row["server"]: row["state"] for row in before["servers"]} == {ONE: "up", OTHER: "up"}
    plan = client.ask("plan", {"uri": "sip:sip.test"})
    assert [(each["server"], each["tier"]) for each in plan["entries"]] == [(ONE, 0), (OTHER, 1)]
    first.fault = SILENT
    assert program.get("account.reregister().code") == 200
    rows = until(lambda: client.ask("servers"), lambda rows: rows[0]["state"] != "up")
    assert (rows[0]["server"], rows[1]["server"]) == (ONE, OTHER)  # the one that is worse off first
    assert rows[0]["reason"].startswith("silent to REGISTER")
    moved = until(lambda: client.ask("accounts"), lambda rows: rows[0]["server"] == OTHER)[0]
    assert (moved["account"], moved["aor"], moved["kept"]) == (0, "alice@sip.test", "followed")
    assert 0 <= moved["since"] < 15
    told = [event["event"] for event in client.ask("events")]
    assert {"FailedOver", "ServerDown", "AccountMoved"} <= set(told)
    counters = client.ask("counters")
    assert counters["retried"] + counters["hedged"] >= 1, counters


def test_it_drains_marks_down_and_restores(program: Console, client: Client) -> None:
    program.run(LOGGING)
    client.ask("plan", {"uri": "sip:sip.test"})
    assert [row["state"] for row in client.ask("drain", {"server": f"{FIRST}:5060"})] == ["draining"]
    assert program.get("str(failover.resolve('sip:sip.test').servers[0])") == OTHER
    assert client.ask("mark-down", {"server": ONE, "seconds": 60})[0]["next_try"] == pytest.approx(60, abs=5)
    assert client.ask("restore", {"server": ONE})[0]["state"] == "up"
    assert program.get("str(failover.resolve('sip:sip.test').servers[0])") == ONE
    asked = f"the control socket was told by process {os.getpid()} of user {os.geteuid()}: "
    told = [line.removeprefix(asked) for line in program.get("logged") if line.startswith(asked)]
    assert told == [f"drain {FIRST}:5060", f"mark-down {ONE} 60", f"restore {ONE}"]


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("drain", {"server": "voip"}, "is not in any plan yet"),
        ("drain", {"server": "192.0.2.7:5060"}, "is not in any plan yet"),
        ("drain", {"server": 5}, "is not a valid server"),
        ("drain", {}, "missing a required argument: 'server'"),
        ("drain", {"server": ONE, "seconds": 3}, "unexpected keyword argument 'seconds'"),
        ("mark-down", {"server": ONE, "seconds": -1}, "give more than 0"),
        ("plan", {"uri": "voip"}, "is not a valid SIP URI"),
        ("log", {"level": "loud"}, "is not a valid log level"),
        ("events", {"last": "all"}, "is not a valid number"),
        ("stop", {}, "'stop' is not a command; use one of process, servers"),
    ],
)
def test_what_cannot_be_done_is_told(client: Client, command: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ControlError, match=words):
        client.ask(command, arguments)
    assert client.ask("process")["pid"] == client.pid


def test_the_level_of_the_log_is_set(program: Console, client: Client) -> None:
    assert client.ask("log", {"level": "debug"})["level"] == "debug"
    assert program.get("__import__('logging').getLogger('pjfail').level") == 10


def test_events_are_followed(program: Console, tmp_path: Path) -> None:
    with Client(tmp_path / "control.sock") as follower, Client(tmp_path / "control.sock") as client:
        events = follower.events()
        client.ask("mark-down", {"server": ONE})
        told = next(event for event in events if event["event"] == "ServerDown")
        assert told["server"] == ONE
        assert abs(told["at"] - time.time()) < 30


def test_a_detach_lets_go_of_clients_at_once_and_removes_the_socket(
    program: Console, client: Client, tmp_path: Path
) -> None:
    began = time.monotonic()
    program.run("failover.detach()")
    assert time.monotonic() - began < 2
    assert not (tmp_path / "control.sock").exists()
    with pytest.raises(ControlError, match=r"has gone, or has detached pjfail"):
        client.ask("process")


def test_a_worker_that_crashes_serves_again(program: Console, tmp_path: Path) -> None:
    program.run(LOGGING)
    program.run("def crash():\n    raise SystemExit(1)\nfailover._worker._loop.call_soon_threadsafe(crash)")
    until(
        lambda: program.get("logged"),
        lambda lines: any("has stopped pjfail's worker (1 of 3" in each for each in lines),
    )

    def served() -> int | None:
        try:
            with Client(tmp_path / "control.sock") as client:
                return int(client.ask("process")["pid"])
        except ControlError:  # it was taken by the loop that ended
            return None

    assert until(served, lambda pid: pid is not None) == program.pid


def test_a_listener_that_holds_the_worker_up_holds_up_no_request(program: Console, client: Client) -> None:
    program.run("failover._worker._loop.call_soon_threadsafe(time.sleep, 2)")
    began = time.monotonic()
    assert program.get("account.options('sip:sip.test').code") == 200
    assert time.monotonic() - began < 1.5
    assert client.ask("process")["pid"] == program.pid


def test_a_forked_child_is_out_of_it(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    code = f"""
    {ATTACHED}
        with pjfail.attach(lookup=pjfail.StaticLookup({{}}), control="{path}"):
            child = os.fork()
            if child == 0:
                time.sleep(2)
                os._exit(0)
            emit(child=child)
            heard()
        emit(gone=not os.path.exists("{path}"))
        os.waitpid(child, 0)
    """
    with App(code) as app:
        app.next()
        with Client(path) as client:
            assert client.ask("process")["pid"] == app.pid
        app.tell("on")
        assert app.next() == {"gone": True}
        with pytest.raises(ControlError), Client(path):
            pass


def test_the_environment_asks_for_one_and_cannot_do_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    code = f"""
    {ATTACHED}
        import logging
        logging.basicConfig(level=logging.INFO)
        with pjfail.attach(lookup=pjfail.StaticLookup({{}})) as failover:
            emit(there=os.path.exists("{tmp_path}/pjfail/" + str(os.getpid()) + ".sock"), attached=failover.attached)
    """
    for value, there, words in (
        ("1", True, "the control socket is"),
        ("0", False, ""),
        (f"{tmp_path}/missing/x.sock", False, "PJFAIL_CONTROL asks for a control socket, which there will not be"),
    ):
        monkeypatch.setenv("PJFAIL_CONTROL", value)
        result = run_app(code)
        assert result.lines == [{"there": there, "attached": True}]
        assert words in result.stderr
    assert list((tmp_path / "pjfail").iterdir()) == []


def test_a_socket_that_cannot_be_made_is_an_error_where_it_was_asked_for(tmp_path: Path) -> None:
    code = f"""
    {ATTACHED}
        for control in ("{tmp_path}/missing/x.sock", "{tmp_path}/" + "x" * 120, 5):
            try:
                pjfail.attach(control=control)
            except (pjfail.ControlError, TypeError) as error:
                emit(kind=type(error).__name__, words=str(error), attached=pjfail.attached() is not None)
        with pjfail.attach(control="{tmp_path}/x.sock"):
            try:
                pjfail.attach(control="{tmp_path}/x.sock")
            except pjfail.AlreadyAttached:
                emit(still=os.path.exists("{tmp_path}/x.sock"))
    """
    *refused, last = run_app(code).lines
    assert [line["kind"] for line in refused] == ["ControlError", "ControlError", "TypeError"]
    assert "create this folder" in refused[0]["words"]
    assert not any(line["attached"] for line in refused)
    assert last == {"still": True}


def test_a_thousand_connections_and_a_flood_hold_up_no_request(program: Console, tmp_path: Path) -> None:
    flood = b'{"command": "snapshot"}\n' * 200
    clients = []
    for number in range(1000):
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        one.connect(str(tmp_path / "control.sock"))
        one.settimeout(5)
        if number < 8:
            one.sendall(flood)
        clients.append(one)
    took = [program.get("account.options('sip:sip.test').seconds") for _ in range(20)]
    assert max(took) < 2
    lines = clients[0].makefile().readline()
    assert json.loads(lines)["ok"]
    for one in clients:
        one.close()
    assert os.path.exists(tmp_path / "control.sock")
