"""When a request under way fails over to the plan's next server, without the application."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType

from ._validation import is_amount, is_method, require_bool
from ._values import dataclass
from .model import Response, SentRequest, Server

TIMEOUTS: Mapping[str, float] = MappingProxyType(
    {"REGISTER": 0.5, "OPTIONS": 0.5, "SUBSCRIBE": 0.5, "PUBLISH": 0.5, "INVITE": 1.5}
)
"""Seconds without any answer after which a request of each method fails over. 0.5 s is UDP's first retransmission (T1).
A server must send a 100 to an INVITE within 0.2 s (RFC 3261 section 17.2.1); 1.5 s allow for two lost packets.
"""

MAX_ATTEMPTS = 8
"""The most servers that one request is tried at: the C core has room for so many."""

RULING_TIME = 0.5
"""How long a final response is held while the application decides about it, in seconds."""

Decide = Callable[[SentRequest, Response, tuple[Server, ...]], bool]
"""A function of the request, a final response and the servers left: whether the next one is tried."""

_MOST = 16  # the most methods, and codes, that the C core has room for
_LONGEST_NAME = 256
# The last label has a letter: an address has no siblings.
_HOST_NAME = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*(?=[a-z0-9-]*[a-z])[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", re.I
)
_NEVER = ("ACK", "CANCEL")
_CHALLENGES = (401, 407)
_CLASSES = ("3xx", "4xx", "5xx", "6xx")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a request under way fails over to the next server of its plan. Times are in seconds.

    ``timeouts``: for each method, how long a request waits without any answer; a method that is not named never fails
    over because of a timeout. To name more methods: ``RetryPolicy(timeouts={**pjfail.retry.TIMEOUTS, "MESSAGE":
    1.0})``. If the first server was slow, not dead, both servers get the request, so name only methods for which that
    does no harm.

    ``codes``: final responses that mean "ask another server", unless the server has sent a 101 to 199 before: numbers,
    and classes such as "5xx", which stand for all of theirs but 401 and 407. The application sees such a response only
    when no server is left.

    ``decide``: a plain function that is asked about each other final response from 300 on (but 401 and 407) while a
    server is left: ``decide(request, response, remaining)`` gets a :class:`pjfail.SentRequest`, a
    :class:`pjfail.Response` and the servers left, in their order. True: the next server is tried. False: the
    application gets the response. It runs on pjfail's thread while the response is held, for 0.5 s at the most; then,
    and when it raises or returns something else, the response is passed on.

    ``connection_attempt_delay``: if the first server has no connection and has not answered lately, connections to
    several servers are tried side by side, each started this long after the one before (RFC 8305). None: one after the
    other, as pjsip does.

    ``hedge_budget``: the share of requests (0 to 1) that may fail over before their timeout, once the answer is later
    than the server's round trips so far (but after 0.1 s at least). Never an INVITE.

    ``port_check``: whether to test if a UDP server's port is closed (ICMP), so that requests of every method fail over
    at once. The test sends an empty line (pjsip's keep-alive) from another port than SIP's, at most once a second, to a
    server that has not answered for half a minute, or whose answer is overdue.

    ``attempts``: the most servers that one request is tried at, from 1 to 8, however many its plan has. It limits how
    many servers the owner of a zone can have one request sent to. With 1 the request stays with its first server,
    unless pjsip itself cannot send there.

    ``dialogs``: names of clusters whose servers know each other's dialogs, or route by name alone and keep none. A
    request within a dialog (BYE, re-INVITE, UPDATE, NOTIFY) whose next hop is one of these names, by Record-Route or
    Contact, goes to a sibling when its own server is down or fails (RFC 3263 section 4.3). BYE, UPDATE and NOTIFY wait
    0.5 s where ``timeouts`` does not name them. Without it a dialog stays with its server.

    ``enabled``: False leaves everything on the wire to pjsip; :meth:`off` returns such a value.

    These never fail over: ACK, CANCEL, requests within a dialog, a request with a provisional response other than 100,
    an INVITE that the caller has hung up. The answer to a challenge goes to the challenger, and to the next server when
    the challenger then fails. Raises ValueError for an invalid time, code, share or bool, and TypeError if an argument
    is not a mapping or sequence.
    """

    timeouts: Mapping[str, float] = field(default_factory=lambda: TIMEOUTS)
    codes: tuple[int | str, ...] = (503,)
    decide: Decide | None = None
    connection_attempt_delay: float | None = 0.25
    hedge_budget: float = 0.1
    port_check: bool = True
    attempts: int = MAX_ATTEMPTS
    dialogs: Collection[str] = ()
    enabled: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.timeouts, Mapping):
            raise TypeError(f"timeouts is {self.timeouts!r}; give a mapping of each method to its seconds")
        if not isinstance(self.codes, Sequence) or isinstance(self.codes, str):
            raise TypeError(f'codes is {self.codes!r}; give a tuple of codes, such as (503, "5xx")')
        for method, seconds in self.timeouts.items():
            if not is_method(method) or method in _NEVER:
                raise ValueError(
                    f"{method!r} is not a valid method in timeouts; write at most 15 characters in capitals, "
                    "not ACK or CANCEL"
                )
            if not is_amount(seconds, 0.05, 32):
                raise ValueError(f"{seconds!r} is not a valid timeout of {method}; give seconds from 0.05 to 32")
        for code in self.codes:
            if code in _CHALLENGES or not (code in _CLASSES or (isinstance(code, int) and 300 <= code < 700)):
                raise ValueError(
                    f"{code!r} is not a valid code to fail over at; give 300 to 699, but not 401 or 407, "
                    'or a class such as "5xx"'
                )
        if len(self.timeouts) > _MOST or len(self.codes) > _MOST:
            raise ValueError(f"timeouts or codes has more than {_MOST} entries; give at most {_MOST} of each")
        if self.decide is not None:
            _require_decide(self.decide)
        if self.connection_attempt_delay is not None and not is_amount(self.connection_attempt_delay, 0.05, 5):
            raise ValueError(
                f"connection_attempt_delay is {self.connection_attempt_delay!r}; give 0.05 to 5 s, or None"
            )
        if not is_amount(self.hedge_budget, most=1):
            raise ValueError(f"hedge_budget is {self.hedge_budget!r}; give a share from 0 to 1")
        require_bool("port_check", self.port_check)
        require_bool("enabled", self.enabled)
        whole = isinstance(self.attempts, int) and not isinstance(self.attempts, bool)
        if not (whole and 1 <= self.attempts <= MAX_ATTEMPTS):
            raise ValueError(f"attempts is {self.attempts!r}; give a whole number from 1 to {MAX_ATTEMPTS}")
        if not isinstance(self.dialogs, Collection) or isinstance(self.dialogs, str | bytes):
            raise TypeError(f'dialogs is {self.dialogs!r}; give a set of host names, such as {{"voip.example"}}')
        for name in self.dialogs:
            if not (isinstance(name, str) and len(name) < _LONGEST_NAME and _HOST_NAME.fullmatch(name)):
                raise ValueError(f'{name!r} is not a valid host name in dialogs; write a name alone: "voip.example"')
        if len(self.dialogs) > _MOST:
            raise ValueError(f"dialogs has more than {_MOST} names; give at most {_MOST}")
        object.__setattr__(self, "dialogs", frozenset(name.lower() for name in self.dialogs))
        object.__setattr__(self, "timeouts", MappingProxyType(dict(self.timeouts)))

    @classmethod
    def off(cls) -> RetryPolicy:
        """Returns a policy without retries: everything on the wire is pjsip's own."""
        return cls(enabled=False)


def _require_decide(decide: object) -> None:
    """TypeError for what cannot be asked about a response."""
    if not callable(decide):
        raise TypeError(f"decide is {decide!r}; give a function (request, response, remaining) -> bool")
    for function in (decide, getattr(decide, "__call__", None)):  # noqa: B004 - of an object it may be async
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError(f"decide is {decide!r}, which is async or a generator; give a plain function")
    try:
        inspect.signature(decide).bind(None, None, None)
    except TypeError as error:
        raise TypeError(f"decide is {decide!r}; it must take (request, response, remaining): {error}") from None
    except ValueError:
        pass  # a built-in that does not tell
