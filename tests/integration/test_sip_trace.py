"""What pjfail sends by hand is in pjsip's log too, where pjsua logs the messages that pjsip sends."""

from __future__ import annotations

import re

import pytest
from rig.app import run_app

from pjfail.testing import SILENT, Registrar

FIRST, SECOND = "127.0.105.1", "127.0.105.2"
COPY = re.compile(r"pjfail .*TX (\d+) bytes by pjfail to (\w+) ([\d.:]+):\n((?:.*\n)*?)--end msg--")

APP = """
    import sys
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit

    transport, level, traced = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "traced"

    class Traced(pj.Endpoint):
        def libInit(self, config):
            config.logConfig.msgLogging = traced
            super().libInit(config)

    with Endpoint(log_level=level, kind=Traced) as endpoint:
        pjfail.attach(lookup=pjfail.StaticLookup({"sip.test": [("127.0.105.1", 1, 1), ("127.0.105.2", 2, 1)]}))
        account = Account(endpoint)
        emit(code=account.register("sip:alice@sip.test", f"sip:sip.test;transport={transport}").code)
"""


def copies(transport: str, level: int, trace: str) -> tuple[list[tuple[str, ...]], str]:
    """The copies in the log, and what the second server got; the first one is silent."""
    with Registrar(FIRST) as first, Registrar(SECOND) as second:
        first.fault = SILENT
        result = run_app(APP, transport, str(level), trace)
        assert result.lines == [{"code": 200}]
        return COPY.findall(result.stderr), second.wait_for("REGISTER")[0].raw


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_copy_is_logged_as_it_was_sent(transport: str) -> None:
    logged, received = copies(transport, 4, "traced")
    to_second = [copy for copy in logged if copy[2] == f"{SECOND}:5060"]
    assert to_second
    for size, kind, _, text in to_second:
        assert (int(size), kind) == (len(received), transport.upper())
        assert text.split() == received.split()


@pytest.mark.parametrize(("level", "trace"), [(3, "traced"), (4, "untraced")])
def test_it_is_not_logged_where_pjsua_logs_no_messages(level: int, trace: str) -> None:
    assert copies("udp", level, trace)[0] == []
