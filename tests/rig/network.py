"""A network of a program's own (`unshare --net`), where packets can be made to vanish; and a port where connects do."""

from __future__ import annotations

import shlex
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from .daemon import find

BECOME = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
"""A program that becomes the command of its arguments: what App runs, when that is to be alone()."""

_UNSHARE = (["unshare", "--net"], ["unshare", "--map-root-user", "--net"])  # as root, as anybody
_VANISH = """\
table inet pjfail {{
    chain input {{
        type filter hook input priority 0
        ip daddr {address} drop
        ip saddr {address} drop
    }}
}}
"""


@cache
def alone(*setup: str) -> list[str]:
    """What to put before a command for a network with nothing but loopback in it, after the shell commands *setup*."""
    for unshare in _UNSHARE:
        if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0:
            return [*unshare, "sh", "-c", " && ".join(["ip link set lo up", *setup, 'exec "$@"']), "sh"]
    raise AssertionError("this machine allows no network namespace: root is needed, or user namespaces")


@cache
def mounted(*pairs: tuple[Path, str]) -> list[str]:
    """What to put before a command that is to see, for each pair, the first file in place of the second."""
    mounts = " && ".join(f"mount --bind {shlex.quote(str(own))} {shlex.quote(place)}" for own, place in pairs)
    for unshare in _UNSHARE:
        mount = [*unshare[:-1], "--mount"]
        if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode == 0:
            return [*mount, "sh", "-c", f'{mounts} && exec "$@"', "sh"]
    raise AssertionError("this machine allows no mount namespace: root is needed, or user namespaces")


def vanish(address: str) -> None:
    """From now on packets to and from *address* vanish in this network, and no sender is told.

    They are dropped where they come in: dropped on their way out they would fail the sender's call with EPERM.
    """
    subprocess.run([find("nft"), "-f", "-"], input=_VANISH.format(address=address), text=True, check=True)


@contextmanager
def unanswered_connects(address: str, port: int) -> Iterator[None]:
    """A listener whose backlog is full: Linux drops further SYNs."""
    with ExitStack() as stack:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listening = stack.enter_context(socket.socket(family))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of before may be in TIME_WAIT
        listening.bind((address, port))
        listening.listen(0)
        for _ in range(4):
            filling = stack.enter_context(socket.socket(family))
            filling.setblocking(False)
            filling.connect_ex((address, port))
        yield


class Cable:
    """A pair of interfaces: `near` in this network, `far` in that of the process *pid*, which alone() has started."""

    def __init__(self, pid: int, near: str = "pjfail0", far: str = "eth0") -> None:
        self._pid, self.near, self.far = str(pid), near, far
        self._here("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", self._pid)
        for run, end in ((self._here, near), (self._there, far)):
            run("ip", "link", "set", end, "up")

    def give(self, address: str) -> None:
        """Adds an address, such as "192.0.2.1/24", to this end."""
        self._here("ip", "address", "add", address, "dev", self.near, *_at_once(address))

    def move(self, *changes: tuple[str, str]) -> None:
        """Adds and deletes addresses at the other end, ("add", "192.0.2.2/24") each, all in one step."""
        lines = (
            f"ip address {what} {address} dev {self.far} {' '.join(_at_once(address))}" for what, address in changes
        )
        self._there("sh", "-c", " && ".join(lines))

    def _here(self, *command: str) -> None:
        subprocess.run(command, check=True)

    def _there(self, *command: str) -> None:
        subprocess.run(["nsenter", "--target", self._pid, "--net", *command], check=True)

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "link", "delete", self.near], check=False, capture_output=True)


def _at_once(address: str) -> list[str]:
    """An IPv6 address is not usable before the kernel has looked for another one alike."""
    return ["nodad"] if ":" in address else []
