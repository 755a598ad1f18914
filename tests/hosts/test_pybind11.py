"""pjfail in a program with pjsua2-pybind11, whose classes have other names, and fewer, than SWIG's.

Its pjsip is 2.14.1, in shared libraries that auditwheel has renamed (libpjsip-459b242d.so.2). It sends no request but
REGISTER, and has neither TLS nor libHandleEvents().
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rig.app import SANITIZED, App
from rig.hosts import Host

from pjfail import _native
from pjfail.testing import SILENT, Fault, Registrar

FIRST, SECOND = "127.0.71.1", "127.0.71.2"
PROGRAM = Path(__file__).with_name("pybind11_program.py")


# setRegistration() keeps the GIL, and waits for a lock that pjsip's thread has while it calls Python: an answer that is
# there before it has returned would block both.
SOON = Fault(latency=0.3)


@pytest.fixture
def first() -> Iterator[Registrar]:
    with Registrar(FIRST) as registrar:
        registrar.fault = SOON
        yield registrar


@pytest.fixture
def second() -> Iterator[Registrar]:
    with Registrar(SECOND) as registrar:
        registrar.fault = SOON
        yield registrar


def test_failover_on_silence(host: Host, first: Registrar, second: Registrar) -> None:
    """The very REGISTER that finds the first server silent is answered by the second; it ends as it began."""
    with App(PROGRAM, FIRST, SECOND, python=host.python) as app:
        assert app.next() == {"code": 200, "server": f"{FIRST}:5060"}
        first.fault = SILENT
        assert app.ask("REGISTER") == {"code": 200, "server": f"{SECOND}:5060"}
        assert app.ask("detach") == {"attached": False}
        assert app.finish(30).returncode == 0


def test_pin(host: Host, first: Registrar, second: Registrar) -> None:
    """Its account object has the property `id`, where SWIG's has `getId()`."""
    with App(PROGRAM, FIRST, SECOND, python=host.python) as app:
        assert app.next()["server"] == f"{FIRST}:5060"
        assert app.ask(f"pin {SECOND}") == {"pinned": f"udp:{SECOND}:5060"}
        assert app.ask("REGISTER") == {"code": 200, "server": f"{SECOND}:5060"}


def test_one_binary(host: Host, first: Registrar, record_property: Callable[[str, object], None]) -> None:
    with App(PROGRAM, FIRST, python=host.python) as app:
        app.next()
        facts = app.ask("facts")
    record_property("facts", facts)
    assert facts["pjsip"] == "2.14.1"
    assert facts["extension"] == _native.__file__ or SANITIZED
