"""When a request under way goes on to the plan's next server, underneath the application."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from .given import is_amount

SILENCE: Mapping[str, float] = MappingProxyType(
    {"REGISTER": 0.5, "OPTIONS": 0.5, "SUBSCRIBE": 0.5, "PUBLISH": 0.5, "INVITE": 1.5}
)
"""After how many seconds without any answer a request of each method goes on. 0.5 s is UDP's first retransmission; a
server owes an INVITE its 100 within 0.2 s, and 1.5 s allow for two packets lost."""

MAX_ATTEMPTS = 8
"""The most servers that one request is tried at; pjsip itself sends no more often in the time that it gives one."""

_MOST = 16  # methods, and codes, that the C core has room for
_NEVER = ("ACK", "CANCEL")
_CHALLENGES = (401, 407)


@dataclass(frozen=True, slots=True)
class Steering:
    """When a request under way goes on to the next server. Times are in seconds.

    ``silence``: for each method, after how long without any answer; a method that is not named waits for its server. To
    have more of them: ``Steering(silence={**pjfail.steering.SILENCE, "MESSAGE": 1.0})``. A server that turns out to be
    slow, not dead, has then got the same request as the next one, so name methods that bear it.

    ``codes``: final responses that mean "ask another", as long as the server gave no provisional one before. The
    application sees one only when no server is left.

    ``race_gap``: how far apart connections are tried, side by side, when the first server has none and has not been
    heard of lately. None: one after the other, as pjsip does.

    ``budget``: the share of requests (0 to 1) that may go on sooner, once the server is later than its round trips so
    far (but 0.1 s at the least). Never INVITE.

    ``port_check``: whether to look if a UDP server's port is closed (ICMP), so that its requests, of every method, go
    on at once. For that a server that has not answered for half a minute, or whose answer is overdue, is sent an empty
    line (the keep-alive of pjsip), from another port than SIP's and at most once a second.

    ``attempts``: at how many servers one request is tried at the most, from 1 to 8, whatever its plan has: so many
    servers the owner of a zone can have one request sent to, and retransmitted. With 1 it stays with its first server,
    unless pjsip itself cannot send there.

    Never steered: ACK, CANCEL, requests within a dialog, a challenge's answer, a request with a provisional response.
    Raises ValueError for what is no such time, code or share, and TypeError for what is no mapping or sequence of them.
    """

    silence: Mapping[str, float] = field(default_factory=lambda: SILENCE)
    codes: tuple[int, ...] = (503,)
    race_gap: float | None = 0.25
    budget: float = 0.1
    port_check: bool = True
    attempts: int = MAX_ATTEMPTS
    enabled: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.silence, Mapping):
            raise TypeError(f"silence is {self.silence!r}; give a mapping of each method to its seconds")
        if not isinstance(self.codes, Sequence) or isinstance(self.codes, str):
            raise TypeError(f"codes is {self.codes!r}; give a tuple of codes, such as (503,)")
        for method, seconds in self.silence.items():
            known = isinstance(method, str) and method.isascii() and method.isupper() and len(method) < 16
            if not known or method in _NEVER:
                raise ValueError(f"{method!r} is no method of a request that can be steered")
            if not is_amount(seconds, 0.05, 32):
                raise ValueError(f"{method}: {seconds!r} is no time from 0.05 to 32 s")
        for code in self.codes:
            if not (isinstance(code, int) and 300 <= code < 700) or code in _CHALLENGES:
                raise ValueError(f"{code!r} is no final response for which another server could be asked")
        if len(self.silence) > _MOST or len(self.codes) > _MOST:
            raise ValueError(f"more than {_MOST} methods or codes")
        if self.race_gap is not None and not is_amount(self.race_gap, 0.05, 5):
            raise ValueError(f"race_gap is {self.race_gap!r}; give 0.05 to 5 s, or None")
        if not is_amount(self.budget, most=1):
            raise ValueError(f"budget is {self.budget!r}; give a share from 0 to 1")
        whole = isinstance(self.attempts, int) and not isinstance(self.attempts, bool)
        if not (whole and 1 <= self.attempts <= MAX_ATTEMPTS):
            raise ValueError(f"attempts is {self.attempts!r}; give a whole number from 1 to {MAX_ATTEMPTS}")
        object.__setattr__(self, "silence", MappingProxyType(dict(self.silence)))

    @classmethod
    def off(cls) -> Steering:
        """No steering: what is on the wire is pjsip's own."""
        return cls(enabled=False)
