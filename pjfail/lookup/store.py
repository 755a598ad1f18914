"""Room for DNS answers, counted in octets, because the owner of a zone chooses how large they are."""

from __future__ import annotations

import sys
from typing import Generic, TypeVar

from dns.name import Name
from dns.rdtypes.IN.NAPTR import NAPTR
from dns.rdtypes.IN.SRV import SRV

from ..errors import LookupFailed
from .resolver import Answer

K = TypeVar("K")
V = TypeVar("V")

LARGE = 1 / 1024  # of the room: larger values count as large; 32 kB of 32 MB, some 200 addresses
LARGE_SHARE = 1 / 4  # of the room, for all large ones together

# Octets, as CPython 3.11 to 3.14 and dnspython 2.x take them on 64-bit Linux.
_ENTRY = 750  # question, answer, and their entry in the store
_RECORD = 160  # without its names and its texts
_NAME = 60  # without its labels
_BESIDE = 250  # one of the addresses beside an answer, without their name and records


def octets_of(outcome: Answer | LookupFailed) -> int:
    """Returns how much memory it takes to keep *outcome*, correct to a third."""
    if isinstance(outcome, LookupFailed):
        return _ENTRY + len(str(outcome))
    beside = sum(
        _BESIDE + _octets_of_name(asked.name) + _RECORD * len(found) for asked, found in outcome.beside.items()
    )
    return _ENTRY + len(outcome.stale) + sum(map(_octets_of_record, outcome.records)) + beside


def _octets_of_record(record: object) -> int:
    if isinstance(record, SRV):
        return _RECORD + _octets_of_name(record.target)
    if isinstance(record, NAPTR):
        texts = (
            text for text in (record.flags, record.service, record.regexp) if len(text) > 1
        )  # shorter texts are shared
        return _RECORD + _octets_of_name(record.replacement) + sum(map(sys.getsizeof, texts))
    return _RECORD


def _octets_of_name(name: Name) -> int:
    return _NAME + sys.getsizeof(name.labels) + sum(map(sys.getsizeof, name.labels))


class _Part(Generic[K, V]):
    """Values that together take at most *room* octets; the one put there longest ago is dropped first."""

    def __init__(self, room: float) -> None:
        self.values: dict[K, tuple[V, int]] = {}
        self.octets = 0
        self._room = room

    def put(self, key: K, value: V, octets: int) -> None:
        self.values[key] = value, octets
        self.octets += octets
        while self.octets > self._room:
            self.drop(next(iter(self.values)))

    def drop(self, key: K) -> None:
        _, octets = self.values.pop(key, (None, 0))
        self.octets -= octets


class Store(Generic[K, V]):
    """Values under keys, which together take at most *room* octets; the one put there longest ago is dropped first.

    Large values (``LARGE``) have a part of the room to themselves (``LARGE_SHARE``), where they push each other out, so
    that a few of them do not cost all the rest. A value larger than that part is not kept. One thread writes; any
    thread may call :meth:`items`.
    """

    def __init__(self, room: int) -> None:
        self._large_from = room * LARGE
        self._small: _Part[K, V] = _Part(room - room * LARGE_SHARE)
        self._large: _Part[K, V] = _Part(room * LARGE_SHARE)

    @property
    def octets(self) -> int:
        return self._small.octets + self._large.octets

    def __len__(self) -> int:
        return len(self._small.values) + len(self._large.values)

    def get(self, key: K) -> V | None:
        found = self._small.values.get(key) or self._large.values.get(key)
        return None if found is None else found[0]

    def put(self, key: K, value: V, octets: int) -> None:
        """Keeps *value*, of so many *octets*, in place of the value that *key* had."""
        self._small.drop(key)
        self._large.drop(key)
        (self._large if octets > self._large_from else self._small).put(key, value, octets)

    def items(self) -> list[tuple[K, V]]:
        """Returns all pairs: the large values last, and in each part the oldest first."""
        kept = [*list(self._small.values.items()), *list(self._large.values.items())]
        return [(key, value) for key, (value, _) in kept]
