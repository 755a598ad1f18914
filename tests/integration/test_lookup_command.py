"""``python -m pjfail lookup`` as a process, against a name server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from rig.dns_server import DnsServer

ZONE = [
    'example.com. 60 IN NAPTR 50 50 "s" "SIPS+D2T" "" _sips._tcp.example.com.',
    'example.com. 60 IN NAPTR 90 50 "s" "SIP+D2T" "" _sip._tcp.example.com.',
    "_sips._tcp.example.com. 60 IN SRV 10 1 5061 a.example.com.",
    "_sips._tcp.example.com. 60 IN SRV 20 1 5071 b.example.com.",
    "_sip._tcp.example.com. 60 IN SRV 0 1 5060 b.example.com.",
    "a.example.com. 30 IN A 127.0.0.11",
    "b.example.com. 60 IN A 127.0.0.12",
]


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as running:
        yield running


def command(server: DnsServer, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pjfail", "lookup", "--nameserver", str(server), *arguments]


def run(server: DnsServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(server, *arguments), capture_output=True, text=True, timeout=30, check=False)


def test_json_lists_the_candidates_in_order(server: DnsServer) -> None:
    done = run(server, "sip:alice@example.com", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "target": {"host": "example.com", "port": 0, "transport": None, "secure": False, "ipv6": False},
        "candidates": [
            {"address": "127.0.0.11", "port": 5061, "transport": "tls", "name": "a.example.com", "priority": 10}
            | {"weight": 1, "ttl": 30},
            {"address": "127.0.0.12", "port": 5071, "transport": "tls", "name": "b.example.com", "priority": 20}
            | {"weight": 1, "ttl": 60},
        ],
    }


def test_the_switches_reach_the_lookup(server: DnsServer) -> None:
    done = run(server, "sip:example.com", "--json", "--transports", "tcp,udp", "--families", "ipv4")
    assert [each["transport"] for each in json.loads(done.stdout)["candidates"]] == ["tcp"]
    assert Counter(query.kind for query in server.queries)["AAAA"] == 0
    done = run(server, "sip:a.example.com", "--json", "--naptr", "off")
    assert json.loads(done.stdout)["candidates"][0]["name"] == "a.example.com"
    assert "a.example.com" not in server.asked("NAPTR")


def test_nothing_found_is_one_sentence_and_status_1(server: DnsServer) -> None:
    done = run(server, "sip:gone.example.com")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pjfail: sip:gone.example.com: gone.example.com has no SRV record and no address\n"


def test_a_silent_name_server_is_told(server: DnsServer) -> None:
    server.fault("silent")
    done = run(server, "sip:example.com:5060")
    assert done.returncode == 1
    assert f"{server} is silent" in done.stderr


def test_ctrl_c_is_quiet_and_status_130(server: DnsServer) -> None:
    server.fault("silent")
    process = subprocess.Popen(command(server, "sip:example.com"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not server.queries:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10) == (b"", b"")
    assert process.returncode == 130


def test_the_table_tells_which_query_found_each_server(server: DnsServer) -> None:
    done = run(server, "sip:example.com")
    assert done.returncode == 0
    assert done.stdout.count("_sips._tcp.example.com SRV") == 2
    assert "a.example.com A" in run(server, "sip:a.example.com:5060").stdout


def test_a_trace_shows_every_question_before_its_answer(server: DnsServer) -> None:
    done = run(server, "sip:example.com", "--trace", "--json", "--families", "ipv4")
    lines = done.stderr.splitlines()
    assert lines[0] == "? example.com NAPTR"
    answered = [line[2:].partition(":")[0] for line in lines if line.startswith("= ")]
    assert {"example.com NAPTR", "_sips._tcp.example.com SRV", "a.example.com A"} <= set(answered)
    for question in answered:
        assert lines.index(f"? {question}") < next(
            n for n, line in enumerate(lines) if line.startswith(f"= {question}:")
        )
    assert "= a.example.com A: 127.0.0.11 (TTL 30 s)" in lines
    assert json.loads(done.stdout)["candidates"]
