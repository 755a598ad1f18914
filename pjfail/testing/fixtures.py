"""Servers that fail, as fixtures of pytest: name this module in ``pytest_plugins``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from .name_server import NameServer
from .registrar import Registrar

# A network of loopback that pjfail uses for nothing else.
ADDRESS = "127.0.19.{}"
NAME_SERVER = "127.0.19.253"


@pytest.fixture
def failing_server() -> Iterator[Callable[..., Registrar]]:
    """A function that starts a Registrar, and returns it; it is stopped after the test."""
    numbers = itertools.count(1)
    with ExitStack() as stack:

        def start(address: str | None = None, port: int = 0, **options: Any) -> Registrar:
            own = ADDRESS.format(next(numbers)) if address is None else address
            return stack.enter_context(Registrar(own, port, **options))

        yield start


@pytest.fixture
def failing_dns() -> Iterator[Callable[..., NameServer]]:
    """A function that starts a NameServer for a zone and its origin, and returns it; it is stopped after the test."""
    with ExitStack() as stack:

        def start(zone: str, origin: str, address: str = NAME_SERVER, port: int = 0) -> NameServer:
            return stack.enter_context(NameServer(zone, origin, address, port))

        yield start
