"""What the documentation gives to be copied, run with what it is for: pjsip, Kamailio."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from rig.app import PYTHON
from rig.daemon import Daemon, find
from rig.network import alone
from rig.pages import DOCS, README, ROOT, pages_with_code, program

SNIPPETS = DOCS / "snippets"
LOG = re.compile(r"^(?:INFO|WARNING|ERROR):pjfail:.*", re.MULTILINE)
ADDRESS = "127.0.92.1"
REQUEST = (
    "{method} sip:{address} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{number};rport\r\nMax-Forwards: 70\r\n"
    "From: <sip:pjfail@{address}>;tag=1\r\nTo: <sip:{address}>{tag}\r\nCall-ID: {number}\r\nCSeq: 1 {method}\r\n"
    "Content-Length: 0\r\n\r\n"
)


def ran(page: Path, folder: Path) -> str:
    """Runs the program of *page* among the servers that the pages write; returns what it printed."""
    path = folder / "page.py"
    path.write_text(program(page))
    command = [*alone(), "unshare", "--mount", PYTHON, str(Path(__file__).with_name("docs_page.py")), str(path)]
    path_of_imports = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path_of_imports}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=environment, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def without_figures(lines: str) -> list[str]:
    """Returns the lines of pjfail's log in *lines*, with the figures that differ from run to run left out."""
    return [re.sub(r"\d+\.\d{3} s|in \d+ s|at [\d:]{8}", "_", line) for line in LOG.findall(lines)]


@pytest.mark.parametrize("page", pages_with_code(), ids=lambda page: page.stem)
def test_the_code_of_a_page_runs_as_it_stands_there(page: Path, tmp_path: Path) -> None:
    printed = without_figures(ran(page, tmp_path))
    if page.stem == "index":
        for told in (page, README):
            promised = without_figures(told.read_text("utf-8"))
            assert len(promised) >= 5
            assert [line for line in promised if line not in printed] == []


@pytest.mark.parametrize("snippet", ["failover_test.py", "fixtures_test.py"])
def test_the_test_of_a_program_that_loses_its_server(snippet: str) -> None:
    command = [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, snippet]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=SNIPPETS, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


class Drained(Daemon):
    """Kamailio with the configuration of the page on the server side."""

    def __init__(self) -> None:
        super().__init__("kamailio")
        modules = next(Path("/usr/lib").glob("*/kamailio/modules"))
        command = [find("kamailio"), "-DD", "-E", "-f", str(SNIPPETS / "kamailio-failover.cfg"), "-L", f"{modules}/"]
        command += ["-l", f"udp:{ADDRESS}:5060", "-Y", str(self.run), "-P", f"{self.run}/kamailio.pid", "-m", "64"]
        self.start(command, lambda: self.told("core.uptime"))
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((ADDRESS, 0))
        self._socket.settimeout(10)
        self._sent = 0

    def told(self, *words: str) -> bool:
        command = [find("kamcmd"), "-s", f"unix:{self.run}/kamailio_ctl", *words]
        return subprocess.run(command, check=False, capture_output=True, timeout=10).returncode == 0

    def answer(self, method: str, tag: str = "") -> str:
        """The answer to a request, its headers too."""
        self._sent += 1
        own = "{}:{}".format(*self._socket.getsockname())
        request = REQUEST.format(method=method, address=ADDRESS, own=own, number=self._sent, tag=tag)
        self._socket.sendto(request.encode(), (ADDRESS, 5060))
        return self._socket.recv(65535).decode()

    def close(self) -> None:
        self._socket.close()
        super().close()


@pytest.fixture
def kamailio() -> Iterator[Drained]:
    with closing(Drained()) as server:
        yield server


def test_a_kamailio_that_is_drained_says_so_to_all_but_dialogs(kamailio: Drained) -> None:
    assert kamailio.answer("OPTIONS").startswith("SIP/2.0 200 ")
    assert kamailio.told("htable.seti", "drain", "on", "1")
    for method in ("OPTIONS", "REGISTER", "MESSAGE"):
        answer = kamailio.answer(method)
        assert answer.startswith("SIP/2.0 503 ")
        assert "\r\nRetry-After: 300\r\n" in answer
    assert kamailio.answer("OPTIONS", tag=";tag=2").startswith("SIP/2.0 200 ")
    assert kamailio.told("htable.seti", "drain", "on", "0")
    assert kamailio.answer("OPTIONS").startswith("SIP/2.0 200 ")
