"""The quick turn of `tests/fuzz/fuzz_dns_answers.py`, and that its bytes get where they should."""

from __future__ import annotations

import pytest
from fuzz.fuzz_dns_answers import URIS, Edit, look_up, spoilt
from hypothesis import given, settings
from hypothesis import strategies as st

from pjfail.errors import LookupFailed


@settings(max_examples=4 * settings().max_examples)
@given(st.sampled_from(URIS), spoilt)
def test_whatever_the_bytes(uri: str, spoiling: list[list[Edit]]) -> None:
    look_up(uri, spoiling)


@pytest.mark.parametrize("uri", URIS)
def test_good_answers_lead_to_servers(uri: str) -> None:
    found = look_up(uri, [])
    assert not isinstance(found, LookupFailed)
    assert {each.name for each in found} <= {"a.example.com", "b.example.com", "alias.example.com"}


def test_what_is_edited_is_read() -> None:
    def moved(wire: bytes) -> bytes:
        return wire.replace(bytes([192, 0, 2, 2]), bytes([198, 51, 100, 2]))

    found = look_up("sip:b.example.com:5060", [[moved]])
    assert not isinstance(found, LookupFailed)
    assert [str(each.server) for each in found] == ["udp:198.51.100.2:5060"]


def test_a_truncated_answer_is_read_over_tcp() -> None:
    def truncated(wire: bytes) -> bytes:
        return wire[:2] + bytes([wire[2] | 0x02]) + wire[3:]

    assert not isinstance(look_up("sip:b.example.com:5060", [[truncated]]), LookupFailed)
    assert isinstance(look_up("sip:b.example.com:5060", [[truncated]] * 4), LookupFailed)
