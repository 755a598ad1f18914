"""The machine around a program: files and addresses that are not there yet when it attaches, or change under it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rig.app import PYTHON, App
from rig.network import BECOME, mounted

from pjfail.testing import NameServer, Registrar

FIRST, SECOND, NAME_SERVER = "127.0.96.1", "127.0.96.2", "127.0.96.53"
NO_SRV = f"""
$TTL 300
@           SOA  ns hostmaster 1 3600 600 86400 300
@           NS   ns
ns          A    {NAME_SERVER}
"""
ZONE = f"""{NO_SRV}
_sip._udp   SRV  0 0 5060 second
second      A    {SECOND}
"""

# Each line from the test has the account register; the answer says where, and what pjfail has logged since.
APP = """
    import logging
    import pjfail
    from rig.prelude import Account, Endpoint, emit, heard

    said = []

    class Keeping(logging.Handler):
        def emit(self, record):
            said.append([record.levelname, record.getMessage()])

    logging.getLogger("pjfail").addHandler(Keeping())
    logging.getLogger("pjfail").setLevel(logging.INFO)
    with Endpoint() as endpoint:
        pjfail.attach()
        account = Account(endpoint, retries=False)
        account.open("sip:alice@voip.test", "sip:voip.test")
        while heard():
            answer = account.reregister()
            emit(server=answer.server, code=answer.code, said=said)
            said = []
"""


@pytest.fixture
def resolv_conf(tmp_path: Path) -> Path:
    (tmp_path / "resolv.conf").write_text(f"nameserver {NAME_SERVER}\n")
    return tmp_path / "resolv.conf"


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n")
    return tmp_path / "hosts"


@contextmanager
def app(tmp_path: Path, resolv_conf: Path, hosts: Path) -> Iterator[App]:
    """The program, where these are the machine's files."""
    program = tmp_path / "program.py"
    program.write_text("if True:\n" + APP)
    command = [*mounted((resolv_conf, "/etc/resolv.conf"), (hosts, "/etc/hosts")), PYTHON, str(program)]
    with App(BECOME, *command) as running:
        yield running


def moved(running: App, server: str) -> list[list[str]]:
    """Waits until the account registers at *server*, and returns what has been logged meanwhile."""
    deadline, said = time.monotonic() + 20, []
    while time.monotonic() < deadline:
        line = running.ask("register")
        said += line["said"]
        if line["server"] == f"{server}:5060":
            return said
        time.sleep(0.3)
    raise AssertionError(f"no REGISTER has reached {server}: {said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "names no name server"), ("nameserver dns.voip.test\n", "names dns.voip.test as name server")],
)
def test_resolv_conf_is_mended_while_the_program_runs(
    tmp_path: Path, resolv_conf: Path, hosts: Path, first: Registrar, second: Registrar, text: str, said: str
) -> None:
    """Until then the system's resolver finds the server; from then on there are the SRV records."""
    resolv_conf.write_text(text)
    hosts.write_text(f"127.0.0.1 localhost\n{FIRST} voip.test\n")
    with NameServer(ZONE, "voip.test", NAME_SERVER), app(tmp_path, resolv_conf, hosts) as running:
        line = running.ask("register")
        assert (line["code"], line["server"]) == (200, f"{FIRST}:5060")
        [warning] = [message for level, message in line["said"] if level == "WARNING"]
        assert said in warning
        hosts.write_text("127.0.0.1 localhost\n")
        resolv_conf.write_text(f"nameserver {NAME_SERVER}\n")
        assert any("names 127.0.96.53 now" in message for _, message in moved(running, SECOND))


def test_a_hosts_file_that_changes_changes_the_plans(
    tmp_path: Path, resolv_conf: Path, hosts: Path, first: Registrar, second: Registrar
) -> None:
    """Within seconds, though what stands there holds for a minute."""
    hosts.write_text(f"{FIRST} voip.test\n")
    with NameServer(NO_SRV, "voip.test", NAME_SERVER), app(tmp_path, resolv_conf, hosts) as running:
        assert running.ask("register")["server"] == f"{FIRST}:5060"
        hosts.write_text(f"{SECOND} voip.test\n")
        said = moved(running, SECOND)
    assert ["INFO", "a file has changed: every name is looked up again"] in said


def test_an_address_that_comes_has_names_looked_up_again(
    tmp_path: Path, resolv_conf: Path, hosts: Path, first: Registrar
) -> None:
    hosts.write_text(f"{FIRST} voip.test\n")
    with NameServer(NO_SRV, "voip.test", NAME_SERVER), app(tmp_path, resolv_conf, hosts) as running:
        assert running.ask("register")["server"] == f"{FIRST}:5060"
        subprocess.run(["ip", "addr", "add", "192.0.2.96/32", "dev", "lo"], check=True)
        try:
            deadline, said = time.monotonic() + 20, []
            while not any("the network has changed" in message for _, message in said):
                assert time.monotonic() < deadline
                said += running.ask("register")["said"]
                time.sleep(0.3)
        finally:
            subprocess.run(["ip", "addr", "del", "192.0.2.96/32", "dev", "lo"], check=True)
