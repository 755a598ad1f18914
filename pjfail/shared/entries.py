"""What processes tell each other of a server: one entry, and its text in a store. Pure."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args

from .._validation import is_amount
from .._values import dataclass
from ..errors import BadServer
from ..model import Server

Kind = Literal["down", "up", "gone", "drain", "mark-down", "restore"]
"""``down``: the writer has taken the server down; ``up``: it has had an answer since; ``gone``: it takes back what it
said. The others are an operator's orders.
"""
KINDS: tuple[Kind, ...] = get_args(Kind)
ORDERS: tuple[Kind, ...] = ("drain", "mark-down", "restore")

SCHEMA = 1
MAX_OCTETS = 600
"""Of an entry's text; a longer one is not of pjfail."""
MAX_REASON = 100
MAX_HOST = 64
FLEET = "fleet"
"""The writer of orders: a later order of anybody replaces the one before."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that one process says of one server.

    ``writer`` is the process, ``sequence`` numbers what it says. ``age`` is for how many seconds it is so, ``left`` for
    how many seconds more it holds, both as of the moment of reading or sending: no machine's clock is in them.
    ``failures``: how often in a row the server was taken down. ``sure``: another server has answered the writer since,
    so that the writer's own network works. ``host`` is the writer's machine, or the author of an order.
    """

    server: Server
    writer: str
    kind: Kind
    sequence: int
    left: float
    age: float = 0.0
    host: str = ""
    reason: str = ""
    failures: int = 0
    sure: bool = False


def encode(entry: Entry) -> dict[str, Any]:
    """*entry* as JSON has it."""
    return {
        "v": SCHEMA,
        "server": str(entry.server),
        "writer": entry.writer,
        "kind": entry.kind,
        "n": entry.sequence,
        "left": round(entry.left, 3),
        "age": round(entry.age, 3),
        "host": entry.host[:MAX_HOST],
        "reason": entry.reason[:MAX_REASON],
        "failures": entry.failures,
        "sure": entry.sure,
    }


def dumps(row: dict[str, Any]) -> str:
    return json.dumps(row, separators=(",", ":"))


def decode(text: str | bytes, store_now: float | None = None) -> Entry | None:
    """The entry that *text* is; None for what pjfail of this schema has not written.

    *store_now* is the store's time of a reading; the text then says in ``t`` the store's time of its writing.
    """
    if len(text) > MAX_OCTETS:
        return None
    try:
        row = json.loads(text)
        if not isinstance(row, dict) or row.get("v") != SCHEMA or row.get("kind") not in KINDS:
            return None
        texts = [row["writer"], row["host"], row["reason"]]
        numbers = [row["n"], row["left"], row["age"], row["failures"], 0.0 if store_now is None else row["t"]]
        if not all(isinstance(each, str) and each.isprintable() for each in texts) or not all(map(is_amount, numbers)):
            return None
        since = 0.0 if store_now is None else max(store_now - row["t"], 0.0)
        return Entry(
            server=Server.parse(row["server"]),
            writer=row["writer"][:MAX_HOST],
            kind=row["kind"],
            sequence=int(row["n"]),
            left=row["left"] - since,
            age=row["age"] + since,
            host=row["host"][:MAX_HOST],
            reason=row["reason"][:MAX_REASON],
            failures=min(int(row["failures"]), 1000),
            sure=row.get("sure") is True,
        )
    except (ValueError, KeyError, TypeError, BadServer, RecursionError):
        return None


def printable(text: str) -> str:
    """*text* without what a terminal would act on."""
    return "".join(each if each.isprintable() else "?" for each in text)
