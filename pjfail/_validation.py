"""Checks of what a caller gives, whose program may not have been type-checked."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from numbers import Real
from typing import Any

# A token (RFC 3261 section 25.1) in capitals. pjsip copies a method into its packet's 4 000 octets unchecked, and takes
# "invite" for INVITE. The C core has room for 15 octets.
_METHOD = re.compile(r"[A-Z0-9.!%*_+`'~-]{1,15}")


# What a function of the application may raise on pjfail's thread; only that call has failed then. SystemExit and
# KeyboardInterrupt would end the thread there, and no program. CancelledError is missing: by that asyncio ends a task.
FAILURES = (Exception, SystemExit, KeyboardInterrupt)


def is_amount(value: object, least: float = 0.0, most: float = sys.float_info.max) -> bool:
    """Returns whether *value* is a number from *least* to *most*: not a string, a bool or a NaN, and finite unless
    *most* is infinite.
    """
    return isinstance(value, Real) and not isinstance(value, bool) and not value < least and value <= most


def is_method(value: object) -> bool:
    """Returns whether *value* is a SIP method in capitals, of at most 15 characters."""
    return isinstance(value, str) and _METHOD.fullmatch(value) is not None


def is_async(function: object) -> bool:
    """Returns whether calling *function* gives a coroutine, which must be awaited."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def is_plain(function: Callable[..., object]) -> bool:
    """Returns whether *function* is written in Python as ``def``, so that its result cannot be awaited.

    False for a wrapper (``functools.wraps``) of an async function, and for what is not written in Python.
    """
    inner = inspect.unwrap(getattr(function, "__func__", function))
    return inspect.isfunction(inner) and not is_async(inner)


def require(name: str, value: object, kind: type, advice: str) -> None:
    """Raises TypeError unless *value* is an instance of *kind*; a class is not. *advice* says what to give."""
    if not isinstance(value, kind) or isinstance(value, type):
        raise TypeError(f"{name} is {value!r}; give {advice}")


def require_bool(name: str, value: object) -> None:
    """Raises ValueError unless *value* is True or False: of another value nobody knows which one it stands for."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; give True or False")


def require_some_of(name: str, given: object, known: Sequence[str]) -> None:
    """Raises ValueError unless *given* is None, or a list of some of *known*, each once."""
    if given is None:
        return
    if isinstance(given, str):
        raise ValueError(f"{name} is one string; give a list of them: [{given!r}]")
    listed = list(given) if isinstance(given, Collection) else []
    if not listed or any(each not in known or listed.count(each) > 1 for each in listed):
        raise ValueError(f"{name} is {given!r}; choose among {', '.join(known)}, each once")


def require_path(name: str, value: object) -> None:
    """Raises TypeError unless *value* is a path."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} is {value!r}; give a path")


def require_function(
    name: str, value: object, takes: Sequence[str], returns: str, keywords: Sequence[str] = (), instead: str = ""
) -> None:
    """Raises TypeError unless *value* can be called with as many arguments as *takes* names, and need not be awaited.

    *returns* says what the function should return, *instead* what else may be given, *keywords* as for
    :func:`require_arguments`.
    """
    advice = f"{instead}a function ({', '.join(takes)}) -> {returns}"
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{name} is {value!r}; give {advice}")
    if is_async(value):
        raise TypeError(f"{name} is {value!r}, which is async, and nobody would await it; write def")
    require_arguments(name, value, takes, advice, keywords)
    # One of pjfail's own says by the names of its arguments what it is.
    if _is_own(value) and (named := _positional(value)[: len(takes)]) != list(takes):
        raise TypeError(f"{name} is {value!r}, a function ({', '.join(named)}); give {advice}")


def _is_own(function: Callable[..., object]) -> bool:
    return str(getattr(function, "__module__", "")).startswith("pjfail.")


def _positional(function: Callable[..., object]) -> list[str]:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [each.name for each in inspect.signature(function).parameters.values() if each.kind in positional]


def require_arguments(
    name: str, function: Callable[..., object], takes: Sequence[str], advice: str, keywords: Sequence[str] = ()
) -> None:
    """Raises TypeError unless *function* can be called with as many arguments as *takes* names.

    The call also passes each argument of *keywords* for which *function* has a keyword-only parameter.
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
    """Returns *listeners* as a tuple. Raises TypeError unless they are a list of functions that take one event."""
    if not isinstance(listeners, Iterable) or isinstance(listeners, str):
        raise TypeError(f"listeners is {listeners!r}; give a list of functions that take an event")
    found = tuple(listeners)
    for listener in found:
        if callable(listener) and is_async(listener):
            raise TypeError(f"{listener!r} is async, and nobody would await it; write def, or give a QueueListener")
        require_function("a listener", listener, ("event",), "None")
        if is_async(getattr(listener, "on_attach", None)):
            raise TypeError(f"{listener!r} has an async on_attach(), and nobody would await it; write def")
    return found
