"""The locks of the C core are taken in the order that attach.h tells, as far as its sources show."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

CORE = Path(__file__).resolve().parents[2] / "pjfail/_core"
FUNCTION = re.compile(
    r"^(?!return\b)[A-Za-z_][\w *]*?\b(\w+)\([^;{]*\)\s*\{(.*?)(?:^\}| \}$)", re.MULTILINE | re.DOTALL
)
TAKEN = re.compile(r"(?:pthread_mutex_lock\(|HOLD_LOCK\()&([\w.]+)\)")
# What is called through a pointer that was handed in.
HANDED_IN = {
    "wake": "poller_wake",
    "wake_at": "poller_wake_at",
    "begin_ticks": "poller_begin_ticks",
    "on_tick": "attach_on_tick",
    "needs_ticks": "attach_needs_ticks",
}


@cache
def functions() -> dict[str, tuple[str, str]]:
    """Each function of the core with its file and its body; comments are left out."""
    found = {}
    for path in CORE.glob("*.c"):
        text = re.sub(r"/\*.*?\*/", "", path.read_text("utf-8"), flags=re.DOTALL)
        found |= {match[1]: (path.name, match[2]) for match in FUNCTION.finditer(text)}
    return found


@cache
def locks_of(file: str) -> frozenset[str]:
    return frozenset(TAKEN.findall((CORE / file).read_text("utf-8")))


def called_in(body: str) -> set[str]:
    names = {HANDED_IN.get(name, name) for name in re.findall(r"\b(\w+)\(", body)}
    return names & functions().keys()


def taken_by(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """The locks that a function takes, and what it calls."""
    if name in seen:
        return set()
    _, body = functions()[name]
    within = (taken_by(each, seen | {name}) for each in called_in(body))
    return set(TAKEN.findall(body)).union(*within)


def held_in(name: str) -> list[tuple[str, str]]:
    """The locks that are held in a function, each with the part of the body where that is so."""
    file, body = functions()[name]
    held = []
    for match in TAKEN.finditer(body):
        rest = body[match.end() :]
        held.append((match[1], rest if "HOLD_LOCK" in match[0] else rest.split(f"unlock(&{match[1]})")[0]))
    if name.endswith("_locked") and len(locks_of(file)) == 1:
        held.append((next(iter(locks_of(file))), body))
    return held


@cache
def order() -> frozenset[tuple[str, str]]:
    """The pairs of which attach.h says that the second may be taken while the first is held."""
    lines = re.findall(r"^ \*     (.+(?:\n \*      +.+)*)", (CORE / "attach.h").read_text("utf-8"), re.MULTILINE)
    pairs = set()
    for line in lines:
        first, arrow, second = line.partition(" > ")
        if arrow:
            pairs |= {(held, taken) for held in named(first) for taken in named(second)}
    return frozenset(pairs)


def named(words: str) -> set[str]:
    """The locks that are named, by themselves or by their files."""
    files = [f"{name}.c" for name in re.findall(r"(\w+)\.c\b", words) if (CORE / f"{name}.c").is_file()]
    return set(re.findall(r"\b\w+\.(?:\w+_)?lock\b", words)).union(*map(locks_of, files))


def test_the_order_is_read() -> None:
    assert {("requests.lock", "servers.lock"), ("standbys.lock", "poller.wake_lock")} <= order()
    assert len(functions()) > 500


def test_the_order_has_no_circle() -> None:
    reached = dict.fromkeys({held for held, _ in order()}, frozenset[str]())
    for _ in reached:
        reached = {
            held: frozenset(taken for first, taken in order() if first == held).union(
                *(reached.get(taken, frozenset()) for first, taken in order() if first == held)
            )
            for held in reached
        }
    assert [held for held, taken in reached.items() if held in taken] == []


@pytest.mark.parametrize("file", sorted(path.name for path in CORE.glob("*.c")))
def test_locks_are_taken_in_that_order(file: str) -> None:
    wrong = []
    for name, (where, _) in functions().items():
        for held, body in held_in(name) if where == file else ():
            if held == "attach.lock":  # under which all parts are opened and closed
                continue
            taken = set(TAKEN.findall(body)).union(*map(taken_by, called_in(body))) - {held}
            wrong += [f"{name}() holds {held}, and takes {each}" for each in taken if (held, each) not in order()]
    assert wrong == []
