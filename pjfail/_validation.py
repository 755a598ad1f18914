"""What a caller gives, who may have no type checker: told from what it is taken for."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from numbers import Real


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
    name: str, value: object, takes: Sequence[str], returns: str, keywords: Sequence[str] = ()
) -> None:
    """Raises TypeError unless *value* can be called with as many arguments as *takes* names, and need not be awaited.

    *returns* says what it should return. Of *keywords* those are passed that it has a keyword-only parameter for.
    """
    wanted = f"a function ({', '.join(takes)}) -> {returns}"
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{name} is {value!r}; give {wanted}")
    if is_async(value):
        raise TypeError(f"{name} is {value!r}, which is async, and nobody would await it; write def")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # a builtin that has no signature
        return
    passed = {
        keyword: None
        for keyword in keywords
        if keyword in signature.parameters and signature.parameters[keyword].kind is inspect.Parameter.KEYWORD_ONLY
    }
    try:
        signature.bind(*takes, **passed)
    except TypeError as error:
        raise TypeError(f"{name} is {value!r}, which takes other arguments ({error}); give {wanted}") from None
