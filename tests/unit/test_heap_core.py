"""The C core's heap of due times, beside a sorted list."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig.core import pure_library

ENTRIES = 200
Step = tuple[int, float | None]
DUE = st.sampled_from((0.0, 1.0, 2.0, math.inf)) | st.floats(0.0, 1e9)
# An entry, and when it is due: put in, or moved; None takes it out.
STEPS = st.lists(st.tuples(st.integers(0, ENTRIES - 1), DUE | st.none()), max_size=ENTRIES)


@pytest.fixture(scope="session")
def heap_library(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return pure_library(tmp_path_factory.mktemp("heap") / "heap.so", "heap")


class Heap:
    def __init__(self, ffi: Any, lib: Any) -> None:
        self.ffi, self.lib = ffi, lib
        self.heap = ffi.gc(ffi.new("struct heap *"), lib.heap_free)
        self.entries = ffi.new("struct heap_entry[]", ENTRIES)
        self.expected: dict[int, float] = {}

    def do(self, index: int, due: float | None) -> None:
        if due is None:
            self.lib.heap_remove(self.heap, self.entries + index)
            self.expected.pop(index, None)
        else:
            assert self.lib.heap_put(self.heap, self.entries + index, due)
            self.expected[index] = due

    def check(self) -> None:
        assert self.heap.count == len(self.expected)
        for index in range(ENTRIES):
            place = self.entries[index].place
            assert bool(place) == (index in self.expected)
            if place:
                slot = self.heap.slots[place - 1]
                assert slot.entry == self.entries + index
                assert slot.due == self.entries[index].due == self.expected[index]
        first = self.lib.heap_first(self.heap)
        assert (first.due if first else None) == min(self.expected.values(), default=None)

    def drain(self) -> list[tuple[int, float]]:
        """All that are in, the first due first."""
        drained = []
        while first := self.lib.heap_first(self.heap):
            index = first - self.entries
            drained.append((index, first.due))
            self.do(index, None)
        return drained


@pytest.fixture(scope="session")
def new_heap(heap_library: tuple[Any, Any]) -> Callable[[], Heap]:
    return lambda: Heap(*heap_library)


@given(steps=STEPS)
def test_it_is_as_a_sorted_list(new_heap: Callable[[], Heap], steps: list[Step]) -> None:
    heap = new_heap()
    for index, due in steps:
        heap.do(index, due)
    heap.check()
    expected = dict(heap.expected)
    drained = heap.drain()
    assert dict(drained) == expected
    assert all(before[1] <= after[1] for before, after in pairwise(drained))
    heap.check()


@given(steps=STEPS)
def test_every_entry_knows_its_place_after_each_step(new_heap: Callable[[], Heap], steps: list[Step]) -> None:
    heap = new_heap()
    for index, due in steps[:40]:
        heap.do(index, due)
        heap.check()


def test_it_grows(new_heap: Callable[[], Heap]) -> None:
    heap = new_heap()
    for index in reversed(range(ENTRIES)):
        heap.do(index, float(index))
    heap.check()
    assert heap.drain() == [(index, float(index)) for index in range(ENTRIES)]


def test_taking_out_what_is_not_in_does_nothing(new_heap: Callable[[], Heap]) -> None:
    heap = new_heap()
    heap.do(0, None)
    heap.check()
    heap.do(0, 1.0)
    heap.do(0, None)
    heap.do(0, None)
    heap.check()
