"""The control socket without pjsip: who may ask, what is too much, and what is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pjfail.control import place, server
from pjfail.control.client import Client, find
from pjfail.control.server import ControlSocket
from pjfail.errors import BadServer, ControlError

STRANGER = 65534


async def echo(command: str, arguments: Mapping[str, Any], who: str) -> object:
    """Answers what a test asks for."""
    if command == "refuse":
        raise BadServer("this is not a valid server")
    if command == "large":
        return ["x" * 1000] * int(arguments["rows"])
    if command == "sleep":
        await asyncio.sleep(arguments["seconds"])
    return {"command": command, **arguments}


class Served:
    """A socket that is served by a loop in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.control = ControlSocket(path)
        self.loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._task = self.loop.create_task(self.control.serve(echo))
        with suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self._task)
        self.loop.close()

    def do(self, function: Callable[[], object]) -> None:
        """Has *function* called in the loop, and waits for that."""
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (function(), done.set()))
        assert done.wait(5)

    def stop(self) -> None:
        """Ends it as a detach does."""
        assert self._task is not None
        if not self._task.done():
            self.loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(5)
        assert not self._thread.is_alive()
        self.control.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path / "control.sock")
    yield one
    one.stop()


@contextmanager
def connected(path: Path, timeout: float = 5) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(timeout)
        one.connect(str(path))
        yield one


def line_of(one: socket.socket) -> dict[str, Any]:
    """The next line, read octet by octet; {} at the end."""
    read = b""
    with suppress(ConnectionError):
        while not read.endswith(b"\n") and (octet := one.recv(1)):
            read += octet
    return dict(json.loads(read)) if read else {}


def test_a_question_has_its_answer_and_the_version_of_the_protocol(served: Served) -> None:
    with connected(served.path) as one:
        one.sendall(b'{"pjfail": 1, "command": "servers", "most": 3}\n{"command": "again"}\n')
        assert line_of(one) == {"pjfail": 1, "ok": True, "result": {"command": "servers", "most": 3}}
        assert line_of(one)["result"] == {"command": "again"}


def test_a_refusal_is_told_and_the_client_may_go_on(served: Served) -> None:
    with Client(served.path) as client:
        with pytest.raises(ControlError, match="this is not a valid server"):
            client.ask("refuse")
        assert client.ask("on") == {"command": "on"}


# --- who may ask ------------------------------------------------------------------------------------------------------


def test_the_file_is_for_its_user_alone(served: Served) -> None:
    found = served.path.lstat()
    assert stat.S_ISSOCK(found.st_mode)
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid())


def test_another_user_is_refused_whatever_the_modes_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:  # nobody can become another user: the server takes itself for one
        monkeypatch.setattr(server.os, "geteuid", lambda: os.getuid() + 1)
    folder = Path("/tmp") / f"pjfail-test-{os.getpid()}"
    folder.mkdir(mode=0o755)
    served = Served(folder / "control.sock")
    try:
        served.path.chmod(0o666)
        code = (
            "import os, socket, sys\n"
            "if os.getuid() == 0: os.setuid(int(sys.argv[2]))\n"
            "one = socket.socket(socket.AF_UNIX); one.settimeout(5); one.connect(sys.argv[1])\n"
            "print(one.recv(1000).decode())"
        )
        command = ["/usr/bin/env", "python3", "-c", code, str(served.path), str(STRANGER)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["ok"] is False
        assert f"not for user {STRANGER if os.getuid() == 0 else os.getuid()}" in said["error"]
    finally:
        served.stop()
        folder.rmdir()


# --- what is too much -------------------------------------------------------------------------------------------------


def test_the_ninth_client_is_told_so_and_a_thousand_do_no_harm(served: Served) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(served.path)) for _ in range(server.MAX_CLIENTS)]
        for client in clients:
            client.ask("hello")
        for _ in range(1000):
            with connected(served.path) as one:
                assert "8 clients are connected" in line_of(one)["error"]
        for client in clients:
            assert client.ask("still") == {"command": "still"}
    deadline = time.monotonic() + 5
    while True:  # the eight have left, which the server sees by and by
        try:
            with Client(served.path) as client:
                assert client.ask("free") == {"command": "free"}
                break
        except ControlError:
            assert time.monotonic() < deadline


def test_ten_megabytes_of_garbage_get_one_line_and_no_memory(served: Served) -> None:
    with connected(served.path) as one:
        with suppress(ConnectionError):
            one.sendall(os.urandom(10 << 20).replace(b"\n", b"x"))
        assert "8192 octets at the most" in line_of(one)["error"]
        assert line_of(one) == {}
    with Client(served.path) as client:
        assert client.ask("well") == {"command": "well"}


@pytest.mark.parametrize(
    ("garbage", "words"),
    [
        (b"GET / HTTP/1.1\r\n", "this is not JSON"),
        (b"\xff\xfe\x00\n", "this is not JSON"),
        (b"[" * 8000 + b"\n", "this is not"),
        (b"[1, 2]\n", "this is not a request"),
        (b'{"command": 1}\n', "this is not a request"),
        (b'{"pjfail": 2, "command": "servers"}\n', "speaks version 1 of the protocol, not 2"),
        (b"\n", "this is not JSON"),
    ],
)
def test_garbage_gets_an_error_line(served: Served, garbage: bytes, words: str) -> None:
    with connected(served.path) as one:
        one.sendall(garbage)
        assert words in line_of(one)["error"]
        assert line_of(one) == {}


def test_a_client_that_never_reads_is_let_go_of_and_holds_up_nobody(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SEND_TIMEOUT", 0.3)
    with connected(served.path) as deaf, Client(served.path) as client:
        deaf.sendall(b'{"command": "large", "rows": 5000}\n')
        assert client.ask("meanwhile") == {"command": "meanwhile"}
        deadline = time.monotonic() + 5
        with suppress(BrokenPipeError, ConnectionResetError):
            while deaf.send(b"x"):
                assert time.monotonic() < deadline
                time.sleep(0.05)


def test_a_client_that_says_nothing_is_let_go_of(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_TIMEOUT", 0.2)
    with connected(served.path) as mute:
        assert line_of(mute) == {}


def test_a_command_that_takes_too_long_is_ended(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "COMMAND_TIMEOUT", 0.2)
    with Client(served.path) as client, pytest.raises(ControlError, match=r"sleep took more than 0\.2 s"):
        client.ask("sleep", {"seconds": 30})


def test_events_are_followed_and_who_leaves_too_many_unread_is_let_go_of(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(served.path) as client, connected(served.path) as deaf:
        deaf.sendall(b'{"command": "events", "follow": true}\n')
        line_of(deaf)
        client.ask("hello")
        client._socket.sendall(b'{"command": "events", "follow": true}\n')
        assert client._next()["result"] == {"command": "events"}
        large = {"event": "ServerDown", "text": "x" * 1000}
        for number in range(5 * server.MAX_UNREAD_EVENTS):
            served.do(lambda number=number: served.control.tell({**large, "number": number}))
            assert client._next()["event"]["number"] == number
        read = 0
        while line_of(deaf):
            read += 1
        assert read < 4 * server.MAX_UNREAD_EVENTS


# --- what is left behind ----------------------------------------------------------------------------------------------


def test_the_end_lets_go_of_clients_and_removes_the_file(tmp_path: Path) -> None:
    served = Served(tmp_path / "control.sock")
    with connected(served.path) as quiet, Client(served.path) as client:
        client.ask("hello")
        served.stop()
        assert line_of(quiet) == {}
        with pytest.raises(ControlError, match="has gone"):
            client.ask("there?")
    assert list(tmp_path.iterdir()) == []


def test_what_a_dead_process_has_left_is_replaced_and_what_lives_is_not(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    served = Served(path)
    with pytest.raises(ControlError, match=f"another process listens at {path}"):
        ControlSocket(path)
    with Client(path) as client:
        assert client.ask("unharmed") == {"command": "unharmed"}
    served.stop()


def test_a_file_that_is_not_a_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    path.write_text("dear")
    with pytest.raises(ControlError, match="is not a socket; remove this file"):
        ControlSocket(path)
    assert path.read_text() == "dear"


def test_the_file_of_another_is_not_removed(tmp_path: Path) -> None:
    first = ControlSocket(tmp_path / "control.sock")
    first.path.unlink()
    second = ControlSocket(tmp_path / "control.sock")
    first.close()
    assert second.path.exists()
    second.close()
    assert not second.path.exists()


def test_a_forked_child_lets_go_of_it(tmp_path: Path) -> None:
    served = Served(tmp_path / "control.sock")
    with Client(served.path) as client:
        client.ask("hello")
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(write, str(len(served.control._sockets)).encode())
            time.sleep(30)
            os._exit(0)
        try:
            assert os.read(read, 100) == b"0"
            assert client.ask("still mine") == {"command": "still mine"}
            served.stop()
            with pytest.raises(ControlError, match="has gone"):  # the child keeps no end of it open
                client.ask("there?")
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)
            os.close(read)
            os.close(write)


# --- places -----------------------------------------------------------------------------------------------------------


def test_a_path_that_is_too_long_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    with pytest.raises(ControlError, match="octets; a socket's path has 107 at the most"):
        ControlSocket(path)


def test_the_default_place_is_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert place.own_path() == tmp_path / "pjfail" / f"{os.getpid()}.sock"
    assert stat.S_IMODE((tmp_path / "pjfail").stat().st_mode) == 0o700


def test_without_a_runtime_folder_it_is_in_the_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    monkeypatch.setattr(place, "folders", lambda user: [tmp_path / "missing" / "pjfail", tmp_path / f"pjfail-{user}"])
    assert place.own_path().parent == tmp_path / f"pjfail-{os.geteuid()}"


def test_a_process_that_may_write_nowhere_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose root is read-only, and has no /tmp of its own."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(place.os, "geteuid", lambda: 4_000_000_000)
    monkeypatch.setattr(place.tempfile, "tempdir", None)
    monkeypatch.setattr(place.tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "missing")])
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    with pytest.raises(ControlError, match=r"/tmp/pjfail-4000000000 cannot be made: Read-only file system; give"):
        place.own_path()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "pjfail").mkdir()
    (tmp_path / "pjfail").chmod(mode)
    with pytest.raises(ControlError, match=r"is not a folder of user \d+ alone .*; remove it, or give"):
        place.own_path()


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "pjfail").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ControlError, match="is not a folder of user"):
        place.own_path()


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "folders", lambda _: [tmp_path / "missing" / "pjfail", tmp_path / "pjfail"])
    (tmp_path / "pjfail").mkdir(mode=0o700)
    monkeypatch.setattr(place.os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ControlError, match="is not a folder of user"):
        place.own_path()


def test_a_given_path_must_be_in_a_folder_where_no_other_may_write(tmp_path: Path) -> None:
    assert place.given_path(str(tmp_path / "a.sock")) == tmp_path / "a.sock"
    assert place.given_path("/tmp/a.sock") == Path("/tmp/a.sock")  # others may write, and not remove
    with pytest.raises(ControlError, match="'yes' is not a valid path for a control socket; write its folder, too"):
        place.given_path("yes")
    with pytest.raises(ControlError, match="No such file or directory; create this folder"):
        place.given_path(tmp_path / "missing" / "a.sock")
    tmp_path.chmod(0o777)
    with pytest.raises(ControlError, match="others may write there"):
        place.given_path(tmp_path / "a.sock")


def test_sockets_of_processes_that_were_killed_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = place.own_path().parent
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(folder / "1.sock"))
    living = ControlSocket(folder / "2.sock")
    place.own_path()
    assert [path.name for path in folder.iterdir()] == ["2.sock"]
    living.close()


# --- finding one ------------------------------------------------------------------------------------------------------


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of sockets that no other program shares."""
    folder = tmp_path / "pjfail"
    folder.mkdir(mode=0o700)
    monkeypatch.delenv("PJFAIL_CONTROL", raising=False)
    monkeypatch.setattr("pjfail.control.place.folders", lambda _: [folder])
    monkeypatch.setattr("pjfail.control.client.folders", lambda _: [folder])
    return folder


def test_with_nothing_to_find_it_says_how_to_turn_it_on(runtime: Path) -> None:
    with pytest.raises(ControlError, match=r"PJFAIL_CONTROL=1 in its environment, or .*pjfail.attach\(control=True\)"):
        find(None)
    with pytest.raises(ControlError, match=f"process {os.getpid()} has no control socket in .*, start it with"):
        find(str(os.getpid()))
    with pytest.raises(ControlError, match="there is no process 999999999"):
        find("999999999")


def test_one_is_found_by_itself_and_of_several_one_is_named(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ControlSocket(runtime / f"{os.getpid()}.sock")
    assert find(None) == [own.path]
    assert find(str(os.getpid())) == [own.path]
    other = ControlSocket(runtime / "1.sock")
    with pytest.raises(ControlError, match="several programs have a control socket; name one: 1 "):
        find(None)
    assert find("all") == sorted([other.path, own.path])
    assert find("/run/voip/control.sock") == [Path("/run/voip/control.sock")]
    monkeypatch.setenv("PJFAIL_CONTROL", "/run/voip/control.sock")
    assert find(None) == [Path("/run/voip/control.sock")]
    own.close()
    other.close()


def test_a_client_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"nothing answers at .*: No such file or directory"):
        Client(tmp_path / "missing.sock")


def test_the_client_needs_no_compiled_core() -> None:
    code = "import sys, pjfail.control.client; print('pjfail._native' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


@pytest.mark.parametrize(
    ("value", "wanted"), [("", False), ("0", False), ("false", False), ("1", True), ("True", True)]
)
def test_the_variable_asks_for_a_socket_or_for_none(value: str, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PJFAIL_CONTROL", value)
    assert place.wanted_by_environment() is wanted


def test_a_process_whose_socket_is_elsewhere_is_asked_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PJFAIL_CONTROL", raising=False)
    with pytest.raises(
        ControlError, match=r"has no control socket in /.*/pjfail or /.*: if it has one elsewhere, name its path;"
    ):
        find(str(os.getpid()))
