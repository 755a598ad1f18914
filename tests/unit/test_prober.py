"""Who is asked when: the prober, with requests that nobody answers."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from random import Random
from typing import Any

from pjfail.errors import RequestTimeout
from pjfail.model import Outcome, OutcomeKind, Response, Server
from pjfail.probe import Probe, Prober

FIRST, SECOND = Server("192.0.2.1", 5060), Server("192.0.2.2", 5060)


class Unanswered:
    """In the place of :class:`pjfail.request.Requests`: what was sent where."""

    def __init__(self) -> None:
        self.sent: list[Server] = []

    def send(self, _method: str, _uri: str, server: Server, _headers: object) -> Future[Any]:
        self.sent.append(server)
        return Future()

    async def response(self, _sent: Future[Any], timeout: float) -> Response:
        await asyncio.sleep(timeout)
        raise RequestTimeout("no response")

    def forget(self, _future: Future[Any]) -> None:
        pass


def test_a_server_is_asked_once_at_a_time() -> None:
    requests = Unanswered()
    seen: list[tuple[Server, Outcome | None]] = []

    async def program() -> None:
        prober = Prober(Probe(timeout=0.2), requests, lambda *each: seen.append(each), Random(1))  # type: ignore[arg-type]
        for _ in range(3):
            prober.start(FIRST, "sip.test")
            prober.start(SECOND, "sip.test")
            await asyncio.sleep(0)
        assert requests.sent == [FIRST, SECOND]
        while len(seen) < 2:
            await asyncio.sleep(0.01)
        assert {(server, outcome and outcome.seen) for server, outcome in seen} == {
            (FIRST, OutcomeKind.SILENT),
            (SECOND, OutcomeKind.SILENT),
        }
        prober.start(FIRST, "sip.test")
        await asyncio.sleep(0)
        assert requests.sent == [FIRST, SECOND, FIRST]

    asyncio.run(asyncio.wait_for(program(), 20))
