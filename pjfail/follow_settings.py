"""How accounts are followed: the settings of all of them in ``attach(follow=)``, and of one in ``follow()``."""

from __future__ import annotations

from typing import Literal, TypedDict

from ._validation import is_amount, require_bool
from ._values import dataclass

GENTLE_WATCH = 15.0
"""Seconds of quiet after which a server is asked; asked so seldom, one over TCP or TLS is left to its connection."""

MAX_STANDBY = 7  # servers beside the account's own
MAX_KEEPALIVE = 7200.0  # seconds: what the system has by itself


@dataclass(frozen=True, slots=True)
class Follow:
    """How accounts are kept on servers that work. Times are in seconds.

    ``watch``: a UDP server that followed accounts are on is asked by one OPTIONS, not one for each account, when it has
    been quiet for so long, give or take a fifth; None: never. Over TCP and TLS the end of the connection tells; their
    servers are asked, too, where ``watch`` is less than 15.

    ``failback``: how long a server in a better tier must have been well before accounts go back to it, which they do up
    to half as long later; None: they never go back. ``spread``: an account that has to leave its server registers with
    the next one within this time, at random.

    ``standby``: with how many further servers the account is registered all the time; True is 1.

    ``subscriptions``: whether presence, dialogs and message waiting are subscribed to anew at the server that an
    account has moved to. ``calls``: "refresh" sends a re-INVITE in calls whose connection has ended, once the account
    is registered again; None leaves calls alone.

    ``network``: whether changes of this machine's addresses and routes are passed on to pjsip. ``keepalive``: a
    connection that an account is registered over ends when its other end acknowledges nothing for so long (TCP
    keepalive), 7200 at the most; None: as the system has it. A change holds for the account's next connection.

    Raises ValueError for what is not a valid value.
    """

    watch: float | None = GENTLE_WATCH
    failback: float | None = 10.0
    spread: float = 2.0
    standby: int = 0
    subscriptions: bool = True
    calls: Literal["refresh"] | None = None
    network: bool = False
    keepalive: float | None = 15.0

    def __post_init__(self) -> None:
        if self.watch is not None and not (is_amount(self.watch) and self.watch > 0):
            raise ValueError(f"watch is {self.watch!r}; give seconds, more than 0, or None for never")
        if self.keepalive is not None and not (is_amount(self.keepalive, most=MAX_KEEPALIVE) and self.keepalive > 0):
            raise ValueError(
                f"keepalive is {self.keepalive!r}; give seconds, more than 0 and up to {MAX_KEEPALIVE:g}, or None for "
                "the system's"
            )
        if self.failback is not None and not is_amount(self.failback):
            raise ValueError(f"failback is {self.failback!r}; give seconds, or None for never")
        if not is_amount(self.spread):
            raise ValueError(f"spread is {self.spread!r}; give seconds")
        if not isinstance(self.standby, int) or not 0 <= self.standby <= MAX_STANDBY:
            raise ValueError(f"standby is {self.standby!r}; give True, or a number of servers up to {MAX_STANDBY}")
        require_bool("subscriptions", self.subscriptions)
        require_bool("network", self.network)
        if self.calls not in ("refresh", None):
            raise ValueError(f'calls is {self.calls!r}; give "refresh", or None to leave calls alone')
        object.__setattr__(self, "standby", int(self.standby))


class Changes(TypedDict, total=False):
    """The settings that one account has otherwise than all: those of :class:`Follow`."""

    watch: float | None
    failback: float | None
    spread: float
    standby: int
    subscriptions: bool
    calls: Literal["refresh"] | None
    network: bool
    keepalive: float | None
