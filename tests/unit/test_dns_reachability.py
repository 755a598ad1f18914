"""Which addresses this machine can reach (RFC 6724)."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from pjfail.lookup.reachability import has_route, reaches


@pytest.mark.parametrize(
    ("source", "destination", "reached"),
    [
        ("192.0.2.1", "198.51.100.1", True),
        ("10.0.0.1", "198.51.100.1", True),  # NAT: a private address has global scope
        ("169.254.7.7", "198.51.100.1", False),
        ("169.254.7.7", "169.254.1.1", True),
        ("192.0.2.1", "169.254.1.1", True),
        ("fe80::1%eth0", "2001:db8::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("fd00::1", "2001:db8::1", True),
        ("2001:db8::2", "2001:db8::1", True),
        ("127.0.0.1", "127.0.0.9", True),
        ("::1", "::1", True),
    ],
)
def test_a_source_of_the_link_leads_no_further(source: str, destination: str, reached: bool) -> None:
    assert reaches(source, destination) is reached


def test_what_the_kernel_says() -> None:
    assert has_route("127.0.0.1")
    assert has_route("::1")
    assert not has_route("fe80::1")  # without a link
    assert not has_route("255.255.255.255")  # nothing without SO_BROADCAST


def test_the_source_the_kernel_chose_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Probe(socket.socket):
        def connect(self, address: Any) -> None: ...

        def getsockname(self) -> tuple[str, int, int, int]:
            return ("fe80::1%eth0", 1, 0, 2)

    monkeypatch.setattr(socket, "socket", Probe)
    assert not has_route("2001:db8::1")
    assert has_route("fe80::2")
