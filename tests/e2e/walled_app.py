"""A program whose first server is behind a firewall: how its request ends, and what is held against that server."""

from __future__ import annotations

from rig.prelude import Account, Endpoint, emit

import pjfail
from pjfail.testing import Registrar

FIRST, SECOND = "127.0.83.1:5060", "127.0.83.2:5060"

with Registrar("127.0.83.2"), Endpoint(transports=("udp",)) as endpoint:
    failover = pjfail.attach(lookup=pjfail.StaticLookup({"sip.test": [(FIRST, 1, 0), (SECOND, 2, 0)]}))
    account = Account(endpoint)
    account.open("sip:alice@sip.test")
    answer = account.options("sip:sip.test")
    endpoint.run(0.5)  # a second ICMP takes it down
    reasons = {server.address: health.reason for server, health in failover.servers().items()}
    emit(code=answer.code, server=answer.server, seconds=answer.seconds, reason=reasons.get("127.0.83.1", ""))
