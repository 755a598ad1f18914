"""A SIP server over UDP for tests: it answers, or does not."""

from __future__ import annotations

import socketserver
import threading
from typing import Any


class FailingServer(socketserver.UDPServer):
    """Answers each request at *address* with ``code``; None: not at all. ``methods`` are those it has got."""

    def __init__(self, address: str, port: int = 5060) -> None:
        self.code: int | None = 200
        self.methods: list[str] = []
        super().__init__((address, port), socketserver.BaseRequestHandler)

    def __enter__(self) -> FailingServer:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def finish_request(self, request: Any, client_address: Any) -> None:
        data, socket = request
        lines = data.decode("utf-8", "replace").split("\r\n")
        method = lines[0].partition(" ")[0]
        if not method:  # a keep-alive
            return
        self.methods.append(method)
        if self.code is not None and method != "ACK":
            socket.sendto(response(self.code, lines[1:]).encode(), client_address)


def response(code: int, headers: list[str]) -> str:
    """The answer *code* to a request with *headers*."""
    names = ("via", "from", "to", "call-id", "cseq", "contact", "expires")
    kept = [line for line in headers if line.partition(":")[0].lower() in names]
    tagged = [f"{line};tag=1" if line.startswith("To:") and ";tag=" not in line else line for line in kept]
    return "\r\n".join([f"SIP/2.0 {code} {code}", *tagged, "Content-Length: 0", "", ""])
