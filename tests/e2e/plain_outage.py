"""The plain program of examples/, or a changed copy, as its first server fails: plain_outage.py PROGRAM FAULT SECONDS

In a network of its own, because stock pjsip asks name servers on port 53 alone. The server fails between two calls.
Once three more have been answered, or after SECONDS, it prints one JSON line: what the program has printed since, the
methods that the second server got, and the status that the program ended with on Ctrl-C, when it got so far.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

from rig.example import ZONE, Example

from pjfail.testing import NameServer, Registrar, registrar

DOMAIN = "voip.example"

path, fault, seconds = sys.argv[1:]
words = [f"alice@{DOMAIN}", "--nameserver", "127.0.88.53", "--call", f"sip:echo@{DOMAIN}", "--every", "0.5"]
with (
    NameServer(ZONE, DOMAIN, "127.0.88.53"),
    Registrar("127.0.88.1", transports=("udp",)) as first,
    Registrar("127.0.88.2", transports=("udp",)) as second,
    Example(Path(path), *words) as program,
):
    program.wait_for("REGISTER 200")
    program.wait_for("DISCONNECTED 200")
    first.fault = getattr(registrar, fault)
    before, status = len(program.lines), None
    with suppress(AssertionError):
        program.wait_for("CONFIRMED", len(program.seen("CONFIRMED")) + 3, float(seconds))
        program.interrupt()
        status = program.finish()
    at_second = sorted({request.method for request in second.requests})
    print(json.dumps({"lines": program.lines[before:], "second": at_second, "status": status}))
