"""Final responses that are held until the application has decided about them."""

from __future__ import annotations

from .._native import lib
from .._values import dataclass
from ..model import Server
from .requests import Answer


@dataclass(frozen=True, slots=True)
class Ruling:
    """A response that is held, and the request as it was sent; the core knows both by ``request`` and ``number``."""

    request: int
    number: int
    message: bytes
    response: Answer
    rtt: float
    remaining: tuple[Server, ...]


def rule(ruling: Ruling, retry: bool) -> None:
    """Has the request tried at the next server, or its response passed on; too late it changes nothing."""
    lib.pf_rule(ruling.request, ruling.number, retry)
