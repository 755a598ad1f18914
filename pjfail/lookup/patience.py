"""Waits for several answers without letting the slowest one decide."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from ..errors import LookupFailed

T = TypeVar("T")


async def settle(
    questions: Sequence[Coroutine[Any, Any, T]], patience: float, *, enough: bool = False
) -> list[T | LookupFailed]:
    """Returns every result in the order of *questions*; a :class:`LookupFailed` stands where one was raised.

    Once one result is true, or from the beginning if there is *enough* without them, the others have *patience* more
    seconds; then they count as failed temporarily.
    """
    if len(questions) == 1 and not enough:  # without a task
        try:
            return [await questions[0]]
        except LookupFailed as failure:
            return [failure]
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(question) for question in questions]
    waiting = set(tasks)
    until = loop.time() + patience if enough else None
    try:
        while waiting:
            left = None if until is None else until - loop.time()
            done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            outcomes = [_outcome(task) for task in done]
            if until is None and any(outcome for outcome in outcomes if not isinstance(outcome, LookupFailed)):
                until = loop.time() + patience
        return [_outcome(task) for task in tasks]
    finally:
        for task in tasks:
            task.cancel()


def _outcome(task: asyncio.Task[T]) -> T | LookupFailed:
    if not task.done():
        return LookupFailed("no answer in time", temporary=True)
    error = task.exception()
    if isinstance(error, LookupFailed):
        return error
    return task.result()
