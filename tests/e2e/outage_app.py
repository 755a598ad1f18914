"""An ordinary pjsua2 program with pjfail attached, whose requests carry numbers.

outage_app.py NAMESERVER TRANSPORT: "OPTIONS 7" on its standard input sends such a request to example.com, with 7 as its
Subject. It prints each answer as it comes, and each of pjfail's events. A server that fails rests for 3 s.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import pjsua2 as pj
from rig.prelude import Account, Endpoint, emit, heard

import pjfail
from pjfail.listeners import LogListener

nameserver, transport = sys.argv[1:]
uri = f"sip:example.com;transport={transport}"


class Numbered(Account):
    """Its requests are told apart by their Subject."""

    def send_numbered(self, method: str, number: str) -> None:
        parameters = pj.SendRequestParam()
        parameters.method = method
        parameters.txOption.targetUri = uri
        subject = pj.SipHeader()
        subject.hName, subject.hValue = "Subject", number
        parameters.txOption.headers.append(subject)
        self.sendRequest(parameters)

    def onSendRequest(self, prm: pj.OnSendRequestParam) -> None:
        state = prm.e.body.tsxState
        server = state.src.rdata.srcAddress if state.type == pj.PJSIP_EVENT_RX_MSG else ""
        [number] = re.findall(r"^Subject: (\d+)\r$", state.tsx.lastTx.wholeMsg, re.MULTILINE)
        emit(number=int(number), code=state.tsx.statusCode, server=server)


def tell(event: Any) -> None:
    emit(event=type(event).__name__, server=str(getattr(event, "server", "")))


with Endpoint(transports=(transport,)) as endpoint:
    pjfail.attach(
        lookup=pjfail.DnsLookup(nameservers=[nameserver]),
        policy=pjfail.Policy(backoff=pjfail.ExponentialBackoff(base=3, ceiling=3, jitter=0)),
        retry=pjfail.RetryPolicy(hedge_budget=0),  # else a busy machine has a well server passed over
        listeners=[tell, LogListener()],
    )
    account = Numbered(endpoint)
    account.open("sip:alice@example.com", uri)
    while word := heard():
        account.send_numbered(*word.split())
