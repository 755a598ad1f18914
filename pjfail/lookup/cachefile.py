"""The cache file: DNS answers that outlive the process, so that a program that restarts during an outage finds
servers.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import dns.name
import dns.rdata
from dns.rdata import Rdata

from .resolver import Answer, Asked

log = logging.getLogger("pjfail")

VERSION = 1
HEAD = '{"pjfail": "answers of the DNS"'  # each file of pjfail begins so; no other file is overwritten
SAVE_AFTER = 10.0  # seconds; one write then has all new answers
RETRY_CEILING = 600.0  # seconds; after each failed write the pause doubles, up to this
MAX_SIZE = 32 << 20  # octets; 20 000 answers are a fifth of it

Answers = Mapping[Asked, Answer]


def encode(answers: Answers, now: float, most: int = MAX_SIZE) -> str:
    """Returns the text of a cache file at *now* (seconds since the epoch) of at most *most* octets.

    If there is no room for all of *answers*, the last ones are kept.
    """
    rows = []
    begin, end = f'{HEAD}, "version": {VERSION}, "answers": [', "]}\n"
    left = most - len(begin) - len(end)
    for asked, answer in reversed([*answers.items()]):
        row = json.dumps(
            {
                "name": asked.name.to_text(),
                "kind": asked.kind,
                "owner": answer.name.to_text(),
                "expires": round(now + answer.ttl, 3),
                "records": _texts(answer.records),
                "beside": [[each.name.to_text(), each.kind, _texts(found)] for each, found in answer.beside.items()],
            }
        )
        if len(row) + 2 <= left:
            left -= len(row) + 2
            rows.append(row)
    return begin + ", ".join(reversed(rows)) + end


def decode(text: str, now: float) -> dict[Asked, Answer]:
    """Returns what :func:`encode` wrote, each TTL reduced to what is left at *now*. May raise any exception for other
    text.
    """
    content = json.loads(text)
    if content["version"] != VERSION:
        raise ValueError(f"it has version {content['version']}, and this pjfail reads {VERSION}")
    return {
        Asked(dns.name.from_text(row["name"]), row["kind"]): Answer(
            dns.name.from_text(row["owner"]),
            _records(row["kind"], row["records"]),
            float(row["expires"]) - now,
            beside={
                Asked(dns.name.from_text(name), kind): _records(kind, records)
                for name, kind, records in row.get("beside", [])
            },
        )
        for row in content["answers"]
    }


def _texts(records: Iterable[Rdata]) -> list[str]:
    return [record.to_text() for record in records]


def _records(kind: str, texts: Iterable[str]) -> tuple[Rdata, ...]:
    return tuple(dns.rdata.from_text("IN", kind, text) for text in texts)


class CacheFile:
    """The file at *path*, which only this object writes: as a whole, at once, readable by its owner only (mode 0600).

    A file that is not pjfail's is neither used nor overwritten; a file of pjfail's that is damaged, or of another
    version, is overwritten. Both are logged once. If the file cannot be written, on a full disk for example, writing is
    tried again after 20 s, 40 s and so on up to ten minutes; that is logged once, and once more when it works again.
    *wall* returns the seconds since the epoch: answers expire while no process runs.
    """

    def __init__(self, path: Path, wall: Callable[[], float] = time.time) -> None:
        self._path = path
        self._wall = wall
        self._writes = True
        self._failures = 0  # in a row
        self._saving: asyncio.Task[None] | None = None

    def load(self) -> dict[Asked, Answer]:
        """Returns the answers in the file; none if there is no file or it cannot be used. Blocks; raises nothing."""
        try:
            if self._path.stat().st_size > MAX_SIZE or not self._path.is_file():
                return self._leave("it is not a regular file, or it is too large")
            text = self._path.read_text("utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            return self._leave(str(error))
        if not text:
            return {}
        if not text.startswith(HEAD):
            return self._leave("it has been written by another program")
        try:
            return decode(text, self._wall())
        except Exception as error:  # whatever is wrong with the file, pjfail works without it
            log.warning("the DNS cache file %s is not used, and will be written anew: %r", self._path, error)
            return {}

    def _leave(self, reason: str) -> dict[Asked, Answer]:
        log.warning("%s is left alone, and no DNS answers are kept in a file: %s", self._path, reason)
        self._writes = False
        return {}

    def save_soon(self, answers: Callable[[], Answers]) -> None:
        """Writes what *answers* returns, in ten seconds or when the loop ends (``asyncio.run``), whichever comes first.

        If that fails it is tried again, less and less often.

        Call it in a loop; *answers* and the writing run in a thread of the loop's executor.
        """
        loop = asyncio.get_running_loop()
        under_way = self._saving is not None and self._saving.get_loop() is loop and not self._saving.done()
        if self._writes and not under_way:
            self._saving = loop.create_task(self._save_later(answers))

    async def _save_later(self, answers: Callable[[], Answers]) -> None:
        try:
            await asyncio.sleep(min(SAVE_AFTER * 2.0 ** min(self._failures, 20), RETRY_CEILING))
        except asyncio.CancelledError:
            self.save(answers)
            raise
        self._saving = None  # answers from here on need another write
        await asyncio.to_thread(self.save, answers)
        if self._failures:
            self.save_soon(answers)

    def save(self, answers: Callable[[], Answers]) -> None:
        """Writes what *answers* returns. Blocks; raises no OSError. Any thread."""
        try:
            _replace(self._path, encode(answers(), self._wall()))
        except OSError as error:
            if not self._failures:
                log.warning("the DNS cache file %s cannot be written now, and is tried again: %s", self._path, error)
            self._failures += 1
        else:
            if self._failures:
                log.warning("the DNS cache file %s is written again", self._path)
            self._failures = 0


def _replace(path: Path, text: str) -> None:
    """Replaces the file at *path*: a reader, or a power failure, sees either the old file or the new one, whole."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
