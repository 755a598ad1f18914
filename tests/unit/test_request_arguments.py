"""What request() says of its arguments before pjsip is asked; and the ends of requests, which come from the C core."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from concurrent.futures import Future
from typing import Any

import pytest

import pjfail
from pjfail.bridge import requests
from pjfail.bridge.requests import Answer
from pjfail.bridge.status import TIMED_OUT
from pjfail.model import Server
from pjfail.request import Requests, Response

SERVER = Server("192.0.2.1", 5060)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the core is given, which here sends nothing."""
    calls: list[dict[str, Any]] = []

    def send(number: int, method: str, uri: str, **rest: Any) -> None:
        calls.append({"number": number, "method": method, "uri": uri, **rest})

    monkeypatch.setattr(requests, "send", send)
    return calls


@pytest.mark.parametrize(
    "method",
    [
        "",
        "OP TIONS",
        "OPTIONS\r\nX: y",
        "INVITE",
        "ACK",
        "CANCEL",
        "BYE",
        "PRACK",
        "options",
        "ack",
        "Invite",
        "ÖPTIONS",
        "A" * 16,
        "A" * 8000,
        None,
        b"OPTIONS",
    ],
)
def test_what_is_no_method_or_needs_a_dialog_is_refused(sent: list[dict[str, Any]], method: str) -> None:
    with pytest.raises(ValueError, match=r"is not a valid method|needs a dialog"):
        Requests().send(method, "sip:example.com")
    assert sent == []
    Requests().send("A" * 15, "sip:example.com")
    assert len(sent) == 1


@pytest.mark.parametrize("headers", ["Subject: hello", [("Subject",)], {"Subject": 5}, [None]])
def test_what_is_no_header_is_a_type_error(sent: list[dict[str, Any]], headers: Any) -> None:
    with pytest.raises(TypeError, match="is not a valid header; give headers as pairs"):
        Requests().send("OPTIONS", "sip:example.com", headers=headers)
    assert sent == []


def test_what_is_no_body_is_a_type_error(sent: list[dict[str, Any]]) -> None:
    body: Any = {"hello": 1}
    with pytest.raises(TypeError, match="give bytes or a string"):
        Requests().send("OPTIONS", "sip:example.com", body=body)
    assert sent == []


@pytest.mark.parametrize(
    "header",
    [
        ("Subject", "hello\r\nX-Evil: yes"),
        ("Subject", "hello\nX-Evil: yes"),
        ("Subject", "hello\x00"),
        ("X-Evil: yes\r\nSubject", "hello"),
        ("", "hello"),
        ("From", "<sip:a@example.com>\r\nX-Evil: yes"),
        ("To", "<sip:a@example.com>\r\nX-Evil: yes"),
        ("Content-Type", "text/plain\r\nX-Evil: yes"),
        ("Content-Type", "plain"),
        *((name, "1") for name in ("Via", "v", "CSeq", "Call-ID", "i", "Max-Forwards", "Content-Length", "l")),
    ],
)
def test_a_header_cannot_bring_another_with_it_or_be_pjsips(
    sent: list[dict[str, Any]], header: tuple[str, str]
) -> None:
    with pytest.raises(
        ValueError, match=r"control characters|not a valid header name|written by pjsip|not a valid media type"
    ):
        Requests().send("OPTIONS", "sip:example.com", headers=[header], body="x")
    assert sent == []


@pytest.mark.parametrize(
    "uri", ["sip:a\r\nX-Evil: yes@example.com", "sip:evil.test\x00@example.com", "sip:example.com;x=\r\nX-Evil: yes"]
)
def test_a_uri_cannot_either(sent: list[dict[str, Any]], uri: str) -> None:
    with pytest.raises(pjfail.BadURI):
        Requests().send("OPTIONS", uri)
    assert sent == []


@pytest.mark.parametrize(
    ("uri", "server"),
    [
        ("sip:example.com;transport=tcp", Server("192.0.2.1", 5060, "udp")),
        ("sip:example.com;transport=udp", Server("192.0.2.1", 5060, "tls")),
        ("sips:example.com", Server("192.0.2.1", 5060, "tcp")),
        ("sips:example.com;transport=tcp", Server("192.0.2.1", 5060, "tcp")),
    ],
)
def test_a_server_of_another_transport_than_the_uris_is_refused(
    sent: list[dict[str, Any]], uri: str, server: Server
) -> None:
    with pytest.raises(pjfail.BadServer):
        Requests().send("OPTIONS", uri, server)
    assert sent == []


def test_from_to_and_content_type_take_the_place_of_the_defaults(sent: list[dict[str, Any]]) -> None:
    requests = Requests()
    requests.send("MESSAGE", "sip:bob@example.com", SERVER)
    requests.send(
        "MESSAGE",
        "sip:bob@example.com",
        SERVER,
        headers={
            "f": "<sip:alice@example.com>",
            "To": "<sip:team@example.com>",
            "C": "application/sdp",
            "Subject": "x",
        },
        body="größer",
    )
    plain, full = sent
    assert (plain["from_uri"], plain["to_uri"]) == ("<sip:pjfail@example.com>", "sip:bob@example.com")
    assert (plain["content_type"], plain["body"], plain["headers"]) == ("text/plain", b"", [])
    assert (full["from_uri"], full["to_uri"]) == ("<sip:alice@example.com>", "<sip:team@example.com>")
    assert (full["content_type"], full["headers"]) == ("application/sdp", [("Subject", "x")])
    assert full["body"] == "größer".encode()


def answered(number: int, *headers: str, body: bytes = b"") -> Answer:
    return Answer(number, 0, 12.5, SERVER, 200, "OK", headers, body)


def send(requests: Requests, sent: list[dict[str, Any]]) -> tuple[int, Future[Response]]:
    future = requests.send("OPTIONS", "sip:example.com", SERVER)
    return sent[-1]["number"], future


def test_headers_keep_their_order_and_repetitions(sent: list[dict[str, Any]]) -> None:
    requests = Requests()
    number, future = send(requests, sent)
    lines = ("Via: a", "X: 1", "x:2", "Empty:", "Subject: folded \r\n  over lines")
    requests.deliver(answered(number, *lines, body=b"\x00\xff"))
    response = future.result(0)
    assert response.headers == (("Via", "a"), ("X", "1"), ("x", "2"), ("Empty", ""), ("Subject", "folded over lines"))
    assert (response.header("X"), response.header("subject"), response.header("nothing")) == (
        "1",
        "folded over lines",
        None,
    )
    assert (response.code, response.reason, response.body, response.server) == (200, "OK", b"\x00\xff", SERVER)


def test_an_end_is_for_one_request_through_all_attachments(sent: list[dict[str, Any]]) -> None:
    """A transaction outlives a detach, and its end must not be taken for that of the next attachment's request."""
    last, _ = send(Requests(), sent)
    requests = Requests()
    number, future = send(requests, sent)
    assert last != number
    requests.deliver(answered(last))
    assert not future.done()


def test_the_ends_without_an_answer(sent: list[dict[str, Any]]) -> None:
    requests = Requests()
    number, silent = send(requests, sent)
    requests.deliver(Answer(number, TIMED_OUT, 12.5, None))
    assert isinstance(silent.exception(0), pjfail.RequestTimeout)
    number, refused = send(requests, sent)
    requests.deliver(Answer(number, 120111, 12.5, None))
    error = refused.exception(0)
    assert isinstance(error, pjfail.RequestFailed)
    assert not isinstance(error, pjfail.RequestTimeout)


def test_who_does_not_wait_any_more_is_not_answered(sent: list[dict[str, Any]]) -> None:
    requests = Requests()
    number, future = send(requests, sent)
    requests.forget(future)
    requests.deliver(answered(number))
    assert not future.done()
    number, cancelled = send(requests, sent)
    cancelled.cancel()
    requests.deliver(answered(number))
    assert cancelled.cancelled()


def test_a_detach_ends_all(sent: list[dict[str, Any]]) -> None:
    requests = Requests()
    _, future = send(requests, sent)
    requests.end()
    assert isinstance(future.exception(0), pjfail.NotAttached)
    with pytest.raises(pjfail.NotAttached):
        requests.send("OPTIONS", "sip:example.com")


@pytest.mark.parametrize("ended_first", [False, True])
def test_a_detach_that_also_ends_the_loop_is_no_news_for_asyncios_log(
    sent: list[dict[str, Any]], ended_first: bool
) -> None:
    """A task that is cancelled reads no exception of the request that it waited for."""
    logged: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        requests = Requests()
        future = requests.send("OPTIONS", "sip:example.com", SERVER)
        waiting = asyncio.create_task(requests.response(future, 5.0))
        await asyncio.sleep(0)
        if ended_first:
            requests.end()
            await asyncio.sleep(0)  # the exception is there, and the task has not run since
        waiting.cancel()
        requests.end()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0)

    asyncio.run(main())
    gc.collect()
    assert logged == []
