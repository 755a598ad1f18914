"""The plain program of examples/, stock and changed, as the first of two servers fails: plain_outage.py FAULT CHANGED

In a network of its own, because stock pjsip asks name servers on port 53 alone. Prints one JSON line: what each program
has printed since the failure, whose requests the second server got, and how the changed program ended.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rig.example import EXAMPLES, Example

from pjfail.demo import registrar
from pjfail.demo.name_server import NameServer
from pjfail.demo.registrar import Registrar

DOMAIN = "voip.example"
ZONE = """
$TTL 60
@          SOA  ns hostmaster 1 3600 600 86400 60
@          NS   ns
ns         A    127.0.88.53
_sip._udp  SRV  10 0 5060 first
_sip._udp  SRV  20 0 5060 second
first      A    127.0.88.1
second     A    127.0.88.2
"""


def plain(program: Path, user: str) -> Example:
    words = [f"{user}@{DOMAIN}", "--nameserver", "127.0.88.53", "--call", f"sip:echo@{DOMAIN}", "--every", "0.5"]
    return Example(program, *words)


with (
    NameServer(ZONE, DOMAIN, "127.0.88.53"),
    Registrar("127.0.88.1", transports=("udp",)) as first,
    Registrar("127.0.88.2", transports=("udp",)) as second,
    plain(EXAMPLES / "plain_app.py", "stock") as stock,
    plain(Path(sys.argv[2]), "changed") as changed,
):
    for program in (stock, changed):
        program.wait_for("REGISTER 200")
        program.wait_for("CONFIRMED")
    first.fault = getattr(registrar, sys.argv[1])
    before = {program: len(program.lines) for program in (stock, changed)}
    stock.wait_for("CALLING", len(stock.seen("CALLING")) + 1)
    changed.wait_for("CONFIRMED", len(changed.seen("CONFIRMED")) + 3)
    since = {program: program.lines[count:] for program, count in before.items()}
    users = {user for user in ("stock", "changed") for request in second.requests if f"sip:{user}@" in request.from_}
    changed.interrupt()
    told = {"stock": since[stock], "changed": since[changed], "second": sorted(users), "status": changed.finish()}
    print(json.dumps(told))
