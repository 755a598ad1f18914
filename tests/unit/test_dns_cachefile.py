"""The cache file: what it holds, and what becomes of files that are none."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dns.name
import dns.rdata
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pjfail.lookup.cachefile import HEAD, CacheFile, decode, encode
from pjfail.lookup.resolver import Answer, Asked, Kind

HOST = dns.name.from_text("h.example")


def answer(kind: Kind, *records: str, ttl: float = 60.0, owner: dns.name.Name = HOST) -> Answer:
    return Answer(owner, tuple(dns.rdata.from_text("IN", kind, record) for record in records), ttl)


ANSWERS = {
    Asked(HOST, "A"): answer("A", "192.0.2.1", "192.0.2.2"),
    Asked(HOST, "AAAA"): answer("AAAA"),
    Asked(HOST, "SRV"): answer("SRV", "10 60 5060 a.example.", owner=dns.name.from_text("end.example")),
    Asked(HOST, "NAPTR"): answer("NAPTR", '10 10 "s" "SIP+D2U" "" _sip._udp.example.', ttl=-7.5),
}

MANY = {Asked(dns.name.from_text(f"h{n}.example"), "A"): answer("A", f"192.0.2.{n}") for n in range(200)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.json"


def at(now: float) -> Callable[[], float]:
    return lambda: now


def test_it_gives_back_what_it_was_given_older_by_the_time_between(path: Path) -> None:
    CacheFile(path, at(1000.0)).save(lambda: ANSWERS)
    loaded = CacheFile(path, at(1100.0)).load()
    assert {asked: each.ttl for asked, each in loaded.items()} == {
        asked: each.ttl - 100 for asked, each in ANSWERS.items()
    }
    assert {asked: (each.name, each.records) for asked, each in loaded.items()} == {
        asked: (each.name, each.records) for asked, each in ANSWERS.items()
    }


@given(
    st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4),
    st.binary(max_size=30),
    st.binary(max_size=30),
    st.integers(0, 65535),
)
def test_whatever_a_record_holds_is_given_back(labels: list[bytes], flags: bytes, regexp: bytes, number: int) -> None:
    name = dns.name.Name([*labels, b""])
    naptr = number.to_bytes(2) * 2 + b"".join(bytes([len(each)]) + each for each in (flags, b"SIP+D2U", regexp))
    record = dns.rdata.from_wire("IN", "NAPTR", naptr + name.to_wire(), 0, len(naptr) + len(name.to_wire()))
    answers = {Asked(name, "NAPTR"): Answer(name, (record,), 60.0)}
    assert decode(encode(answers, 0.0), 0.0) == answers


def test_it_is_json_that_only_its_owner_can_read(path: Path) -> None:
    CacheFile(path).save(lambda: ANSWERS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = json.loads(path.read_text())
    assert content["version"] == 1
    assert content["answers"][0]["records"] == ["192.0.2.1", "192.0.2.2"]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [None, ""])
def test_a_file_that_is_not_there_yet_is_no_trouble(
    content: str | None, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if content is not None:
        path.write_text(content)
    file = CacheFile(path)
    assert file.load() == {}
    file.save(lambda: ANSWERS)
    assert len(CacheFile(path).load()) == len(ANSWERS)
    assert caplog.records == []


@pytest.mark.parametrize(
    "content",
    [
        HEAD,
        HEAD + ', "version": 2, "answers": []}',
        HEAD + ', "version": 1, "answers": [{}]}',
        HEAD + ', "version": 1, "answers": 7}',
        HEAD + ', "version": 1}',
        HEAD + ', "version": 1, "answers": ' + "[" * 100_000,
        encode(ANSWERS, 0.0)[:-20],
        encode(ANSWERS, 0.0).replace("192.0.2.1", "192.0.2.300"),
        encode(ANSWERS, 0.0).replace('"SRV"', '"NONSENSE"'),
        encode(ANSWERS, 0.0).replace("h.example.", "h..example."),
    ],
)
def test_a_damaged_file_is_said_once_and_written_anew(
    content: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(content)
    file = CacheFile(path)
    assert file.load() == {}
    [said] = caplog.records
    assert said.levelno == logging.WARNING
    assert str(path) in said.message
    assert "written anew" in said.message
    file.save(lambda: ANSWERS)
    assert len(CacheFile(path).load()) == len(ANSWERS)


@pytest.mark.parametrize("content", [b"[global]\nworkgroup = SIP\n", b"{}", b"\xff\xfe\x00garbage"])
def test_another_programs_file_is_left_alone(content: bytes, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(content)
    file = CacheFile(path)
    assert file.load() == {}

    async def learn() -> None:
        file.save_soon(lambda: ANSWERS)
        await asyncio.sleep(0)

    asyncio.run(learn())
    assert path.read_bytes() == content
    [said] = caplog.records
    assert "left alone" in said.message


def test_what_is_no_file_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert CacheFile(tmp_path).load() == {}
    assert "left alone" in caplog.text


def test_a_file_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = CacheFile(tmp_path / "gone" / "answers.json")
    assert file.load() == {}
    file.save(lambda: ANSWERS)
    file.save(lambda: ANSWERS)
    [said] = caplog.records
    assert "cannot be written" in said.message
    (tmp_path / "gone").mkdir()
    for _ in range(2):
        file.save(lambda: ANSWERS)
    assert len(file.load()) == len(ANSWERS)
    assert [record.message for record in caplog.records[1:]] == [f"the DNS cache file {file._path} is written again"]


FULL_DISK = """
import asyncio, logging, resource, sys, time
from pathlib import Path
from pjfail.lookup import cachefile
from test_dns_cachefile import MANY

logging.basicConfig(format="%(message)s", stream=sys.stdout)
cachefile.SAVE_AFTER = 0.02
path = Path(sys.argv[1])
file, writes = cachefile.CacheFile(path), []

def answers():
    writes.append(time.monotonic())
    return MANY

async def learn():
    file.save_soon(answers)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    for _ in range(100):  # what is learnt meanwhile makes it no hastier
        await asyncio.sleep(0.01)
        file.save_soon(answers)
    print(path.exists(), len(writes), flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    while not path.exists():
        await asyncio.sleep(0.01)

asyncio.run(learn())
print([each.name for each in path.parent.iterdir()])
"""


def test_a_full_disk_is_tried_again_less_and_less_often_until_there_is_room(path: Path) -> None:
    """A process of its own, whose files may have 4 kB: the write fails as on a full disk."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [Path(__file__).parent, *sys.path]))}
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    failed, tried, again, left = done.stdout.splitlines()
    assert "cannot be written now, and is tried again" in failed
    exists, count = tried.split()
    assert exists == "False"
    assert 2 <= int(count) <= 10  # after 0.02, 0.06, 0.14, 0.3, 0.62 s, and so on while the machine is busy
    assert again == f"the DNS cache file {path} is written again"
    assert left == f"['{path.name}']"
    assert CacheFile(path).load().keys() == MANY.keys()


def test_a_file_takes_no_more_octets_than_it_may() -> None:
    whole = encode(MANY, 0.0)
    for most in (len(whole), len(whole) - 1, len(whole) // 2, 200):
        text = encode(MANY, 0.0, most)
        assert len(text.encode()) <= most
        kept = list(decode(text, 0.0))
        assert kept == list(MANY)[len(MANY) - len(kept) :]
    assert decode(whole, 0.0).keys() == MANY.keys()
    huge = {Asked(HOST, "A"): answer("A", *(f"10.0.{n >> 8}.{n & 255}" for n in range(4000)))}
    assert decode(encode({**MANY, **huge}, 0.0, 50_000), 0.0).keys() == MANY.keys()  # it alone is left out


def test_a_write_that_fails_leaves_the_old_file_and_no_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CacheFile(path).save(lambda: ANSWERS)
    before = path.read_text()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    CacheFile(path).save(dict)
    assert path.read_text() == before
    assert list(path.parent.iterdir()) == [path]


def test_it_is_written_after_a_while_once_for_all_that_was_learnt(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pjfail.lookup.cachefile.SAVE_AFTER", 0.05)
    written: list[int] = []
    file = CacheFile(path)
    answers: dict[Asked, Answer] = {}
    monkeypatch.setattr(file, "save", lambda given: written.append(len(given())))

    async def written_times(times: int) -> None:
        async with asyncio.timeout(20):
            while len(written) < times:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

    async def learn() -> None:
        for asked, each in ANSWERS.items():
            answers[asked] = each
            file.save_soon(lambda: answers)
        assert written == []
        await written_times(1)
        assert written == [4]
        file.save_soon(lambda: answers)
        await written_times(2)

    asyncio.run(learn())
    assert written == [4, 4]


def test_what_is_learnt_while_it_is_written_is_written_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pjfail.lookup.cachefile.SAVE_AFTER", 0.01)
    file = CacheFile(path)
    answers: dict[Asked, Answer] = {}
    written: list[int] = []

    async def learn() -> None:
        loop = asyncio.get_running_loop()

        def one_more() -> None:
            answers.update(ANSWERS)
            file.save_soon(lambda: answers)

        def slow(given: Callable[[], dict[Asked, Answer]]) -> None:
            written.append(len(given()))
            if len(written) == 1:
                loop.call_soon_threadsafe(one_more)
            time.sleep(0.05)

        monkeypatch.setattr(file, "save", slow)
        file.save_soon(lambda: answers)
        await asyncio.sleep(0.3)

    asyncio.run(learn())
    assert written == [0, 4]


def test_what_was_learnt_last_is_written_when_the_loop_ends(path: Path) -> None:
    file = CacheFile(path)

    async def learn() -> None:
        file.save_soon(lambda: ANSWERS)
        await asyncio.sleep(0)

    asyncio.run(learn())
    assert len(CacheFile(path).load()) == len(ANSWERS)
    path.unlink()
    asyncio.run(learn())  # and in the next loop
    assert path.exists()
