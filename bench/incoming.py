"""How long no call reaches an account when its server fails: ``python -m bench.incoming``.

Two Kamailios, each with a location table of its own, a pjsua2 program registered with the first, and a caller that has
a call for it every :data:`CALL_S` seconds: by the first Kamailio unless that has failed, and where that does not ring,
by the second. Stock pjsip finds the Kamailios by a name server, pjfail by ``servers=``. It takes ten minutes.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count, product
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from rig.app import App  # noqa: E402
from rig.certificates import Authority  # noqa: E402
from rig.kamailio import Kamailio  # noqa: E402

from pjfail.testing import NameServer  # noqa: E402

TRANSPORTS = ("udp", "tcp", "tls")
FAULTS = ("silent", "killed", "503", "restarted")
PROGRAMS = {"stock": "", "pjfail": "Follow()", "watch=4": "Follow(watch=4)", "standby": "Follow(standby=True)"}
SECONDS = 40.0
CALL_S = 0.25
AT_ONCE = 4

Row = dict[str, float | str]

ZONE = """
$TTL 300
@           SOA  ns hostmaster 1 3600 600 86400 300
@           NS   ns
ns          A    127.0.0.1
_sip._udp   SRV  1 0 5060 first
_sip._udp   SRV  2 0 5060 second
_sip._tcp   SRV  1 0 5060 first
_sip._tcp   SRV  2 0 5060 second
_sips._tcp  SRV  1 0 5061 first
_sips._tcp  SRV  2 0 5061 second
first       A    {first}
second      A    {second}
"""

APP = """
    import sys
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit

    transport, ca, follow, nameserver, address, *servers = sys.argv[1:]
    port = 5061 if transport == "tls" else 5060
    table = {"sip.test": [(f"{transport}:{server}:{port}", number, 0) for number, server in enumerate(servers)]}
    uri = "sip:sip.test" + ("" if transport == "udp" else f";transport={transport}")

    calls, busy = [], pj.CallOpParam()
    busy.statusCode = 486

    class Called(Account):
        contact_rewrite = 2

        def onIncomingCall(self, prm):
            calls.append(pj.Call(self, prm.callId))

    stock = {} if follow else {"nameserver": nameserver}
    transports = ("udp", "tcp", "tls")
    with Endpoint(threads=0, transports=transports, ca=ca, address=address, log_level=1, **stock) as endpoint:
        if follow:
            failover = pjfail.attach(servers=table, follow=eval(follow, vars(pjfail)))
        alice = Called(endpoint)
        emit(code=alice.register("sip:alice@sip.test", uri).code)
        while True:
            endpoint.pj.libHandleEvents(20)
            while calls:
                calls.pop().answer(busy)  # in its callback pjsua2 2.17 does not survive that without SDP
"""


def measure() -> list[Row]:
    """A row for each cell, some of them side by side."""
    numbers = count(1)
    cells = [(next(numbers), *cell) for cell in product(TRANSPORTS, FAULTS, PROGRAMS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda cell: _cell(*cell), cells))


def _cell(number: int, transport: str, fault: str, program: str) -> Row:
    first_at, second_at, own, caller, name_server = (f"127.0.{140 + number}.{each}" for each in (1, 2, 3, 4, 53))
    with tempfile.TemporaryDirectory(prefix="pjfail-bench-") as folder:
        authority = Authority(Path(folder))
        with (
            Kamailio(first_at, "sip.test", authority=authority) as first,
            Kamailio(second_at, "sip.test", authority=authority) as second,
            NameServer(ZONE.format(first=first_at, second=second_at), "sip.test", name_server),
            App(APP, transport, str(authority.path), PROGRAMS[program], name_server, own, first_at, second_at) as app,
        ):
            answer = app.next()
            assert answer["code"] == 200, answer
            time.sleep(4)  # a standby is there, and a rewritten Contact
            rang = []
            began, began_at = time.monotonic(), time.time()
            if fault in ("killed", "restarted"):
                first.stop()
            else:
                first.fault(Kamailio.SILENT if fault == "silent" else 503)
            if fault == "restarted":
                first.serve()
            ways = [first_at, second_at] if fault == "restarted" else [second_at]
            while (at := time.monotonic()) < began + SECONDS:
                rang.append(any(_rings(caller, way) for way in ways))
                time.sleep(max(at + CALL_S - time.monotonic(), 0))
            back = rang.index(True) if True in rang else len(rang)
            return {
                "transport": transport,
                "fault": fault,
                "program": program,
                "deaf_s": back * SECONDS / len(rang),
                "calls": len(rang),
                "lost": rang.count(False),
                "registers": sum(
                    each.method == "REGISTER" and each.at > began_at for each in first.heard() + second.heard()
                ),
                "bound_at": " ".join(
                    name
                    for name, server in (("first", first), ("second", second))
                    if not (name == "first" and fault == "killed") and "alice" in server.locations()
                ),
            }


def _rings(caller: str, server: str) -> bool:
    """Whether a call by that server gets to the program, which is busy."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind((caller, 0))
        own = f"{caller}:{bound.getsockname()[1]}"
        call_id = f"{own}-{time.monotonic()}"
        via = f"Via: SIP/2.0/UDP {own};branch=z9hG4bK{call_id};rport\r\nMax-Forwards: 70\r\n"
        ids = f"From: <sip:bob@sip.test>;tag=b\r\nTo: <sip:alice@sip.test>\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n"
        head = f"INVITE sip:alice@sip.test SIP/2.0\r\n{via}{ids}Contact: <sip:bob@{own}>\r\nContent-Length: 0\r\n\r\n"
        bound.settimeout(0.5)
        try:
            bound.connect((server, 5060))
            bound.send(head.encode())
            while (answer := bound.recv(4000)).startswith(b"SIP/2.0 1"):
                pass
        except OSError:
            return False
        return answer.startswith(b"SIP/2.0 486")


def show(rows: list[Row]) -> None:
    """Prints the rows as a table."""
    names = list(rows[0])
    print("".join(f"{name.replace('_', ' '):>11}" for name in names))
    for row in rows:
        print("".join(f"{row[name]:>11.1f}" if name == "deaf_s" else f"{row[name]:>11}" for name in names))


if __name__ == "__main__":
    show(measure())
