"""One request to exactly one server, and its answer.

:class:`Requests` owns the requests under way. Any thread sends; the worker delivers the answers.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager

from ._validation import is_method
from .bridge import requests
from .bridge.requests import Answer
from .bridge.status import TIMED_OUT, UNRESOLVED, strerror
from .errors import DETACHED, BadServer, BadURI, NoEndpoint, NotAttached, PjsipError, RequestFailed, RequestTimeout
from .model import Response, Server, Target

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
"""Further headers of a request, in order: names and their values."""

_TOKEN = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+")  # RFC 3261 section 25.1
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FOLD = re.compile(r"\s*[\r\n]+\s*")
_MEDIA_TYPE = re.compile(r"[^\s/;]+/[^\s/;]+")
# pjsip writes these itself.
_OWN = frozenset({"via", "v", "cseq", "call-id", "i", "max-forwards", "content-length", "l"})
_NEED_A_DIALOG = frozenset({"INVITE", "ACK", "CANCEL", "BYE", "PRACK"})


def response_of(answer: Answer, server: Server, rtt: float) -> Response:
    """The response that *answer* is."""
    lines = (line.partition(":") for line in answer.headers)
    headers = tuple((name.strip(), _FOLD.sub(" ", value.strip())) for name, _, value in lines)
    return Response(answer.code, answer.reason.strip(), headers, answer.body, server, rtt)


class Sent(Future[Response]):
    """A request under way, known to the core as ``number``."""

    def __init__(self, number: int, what: str, server: Server | None) -> None:
        super().__init__()
        self.number = number
        self.what = what
        self.server = server
        self.at = time.monotonic()


@contextmanager
def awaitable(sent: Sent) -> Iterator[asyncio.Future[Response]]:
    """Gives the block a future that follows *sent*, in the running loop.

    The block may be cancelled as *sent* ends. Nobody reads its exception then, and asyncio would log that.
    """
    future = asyncio.wrap_future(sent)
    try:
        yield future
    finally:
        if not future.cancel() and not future.cancelled():
            future.exception()


# Numbers are never used twice: a transaction of an earlier attachment may end in this one.
_numbers = itertools.count(1)


class Requests:
    """The requests that wait for their answers, under one lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: dict[int, Sent] = {}
        self._ended = False

    def send(
        self, method: str, uri: str, server: Server | None = None, headers: Headers = (), body: bytes | str = b""
    ) -> Sent:
        """Sends a request. Any thread except a SIP thread. It and its future raise what :meth:`pjfail.Failover.request`
        does.

        The caller calls :meth:`forget` when it no longer waits.
        """
        if not is_method(method):
            raise ValueError(
                f"{method!r:.60} is not a valid method; write at most 15 characters in capitals, such as OPTIONS"
            )
        if method in _NEED_A_DIALOG:
            raise ValueError(f"{method} needs a dialog; make a call with pjsua instead")
        target = Target.parse(uri)
        if _CONTROL.search(uri):
            raise BadURI(f"{uri!r} has control characters in it")
        if server is not None and target.transport not in (None, server.transport):
            raise BadServer(f"{server}: {uri} asks for {target.transport}")
        if server is not None and target.secure and server.transport != "tls":
            raise BadServer(f"{server}: {uri} asks for TLS")
        if not isinstance(body, bytes | str):
            raise TypeError(f"body is {body!r}; give bytes or a string")
        given = _checked(headers)
        content_type = _taken(given, "content-type", "c") or "text/plain"
        if not _MEDIA_TYPE.fullmatch(content_type):
            raise ValueError(f"{content_type!r} is not a valid media type; write text/plain, say, without parameters")
        host = f"[{target.host}]" if ":" in target.host else target.host
        sender = _taken(given, "from", "f") or f"<sip:pjfail@{host}>"
        to = _taken(given, "to", "t") or uri
        with self._lock:
            if self._ended:
                raise NotAttached(DETACHED)
            sent = Sent(next(_numbers) & 0xFFFFFFFF, f"{method} {uri}", server)
            self._sent[sent.number] = sent
        try:
            requests.send(
                sent.number,
                method,
                uri,
                server=server,
                from_uri=sender,
                to_uri=to,
                headers=given,
                content_type=content_type,
                body=body.encode() if isinstance(body, str) else body,
            )
        except NoEndpoint:  # the core is detached; the worker learns of it next
            self.forget(sent)
            raise NotAttached(DETACHED) from None
        except PjsipError as error:
            self.forget(sent)
            raise RequestFailed(f"{sent.what}{_to(server)} cannot be sent: {error}") from error
        except BaseException:
            self.forget(sent)
            raise
        return sent

    def forget(self, sent: Sent) -> None:
        """Nobody waits for *sent* any more: ends it if it is under way, because pjsip would retransmit it for 32 s."""
        with self._lock:
            under_way = self._sent.pop(sent.number, None)
        if under_way is not None:
            requests.cancel(sent.number)

    async def response(self, sent: Sent, timeout: float) -> Response:
        """Worker. The response to *sent*, which has *timeout* seconds from when it was on the wire.

        While pjsip's polling thread does not run, it neither sends nor reads anything, and no time passes: silence is
        then not the server's. Raises RequestTimeout, and what the future does.
        """
        left = timeout
        with awaitable(sent) as future:
            while left > 0:
                done, _ = await asyncio.wait([future], timeout=left)
                left = max(sent.at, requests.polled_since()) + timeout - time.monotonic()
                if done and left > 0 and isinstance(future.exception(), RequestTimeout):
                    raise RequestFailed(f"{sent.what}{_to(sent.server)}: pjsip's thread did not run meanwhile")
                if done:
                    return future.result()
        raise RequestTimeout(f"{sent.what}{_to(sent.server)}: no answer within {timeout:g} s")

    def deliver(self, answer: Answer) -> None:
        """Worker. Gives *answer* to the future that waits for it."""
        with self._lock:
            sent = self._sent.pop(answer.number, None)
        if sent is None or not sent.set_running_or_notify_cancel():
            return
        server = answer.server or sent.server
        if answer.code and server is not None:
            sent.set_result(response_of(answer, server, answer.at - sent.at))
        elif answer.status == UNRESOLVED and sent.server is None:
            sent.set_exception(RequestFailed(f"{sent.what}: no server was found for it; pjfail's log says why"))
        elif answer.status == TIMED_OUT:
            sent.set_exception(RequestTimeout(f"{sent.what}{_to(sent.server)}: no answer"))
        else:
            why = strerror(answer.status)
            sent.set_exception(RequestFailed(f"{sent.what}{_to(sent.server)}: {why}"))

    def end(self) -> None:
        """Ends all requests: pjfail has been detached."""
        with self._lock:
            self._ended = True
            sent, self._sent = self._sent, {}
        for each in sent.values():
            if each.set_running_or_notify_cancel():
                each.set_exception(NotAttached(DETACHED))


def timeout_error(sent: Sent, seconds: float) -> RequestTimeout:
    """The error for a caller that has waited for *sent* for so many *seconds*."""
    problem = f"{sent.what}{_to(sent.server)}: no answer within {seconds:g} s"
    stalled = requests.polled_since() - sent.at
    if stalled > 0:
        problem += f"; pjsip's thread did not run for the first {min(stalled, seconds):.1f} s of them"
        problem += ": in its callbacks, and in a thread that polls, use request_async()"
    return RequestTimeout(problem)


def _to(server: Server | None) -> str:
    return "" if server is None else f" to {server}"


def _checked(headers: Headers) -> list[tuple[str, str]]:
    """Returns the headers as pairs. Raises TypeError for an invalid header, ValueError for one that pjsip writes
    itself.
    """
    if not isinstance(headers, Iterable):
        raise TypeError(f"headers is {headers!r}; give pairs of a name and a value, or a mapping")
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    for pair in pairs:
        match pair:
            case (str() as name, str() as value):
                pass
            case _:
                raise TypeError(f"{pair!r} is not a valid header; give headers as pairs (name, value), or as a mapping")
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not a valid header name; write a token such as Subject")
        if name.lower() in _OWN:
            raise ValueError(f"{name} is written by pjsip; leave it out of headers")
        if _CONTROL.search(value):
            raise ValueError(f"{name}: {value!r} has control characters in it")
    return pairs


def _taken(headers: list[tuple[str, str]], *names: str) -> str | None:
    """Takes the header called one of *names* out of *headers*."""
    for pair in headers:
        if pair[0].lower() in names:
            headers.remove(pair)
            return pair[1]
    return None
