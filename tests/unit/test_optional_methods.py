"""What a lookup may have besides lookup(): when it fails, pjfail says so and goes on without it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any

import pytest

from pjfail import Candidate, ChainLookup, StaticLookup, Target, machine
from pjfail.errors import UnknownTarget
from pjfail.lookup.optional import OptionalMethods, require_lookup
from pjfail.machine import MachineWatch
from pjfail.network import NetworkWatch
from pjfail.policy import Policy
from pjfail.probe import Probe
from pjfail.worker import Worker


class Plain:
    async def lookup(self, target: Target) -> list[Candidate]:
        raise UnknownTarget(f"{target} is not looked up here")


AWAY = OSError("database is away")


class Failing(Plain):
    """Each optional method raises."""

    def __init__(self, error: BaseException = AWAY) -> None:
        self.error = error

    def fail(self, *_: object) -> Any:
        raise self.error

    adapt = on_stale = on_table = resolve_names_by = ask_anew = files = files_changed = fail

    async def prepare(self) -> None:
        raise self.error


METHODS = ("adapt", "on_stale", "on_table", "resolve_names_by", "ask_anew", "files", "files_changed", "prepare")


def call_all(methods: OptionalMethods | ChainLookup) -> tuple[object, object]:
    """All but one, with arguments as pjfail has them; returns the files, and whether they have changed."""
    methods.adapt(["udp"], ["ipv4"])
    methods.on_stale(lambda *_: None)
    methods.on_table(lambda *_: None)
    methods.ask_anew()
    asyncio.run(methods.prepare())
    return methods.files(), methods.files_changed()


@pytest.mark.parametrize("error", [AWAY, SystemExit(1)])
def test_each_method_that_fails_is_logged_once_and_done_without(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    methods = OptionalMethods(Failing(error))
    for _ in range(3):
        methods.resolve_names_by(Plain())
        assert call_all(methods) == (None, False)
    told = [record.getMessage() for record in caplog.records]
    assert sorted(told) == sorted(
        f"Failing.{each}() failed; pjfail goes on without it (logged once)" for each in METHODS
    )
    assert all(record.exc_info for record in caplog.records)


def test_a_lookup_without_any_of_them_is_asked_for_none(caplog: pytest.LogCaptureFixture) -> None:
    methods = OptionalMethods(Plain())
    methods.resolve_names_by(Plain())
    assert call_all(methods) == ((), False)
    assert caplog.records == []


def test_one_that_fails_again_after_it_has_worked_is_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    class Flapping(Plain):
        works = False

        def ask_anew(self) -> None:
            if not self.works:
                raise OSError

    lookup = Flapping()
    methods = OptionalMethods(lookup)
    for works in (False, False, True, False):
        lookup.works = works
        methods.ask_anew()
    assert len(caplog.records) == 2


@pytest.mark.parametrize("files", ["/etc/hosts", ["/etc/hosts"], 5])
def test_what_is_not_a_list_of_paths_is_told_to_its_author(files: object, caplog: pytest.LogCaptureFixture) -> None:
    class Named(Plain):
        def files_changed(self) -> bool:
            return False

        def files(self) -> Any:
            return files

    assert OptionalMethods(Named()).files() is None
    assert f"it has returned {files!r}, which is not a list of pathlib.Path, nor None" in caplog.text


@pytest.mark.filterwarnings("error")
def test_one_that_is_async_by_mistake_is_told_to_its_author(caplog: pytest.LogCaptureFixture) -> None:
    class Async(Plain):
        async def files_changed(self) -> bool:
            return True

    assert not OptionalMethods(Async()).files_changed()
    assert "it is async, and nobody would await it; write def" in caplog.text


def test_in_a_chain_the_lookup_that_fails_is_named_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    tables: list[object] = []
    chain = ChainLookup(StaticLookup({"voip.example": ["192.0.2.1"]}), Failing())
    chain.on_table(tables.append)
    assert tables == [frozenset({("voip.example", 0)})]
    assert call_all(chain) == (None, False)
    assert "Failing.files() failed" in caplog.text
    assert "ChainLookup" not in caplog.text


def test_the_worker_s_parts_begin_with_a_lookup_whose_every_method_fails(caplog: pytest.LogCaptureFixture) -> None:
    """Each of them once ended the worker's loop, or attach()."""

    async def begin() -> None:
        Worker(Failing(), Policy(), Probe(), None, (), lambda: True).resolution.begin()
        await asyncio.sleep(0)

    asyncio.run(begin())
    for each in ("on_stale", "on_table", "prepare"):
        assert f"Failing.{each}() failed" in caplog.text


def test_a_lookup_that_cannot_name_its_files_is_asked_regularly(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nameless(Plain):
        asked = 0

        def files(self) -> list[Path]:
            raise OSError("database is away")

        def files_changed(self) -> bool:
            self.asked += 1
            return self.asked > 3

    monkeypatch.setattr(machine, "INTERVAL", 0.05)

    async def watched() -> None:
        changed = asyncio.Event()
        watch = MachineWatch(Nameless(), changed.set, NetworkWatch(list, list, lambda: None, lambda *_: None))
        watch.begin(asyncio.get_running_loop())
        try:
            await asyncio.wait_for(changed.wait(), 5)
        finally:
            watch.end()

    asyncio.run(watched())


# --- what is a lookup at all ------------------------------------------------------------------------------------------


class Unasync:
    def lookup(self, _target: Target) -> Sequence[Candidate]:
        return []


class TwoArguments:
    async def lookup(self, _target: Target, _port: int) -> Sequence[Candidate]:
        return []


class Wrapped:
    """Its method is a plain one around an async one."""

    def lookup(self, target: Target) -> Any: ...


Wrapped.lookup = wraps(Plain.lookup)(lambda _, target: Plain().lookup(target))  # type: ignore[method-assign]


class Partial:
    def __init__(self) -> None:
        self.lookup = partial(Plain().lookup)


@pytest.mark.parametrize("lookup", [Plain(), Failing(), Wrapped(), Partial(), StaticLookup({})])
def test_what_may_be_a_lookup_is_taken(lookup: object) -> None:
    require_lookup("lookup", lookup)


@pytest.mark.parametrize(
    ("lookup", "words"),
    [
        ("dns", "lookup is 'dns'; give an object with a method: async def lookup"),
        (StaticLookup, "StaticLookup'>; give an object"),
        (Unasync(), r"whose lookup\(\) is not async; give an object with a method: async def lookup"),
        (TwoArguments(), "takes other arguments: missing a required argument: '_port'"),
    ],
)
def test_what_cannot_be_a_lookup_is_refused(lookup: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        require_lookup("lookup", lookup)
    with pytest.raises(TypeError, match=words):
        ChainLookup(StaticLookup({}), lookup)
