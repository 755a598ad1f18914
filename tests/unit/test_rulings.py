"""What the application says of a response that is held, and what pjfail makes of nonsense."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import pytest

from pjfail import Response, SentRequest, Server
from pjfail.bridge import rulings
from pjfail.bridge.requests import Answer
from pjfail.bridge.rulings import Ruling
from pjfail.rulings import Rulings, request_of

FIRST, SECOND = Server("192.0.2.1", 5060, "udp"), Server("192.0.2.2", 5060, "udp")
MESSAGE = (
    b"INVITE sip:bob@voip.example;user=phone SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK1\r\nSubject: a\r\n  long one\r\nX-Empty:\r\n\r\nbody\r\n\r\n"
)


def ruling(number: int = 1) -> Ruling:
    answer = Answer(0, 0, 0.0, FIRST, 480, " Gone", ("Retry-After: 5", "Reason: Q.850;cause=34"))
    return Ruling(7, number, MESSAGE, answer, 0.25, (SECOND,))


@pytest.fixture
def ruled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bool]]:
    """What the core is told, in its place."""
    told: list[tuple[int, bool]] = []
    monkeypatch.setattr(rulings, "rule", lambda asked, retry: told.append((asked.number, retry)))
    return told


def test_the_function_gets_request_response_and_what_is_left(ruled: list[tuple[int, bool]]) -> None:
    seen: list[Any] = []

    def decide(request: SentRequest, response: Response, remaining: tuple[Server, ...]) -> bool:
        seen.extend((request, response, remaining))
        return True

    Rulings(decide).rule(ruling())
    request, response, remaining = seen
    assert (request.method, request.uri, request.body) == ("INVITE", "sip:bob@voip.example;user=phone", b"body\r\n\r\n")
    assert request.header("subject") == "a long one"
    assert request.header("X-Empty") == ""
    assert request.header("X-None") is None
    assert (response.code, response.reason, response.server, response.rtt) == (480, "Gone", FIRST, 0.25)
    assert response.header("reason") == "Q.850;cause=34"
    assert remaining == (SECOND,)
    assert ruled == [(1, True)]


def raises(*_: object) -> bool:
    raise KeyError("no such thing")


def exits(*_: object) -> bool:
    sys.exit(1)


async def later() -> bool:
    return True


def sleeps(*_: object) -> bool:
    time.sleep(0.6)
    return True


@pytest.mark.parametrize(
    ("decide", "words", "retry"),
    [
        (raises, "raised KeyError", False),
        (exits, "raised SystemExit", False),
        (lambda *_: None, "returned None, not True or False", False),
        (lambda *_: 1, "returned 1, not", False),
        (lambda *_: later(), "returned <coroutine", False),
        (sleeps, "took 0.", True),  # the core has passed the response on meanwhile
    ],
)
def test_a_mistake_is_logged_once_and_the_response_passed_on(
    decide: Any, words: str, retry: bool, ruled: list[tuple[int, bool]], caplog: pytest.LogCaptureFixture
) -> None:
    asked = Rulings(decide)
    with caplog.at_level(logging.ERROR, logger="pjfail"):
        asked.rule(ruling(1))
        asked.rule(ruling(2))
    assert ruled == [(1, retry), (2, retry)]
    (record,) = caplog.records
    assert words in record.getMessage()
    assert "about a 480 of udp:192.0.2.1:5060" in record.getMessage()


@pytest.mark.parametrize("message", [b"", b"\xff\xfe", b"INVITE", b"INVITE sip:a\r\n: \r\n\r\n\r\n"])
def test_any_octets_are_a_request(message: bytes) -> None:
    assert isinstance(request_of(message), SentRequest)
