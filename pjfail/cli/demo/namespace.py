"""A network namespace for users who may not bind port 53: stock pjsip asks name servers on no other port."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys

_UNSHARE = ("unshare", "--user", "--map-root-user", "--net")
_MARK = "PJFAIL_DEMO_NAMESPACE"
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1


def enter() -> None:
    """Runs this command again in a new network namespace; returns only if the machine does not allow that."""
    if _MARK in os.environ:
        return
    try:
        allowed = subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return
    if allowed:
        os.execvpe(_UNSHARE[0], [*_UNSHARE, sys.executable, *sys.orig_argv[1:]], {**os.environ, _MARK: "1"})


def raise_loopback() -> None:
    """Brings loopback up, which is down in a new network namespace."""
    if _MARK in os.environ:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))
