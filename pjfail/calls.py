"""Calls under way of followed accounts that ask for it (``calls="refresh"``): those whose connection has ended are
refreshed once the account is registered again.

:func:`decide` is pure and says what should happen to a call; :class:`Calls` does it.
"""

from __future__ import annotations

import contextlib
import enum
import logging
from collections.abc import Callable
from typing import TypeVar

from . import events
from .bridge import calls
from .bridge.calls import Call
from .errors import NotAttached
from .following import FollowedAccount
from .model import Health, Server, State

log = logging.getLogger("pjfail")

K = TypeVar("K")
V = TypeVar("V")

# Seconds from a registration to the look at its calls: after a change of the network pjsua refreshes some by itself.
REVIEW_DELAY = 0.2
MAX_STRANDED = 1000  # calls that are remembered, for each to be told of once
MAX_LEFT = 1000  # accounts that are remembered, with a server that they have left calls at


class Verdict(enum.Enum):
    """What becomes of a call."""

    LEAVE = enum.auto()
    REFRESH = enum.auto()
    STRANDED = enum.auto()


def decide(ended: bool, health: Health, may_move: bool) -> Verdict:
    """Returns what becomes of a call whose connection has *ended* or not, given its server's health. Pure.

    A re-INVITE that nobody answers would end the call, whose media may well go on, so none is sent to a server that is
    down, unless the dialog *may_move* to a sibling.
    """
    if health.state in (State.DOWN, State.HALF_OPEN) and not may_move:
        return Verdict.STRANDED
    return Verdict.REFRESH if ended else Verdict.LEAVE


def _keep(kept: dict[K, V], key: K, value: V, most: int) -> None:
    """Puts *value* into *kept*, and drops the oldest one where there are more than *most*."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > most:
        del kept[next(iter(kept))]


class Calls:
    """The calls of followed accounts. Worker only.

    *later* calls a function after so many seconds; *may_move* says whether a dialog of that server may move to another.
    """

    def __init__(
        self,
        health: Callable[[Server], Health],
        may_move: Callable[[Server], bool],
        tell: Callable[[events.Event], object],
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._health = health
        self._may_move = may_move
        self._tell = tell
        self._later = later
        self._stranded: dict[str, None] = {}
        self._left: dict[tuple[Server, int], FollowedAccount] = {}

    def on_registered(self, followed: FollowedAccount) -> None:
        """Has the account's calls looked at, if it asks for that, once it is registered or has left its server."""

        def review() -> None:
            with contextlib.suppress(NotAttached):
                calls.review(followed.account, followed.aor)

        if followed.settings.calls == "refresh":
            self._later(REVIEW_DELAY, review)

    def on_event(self, event: events.Event) -> None:
        """Has the calls at a server that went down looked at again, where their account had left that server before.

        A REGISTER fails over sooner than the silence that made it do so takes the server down.
        """
        if isinstance(event, events.ServerDown):
            for each in [each for each in self._left if each[0] == event.server]:
                self.on_registered(self._left.pop(each))

    def on_call(self, call: Call, followed: FollowedAccount) -> None:
        """Does what is due for *call*, of the account *followed*."""
        if call.refreshed:
            log.info("call %d (%s) is refreshed: %s has its new connection", call.id, call.call_id, call.server)
            self._tell(events.CallRefreshed(call.account, call.id, call.call_id, call.server))
            return
        health = self._health(call.server)
        verdict = decide(call.ended, health, self._may_move(call.server))
        if verdict is Verdict.REFRESH:
            calls.refresh(call, followed.aor)
        if verdict is Verdict.LEAVE and call.server != followed.server:
            _keep(self._left, (call.server, call.account), followed, MAX_LEFT)
        if verdict is Verdict.STRANDED and call.call_id not in self._stranded:
            _keep(self._stranded, call.call_id, None, MAX_STRANDED)
            reason = f"{call.server} is {health.state.value}: {health.reason}"
            log.warning("call %d (%s) is stranded: %s", call.id, call.call_id, reason)
            self._tell(events.CallStranded(call.account, call.id, call.call_id, call.server, reason))
