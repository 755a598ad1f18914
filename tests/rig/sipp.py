"""SIPp as the callee: one call, after a scenario of tests/e2e/sipp, with everything that it saw in its log."""

from __future__ import annotations

import errno
import socket
import subprocess
from pathlib import Path
from types import TracebackType

from .daemon import Daemon, find

SCENARIOS = Path(__file__).resolve().parent.parent / "e2e" / "sipp"


class Sipp(Daemon):
    """Takes so many *calls* at *address*:5060 over *transport*, as *scenario* says; RTP that it gets, it sends back."""

    def __init__(self, address: str, scenario: str, transport: str = "udp", calls: int = 1) -> None:
        super().__init__("sipp")
        self.address = address
        self.scenario = scenario
        self.transport = transport
        self.calls = calls

    def __enter__(self) -> Sipp:
        mode = {"udp": "u1", "tcp": "t1"}[self.transport]
        command = [find("sipp"), "-sf", str(SCENARIOS / f"{self.scenario}.xml"), "-t", mode, "-nostdin"]
        command += ["-m", str(self.calls)]
        command += ["-i", self.address, "-p", "5060", "-mi", self.address, "-rtp_echo", "-au", "alice", "-ap", "secret"]
        command += ["-trace_msg", "-message_file", "messages", "-trace_err", "-error_file", "errors"]
        self.start(command, self._listens)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"{self}:\n{self.seen()}")
        self.close()

    def __str__(self) -> str:
        return f"{self.address}:5060"

    def seen(self) -> str:
        """What it has received and sent so far, and what it did not expect."""
        files = (self.run / name for name in ("messages", "errors"))
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def finish(self, timeout: float = 20) -> None:
        """Waits until the call has gone to its end just as the scenario says; AssertionError when it has not."""
        assert self._process is not None
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.scenario} at {self}: the call is not over after {timeout:g} s") from None
        assert status == 0, f"{self.scenario} at {self}: the call did not go as it should"

    def _listens(self) -> bool:
        kind = socket.SOCK_DGRAM if self.transport == "udp" else socket.SOCK_STREAM
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((self.address, 5060))
            except OSError as error:
                return error.errno == errno.EADDRINUSE
            return False
