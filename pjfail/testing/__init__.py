"""Servers that fail on command, for tests of a program that speaks SIP: a registrar, and a name server to find it by.

::

    from pjfail.testing import SILENT, Registrar

    with Registrar("127.0.20.1", 5060) as first, Registrar("127.0.20.2", 5060) as second:
        ...  # the program registers with the first one
        first.fault = SILENT
        second.wait_for("REGISTER", timeout=10.0)

They run in threads of the test's own process, on addresses of loopback (on Linux all of 127.0.0.0/8 is there), and
speak SIP and DNS over sockets. They need neither pjsip nor an attached pjfail. For tests and demonstrations only: the
registrar accepts every client, and keeps every request in memory.
"""

from __future__ import annotations

from .name_server import NameServer
from .registrar import (
    DYING,
    REFUSING,
    RESETTING,
    SILENT,
    STALLING,
    UNAVAILABLE,
    WELL,
    Answer,
    Fault,
    Registrar,
)
from .sip import Request

__all__ = [
    "DYING",
    "REFUSING",
    "RESETTING",
    "SILENT",
    "STALLING",
    "UNAVAILABLE",
    "WELL",
    "Answer",
    "Fault",
    "NameServer",
    "Registrar",
    "Request",
]
