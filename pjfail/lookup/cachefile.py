"""The cache file: answers of the DNS that outlive the process, so that a restart during an outage finds servers."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import dns.name
import dns.rdata

from .resolver import Answer, Asked

log = logging.getLogger("pjfail")

VERSION = 1
HEAD = '{"pjfail": "answers of the DNS"'  # how each file of ours begins, so that no other is written over
SAVE_AFTER = 10.0  # seconds; what is learnt meanwhile is written with the rest
RETRY_CEILING = 600.0  # seconds; each time that it cannot be written it is tried again after twice as long
MAX_SIZE = 32 << 20  # octets; 20 000 answers are a fifth of it

Answers = Mapping[Asked, Answer]


def encode(answers: Answers, now: float, most: int = MAX_SIZE) -> str:
    """The text of a cache file at *now*, in seconds since the epoch: of *most* octets, the last of *answers* first."""
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
                "records": [record.to_text() for record in answer.records],
            }
        )
        if len(row) + 2 <= left:
            left -= len(row) + 2
            rows.append(row)
    return begin + ", ".join(reversed(rows)) + end


def decode(text: str, now: float) -> dict[Asked, Answer]:
    """What :func:`encode` wrote, each TTL what is left of it at *now*. For another text it may raise anything."""
    content = json.loads(text)
    if content["version"] != VERSION:
        raise ValueError(f"it has version {content['version']}, and this pjfail reads {VERSION}")
    return {
        Asked(dns.name.from_text(row["name"]), row["kind"]): Answer(
            dns.name.from_text(row["owner"]),
            tuple(dns.rdata.from_text("IN", row["kind"], record) for record in row["records"]),
            float(row["expires"]) - now,
        )
        for row in content["answers"]
    }


class CacheFile:
    """The file at *path*, which it alone writes: whole, at once, readable by its owner only (mode 0600).

    A file that is not pjfail's is neither used nor written over; one of pjfail's that is damaged, or of another
    version, is written over. Both are logged once. A file that cannot be written, on a full disk for example, is tried
    again, after 20 s, 40 s and so on up to ten minutes; that is logged once, and once more when it is written again.
    *wall* gives the seconds since the epoch: answers expire while no process runs.
    """

    def __init__(self, path: Path, wall: Callable[[], float] = time.time) -> None:
        self._path = path
        self._wall = wall
        self._writes = True
        self._failures = 0  # in a row
        self._saving: asyncio.Task[None] | None = None

    def load(self) -> dict[Asked, Answer]:
        """The answers in the file, none where there is no such file or it cannot be used. Blocks; raises nothing."""
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
        except Exception as error:  # whatever is wrong with it, we can do without
            log.warning("the DNS cache file %s is not used, and will be written anew: %r", self._path, error)
            return {}

    def _leave(self, reason: str) -> dict[Asked, Answer]:
        log.warning("%s is left alone, and no DNS answers are kept in a file: %s", self._path, reason)
        self._writes = False
        return {}

    def save_soon(self, answers: Callable[[], Answers]) -> None:
        """Writes what *answers* returns in ten seconds, or when the loop is ended (by ``asyncio.run``) before that.

        Where that fails it is tried again, less and less often.

        Called in a loop; *answers* and the writing run in a thread of its executor.
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
        self._saving = None  # what is learnt from here on needs another time
        await asyncio.to_thread(self.save, answers)
        if self._failures:
            self.save_soon(answers)

    def save(self, answers: Callable[[], Answers]) -> None:
        """Writes what *answers* returns. Blocks; raises no OSError. Callable from any thread."""
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
    """Puts a new file in the place of the one at *path*; a reader, or a power failure, sees one of the two whole."""
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
