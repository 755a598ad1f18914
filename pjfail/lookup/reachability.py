"""Whether this machine has a route to an address (RFC 6724 section 6, rules 1 and 2)."""

from __future__ import annotations

import socket
from ipaddress import ip_address


def has_route(address: str) -> bool:
    """Returns whether packets to the numeric *address* would leave by a route, with a source address that can be
    answered.

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
    """Returns whether *source*'s scope is as wide as *destination*'s: a link-local source reaches only its own link."""
    return _scope(source) >= _scope(destination)


def _scope(address: str) -> int:
    """Returns RFC 4291's scope of a unicast address, RFC 6724 section 3.2 for IPv4: 2 is the link (and the host), 14
    global.
    """
    parsed = ip_address(address)
    return 2 if parsed.is_link_local or parsed.is_loopback else 14
