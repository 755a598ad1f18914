"""Whether this machine has a way to an address (RFC 6724 rule 1: avoid unusable destinations)."""

from __future__ import annotations

import socket


def has_route(address: str) -> bool:
    """Whether the kernel knows a route to the numeric *address*, by connecting a UDP socket: nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError:
        return False
    return True
