"""What a pjsua2 program in a test starts from: an endpoint, accounts that wait for their answers, JSON lines.

Importing it keeps standard output for JSON lines: whatever else is printed, pjsip's log included, goes to standard
error.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import pjsua2 as pj

_out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
_out_lock = threading.Lock()

_TRANSPORTS = {
    "udp": pj.PJSIP_TRANSPORT_UDP, "tcp": pj.PJSIP_TRANSPORT_TCP, "tls": pj.PJSIP_TRANSPORT_TLS,
    "udp6": pj.PJSIP_TRANSPORT_UDP6, "tcp6": pj.PJSIP_TRANSPORT_TCP6, "tls6": pj.PJSIP_TRANSPORT_TLS6,
}  # fmt: skip
PJSIP_EBUSY = 171001
LARGE = {"X-Large": "x" * 1300}
"""A header that makes a request too large for UDP (RFC 3261 section 18.1.1)."""


def emit(**fields: Any) -> None:
    """Prints one JSON line."""
    with _out_lock:
        _out.write(json.dumps(fields) + "\n")
        _out.flush()


def heard() -> str:
    """Waits for a line from the test (`App.tell`)."""
    return sys.stdin.readline().rstrip("\n")


class Answer(NamedTuple):
    """How a request ended: `server` is who answered ("address:port"), empty when nobody did."""

    method: str
    code: int
    reason: str
    seconds: float
    server: str
    thread: int


class Endpoint:
    """pjsua2 started with its stock settings on ephemeral ports of *address* (and ::1; "": of all), without sound.

    `listeners` has pjsua's number of each transport.

    `threads=0` is the host that polls: callbacks come from `libHandleEvents()` on the thread that waits. With `ca`
    (a PEM file) TLS servers must show a certificate that it signed. All requests of all accounts go through
    `outbound_proxies` first. `ending`: the flags of `libDestroy()`; 0 is what a program does that says nothing. Without
    `digests` nothing is done for an OpenSSL that answers no challenge before it is initialised (docs/hosts.md).
    """

    def __init__(
        self,
        *,
        threads: int = 1,
        nameserver: str | Sequence[str] | None = None,
        transports: Sequence[str] = ("udp", "tcp"),
        log_level: int = 3,
        max_calls: int = 4,
        ca: str | None = None,
        outbound_proxies: Sequence[str] = (),
        kind: type[pj.Endpoint] = pj.Endpoint,
        ending: int = pj.PJSUA_DESTROY_NO_NETWORK,
        digests: bool = True,
        address: str = "127.0.0.1",
    ) -> None:
        self.threads = threads
        self._ending = ending
        self.pj = kind()
        self.pj.libCreate()
        config = pj.EpConfig()
        config.uaConfig.threadCnt = threads
        config.uaConfig.mainThreadOnly = threads == 0
        config.uaConfig.maxCalls = max_calls
        config.medConfig.clockRate = config.medConfig.sndClockRate = 8000  # PCMU's; there may be no resampler
        for server in [nameserver] if isinstance(nameserver, str) else nameserver or ():
            config.uaConfig.nameserver.append(server)
        for proxy in outbound_proxies:
            config.uaConfig.outboundProxies.append(proxy)
        config.logConfig.level = config.logConfig.consoleLevel = log_level
        self.pj.libInit(config)
        self.listeners: dict[str, int] = {}
        for name in transports:
            transport = pj.TransportConfig()
            transport.boundAddress = "::1" if address and name.endswith("6") else address
            if name.startswith("tls") and ca is not None:
                transport.tlsConfig.CaListFile = ca
                transport.tlsConfig.verifyServer = True
            self.listeners[name] = self.pj.transportCreate(_TRANSPORTS[name], transport)
        self.pj.libStart()
        if digests:
            self.pj.utilSslGetAvailableCiphers()
        self.pj.audDevManager().setNullDev()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.destroy()

    def destroy(self) -> None:
        """Ends pjsip: unless told otherwise at once, without unregistering and the seconds it waits for the network."""
        self.pj.libDestroy(self._ending)

    def run(self, seconds: float) -> None:
        """Lets pjsip work for so long."""
        self.wait(queue.SimpleQueue(), seconds)

    def wait(self, events: queue.SimpleQueue[Answer], timeout: float) -> Answer | None:
        """The next of *events*, or None when there is none in time. A host that polls does so meanwhile."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                return events.get(timeout=left) if self.threads else events.get_nowait()
            except queue.Empty:
                if not self.threads:
                    self.pj.libHandleEvents(min(50, int(left * 1000) + 1))
        return None


def _add(headers: Mapping[str, str], options: pj.SipTxOption) -> None:
    for name, value in headers.items():
        header = pj.SipHeader()
        header.hName, header.hValue = name, value
        options.headers.append(header)


class Account(pj.Account):  # type: ignore[misc]  # pjsua2 has no types
    """An account whose answers to REGISTER and to other requests are kept in `answers`, in order of arrival.

    Without *retries* pjsua does not repeat a failed registration by itself. *bound*: to which of the endpoint's
    transports it is bound (transportId); *ipv6_use*: a number of pjsua_ipv6_use. With `affinity` it has pjsip's own
    server affinity enabled, where there is such a thing.
    """

    affinity = False
    # Where the machine has another address than loopback, pjsua would register anew once it has seen both.
    contact_rewrite = 0

    def __init__(
        self,
        endpoint: Endpoint,
        proxies: Sequence[str] = (),
        password: str | None = None,
        retries: bool = True,
        bound: str | None = None,
        ipv6_use: int | None = None,
    ) -> None:
        super().__init__()
        self.bound = bound
        self.ipv6_use = ipv6_use
        self.password = password
        self.retries = retries
        self.endpoint = endpoint
        self.proxies = tuple(proxies)
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._sent: dict[str, float] = {}

    def open(self, uri: str, registrar: str = "") -> None:
        """Adds the account to pjsip without registering."""
        config = pj.AccountConfig()
        config.idUri = uri
        config.regConfig.registrarUri = registrar
        config.regConfig.registerOnAdd = False
        config.natConfig.contactRewriteUse = self.contact_rewrite
        if not self.retries:
            config.regConfig.retryIntervalSec = 0
        if self.password is not None:
            config.sipConfig.authCreds.append(pj.AuthCredInfo("digest", "*", "alice", 0, self.password))
        if self.affinity and hasattr(config.sipConfig, "serverAffinity"):
            config.sipConfig.serverAffinity = pj.PJSUA_SERVER_AFFINITY_ENABLED
        if self.bound is not None:
            config.sipConfig.transportId = self.endpoint.listeners[self.bound]
        if self.ipv6_use is not None:
            config.sipConfig.ipv6Use = self.ipv6_use
        for proxy in self.proxies:
            config.sipConfig.proxies.append(proxy)
        self.create(config)

    def register(self, uri: str, registrar: str, timeout: float = 60) -> Answer:
        """Adds the account and registers it; `reregister()` does it again."""
        self.open(uri, registrar)
        return self.reregister(timeout)

    def reregister(self, timeout: float = 60) -> Answer:
        self.send_register()
        return self.answer(timeout)

    def send_register(self, renew: bool = True) -> None:
        """Registers, or unregisters, and does not wait, but for a REGISTER of pjfail's or pjsua's that is under way."""
        for _ in range(500):
            self._sent["REGISTER"] = time.monotonic()
            try:
                return self.setRegistration(renew)
            except pj.Error as error:
                if error.status != PJSIP_EBUSY:
                    raise
            self.endpoint.run(0.02)
        raise TimeoutError("pjsip has had a REGISTER under way for 10 s")

    def send(self, method: str, uri: str, **headers: str) -> None:
        """Sends a request and does not wait."""
        parameters = pj.SendRequestParam()
        parameters.method = method
        parameters.txOption.targetUri = uri
        _add(headers, parameters.txOption)
        self._sent[method] = time.monotonic()
        self.sendRequest(parameters)

    def request(self, method: str, uri: str, timeout: float = 60, **headers: str) -> Answer:
        self.send(method, uri, **headers)
        return self.answer(timeout)

    def call(self, uri: str, **headers: str) -> Call:
        """Calls and does not wait."""
        call = Call(self)
        parameters = pj.CallOpParam(True)
        _add(headers, parameters.txOption)
        self._sent["INVITE"] = time.monotonic()
        call.makeCall(uri, parameters)
        return call

    def options(self, uri: str, timeout: float = 60) -> Answer:
        return self.request("OPTIONS", uri, timeout)

    def answer(self, timeout: float = 60) -> Answer:
        """The next answer; its seconds count from the last request of its method."""
        answer = self.endpoint.wait(self.answers, timeout)
        if answer is None:
            raise TimeoutError(f"pjsip did not end the request within {timeout:g} s")
        return answer

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        self.keep("REGISTER", prm.code, prm.reason, prm.rdata.srcAddress)

    def onSendRequest(self, prm: pj.OnSendRequestParam) -> None:
        state = prm.e.body.tsxState
        server = state.src.rdata.srcAddress if state.type == pj.PJSIP_EVENT_RX_MSG else ""
        self.keep(state.tsx.method, state.tsx.statusCode, state.tsx.statusText, server)

    def keep(self, method: str, code: int, reason: str, server: str) -> None:
        """Puts down how a request ended."""
        seconds = time.monotonic() - self._sent.get(method, time.monotonic())
        self.answers.put(Answer(method, code, reason, seconds, server, threading.get_ident()))


class Call(pj.Call):  # type: ignore[misc]
    """A call; among the `answers` of its account are its set-up ("INVITE") and, after it, its end ("BYE")."""

    def __init__(self, account: Account) -> None:
        super().__init__(account)
        self._account = account
        self._confirmed = False

    def onCallState(self, _: pj.OnCallStateParam) -> None:
        info = self.getInfo()
        if info.state == pj.PJSIP_INV_STATE_CONFIRMED:
            self._confirmed = True
            self._account.keep("INVITE", 200, info.lastReason, "")
        elif info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            method = "BYE" if self._confirmed else "INVITE"
            self._account.keep(method, info.lastStatusCode, info.lastReason, "")
