"""ChainLookup: who is asked, and who has the last word."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from pjfail.errors import LookupFailed, UnknownTarget
from pjfail.lookup import Adaptive, ChainLookup, DnsLookup, Lookup, ServesStale, StaticLookup, SystemLookup
from pjfail.lookup.protocol import TellStale
from pjfail.model import Candidate, Family, Server, Target, Transport

TARGET = Target("example.com")
FOUND = [Candidate(Server("192.0.2.1", 5060), "example.com", ttl=60)]


class Says:
    """A lookup that returns or raises *what*."""

    def __init__(self, what: list[Candidate] | Exception) -> None:
        self.what = what
        self.asked: list[Target] = []

    async def lookup(self, target: Target) -> list[Candidate]:
        self.asked.append(target)
        if isinstance(self.what, Exception):
            raise self.what
        return self.what


class Wired(Says):
    """One that adapts and serves old answers."""

    adapted: tuple[Sequence[Transport], Sequence[Family]] | None = None
    tell: TellStale | None = None

    def adapt(self, transports: Sequence[Transport], families: Sequence[Family]) -> None:
        self.adapted = (transports, families)

    def on_stale(self, tell: TellStale) -> None:
        self.tell = tell


UNKNOWN = UnknownTarget("not in my table")
SILENT = LookupFailed("no answer", temporary=True)
NONE = LookupFailed("there is none")
BUG = KeyError("bug")


def look_up(*lookups: Says) -> Sequence[Candidate]:
    return asyncio.run(ChainLookup(*lookups).lookup(TARGET))


def refused(*lookups: Says) -> LookupFailed:
    with pytest.raises(LookupFailed) as caught:
        look_up(*lookups)
    return caught.value


def test_the_first_that_answers_answers() -> None:
    last = Says(FOUND)
    assert look_up(Says(FOUND), last) == FOUND
    assert last.asked == []


@pytest.mark.parametrize("passing", [UNKNOWN, SILENT, BUG, []])
def test_who_does_not_know_or_fails_passes_on(passing: list[Candidate] | Exception) -> None:
    last = Says(FOUND)
    assert look_up(Says(passing), last) == FOUND
    assert last.asked == [TARGET]


def test_there_is_none_ends_the_chain() -> None:
    last = Says(FOUND)
    assert refused(Says(UNKNOWN), Says(NONE), last) is NONE
    assert last.asked == []


@pytest.mark.parametrize("after", [UNKNOWN, NONE, LookupFailed("too", temporary=True), []])
def test_the_first_temporary_failure_is_the_error(after: list[Candidate] | Exception) -> None:
    assert refused(Says(UNKNOWN), Says(SILENT), Says(after)) is SILENT


def test_unknown_to_all_is_unknown() -> None:
    assert refused(Says(UNKNOWN), Says([])) is UNKNOWN
    assert isinstance(refused(Says([])), UnknownTarget)


def test_an_exception_is_logged_and_a_temporary_failure(caplog: pytest.LogCaptureFixture) -> None:
    failure = refused(Says(BUG), Says(UNKNOWN))
    assert failure.temporary
    assert "Says failed: KeyError('bug')" in str(failure)
    [said] = caplog.records
    assert said.exc_info is not None


def test_real_lookups_in_a_chain() -> None:
    chain = ChainLookup(StaticLookup({"example.com": ["192.0.2.1:5060"]}), SystemLookup())
    [found] = asyncio.run(chain.lookup(TARGET))
    assert str(found.server) == "udp:192.0.2.1:5060"
    [found] = asyncio.run(chain.lookup(Target("192.0.2.9")))
    assert str(found.server) == "udp:192.0.2.9:5060"


def test_what_the_endpoint_has_reaches_those_who_ask_for_it() -> None:
    first, second = Wired(UNKNOWN), Wired(UNKNOWN)
    chain = ChainLookup(first, Says(UNKNOWN), second)
    chain.adapt(["tcp"], ["ipv6"])
    assert first.adapted == second.adapted == (["tcp"], ["ipv6"])

    def tell(target: Target, reason: str) -> None: ...

    chain.on_stale(tell)
    assert first.tell is second.tell is tell


def test_what_is_a_lookup_and_what_it_is_besides() -> None:
    for lookup in (ChainLookup(Says([])), DnsLookup(["127.0.0.1"])):
        assert isinstance(lookup, Lookup)
        assert isinstance(lookup, Adaptive)
        assert isinstance(lookup, ServesStale)
    assert isinstance(StaticLookup({}), Adaptive)
    assert not isinstance(StaticLookup({}), ServesStale)


def test_a_chain_of_nothing_or_of_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match="at least one"):
        ChainLookup()
    with pytest.raises(TypeError, match="a lookup is 'dns'; give an object with a method: async def lookup"):
        ChainLookup(Says(FOUND), "dns")  # type: ignore[arg-type]
