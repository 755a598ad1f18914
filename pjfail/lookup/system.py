"""The lookup by the system: getaddrinfo, with the system's hosts file, search domains and order of addresses."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .._validation import is_amount
from ..errors import LookupFailed
from ..model import DEFAULT_PORT, Candidate, Server, Target, Transport

NO_SUCH_NAME = (socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY)
# Calls of getaddrinfo under way at once, each on a thread of its own, and lookups that wait for one of these to end.
MAX_CALLS = 16
MAX_WAITING = 1000


class SystemLookup:
    """Finds the addresses of a host as any other program on this machine does: no NAPTR, no SRV.

    *ttl* is how many seconds an answer is valid, because the system does not say. Raises ValueError if it is not valid.
    """

    def __init__(self, *, ttl: float = 30.0) -> None:
        if not is_amount(ttl):
            raise ValueError(f"ttl is {ttl!r}; give seconds")
        self._ttl = ttl
        self._calls: _Calls | None = None

    async def lookup(self, target: Target) -> list[Candidate]:
        """Returns the addresses of the host in the system's order (RFC 6724), with pjsip's default port and transport.

        Runs in the asyncio loop of the caller; getaddrinfo blocks one of 16 threads, which a call that hangs keeps.
        Raises :class:`pjfail.LookupFailed`, temporary unless the system says that there is no such name or address:
        at once where 1000 other lookups wait for a thread.
        """
        transport: Transport = "tls" if target.secure else target.transport or "udp"
        port = target.port or DEFAULT_PORT[transport]
        family = socket.AF_INET6 if target.ipv6 else socket.AF_UNSPEC
        loop = asyncio.get_running_loop()
        if self._calls is None or self._calls.loop is not loop:
            self._calls = _Calls(loop)
        try:
            found = await self._calls.getaddrinfo(target.host, port, family)
        except socket.gaierror as error:
            reason = f"{target}: the system finds no address of {target.host} ({error.strerror})"
            raise LookupFailed(reason, temporary=error.errno not in NO_SUCH_NAME) from None
        except UnicodeError:
            raise LookupFailed(
                f"{target.host!r} is not a valid host name; write labels of up to 63 octets, 253 in all"
            ) from None
        addresses = dict.fromkeys(str(address[0]) for *_, address in found)
        return [Candidate(Server(address, port, transport), target.host, ttl=self._ttl) for address in addresses]


class _Calls:
    """The calls of getaddrinfo for the lookups of one asyncio loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._threads = ThreadPoolExecutor(MAX_CALLS, "pjfail-getaddrinfo")
        self._turns = asyncio.Semaphore(MAX_CALLS)
        self._waiting = 0

    async def getaddrinfo(self, host: str, port: int, family: int) -> list[Any]:
        """As ``socket.getaddrinfo()``, once a thread is free. A call whose lookup is cancelled keeps its thread."""
        if self._waiting >= MAX_WAITING:
            raise LookupFailed(
                f"{host} was not looked up: the system's resolver is busy with {MAX_CALLS} other names, and "
                f"{MAX_WAITING} lookups wait",
                temporary=True,
            )
        self._waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self._waiting -= 1
        call = self.loop.run_in_executor(self._threads, socket.getaddrinfo, host, port, family, socket.SOCK_DGRAM)
        call.add_done_callback(lambda _: self._turns.release())
        return await asyncio.shield(call)
