"""What a caller gives, who may have no type checker: told from what it is taken for."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any


def is_amount(value: object, least: float = 0.0, most: float = sys.float_info.max) -> bool:
    """Whether *value* is a number from *least* to *most*: no string, no bool, no NaN, and finite where *most* is."""
    return isinstance(value, Real) and not isinstance(value, bool) and not value < least and value <= most


def is_async(function: object) -> bool:
    """Whether a call of *function* gives a coroutine, which somebody must await."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def require(name: str, value: object, kind: type, advice: str) -> None:
    """Raises TypeError unless *value* is a *kind*, and not a class; *advice* says what to give."""
    if not isinstance(value, kind) or isinstance(value, type):
        raise TypeError(f"{name} is {value!r}; give {advice}")


def require_function(
    name: str, value: object, takes: Sequence[str], returns: str, keywords: Sequence[str] = (), instead: str = ""
) -> None:
    """Raises TypeError unless *value* can be called with as many arguments as *takes* names, and need not be awaited.

    *returns* says what it should return, *instead* what else may be given. *keywords*: as in :func:`require_arguments`.
    """
    advice = f"{instead}a function ({', '.join(takes)}) -> {returns}"
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{name} is {value!r}; give {advice}")
    if is_async(value):
        raise TypeError(f"{name} is {value!r}, which is async, and nobody would await it; write def")
    require_arguments(name, value, takes, advice, keywords)


def require_arguments(
    name: str, function: Callable[..., object], takes: Sequence[str], advice: str, keywords: Sequence[str] = ()
) -> None:
    """Raises TypeError unless *function* can be called with as many arguments as *takes* names.

    Those of *keywords* are passed too for which it has a keyword-only parameter.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin that has no signature
        return
    kinds = {parameter.name: parameter.kind for parameter in signature.parameters.values()}
    passed = {each: None for each in keywords if kinds.get(each) is inspect.Parameter.KEYWORD_ONLY}
    try:
        signature.bind(*takes, **passed)
    except TypeError as error:
        raise TypeError(f"{name} is {function!r}, which takes other arguments: {error}; give {advice}") from None


def checked_listeners(listeners: object) -> tuple[Callable[[Any], object], ...]:
    """*listeners* as a tuple. Raises TypeError for what is not a list of functions that take an event."""
    if not isinstance(listeners, Iterable) or isinstance(listeners, str):
        raise TypeError(f"listeners is {listeners!r}; give a list of functions that take an event")
    found = tuple(listeners)
    for listener in found:
        if callable(listener) and is_async(listener):
            raise TypeError(f"{listener!r} is async, and nobody would await it; write def, or give a QueueListener")
        require_function("a listener", listener, ("event",), "None")
    return found
