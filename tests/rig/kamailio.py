"""Kamailio as a registrar on one loopback address: UDP and TCP on 5060, TLS on 5061, with faults at run time."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from .certificates import Authority
from .daemon import Daemon, find

_CONFIGURATION = Path(__file__).with_name("kamailio.cfg")
_TLS = """\
[server:default]
method=TLSv1.2+
verify_certificate=no
private_key={key}
certificate={certificate}
[client:default]
verify_certificate=no
"""


class Heard(NamedTuple):
    """A request as the registrar has read it, retransmissions too: when (by the clock), and its Subject, if any."""

    at: float
    method: str
    subject: str


_DEBIAN = Path("/etc/kamailio/kamailio.cfg")


class _Controlled(Daemon):
    """A Kamailio that is asked over its control socket, *socket* in its folder."""

    socket = "ctl.sock"

    def locations(self) -> set[str]:
        """The users that have registered here, from the registrar's own table."""
        return set(re.findall(r"AoR:\s+(\S+)", self._told("ul.dump")))

    def forget(self, user: str) -> None:
        """Removes the user's registrations, if there are any."""
        self._command("ul.rm", "location", user)

    def _listens(self) -> bool:
        # The control socket answers once every other socket is bound.
        return self._command("core.uptime").returncode == 0

    def _told(self, *words: str) -> str:
        answer = self._command(*words)
        answer.check_returncode()
        return answer.stdout.decode()

    def _command(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        command = [find("kamcmd"), "-s", f"unix:{self.run}/{self.socket}", *words]
        return subprocess.run(command, check=False, capture_output=True, timeout=10)


class DebianKamailio(_Controlled):
    """Kamailio at *address* as Debian configures it, with its *domains* as aliases, and TLS with that certificate.

    It serves no other domain: it answers 403 to a request for one.
    """

    socket = "kamailio_ctl"

    def __init__(self, address: str, *domains: str, authority: Authority) -> None:
        super().__init__("kamailio")
        key, certificate = authority.issue(address, *domains)
        (self.run / "tls.cfg").write_text(_TLS.format(key=key, certificate=certificate))
        text = _DEBIAN.read_text().replace("/etc/kamailio/tls.cfg", f"{self.run}/tls.cfg")
        (self.run / "kamailio.cfg").write_text(text)
        aliases = "".join(f'alias="{domain}"\n' for domain in domains)
        # No reverse lookups, for there is no name server; a few processes, for several run at a time.
        own = f"#!define WITH_TLS\nauto_aliases=no\n{aliases}tcp_children=2\n"
        (self.run / "kamailio-local.cfg").write_text(own)
        listens = [f"udp:{address}:5060", f"tcp:{address}:5060", f"tls:{address}:5061"]
        command = [find("kamailio"), "-DD", "-E", "-f", f"{self.run}/kamailio.cfg", "-Y", str(self.run), "-n", "2"]
        command += ["-P", f"{self.run}/kamailio.pid", "-m", "64", "-M", "8"]
        self._start = [*command, *(word for each in listens for word in ("-l", each))]

    def __enter__(self) -> DebianKamailio:
        self.start(self._start, self._listens)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Kamailio(_Controlled):
    """A registrar at *address*; its certificate is for the address and *names*, signed by *authority* or its own.

    As one of a *cluster* it has itself found in dialogs by that name.
    """

    SILENT = 1
    SLOW = 2

    def __init__(self, address: str, *names: str, authority: Authority | None = None, cluster: str = "") -> None:
        super().__init__("kamailio")
        self.address = address
        self.authority = authority or Authority(self.run)
        key, certificate = self.authority.issue(address, *names)
        (self.run / "tls.cfg").write_text(_TLS.format(key=key, certificate=certificate))
        modules = next(Path("/usr/lib").glob("*/kamailio/modules"))
        text = _CONFIGURATION.read_text()
        for word, value in (("SELF", address), ("RUN", self.run), ("MODULES", modules)):
            text = text.replace(word, str(value))
        if cluster:
            text = text.replace("record_route();", f'record_route_preset("{cluster}");')
            text = text.replace("enable_tls=yes", f'enable_tls=yes\nalias="{cluster}"')
        (self.run / "kamailio.cfg").write_text(text)

    def __enter__(self) -> Kamailio:
        self.serve()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def serve(self) -> None:
        """Starts the registrar, well and knowing nobody; also after `stop()`."""
        (self.run / "ctl.sock").unlink(missing_ok=True)
        command = [find("kamailio"), "-DD", "-E", "-f", f"{self.run}/kamailio.cfg", "-Y", str(self.run)]
        self.start([*command, "-P", f"{self.run}/kamailio.pid", "-m", "64", "-M", "8"], self._listens)

    def fault(self, mode: int, retry_after: int = 0) -> None:
        """From now on `Kamailio.SILENT`, two seconds late (`Kamailio.SLOW`), answering every request with the status
        *mode*, or well again (0).
        """
        self._command("htable.seti", "f", "ra", str(retry_after)).check_returncode()
        self._command("htable.seti", "f", "mode", str(mode)).check_returncode()

    def heard(self) -> list[Heard]:
        """What it has heard so far, in order, from its own log; in all its lives."""
        found = re.findall(r"HEARD ([\d.]+) (\S+) ?(\S*)$", self.log(), re.MULTILINE)
        return [Heard(float(at), method, subject.replace("<null>", "")) for at, method, subject in found]

    @property
    def shown(self) -> list[tuple[str, str]]:
        """The method of each request over TLS, with the name (SNI) that its connection began with."""
        return re.findall(r"TLS (\w+) for name (\S+)$", self.log(), re.MULTILINE)

    def received(self, method: str) -> int:
        """How many requests of *method* ("bye") have come, retransmissions too."""
        return int(self._told("stats.get_statistics", f"rcv_requests_{method}").rpartition("=")[2])
