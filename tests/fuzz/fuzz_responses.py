"""Responses with the right branch and little else that is right, to requests under way; and allocations that fail.

A C program (traffic.c) with pjsip and the core in it, both built with AddressSanitizer, sends requests and calls.
Servers here answer each several times, with mutated responses: over UDP from two addresses, over TCP with an end of
the connection too. Every request must end once, and be answered as ever when the servers are well again.
"""

from __future__ import annotations

import json
import os
import queue
import random
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from native import ROOT, build, tree

from pjfail.testing.sip import Request, cut_message, parse_request

HERE = Path(__file__).resolve().parent
RESPONSES = 20_000
SECONDS = 120

CODES = (100, 180, 183, 199, 200, 202, 300, 302, 401, 407, 404, 408, 481, 486, 487, 491, 500, 502, 503, 504, 603, 699)
ODD_CODES = ("0", "99", "700", "999", "4294967496", "-1", "")
ODD_LINES = (
    "Retry-After: 4294967295", "Retry-After: -1", "Retry-After: 99999999999999999999", "Retry-After: 5 (",
    "Contact: <sip:a@b:99999>", "Contact: *", "Contact: <sip:x@127.0.0.1:1>;expires=1",
    "Record-Route: <sip:x;lr>,<sip:y;lr>", "Record-Route: <sip:%00@[::1];lr>",
    'WWW-Authenticate: Digest realm="x", nonce="n"',
    'Proxy-Authenticate: Digest realm="x", nonce="n", qop="auth"', "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKother",
    "Expires: 4294967296", "Expires: 0", "Min-Expires: 7", "Require: odd", "To: <sip:other>;tag=other",
    "CSeq: 1 INVITE", "Content-Length: 99999", "Content-Length: -5", "X-Long: " + "y" * 3000,
)  # fmt: skip
OCTETS = b'\r\n\0;,<>"%: \t@'


class Mutator:
    """Makes responses to requests; the same ones for the same *seed* and requests. One thread at a time."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def response(self, request: Request) -> bytes:
        random = self._random
        tag = f"t{random.randrange(3)}" if random.random() < 0.7 else ""
        lines = request.response(random.choice(CODES), tag=tag).decode("latin-1").split("\r\n")
        if random.random() < 0.05:
            lines[0] = f"SIP/2.0 {random.choice(ODD_CODES)} Odd"
        lines = [
            line for line in lines if not line.startswith(("From", "To", "CSeq", "Call")) or random.random() < 0.98
        ]
        if random.random() < 0.05:
            lines = [f"CSeq: {random.randrange(1 << 32)} ODD" if line.startswith("CSeq") else line for line in lines]
        for _ in range(random.randrange(4)):
            lines.insert(random.randrange(1, len(lines) - 1), random.choice(ODD_LINES))
        message = bytearray("\r\n".join(lines).encode("latin-1"))
        for _ in range(random.choice((0, 0, 0, 1, 1, 2, 5, 20))):
            self._edit(message, request.branch.encode())
        return bytes(message[: random.randrange(len(message))] if random.random() < 0.03 else message)

    def _edit(self, message: bytearray, branch: bytes) -> None:
        """Changes an octet or so, seldom within the branch, without which nobody would look at the rest."""
        random = self._random
        at = random.randrange(len(message))
        begin = message.find(branch)
        if begin <= at < begin + len(branch) and random.random() < 0.95:
            return
        match random.randrange(4):
            case 0:
                message[at] = random.randrange(256)
            case 1:
                del message[at]
            case 2:
                message.insert(at, random.choice(OCTETS))
            case _:
                message[at:at] = bytes([random.randrange(256)]) * random.randrange(200)

    def chance(self, share: float) -> bool:
        return self._random.random() < share

    def count(self) -> int:
        return self._random.randrange(1, 5)


class Servers:
    """Two servers over UDP, two over TCP, each in a thread of its own. `well`: they answer 200 and nothing else."""

    def __init__(self, seed: int) -> None:
        self.well = False
        self.sent = 0
        self._lock = threading.Lock()
        self._mutator = Mutator(seed)
        self._sockets: list[socket.socket] = []
        self.udp_ports = [self._open(socket.SOCK_DGRAM, self._serve_udp) for _ in range(2)]
        self.tcp_ports = [self._open(socket.SOCK_STREAM, self._serve_tcp) for _ in range(2)]

    def close(self) -> None:
        for one in self._sockets:
            one.close()

    def _open(self, kind: socket.SocketKind, serve: Callable[[socket.socket], None]) -> int:
        bound = socket.socket(socket.AF_INET, kind)
        bound.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            bound.listen(100)
        self._sockets.append(bound)
        self._start(serve, bound)
        port: int = bound.getsockname()[1]
        return port

    def _start(self, serve: Callable[[socket.socket], None], bound: socket.socket) -> None:
        def run() -> None:
            with suppress(OSError):
                serve(bound)

        threading.Thread(target=run, daemon=True).start()

    def _responses(self, request: Request) -> list[bytes]:
        if request.method == "ACK":
            return []
        if self.well:
            return [request.response(200, tag="well")]
        with self._lock:
            responses = [self._mutator.response(request) for _ in range(self._mutator.count())]
            self.sent += len(responses)
        return responses

    def _chance(self, share: float) -> bool:
        with self._lock:
            return not self.well and self._mutator.chance(share)

    def _serve_udp(self, bound: socket.socket) -> None:
        elsewhere = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sockets.append(elsewhere)
        while True:
            raw, source = bound.recvfrom(65535)
            request = parse_request(raw, 0.0, "udp", source)
            for response in self._responses(request) if request else []:
                (elsewhere if self._chance(0.15) else bound).sendto(response, source)

    def _serve_tcp(self, bound: socket.socket) -> None:
        while True:
            connection, _ = bound.accept()
            self._start(self._serve_connection, connection)

    def _serve_connection(self, connection: socket.socket) -> None:
        buffer = bytearray()
        with connection:
            source = connection.getpeername()
            while data := connection.recv(65535):
                buffer += data
                while (raw := cut_message(buffer)) is not None:
                    request = parse_request(raw, 0.0, "tcp", source)
                    for response in self._responses(request) if request else []:
                        connection.sendall(response)
                if self._chance(0.05):
                    if self._chance(0.5):
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return


@cache
def program() -> Path:
    """traffic.c, pjsip and the core, all with AddressSanitizer and UBSan."""
    subprocess.run([ROOT / "tools/sanitized_pjsip.sh", tree(), "address"], check=True)
    flags = "-fsanitize=address,undefined -fsanitize-recover=address -fno-sanitize-recover=undefined"
    return build(
        HERE / "traffic.c",
        ROOT / "build/sanitize/address/pjproject",
        variant="fuzz",
        extra=(HERE / "failing.c",),
        CFLAGS=f"{flags} -O1 -fno-omit-frame-pointer",
        LDFLAGS=flags,
        CORE_CFLAGS="-Dmalloc=failing_malloc -Dcalloc=failing_calloc",
    )


@contextmanager
def traffic(servers: Servers, one_in: int, folder: Path) -> Iterator[Callable[[str], dict[str, Any]]]:
    """The program under way; what is yielded tells it to go on, and returns what it prints next."""
    environment = {
        **os.environ,
        "ASAN_OPTIONS": f"log_path={folder}/report:halt_on_error=0:exitcode=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",  # to standard error
    }
    words = [program(), str(one_in), *map(str, (*servers.udp_ports, *servers.tcp_ports))]
    errors = folder / "stderr"
    with errors.open("w") as stderr:
        running = subprocess.Popen(
            words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    assert running.stdin
    assert running.stdout
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        assert running.stdout
        for line in running.stdout:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()

    def reports() -> str:
        return "\n".join(path.read_text(errors="replace")[:6000] for path in sorted(folder.glob("report*")))

    def tell(word: str) -> dict[str, Any]:
        assert running.stdin
        with suppress(BrokenPipeError):
            running.stdin.write(word + "\n")
            running.stdin.flush()
        line = lines.get(timeout=60)
        assert line, f"the program has died: {running.wait(10)}\n{errors.read_text(errors='replace')}\n{reports()}"
        found: dict[str, Any] = json.loads(line)
        return found

    try:
        yield tell
        assert running.wait(30) == 0, f"the program ended with {running.returncode}"
        assert not reports(), reports()
    finally:
        running.kill()
        running.wait()


@pytest.mark.timeout(SECONDS + 180)  # `make fuzz` has built pjsip before
@pytest.mark.parametrize("one_in", [0, 4], ids=["responses", "allocations"])
def test_mutated_responses_to_requests_under_way(one_in: int, tmp_path: Path) -> None:
    seed = int(os.environ.get("FUZZ_SEED", "1"))
    wanted = RESPONSES if not one_in else RESPONSES // 2
    program()
    with ExitStack() as stack:
        servers = Servers(seed)
        stack.callback(servers.close)
        tell = stack.enter_context(traffic(servers, one_in, tmp_path))
        until = time.monotonic() + SECONDS
        before = -1
        while before != servers.sent and servers.sent < wanted and time.monotonic() < until:
            before = servers.sent
            time.sleep(3)
        fire = tell("stop")
        assert servers.sent >= wanted, f"only {servers.sent} responses: {fire}"
        assert (fire["ended"], fire["twice"]) == (fire["sent"], 0), fire
        assert fire["retried"] > 0, "nothing has failed over, so nothing was tried"
        assert not one_in or fire["failed_allocations"] > 1000, fire
        assert (fire["waiting"], fire["invites_twice"]) == (0, 0), fire
        servers.well = True
        check = tell("check")
        assert (check["well"], check["twice"]) == (check["sent"], 0), check
