"""The hosts file in front of a resolver."""

from __future__ import annotations

import asyncio
from pathlib import Path

import dns.name
import pytest
from rig.resolver import TableResolver

from pjfail.lookup.hosts import TTL, HostsFile, parse
from pjfail.lookup.resolver import Answer, Kind

TEXT = """\
# comment
127.0.0.1\tlocalhost pbx.example PBX   # and more
::1 localhost
192.0.2.7   pbx.example.
fe80::1%eth0 scoped.example
not-an-address odd.example
192.0.2.9
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "hosts").write_text(TEXT)
    return tmp_path / "hosts"


def ask(hosts: HostsFile, name: str, kind: Kind) -> list[str]:
    return [str(record) for record in answer(hosts, name, kind).records]


def answer(hosts: HostsFile, name: str, kind: Kind) -> Answer:
    return asyncio.run(hosts.resolve(dns.name.from_text(name), kind))


def test_the_lines_of_hosts_5() -> None:
    assert parse(TEXT) == {
        "localhost": ["127.0.0.1", "::1"],
        "pbx.example": ["127.0.0.1", "192.0.2.7"],
        "pbx": ["127.0.0.1"],
        "scoped.example": ["fe80::1%eth0"],
        "odd.example": ["not-an-address"],
    }


def test_a_listed_host_has_its_addresses_from_the_file_alone(path: Path) -> None:
    behind = TableResolver(["pbx.example. 60 IN A 192.0.2.66", "pbx.example. 60 IN AAAA 2001:db8::66"])
    hosts = HostsFile(path, behind)
    assert ask(hosts, "PBX.example.", "A") == ["127.0.0.1", "192.0.2.7"]
    assert ask(hosts, "pbx.example", "AAAA") == []
    assert ask(hosts, "localhost", "AAAA") == ["::1"]
    assert answer(hosts, "pbx", "A").ttl == TTL
    assert behind.asked == []


@pytest.mark.parametrize("name", ["scoped.example", "odd.example"])
def test_an_address_that_is_none_does_not_count(path: Path, name: str) -> None:
    assert ask(HostsFile(path, TableResolver()), name, "AAAA") == []


def test_other_hosts_and_other_records_are_asked_for(path: Path) -> None:
    records = ["pbx.example. 60 IN SRV 0 0 5060 a.example.", "other.example. 60 IN A 192.0.2.8"]
    hosts = HostsFile(path, TableResolver(records))
    assert ask(hosts, "pbx.example", "SRV") == ["0 0 5060 a.example."]
    assert ask(hosts, "other.example", "A") == ["192.0.2.8"]


def test_a_file_that_changes_is_read_again(path: Path) -> None:
    hosts = HostsFile(path, TableResolver())
    assert hosts.lists(dns.name.from_text("pbx"))
    path.write_text("192.0.2.5 new.example\n")
    assert ask(hosts, "new.example", "A") == ["192.0.2.5"]
    assert not hosts.lists(dns.name.from_text("pbx"))
    path.unlink()
    assert not hosts.lists(dns.name.from_text("new.example"))


def test_a_file_is_not_read_again_without_need(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = HostsFile(path, TableResolver())
    assert hosts.lists(dns.name.from_text("pbx"))
    monkeypatch.delattr(Path, "read_text")
    assert hosts.lists(dns.name.from_text("pbx"))


def test_bytes_that_are_no_text_harm_only_their_line(path: Path) -> None:
    path.write_bytes(b"192.0.2.5 b\xfccher.example\n192.0.2.6 good.example\n")
    assert ask(HostsFile(path, TableResolver()), "good.example", "A") == ["192.0.2.6"]
