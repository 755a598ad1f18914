"""A sliding window over a server's answers and failures: immutable, of constant size whatever the traffic."""

from __future__ import annotations

import math

from ._values import dataclass

BUCKETS = 10


@dataclass(frozen=True, slots=True)
class Window:
    """How many requests a server answered and failed in the last ``seconds``, with a resolution of a tenth of that.

    ``buckets`` are (number, answers, failures), the oldest first; number ``n`` begins at ``n * seconds / 10``. Raises
    ValueError if ``seconds`` is not a valid time.
    """

    seconds: float = 60.0
    noted_at: float | None = None
    buckets: tuple[tuple[int, float, float], ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"{self.seconds} s is not a valid window; give seconds, more than 0")

    def note(self, now: float, answers: float = 0, failures: float = 0) -> Window:
        """Returns the window with *failures* added at *now*, and *answers* spread evenly over the time since the last
        note.
        """
        began = now if self.noted_at is None else self.noted_at
        now = max(now, began)
        width = self.seconds / BUCKETS
        last = math.floor(now / width)
        kept = {number: (good, bad) for number, good, bad in self.buckets if number > last - BUCKETS}
        if answers:
            for number in range(max(math.floor(began / width), last - BUCKETS + 1), last + 1):
                inside = min(now, (number + 1) * width) - max(began, number * width)
                share = inside / (now - began) if now > began else 1.0
                good, bad = kept.get(number, (0.0, 0.0))
                kept[number] = good + answers * share, bad
        if failures:
            good, bad = kept.get(last, (0.0, 0.0))
            kept[last] = good, bad + failures
        buckets = tuple((number, *kept[number]) for number in sorted(kept))
        return Window(self.seconds, now, buckets)

    @property
    def answers(self) -> float:
        """The answers within the window that ended with the last note."""
        return sum(good for _, good, _ in self.buckets)

    @property
    def failures(self) -> float:
        """The failures within the window that ended with the last note."""
        return sum(bad for _, _, bad in self.buckets)

    @property
    def samples(self) -> float:
        return self.answers + self.failures

    @property
    def rate(self) -> float:
        """The share of requests that failed, from 0 to 1; 0 if there were none."""
        return self.failures / self.samples if self.buckets and self.samples else 0.0
