"""Converts targets, servers and texts to C and from C. ``Any`` stands for C data."""

from __future__ import annotations

import socket
from typing import Any

from .. import errors
from .._native import ffi, lib
from ..model import TRANSPORTS, Server, Target

MAX_HOST: int = lib.PF_MAX_HOST - 1


def text_of(array: Any) -> str:
    return str(ffi.string(array).decode("utf-8", "replace"))


def own_text_of(array: Any) -> str:
    """Converts text that may go back to C, or is compared, without loss (:func:`own_octets`): a user part may have any
    octets.
    """
    return str(ffi.string(array).decode("utf-8", "surrogateescape"))


def own_octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def c_target(target: Target) -> Any:
    host = target.host.encode("utf-8")
    if len(host) > MAX_HOST:
        raise errors.BadURI(f"{target}: the host is longer than {MAX_HOST} octets")
    c = ffi.new("pf_target *")
    c.host = host
    c.port = target.port
    c.transport = 0 if target.transport is None else TRANSPORTS.index(target.transport) + 1
    c.secure = target.secure
    c.ipv6 = target.ipv6
    return c


def target_of(c: Any) -> Target:
    transport = TRANSPORTS[c.transport - 1] if c.transport else None
    return Target(text_of(c.host), c.port, transport, bool(c.secure), bool(c.ipv6))


def fill_address(c: Any, server: Server) -> Any:
    address, _, scope = server.address.partition("%")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    octets = socket.inet_pton(family, address)
    ffi.memmove(c.ip, octets, len(octets))
    c.family = 6 if family == socket.AF_INET6 else 4
    c.transport = TRANSPORTS.index(server.transport) + 1
    c.port = server.port
    if scope:
        c.scope = int(scope)
    return c


def c_address(server: Server) -> Any:
    return fill_address(ffi.new("pf_address *"), server)


def optional_address(server: Server | None) -> Any:
    return ffi.new("pf_address *") if server is None else c_address(server)


def server_of(c: Any) -> Server:
    octets = bytes(ffi.buffer(c.ip, 16 if c.family == 6 else 4))
    address = socket.inet_ntop(socket.AF_INET6 if c.family == 6 else socket.AF_INET, octets)
    return Server(f"{address}%{c.scope}" if c.scope else address, c.port, TRANSPORTS[c.transport - 1])


def server_or_none(c: Any) -> Server | None:
    return server_of(c) if c.family else None


def known(value: float) -> float | None:
    return None if value < 0 else value
