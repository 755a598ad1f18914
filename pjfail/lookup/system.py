"""The lookup by the system: getaddrinfo, with the system's hosts file, search domains and order of addresses."""

from __future__ import annotations

import asyncio
import socket

from ..errors import LookupFailed
from ..model import DEFAULT_PORT, Candidate, Server, Target, Transport

NO_SUCH_NAME = (socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY)


class SystemLookup:
    """Finds the addresses of a host as any other program on this machine does: no NAPTR, no SRV.

    *ttl* is how many seconds an answer is valid, because the system does not say.
    """

    def __init__(self, *, ttl: float = 30.0) -> None:
        self._ttl = ttl

    async def lookup(self, target: Target) -> list[Candidate]:
        """Returns the addresses of the host in the system's order (RFC 6724), with pjsip's default port and transport.

        Runs in the asyncio loop of the caller; getaddrinfo blocks a thread of the loop's executor. Raises
        :class:`pjfail.LookupFailed`, temporary unless the system says that there is no such name or address.
        """
        transport: Transport = "tls" if target.secure else target.transport or "udp"
        port = target.port or DEFAULT_PORT[transport]
        family = socket.AF_INET6 if target.ipv6 else socket.AF_UNSPEC
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(target.host, port, family=family, type=socket.SOCK_DGRAM)
        except socket.gaierror as error:
            reason = f"{target}: the system finds no address of {target.host} ({error.strerror})"
            raise LookupFailed(reason, temporary=error.errno not in NO_SUCH_NAME) from None
        except UnicodeError:
            raise LookupFailed(
                f"{target.host!r} is not a valid host name; write labels of up to 63 octets, 253 in all"
            ) from None
        addresses = dict.fromkeys(str(address[0]) for *_, address in found)
        return [Candidate(Server(address, port, transport), target.host, ttl=self._ttl) for address in addresses]
