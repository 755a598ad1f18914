"""A pjsua2 endpoint for probes: without sound, without a log, verifying TLS."""

from __future__ import annotations

import ctypes
import os
import ssl
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

import pjsua2 as pj

from ...model import Server, Transport

# IPv6 transports are optional: the machine may have no IPv6.
_TYPES = {
    "udp": (pj.PJSIP_TRANSPORT_UDP, pj.PJSIP_TRANSPORT_UDP6),
    "tcp": (pj.PJSIP_TRANSPORT_TCP, pj.PJSIP_TRANSPORT_TCP6),
    "tls": (pj.PJSIP_TRANSPORT_TLS, pj.PJSIP_TRANSPORT_TLS6),
}


class Endpoint(pj.Endpoint):
    """pjsua2 within a ``with`` block, with *transports* on free ports.

    A TLS server must show a certificate that *ca* (a PEM file; None: the system's authorities) has signed for the host
    in the URI; with *insecure*, other certificates are accepted and reported. One in a process, on the thread that made
    it.
    """

    def __init__(self, transports: Sequence[Transport], ca: str | None = None, *, insecure: bool = False) -> None:
        super().__init__()
        self._transports = transports
        self._ca = ca
        self._insecure = insecure
        self._lock = threading.Lock()
        self._certificates: dict[str, tuple[str, ...]] = {}

    def certificate_problems(self, server: Server) -> tuple[str, ...]:
        """Returns what is wrong with the certificate that *server* has shown, in pjsip's words. Any thread."""
        with self._lock:
            return self._certificates.get(server.endpoint, ()) if server.transport == "tls" else ()

    def __enter__(self) -> Self:
        try:
            with _stdout_kept():
                self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self) -> None:
        self.libCreate()
        config = pj.EpConfig()
        config.uaConfig.threadCnt = 1
        config.uaConfig.mainThreadOnly = False
        config.logConfig.level = config.logConfig.consoleLevel = 0
        self.libInit(config)
        for transport in self._transports:
            v4, v6 = _TYPES[transport]
            self.transportCreate(v4, self._settings(transport))
            with suppress(pj.Error):
                self.transportCreate(v6, self._settings(transport))
        self.libStart()
        self.audDevManager().setNoDev()

    def _settings(self, transport: Transport) -> pj.TransportConfig:
        settings = pj.TransportConfig()
        if transport == "tls":
            system = ssl.get_default_verify_paths()
            settings.tlsConfig.CaListFile = self._ca or system.cafile or ""
            settings.tlsConfig.CaListPath = "" if self._ca else system.capath or ""
            settings.tlsConfig.verifyServer = not self._insecure
        return settings

    def _end(self) -> None:
        """Ends pjsua without sending anything to the servers, some of which are dead."""
        with _stdout_kept():
            self.libDestroy(pj.PJSUA_DESTROY_NO_NETWORK)

    def onTransportState(self, prm: pj.OnTransportStateParam) -> None:
        """Called on a SIP thread when a TLS handshake has succeeded or failed."""
        if prm.type.startswith("TLS") and prm.tlsInfo.verifyStatus:
            with self._lock:
                self._certificates[prm.tlsInfo.remoteAddr] = tuple(prm.tlsInfo.verifyMsgs)


@contextmanager
def _stdout_kept() -> Iterator[None]:
    """Keeps what C code prints off standard output: pjsip prints before its log can be turned off."""
    sys.stdout.flush()
    stdout, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(nowhere)
