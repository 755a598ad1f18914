"""Who is asked when: the prober, with requests that nobody answers."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from random import Random
from typing import Any

from pjfail.errors import RequestTimeout
from pjfail.model import Outcome, OutcomeKind, Response, Server
from pjfail.probe import Probe, Prober, Watched

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


def test_a_quiet_server_is_asked_when_it_is_due_and_nobody_looks_before() -> None:
    requests = Unanswered()
    heard: dict[Server, float] = {}
    watched = {FIRST: Watched("sip.test", 10.0), SECOND: Watched("sip.test", 100.0)}

    async def program() -> None:
        prober = Prober(Probe(timeout=0.01), requests, lambda *_: None, Random(1))  # type: ignore[arg-type]

        async def look(now: float) -> float:
            due = prober.watch(watched, heard.get, now)
            await asyncio.sleep(0.1)
            return due

        due = await look(1000)
        assert 1008 <= due <= 1012
        assert await look(1001) == due  # nothing has changed
        heard[FIRST] = 1007
        assert await look(due) == 1007 + 8
        assert not requests.sent
        due = await look(1015)
        assert requests.sent == [FIRST]
        assert 1015 + 8 <= due <= 1015 + 12
        watched[SECOND] = Watched("sip.test", 1.0)  # an account that wants it asked more often
        assert await look(1016) <= 1016 + 1.2
        watched.clear()
        assert await look(2000) == float("inf")
        assert requests.sent == [FIRST]

    asyncio.run(asyncio.wait_for(program(), 20))
