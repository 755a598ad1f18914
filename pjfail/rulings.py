"""What the application decides of a final response: the next server, or is this its answer?"""

from __future__ import annotations

import inspect
import logging
import re
import time

from ._validation import FAILURES
from .bridge import rulings
from .bridge.rulings import Ruling
from .model import SentRequest
from .request import response_of
from .retry import RULING_TIME, Decide

log = logging.getLogger("pjfail")

_FOLD = re.compile(r"\r?\n[ \t]+")


class Rulings:
    """Asks the application's function, *decide*, about responses that are held. Worker only."""

    def __init__(self, decide: Decide | None) -> None:
        self._decide = decide
        self._logged: set[str] = set()

    def rule(self, ruling: Ruling) -> None:
        rulings.rule(ruling, self._decided(ruling))

    def _decided(self, ruling: Ruling) -> bool:
        """Whether the next server is tried. What cannot be told passes the response on."""
        server = ruling.response.server
        if self._decide is None or server is None:
            return False
        response = response_of(ruling.response, server, ruling.rtt)
        began = time.monotonic()
        try:
            decided: object = self._decide(request_of(ruling.message), response, ruling.remaining)
        except FAILURES as error:
            self._complain("raised", f"raised {type(error).__name__}", ruling, error)
            return False
        took = time.monotonic() - began
        if took > RULING_TIME:
            self._complain("late", f"took {took:.1f} s, of {RULING_TIME:g} s that a response is held,", ruling)
        if not isinstance(decided, bool):
            if inspect.iscoroutine(decided):
                decided.close()
            self._complain("nonsense", f"returned {decided!r}, not True or False,", ruling)
            return False
        return decided

    def _complain(self, kind: str, problem: str, ruling: Ruling, error: BaseException | None = None) -> None:
        if kind not in self._logged:
            self._logged.add(kind)
            log.error(
                "RetryPolicy.decide %s when asked about a %d of %s; pjfail passes such a response on (logged once)",
                problem, ruling.response.code, ruling.response.server, exc_info=error,
            )  # fmt: skip


def request_of(message: bytes) -> SentRequest:
    """The request in *message*, which pjsip has written."""
    head, _, body = message.partition(b"\r\n\r\n")
    first, *lines = _FOLD.sub(" ", head.decode("utf-8", "replace")).split("\r\n")
    method, _, rest = first.partition(" ")
    pairs = (line.partition(":") for line in lines)
    headers = tuple((name.strip(), value.strip()) for name, _, value in pairs)
    return SentRequest(method, rest.rpartition(" ")[0], headers, body)
