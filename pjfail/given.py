"""What a caller gives, who may have no type checker: told from what it is taken for."""

from __future__ import annotations

import inspect
import sys
from numbers import Real


def is_amount(value: object, least: float = 0.0, most: float = sys.float_info.max) -> bool:
    """Whether *value* is a number from *least* to *most*: no string, no bool, no NaN, and finite where *most* is."""
    return isinstance(value, Real) and not isinstance(value, bool) and not value < least and value <= most


def is_async(function: object) -> bool:
    """Whether a call of *function* gives a coroutine, which somebody must await."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
