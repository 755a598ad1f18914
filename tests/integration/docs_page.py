"""A page of the documentation, as a reader runs it: docs_page.py PROGRAM, in a network and mounts of its own.

The domain of all pages, voip.example, has a name server here, which is the system's, and its two registrars at the
addresses that the pages write. Whatever is read from standard input is Enter, once the first server has answered a
REGISTER; from then on that server is silent. The program's output is passed on, and its exit status.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from tempfile import NamedTemporaryFile

from rig.app import PYTHON

from pjfail.testing import SILENT, NameServer, Registrar

NAME_SERVER, FIRST, SECOND = "192.0.2.53", "192.0.2.1", "192.0.2.2"
ZONE = """
$TTL 60
@           SOA  ns hostmaster 1 3600 600 86400 60
@           NS   ns
ns          A    192.0.2.53
_sip._udp   SRV  0 0 5060 first
_sip._udp   SRV  1 0 5060 second
first       A    192.0.2.1
second      A    192.0.2.2
"""


def run(program: Path) -> int:
    """Runs *program* and returns its exit status."""
    subprocess.run(["ip", "addr", "add", "192.0.2.1/24", "dev", "lo"], check=True)
    for address in (SECOND, NAME_SERVER):
        subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
    with NamedTemporaryFile("w") as resolver:
        resolver.write(f"nameserver {NAME_SERVER}\n")
        resolver.flush()
        subprocess.run(["mount", "--bind", resolver.name, "/etc/resolv.conf"], check=True)
        with (
            NameServer(ZONE, "voip.example", NAME_SERVER),
            Registrar(FIRST) as first,
            Registrar(SECOND) as second,
            subprocess.Popen([PYTHON, str(program)], stdin=subprocess.PIPE, text=True) as reader,
        ):
            assert reader.stdin is not None
            if "input(" in program.read_text("utf-8"):
                first.wait_for("REGISTER")
                time.sleep(1.5)  # pjsua registers once more, with the address that the first answer has shown it
                first.fault = SILENT
                reader.stdin.write("\n")
                reader.stdin.flush()
                second.wait_for("REGISTER")
                time.sleep(3)  # by then the silence of the first server has been noticed
                reader.stdin.write("q\n")
            reader.stdin.close()
            try:
                return reader.wait(60)
            finally:
                reader.kill()


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
