"""Files that the lookup reads: the system tells of each change, and nobody looks before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from pjfail import Candidate, ChainLookup, DnsLookup, StaticLookup, Target, UnknownTarget, machine
from pjfail.lookup import Lookup
from pjfail.machine import MachineWatch
from pjfail.network import NetworkWatch


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("192.0.2.2 voip.test\n")
    other.rename(path)


def write(path: Path) -> None:
    path.write_text("192.0.2.2 voip.test\n")


def remove(path: Path) -> None:
    path.unlink()


def write_in_place(path: Path) -> None:
    with path.open("r+") as file:
        file.write("192.0.2.9")


def tells(lookup: Lookup, path: Path, *changes: Callable[[Path], None]) -> bool:
    """Whether each of the *changes* is told within seconds, and nothing before the first."""

    async def watched() -> bool:
        changed = asyncio.Event()
        network = NetworkWatch(list, list, lambda: None, lambda *_: None)
        watch = MachineWatch(lookup, changed.set, network)
        watch.begin(asyncio.get_running_loop())
        try:
            await asyncio.sleep(0.3)
            assert not changed.is_set()
            for change in changes:
                change(path)
                await asyncio.wait_for(changed.wait(), 5)
                changed.clear()
        finally:
            watch.end()
        return True

    return asyncio.run(watched())


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without the looks every two seconds."""
    monkeypatch.setattr(machine, "INTERVAL", 3600.0)
    (tmp_path / "hosts").write_text("192.0.2.1 voip.test\n")
    return tmp_path / "hosts"


@pytest.mark.parametrize("change", [write, replace, remove, write_in_place])
def test_a_change_is_told(hosts: Path, change: Callable[[Path], None]) -> None:
    assert tells(DnsLookup(["192.0.2.53"], hosts=hosts), hosts, change)


def test_the_file_that_has_replaced_another_is_watched(hosts: Path) -> None:
    lookup = ChainLookup(StaticLookup({}), DnsLookup(["192.0.2.53"], hosts=hosts))
    assert tells(lookup, hosts, replace, write_in_place, remove, write)


def test_a_link_is_followed_also_to_a_folder_that_is_not_there_yet(tmp_path: Path, hosts: Path) -> None:
    link, there = tmp_path / "link", tmp_path / "run" / "resolve" / "hosts"
    link.symlink_to(there)

    def make_folders(_: Path) -> None:
        there.parent.mkdir(parents=True)
        write(there)

    def lead_elsewhere(_: Path) -> None:
        link.unlink()
        link.symlink_to(hosts)

    lookup = DnsLookup(["192.0.2.53"], hosts=link)
    assert tells(lookup, there, make_folders, replace, lead_elsewhere)


def test_a_lookup_that_does_not_tell_its_files_is_asked_regularly(hosts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Own:
        asked = 0

        async def lookup(self, target: Target) -> list[Candidate]:
            raise UnknownTarget(f"{target} is not looked up here")

        def files_changed(self) -> bool:
            self.asked += 1
            return self.asked > 3

    monkeypatch.setattr(machine, "INTERVAL", 0.2)
    assert tells(Own(), hosts, lambda _: None)
    chain = ChainLookup(DnsLookup(["192.0.2.53"], hosts=hosts), Own())
    assert chain.files() is None
    assert tells(chain, hosts, lambda _: None)
