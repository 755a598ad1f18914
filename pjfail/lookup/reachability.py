"""Whether this machine has a way to an address (RFC 6724 section 6, rules 1 and 2)."""

from __future__ import annotations

import socket
from ipaddress import ip_address


def has_route(address: str) -> bool:
    """Whether packets to the numeric *address* would leave by a route, with a source they can be answered at.

    Connects a UDP socket, which sends nothing, and looks at the source address that the kernel chose.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return reaches(probe.getsockname()[0], address)
    except OSError:
        return False


def reaches(source: str, destination: str) -> bool:
    """Whether *source*'s scope is as wide as *destination*'s: a link-local source leads no further than its link."""
    return _scope(source) >= _scope(destination)


def _scope(address: str) -> int:
    """RFC 4291's scope of a unicast address, RFC 6724 section 3.2 for IPv4: 2 is the link (and the host), 14 all."""
    parsed = ip_address(address)
    return 2 if parsed.is_link_local or parsed.is_loopback else 14
