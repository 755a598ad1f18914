"""The pjsua2 program that every host runs, with pjfail in it: an account at host.test, whose servers DNS knows.

host_program.py MODE TRANSPORT AFFINITY NAME-SERVER AUTHORITY: in MODE "polls" it has no thread of pjsip's and polls
while it waits; with AFFINITY "native" its account has pjsip's own server affinity, where there is such a thing;
AUTHORITY is "-" where pjsip was built without TLS.
Each line of its standard input is a thing to do, and each is answered by one line:

    REGISTER, or another method     sends it to host.test and waits: how it ended
    pin ADDRESS:PORT                the exception's name, empty when there was none
    raced                           for how many questions connections were raced
    load COUNT URI                  sends so many OPTIONS there and does not wait
    answers COUNT                   waits for so many: the codes
    detach                          whether pjsip is as it was found: its DNS resolver, its transport state callback
    exit, or destroy                sys.exit() in the midst of things, or with libDestroy() before it
    facts                           what pjfail says of this host, and the file and hash of the extension
"""

from __future__ import annotations

import ctypes
import hashlib
import select
import sys
from collections.abc import Iterator
from pathlib import Path

from rig.prelude import Account, Endpoint, emit, heard

import pjfail
from pjfail import _native, host
from pjfail.bridge.host import host_facts

DOMAIN = "host.test"


class Text(ctypes.Structure):
    """pj_str_t"""

    _fields_ = (("ptr", ctypes.c_char_p), ("slen", ctypes.c_ssize_t))


class Pjsip:
    """The slots that pjfail takes while it is attached, looked at from outside, in the host's own pjsip."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(host.find())
        self._endpoint = self._pointer("pjsua_get_pjsip_endpt")

    def slots(self) -> tuple[int | None, int | None]:
        """The endpoint's DNS resolver, and the transport manager's state callback."""
        transports = self._pointer("pjsip_endpt_get_tpmgr", self._endpoint)
        resolver = self._pointer("pjsip_endpt_get_resolver", self._endpoint)
        return resolver, self._pointer("pjsip_tpmgr_get_state_cb", transports)

    def ask(self, name_server: str) -> None:
        """Has pjsip's own DNS resolver ask there: `uaConfig.nameserver` knows no port."""
        address, port = name_server.split(":")
        servers = (Text * 1)(Text(address.encode(), len(address)))
        ports = (ctypes.c_uint16 * 1)(int(port))
        resolver = ctypes.c_void_p(self.slots()[0])
        assert self._library.pj_dns_resolver_set_ns(resolver, 1, servers, ports) == 0

    def _pointer(self, function: str, *arguments: int | None) -> int | None:
        call = self._library[function]
        call.restype = ctypes.c_void_p
        value: int | None = call(*map(ctypes.c_void_p, arguments))
        return value


def words() -> Iterator[list[str]]:
    """The lines of standard input, in words. A host that polls does so until the next one is there."""
    while True:
        while endpoint.threads == 0 and not select.select([sys.stdin], [], [], 0)[0]:
            endpoint.run(0.02)
        line = heard()
        if not line:
            return
        yield line.split()


mode, transport, affinity, name_server, authority = sys.argv[1:]
uri = f"sip:{DOMAIN}" + ("" if transport == "udp" else f";transport={transport}")

endpoint = Endpoint(
    threads=0 if mode == "polls" else 1,
    transports=("udp", "tcp") if authority == "-" else ("udp", "tcp", "tls"),
    nameserver=name_server.partition(":")[0],
    ca=authority,
)
pjsip = Pjsip()
pjsip.ask(name_server)
found = pjsip.slots()
failover = pjfail.attach(
    lookup=pjfail.DnsLookup([name_server]),
    policy=pjfail.Policy(backoff=lambda _failures, _random: 1.0),
)
account = Account(endpoint)
account.affinity = affinity == "native"
account.contact_rewrite = 1  # as it is by default
account.open(f"sip:alice@{DOMAIN}", uri)

for word, *arguments in words():
    match word:
        case "pin":
            try:
                failover.pin(account, arguments[0])
                emit(error="")
            except pjfail.PjfailError as error:
                emit(error=type(error).__name__)
        case "raced":
            emit(raced=failover.counters().raced)
        case "load":
            for _ in range(int(arguments[0])):
                account.send("OPTIONS", arguments[1])
            emit(sent=int(arguments[0]))
        case "answers":
            emit(codes=[account.answer().code for _ in range(int(arguments[0]))])
        case "detach":
            taken = pjsip.slots()
            failover.detach()
            emit(as_found=pjsip.slots() == found, taken=taken != found)
        case "exit" | "destroy":
            emit(attached=failover.attached)
            if word == "destroy":
                endpoint.destroy()
            # Two things may end badly with pjfail or without, so this program does neither. When Python takes away an
            # account with requests under way, pjsip 2.15 aborts (in pjsua_acc_get_user_data()). And when it takes away
            # the endpoint, that waits for ever for the locks of a pjsip thread that was ended on its way into Python.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(account))
            if endpoint.threads == 0:
                account.endpoint = None  # else it keeps that alive too
            sys.exit()
        case "facts":
            extension = Path(_native.__file__)
            facts = host_facts()
            emit(
                extension=str(extension),
                sha256=hashlib.sha256(extension.read_bytes()).hexdigest(),
                pjsip=facts.version,
                layout=facts.layout,
                addresses=facts.addresses,
                affinity="pjsip's" if facts.native_affinity else "pjfail's",
            )
        case "REGISTER":
            emit(**account.reregister()._asdict())
        case method:
            emit(**account.request(method, uri)._asdict())
