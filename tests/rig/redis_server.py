"""A real Redis at a fixed address, which the tests kill, stop, flush and start anew."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

PORT = 6379


class RedisServer:
    """redis-server without a disk, started by `with`; *options* are further lines of its configuration.

    With *tls*, the certificate of the authority that `client` trusts, it speaks TLS only.
    """

    def __init__(self, address: str, *options: str, tls: Path | None = None) -> None:
        port = f"port {PORT}" if tls is None else f"port 0\ntls-port {PORT}"
        self._config = "\n".join(
            [f"bind {address}", port, 'save ""', "appendonly no", "enable-debug-command yes", *options]
        )
        self.url = f"redis{'s' if tls else ''}://{address}:{PORT}/0{f'?ssl_ca_certs={tls}' if tls else ''}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program is not None, "make test-packages installs redis-server"
        self._process = subprocess.Popen(
            [program, "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, cwd="/tmp"
        )
        assert self._process.stdin is not None
        self._process.stdin.write(self._config.encode())
        self._process.stdin.close()
        deadline = time.monotonic() + 20
        while True:
            try:
                self.client.ping()
                return
            except redis.ConnectionError:
                assert self._process.poll() is None, "redis-server did not start"
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def client(self) -> Any:
        return redis.Redis.from_url(self.url)

    def entries(self, namespace: str = "default") -> dict[bytes, bytes]:
        """What pjfail has written."""
        found: dict[bytes, bytes] = self.client.hgetall(f"pjfail:{{{namespace}}}:1:entries")
        return found

    def all_keys(self) -> Sequence[bytes]:
        found: list[bytes] = self.client.keys()
        return found
