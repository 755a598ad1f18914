"""The files of this machine that the lookup over the DNS reads."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from .nameservers import NameServer

log = logging.getLogger("pjfail")

Version = tuple[int, ...] | None


def version_of(path: Path) -> Version:
    """What is another once the file at *path* has been replaced or written; None while it cannot be read."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


class ResolvConf:
    """The name servers of the file at *path*, as resolv.conf(5) has them: read again when it has changed.

    A file that is missing, or that names no name server, is a warning, and so is a line that names a host.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: Version = ()
        self._servers: tuple[NameServer, ...] = ()
        self.trouble = ""

    def servers(self) -> Sequence[NameServer]:
        """Those that the file names now; none where ``trouble`` says why. Any thread, one at a time."""
        version = version_of(self._path)
        if version != self._read:
            self._read = version
            self._servers = self._parse()
        return self._servers

    def _parse(self) -> tuple[NameServer, ...]:
        before, bad, servers = self.trouble, [], []
        try:
            lines = self._path.read_text("utf-8", "replace").splitlines()
            self.trouble = f"{self._path} names no name server"
        except OSError as error:
            lines, self.trouble = [], f"{self._path} cannot be read ({error.strerror})"
        for line in lines:
            keyword, *values = line.split() or [""]
            if keyword == "nameserver" and values:
                try:
                    servers.append(NameServer(str(ip_address(values[0]))))
                except ValueError:
                    bad.append(values[0])
        if bad:
            self.trouble = (
                f"{self._path} names {', '.join(bad)} as name server; write an address (nameserver 192.0.2.53)"
            )
        if not servers:
            log.warning(
                "%s: until it is mended, the system's resolver is asked for what needs the DNS, without SRV records",
                self.trouble,
            )
            return ()
        if bad:
            log.warning("%s: only the others are asked", self.trouble)
        elif before:
            log.info("%s names %s now", self._path, ", ".join(server.address for server in servers))
        self.trouble = ""
        return tuple(servers)
