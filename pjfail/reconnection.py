"""When an account registers again whose connection has ended: at once, or later when it ends again and again. Pure."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

from ._values import dataclass

# The account registers within so many seconds, at random, so that programs that lost a server do not come in step.
JITTER = 0.1
# Accounts of one program that lose their connections together register one after the other, so many seconds apart.
PACE = 0.01
# Accounts whose connections end within so many seconds have lost them together.
TOGETHER = 1.0
# A connection that ends within so many seconds keeps closing: the next is made after BACKOFF, then after twice that.
STEADY = 10.0
BACKOFF = 0.5
MAX_BACKOFF = 30.0


@dataclass(frozen=True, slots=True)
class Closings:
    """How often in a row an account's connections have ended soon, and when the account was to register last."""

    count: int = 0
    at: float = -math.inf

    def after(self, now: float, random: Random) -> Closings:
        """Returns this with one more connection that has ended *now*: ``at`` is when the account is to register."""
        count = self.count if now - self.at < STEADY else 0
        wait = min(BACKOFF * 2.0 ** min(count - 1, 32), MAX_BACKOFF) if count else 0.0
        return Closings(count + 1, now + wait + random.uniform(0, JITTER))


@dataclass(frozen=True, slots=True)
class Queue:
    """How many accounts of this program have lost their connections together, and when the last one did."""

    count: int = 0
    at: float = -math.inf

    def after(self, now: float) -> Queue:
        return Queue(self.count + 1 if now - self.at < TOGETHER else 0, now)

    def wait(self, spread: float) -> float:
        """Returns how long the last of them waits for those before it; always less than *spread*."""
        return self.count * PACE % spread if spread else 0.0


class Reconnections:
    """The closings of all followed accounts. Worker only."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._closings: dict[int, Closings] = {}
        self._queue = Queue()

    def due(self, account: int, spread: float, now: float) -> float:
        """Returns when *account*, whose connection has ended *now*, is to register again."""
        self._queue = self._queue.after(now)
        closings = self._closings.get(account, Closings()).after(now, self._random)
        closings = replace(closings, at=closings.at + self._queue.wait(spread))
        self._closings[account] = closings
        return closings.at

    def forget(self, account: int) -> None:
        self._closings.pop(account, None)
