"""The sockets of a SIP server: UDP, TCP and TLS at one address, in one asyncio loop."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from ..model import Transport
from .sip import Request, cut_message, parse_request


class Peer(Protocol):
    """The sender of a request, with the way to answer it."""

    def send(self, response: bytes) -> None: ...

    def reset(self) -> None:
        """Closes the connection with RST; does nothing over UDP."""


# So long a TLS connection that we close waits for the client's close_notify (seconds): many clients send none.
_CLOSE_NOTIFY = 0.05

Receive: TypeAlias = Callable[[Request, Peer], None]

# A server's context, or a function that returns one for the client at this (address, port).
Tls: TypeAlias = ssl.SSLContext | Callable[[tuple[str, int]], ssl.SSLContext]


class Sockets:
    """Listens at *address* and passes every request to *receive* when it arrives.

    TLS connections accepted while *handshakes* returns False never get a ServerHello.
    """

    def __init__(self, address: str, tls: Tls | None, receive: Receive, handshakes: Callable[[], bool]) -> None:
        self._address = address
        self._tls = tls
        self._receive = receive
        self._handshakes = handshakes
        self._listening: list[socket.socket] = []
        self._stalled: list[socket.socket] = []
        self._datagrams: list[socket.socket] = []
        self._connections: set[asyncio.Transport] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, ports: Sequence[tuple[Transport, int]]) -> None:
        """Listens on *ports*; raises OSError, with the address in its message, if one is taken. Does nothing if
        open.
        """
        if self._listening or self._datagrams:
            return
        loop = asyncio.get_running_loop()
        try:
            for transport, port in ports:
                bound = bind(self._address, port, transport)
                if transport == "udp":
                    self._datagrams.append(bound)
                    loop.add_reader(bound, self._read_datagram, bound)
                else:
                    bound.listen()
                    self._listening.append(bound)
                    self._spawn(loop.create_task(self._accept(bound, transport)))
        except OSError:
            await self.close()
            raise

    async def close(self) -> None:
        """Closes everything at once, connections included."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in tuple(self._connections):
            connection.abort()
        for datagrams in self._datagrams:
            asyncio.get_running_loop().remove_reader(datagrams)
        for one in (*self._datagrams, *self._listening, *self._stalled):
            one.close()
        for closed in (self._datagrams, self._listening, self._stalled):
            closed.clear()
        await asyncio.sleep(0)  # an aborted transport closes its socket in the loop's next turn

    def release(self) -> None:
        """In a forked child: closes its copies of the sockets that listen. The loop, which is the parent's, stays."""
        for one in (*self._datagrams, *self._listening, *self._stalled):
            one.close()

    async def reset(self) -> None:
        """Closes all connections with RST."""
        for connection in tuple(self._connections):
            _reset(connection)

    def call_later(self, delay: float, function: Callable[..., None], *arguments: Any) -> None:
        """Calls *function* as the loop's `call_later()` does, unless the sockets are closed before."""

        async def call() -> None:
            await asyncio.sleep(delay)
            function(*arguments)

        self._spawn(asyncio.get_running_loop().create_task(call()))

    async def finish(self) -> None:
        """Closes all connections with FIN."""
        for connection in tuple(self._connections):
            connection.close()

    def _spawn(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _read_datagram(self, bound: socket.socket) -> None:
        raw, source = bound.recvfrom(65535)
        request = parse_request(raw, time.monotonic(), "udp", source[:2])
        if request is not None:
            self._receive(request, _DatagramPeer(bound, source))

    async def _accept(self, listening: socket.socket, transport: Transport) -> None:
        loop = asyncio.get_running_loop()
        while True:
            accepted, _ = await loop.sock_accept(listening)
            if transport == "tls" and not self._handshakes():
                self._stalled.append(accepted)
            else:
                self._spawn(loop.create_task(self._greet(accepted, transport)))

    async def _greet(self, accepted: socket.socket, transport: Transport) -> None:
        context = self._tls if transport == "tls" else None
        try:
            if callable(context):
                context = context(accepted.getpeername()[:2])
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: _Stream(self._receive, self._connections, transport),
                accepted,
                ssl=context,
                ssl_shutdown_timeout=None if context is None else _CLOSE_NOTIFY,
            )
        except OSError:  # ssl.SSLError is one: the client rejected the certificate, or went away
            accepted.close()


def bind(address: str, port: int, transport: Transport) -> socket.socket:
    """Returns a socket bound to *address*:*port*; raises OSError, in words, if that is taken."""
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    bound = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    bound.setblocking(False)
    if kind == socket.SOCK_STREAM:  # connections of an earlier run in TIME_WAIT must not block the port
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        why = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
        raise OSError(error.errno, f"cannot listen on {transport}:{address}:{port}: {why}") from None
    return bound


class _DatagramPeer:
    def __init__(self, bound: socket.socket, source: tuple[Any, ...]) -> None:
        self._bound = bound
        self._source = source

    def send(self, response: bytes) -> None:
        self._bound.sendto(response, self._source)

    def reset(self) -> None:
        pass


class _Stream(asyncio.Protocol):
    def __init__(self, receive: Receive, connections: set[asyncio.Transport], transport: Transport) -> None:
        self._receive = receive
        self._connections = connections
        self._transport = transport
        self._buffer = bytearray()
        self._connection: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._connection = transport
        self._connections.add(transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._connections.discard(self._connection)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        source = self._connection.get_extra_info("peername")[:2]
        while (raw := cut_message(self._buffer)) is not None:
            request = parse_request(raw, time.monotonic(), self._transport, source)
            if request is not None:
                self._receive(request, self)

    def send(self, response: bytes) -> None:
        self._connection.write(response)

    def reset(self) -> None:
        _reset(self._connection)


def _reset(connection: asyncio.Transport) -> None:
    if connection.is_closing():  # the client was faster
        return
    at_once = struct.pack("ii", 1, 0)
    connection.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    connection.abort()
