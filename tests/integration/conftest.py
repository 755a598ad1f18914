"""The two registrars that many of these tests have: at the addresses FIRST and SECOND of the test's own module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pjfail.testing import Registrar


@pytest.fixture
def first(request: pytest.FixtureRequest) -> Iterator[Registrar]:
    with Registrar(request.module.FIRST) as registrar:
        yield registrar


@pytest.fixture
def second(request: pytest.FixtureRequest) -> Iterator[Registrar]:
    with Registrar(request.module.SECOND) as registrar:
        yield registrar
