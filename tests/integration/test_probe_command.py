"""``python -m pjfail probe`` as a process, against registrars that fail and a name server."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rig.certificates import Authority
from rig.dns_server import DnsServer

from pjfail.testing import REFUSING, SILENT, UNAVAILABLE, Fault, Registrar

FIRST, SECOND = "127.0.36.1", "127.0.36.2"
ZONE = [
    f"{service}.sip.test. 60 IN SRV {priority} 5 {port} {name}.sip.test."
    for service, port in (("_sip._udp", 5060), ("_sip._tcp", 5060), ("_sips._tcp", 5061))
    for priority, name in ((10, "a"), (20, "b"))
] + [f"a.sip.test. 60 IN A {FIRST}", f"b.sip.test. 60 IN A {SECOND}"]

# What this interpreter has is hidden, as where nobody built it.
WITHOUT_PJSUA2 = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "pjsua2" else find(name, *rest)
from pjfail.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def context(authority: Authority, name: str) -> ssl.SSLContext:
    key, certificate = authority.issue(name)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate, key)
    return made


@pytest.fixture
def name_server() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as running:
        yield running


@pytest.fixture
def registrars(authority: Authority) -> Iterator[tuple[Registrar, Registrar]]:
    """The second one's certificate is for another name."""
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(Registrar(address, tls=context(authority, name)))
            for address, name in ((FIRST, "sip.test"), (SECOND, "other.test"))
        )
        yield first, second


Registrars = tuple[Registrar, Registrar]


def command(name_server: DnsServer, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pjfail", "probe", "--nameserver", str(name_server), *arguments]


def run(name_server: DnsServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = command(name_server, *arguments)
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)


def probe(name_server: DnsServer, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit status and what --json says of each candidate; nothing else is printed."""
    done = run(name_server, *arguments, "--json")
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)["candidates"]


def test_all_servers_are_asked_and_told_in_order(name_server: DnsServer, registrars: Registrars) -> None:
    status, [first, second] = probe(name_server, "sip:sip.test;transport=udp")
    assert status == 0
    assert 0 < first.pop("rtt") < 2
    assert first == {
        "address": FIRST,
        "port": 5060,
        "transport": "udp",
        "name": "a.sip.test",
        "priority": 10,
        "weight": 5,
        "ttl": 60,
        "alive": True,
        "code": 200,
        "reason": "OK",
        "problem": None,
        "certificate": [],
    }
    assert (second["name"], second["code"], second["alive"]) == ("b.sip.test", 200, True)
    for registrar in registrars:
        assert [request.method for request in registrar.requests] == ["OPTIONS"]


@pytest.mark.parametrize(
    ("fault", "uri", "expected"),  # of the first server: code, problem
    [
        pytest.param(SILENT, "sip:sip.test;transport=udp", (None, "no answer within 1 s"), id="udp-silent"),
        pytest.param(SILENT, "sip:sip.test;transport=tcp", (None, "no answer within 1 s"), id="tcp-silent"),
        pytest.param(REFUSING, "sip:sip.test;transport=tcp", (None, "Connection refused"), id="tcp-refused"),
        pytest.param(UNAVAILABLE, "sip:sip.test;transport=udp", (503, None), id="udp-503"),
    ],
)
def test_one_that_fails_is_told_and_another_that_answers_is_enough(
    name_server: DnsServer, registrars: Registrars, fault: Fault, uri: str, expected: tuple[int | None, str | None]
) -> None:
    registrars[0].fault = fault
    began = time.monotonic()
    status, [first, second] = probe(name_server, uri, "--timeout", "1")
    assert status == 0
    assert (first["code"], first["problem"], first["alive"]) == (*expected, False)
    assert (second["code"], second["alive"]) == (200, True)
    assert time.monotonic() - began < 10


def test_none_that_answers_is_status_1_after_one_timeout(name_server: DnsServer, registrars: Registrars) -> None:
    for registrar, fault in zip(registrars, (SILENT, SILENT), strict=True):
        registrar.fault = fault
    began = time.monotonic()
    status, candidates = probe(name_server, "sip:sip.test;transport=udp", "--timeout", "4")
    assert (status, [each["alive"] for each in candidates]) == (1, [False, False])
    assert time.monotonic() - began < 7.9  # all were asked at once


def test_503_from_all_is_status_1_and_404_is_an_answer(name_server: DnsServer, registrars: Registrars) -> None:
    for registrar in registrars:
        registrar.fault = UNAVAILABLE
    assert probe(name_server, "sip:sip.test;transport=udp")[0] == 1
    registrars[0].fault = Fault(code=404)
    assert probe(name_server, "sip:sip.test;transport=udp")[0] == 0


def test_tls_checks_the_name_of_the_uri(name_server: DnsServer, registrars: Registrars, authority: Authority) -> None:
    status, [good, bad] = probe(name_server, "sips:sip.test", "--ca", str(authority.path))
    assert (status, good["code"], good["certificate"]) == (0, 200, [])
    assert (bad["code"], bad["alive"]) == (None, False)
    assert "SSL certificate verification error" in bad["problem"]
    assert bad["certificate"] == ["The server identity does not match to any identities specified in the certificate"]
    assert not registrars[1].requests


def test_the_systems_authorities_do_not_know_ours(name_server: DnsServer, registrars: Registrars) -> None:
    status, candidates = probe(name_server, "sips:sip.test")
    assert status == 1
    assert all("The certificate is untrusted" in each["certificate"] for each in candidates)


def test_insecure_asks_all_the_same_and_tells(
    name_server: DnsServer, registrars: Registrars, authority: Authority
) -> None:
    status, [good, bad] = probe(name_server, "sips:sip.test", "--ca", str(authority.path), "--insecure")
    assert (status, good["certificate"], bad["code"], len(bad["certificate"])) == (0, [], 200, 1)


def test_the_table_is_all_that_is_printed(name_server: DnsServer, registrars: Registrars, authority: Authority) -> None:
    registrars[0].fault = UNAVAILABLE
    done = run(name_server, "sip:sip.test", "--ca", str(authority.path), "--transport", "tls,udp")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.replace("│", " ").split() for line in done.stdout.splitlines()]
    [first] = [line for line in lines if line[:1] == [f"udp:{FIRST}:5060"]]
    assert first[1:] == ["a.sip.test", first[2], "5", "503", "Service", "Unavailable", *first[-2:]]
    assert first[-1] == "ms"
    [secure] = [line for line in lines if line[:1] == [f"tls:{SECOND}:5061"]]
    assert "PJSIP_TLS_ECERTVERIF" in " ".join(secure)
    assert not [line for line in lines if line and line[0].startswith("tcp:")]
    assert "pjsua" not in done.stdout
    assert "certificate" not in run(name_server, "sip:sip.test;transport=udp").stdout


def test_an_address_is_asked_as_it_is(name_server: DnsServer, registrars: Registrars) -> None:
    status, [only] = probe(name_server, f"sip:{FIRST};transport=tcp")
    assert (status, only["name"], only["code"]) == (0, FIRST, 200)
    assert registrars[0].requests[0].transport == "tcp"
    assert not name_server.queries


def test_nothing_found_is_one_sentence_and_status_1(name_server: DnsServer) -> None:
    done = run(name_server, "sip:gone.test")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pjfail: sip:gone.test: gone.test has no SRV record and no address\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["tel:123"], "is not a valid SIP URI"),
        (["sip:sip.test", "--transports", "udp,sctp"], "choose among udp, tcp, tls"),
        (["sip:sip.test", "--timeout", "0"], "more than 0"),
        (["sip:sip.test", "--timeout", "soon"], "invalid float"),
        (["sip:sip.test", "--ca", "/nowhere.pem"], "this file does not exist; give a PEM file"),
        (["sip:sip.test", "--nameserver", "dns.example"], "is not a valid name server"),
    ],
)
def test_a_wrong_argument_is_status_2(name_server: DnsServer, arguments: list[str], reason: str) -> None:
    done = run(name_server, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr


def test_without_pjsua2_it_says_what_to_install(name_server: DnsServer) -> None:
    words = [sys.executable, "-c", WITHOUT_PJSUA2, "probe", "sip:sip.test", "--nameserver", str(name_server)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pjfail: probe sends with pjsua2, which this Python lacks; ")
    assert '"make setup"' in done.stderr
    assert '"pip install pjsua2-python"' in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("while_looking_up", [True, False])
def test_ctrl_c_is_quiet_and_status_130(name_server: DnsServer, registrars: Registrars, while_looking_up: bool) -> None:
    if while_looking_up:
        name_server.fault("silent")
    registrars[0].fault = registrars[1].fault = SILENT
    words = command(name_server, "sip:sip.test;transport=udp", "--timeout", "30")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (name_server.queries if while_looking_up else registrars[1].requests):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert process.communicate(timeout=10) == (b"", b"")
    assert process.returncode == 130
    assert time.monotonic() - began < 4
