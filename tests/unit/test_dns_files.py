"""resolv.conf, which may be missing, empty, wrong, or another at any time; and what DnsLookup makes of it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pjfail.errors import UnknownTarget
from pjfail.lookup import ChainLookup, DnsLookup, ReadsFiles, StaticLookup
from pjfail.lookup.files import ResolvConf
from pjfail.model import Target
from pjfail.testing import NameServer

FIRST, SECOND = "127.0.95.1", "127.0.95.2"
TARGET = Target("voip.test", transport="udp")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "resolv.conf"


@pytest.fixture
def servers() -> Iterator[None]:
    """Two name servers that do not agree."""
    zone = "@ SOA ns hostmaster 1 3600 600 86400 300\n@ NS ns\nns A 192.0.2.53\n@ A 192.0.2.{}"
    with (
        NameServer("$TTL 300\n" + zone.format(1), "voip.test", FIRST),
        NameServer("$TTL 300\n" + zone.format(2), "voip.test", SECOND),
    ):
        yield


def addresses(conf: ResolvConf) -> list[str]:
    return [server.address for server in conf.servers()]


def found(lookup: DnsLookup) -> list[str]:
    return [candidate.server.address for candidate in asyncio.run(lookup.lookup(TARGET))]


def replaced(path: Path, text: str) -> None:
    """As a program that writes a new file and renames it."""
    new = path.with_name("new")
    new.write_text(text)
    new.rename(path)


def test_the_lines_of_resolv_conf_5(path: Path) -> None:
    path.write_text("; comment\nsearch example\n nameserver  192.0.2.1 # x\nnameserver 2001:db8::1\noptions edns0\n")
    assert addresses(ResolvConf(path)) == ["192.0.2.1", "2001:db8::1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("", "names no name server"),
        ("search example\nnameserver\n", "names no name server"),
        ("nameserver dns.example\n", "names dns.example as name server; write an address"),
        ("nameserver 192.0.2.300\n", "names 192.0.2.300 as name server"),
        ("\0\xff\n", "names no name server"),
    ],
)
def test_a_file_without_a_name_server_is_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture, text: str | None, said: str
) -> None:
    """And no exception: told at once, and once."""
    if text is not None:
        path.write_text(text, "latin-1")
    lookup = DnsLookup(resolv_conf=path)
    for _ in range(2):
        with pytest.raises(UnknownTarget):
            asyncio.run(lookup.lookup(TARGET))
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert str(path) in record.message
    assert said in record.message
    assert "the system's resolver is asked" in record.message


def test_a_folder_and_a_file_that_may_not_be_read_are_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.mkdir()
    assert addresses(ResolvConf(path)) == []
    assert "cannot be read (Is a directory)" in caplog.text


def test_of_two_name_servers_the_wrong_one_is_passed_over(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text("nameserver dns.example\nnameserver 192.0.2.1\n")
    assert addresses(ResolvConf(path)) == ["192.0.2.1"]
    assert "only the others are asked" in caplog.text


def test_a_numeric_host_needs_no_file(path: Path) -> None:
    [candidate] = asyncio.run(DnsLookup(resolv_conf=path).lookup(Target("192.0.2.7")))
    assert candidate.server.address == "192.0.2.7"


def test_a_file_that_comes_later_is_used(path: Path, servers: None, caplog: pytest.LogCaptureFixture) -> None:
    """As at boot, before the network."""
    caplog.set_level(logging.INFO)
    lookup = DnsLookup(resolv_conf=path, ttl_floor=0.0, hosts=None)
    with pytest.raises(UnknownTarget):
        asyncio.run(lookup.lookup(TARGET))
    path.write_text(f"nameserver {FIRST}\n")
    assert found(lookup) == ["192.0.2.1"]
    assert f"names {FIRST} now" in caplog.text


@pytest.mark.parametrize("rewrite", [replaced, Path.write_text])
def test_a_file_that_changes_is_read_again(path: Path, servers: None, rewrite: object) -> None:
    """Replaced, or written in place, also with the same size: its answers are asked for anew, whatever their TTL."""
    path.write_text(f"nameserver {FIRST}\n")
    lookup = DnsLookup(resolv_conf=path, hosts=None)
    assert found(lookup) == ["192.0.2.1"]
    assert not lookup.files_changed()
    assert callable(rewrite)
    rewrite(path, f"nameserver {SECOND}\n")
    assert lookup.files_changed()
    assert not lookup.files_changed()
    assert found(lookup) == ["192.0.2.2"]


def test_what_is_known_serves_while_the_file_is_gone(path: Path, servers: None) -> None:
    path.write_text(f"nameserver {FIRST}\n")
    lookup = DnsLookup(resolv_conf=path, hosts=None)
    assert found(lookup) == ["192.0.2.1"]
    path.unlink()
    assert lookup.files_changed()
    assert found(lookup) == ["192.0.2.1"]


def test_the_hosts_file_is_one_of_the_files(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    lookup = DnsLookup([FIRST], hosts=hosts)
    assert not lookup.files_changed()
    hosts.write_text("192.0.2.9 voip.test\n")
    assert lookup.files_changed()
    times = hosts.stat()
    hosts.write_text("192.0.2.8 voip.test\n")
    os.utime(hosts, ns=(times.st_atime_ns, times.st_mtime_ns))  # as "cp -p" leaves it
    assert lookup.files_changed()


def test_a_chain_passes_the_question_on(path: Path) -> None:
    path.write_text(f"nameserver {FIRST}\n")
    chain = ChainLookup(StaticLookup({}), DnsLookup(resolv_conf=path), DnsLookup(resolv_conf=path))
    assert isinstance(chain, ReadsFiles)
    path.unlink()
    assert chain.files_changed()
    assert not chain.files_changed()
