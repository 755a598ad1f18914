"""What a firewall makes of a UDP port: one that rejects tells so, and one that drops changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig.app import PYTHON, App
from rig.daemon import find
from rig.network import BECOME, alone

PROGRAM = Path(__file__).with_name("walled_app.py")
FORGED = Path(__file__).with_name("forged_app.py")


@pytest.mark.parametrize(
    ("verdict", "least", "most", "reason"),
    [("reject", 0.0, 0.3, "refused the connection (port unreachable)"), ("drop", 0.45, 1.0, "")],
)
def test_a_firewall(verdict: str, least: float, most: float, reason: str) -> None:
    nft = find("nft")
    setup = [
        f"{nft} add table inet walled",
        f"{nft} 'add chain inet walled input {{ type filter hook input priority 0; }}'",
        f"{nft} add rule inet walled input ip daddr 127.0.83.1 udp dport 5060 {verdict}",
    ]
    with App(BECOME, *alone(*setup), PYTHON, str(PROGRAM)) as app:
        line = app.next(30)
    assert (line["code"], line["server"]) == (200, "127.0.83.2:5060")
    assert least <= line["seconds"] < most
    assert line["reason"] == reason


def test_an_icmp_that_anybody_may_forge_moves_the_request_and_takes_nobody_down() -> None:
    with App(BECOME, *alone(), PYTHON, str(FORGED)) as app:
        line = app.next(30)
        assert (line["code"], line["server"]) == (200, "127.0.84.2:5060")
        assert line["seconds"] < 0.3
        assert app.next() == {"second": True}, "it is asked once more, from another port"
        assert app.next() == {"suspect": "127.0.84.2:5060", "down": False}, "until it answers"
        assert app.next() == {"next": "MESSAGE", "down": False}
