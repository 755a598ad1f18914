"""A program with pjsua2-pybind11, whose names are not SWIG's (pj.TransportType.UDP), with pjfail in it.

pybind11_program.py SERVER...: an account at host.test, which has these servers, registers at once. Each line of its
standard input is a thing to do, and is answered by one line, as the start is:

    REGISTER        registers again: the code, and who answered
    pin SERVER      pins the account object to that server: the server that it is pinned to
    facts           what pjfail says of this host, and the file and hash of the extension
    detach          detaches, and ends the endpoint: whether pjfail is attached
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import sys
from pathlib import Path
from typing import Any

import pjsua2 as pj

import pjfail
from pjfail import _native
from pjfail.bridge.host import host_facts

out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # pjsip's log


def emit(**fields: Any) -> None:
    print(json.dumps(fields), file=out, flush=True)


class Account(pj.Account):  # type: ignore[misc]  # pjsua2 has no types
    def __init__(self) -> None:
        super().__init__()
        self.answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def onRegState(self, prm: pj.OnRegStateParam) -> None:
        self.answers.put({"code": int(prm.code), "server": prm.rdata.srcAddress})


endpoint = pj.Endpoint()
endpoint.libCreate()
endpoint.libInit(pj.EpConfig())
transport = pj.TransportConfig()
transport.boundAddress = "127.0.0.1"
endpoint.transportCreate(pj.TransportType.UDP, transport)
endpoint.libStart()
failover = pjfail.attach(servers={"host.test": sys.argv[1:]})

config = pj.AccountConfig()
config.idUri = "sip:alice@host.test"
config.regConfig.registrarUri = "sip:host.test"
account = Account()
account.create(config)
emit(**account.answers.get(timeout=60))

for line in sys.stdin:
    match line.split():
        case ["REGISTER"]:
            account.setRegistration(True)
            emit(**account.answers.get(timeout=60))
        case ["pin", server]:
            failover.pin(account, server)
            emit(pinned=str(failover.pinned(account)))
        case ["facts"]:
            facts = host_facts()
            extension = Path(_native.__file__)
            emit(
                extension=str(extension),
                sha256=hashlib.sha256(extension.read_bytes()).hexdigest(),
                pjsip=facts.version,
                layout=facts.layout,
                addresses=facts.addresses,
                affinity="pjsip's" if facts.native_affinity else "pjfail's",
            )
        case ["detach"]:
            failover.detach()
            del account
            endpoint.libDestroy()
            emit(attached=failover.attached)
