"""Runs the examination in a forked child, which pjsip or a module may crash, and returns its report in any case."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import IO

from .examination import Examination
from .report import Report, Verdict

# Seconds: longer than an import takes, and longer than pjsip waits for its own threads when it ends.
EXAMINATION_TIMEOUT_S = 60.0


def examined(report: Report, module: str | None, timeout: float = EXAMINATION_TIMEOUT_S) -> Report:
    """Returns *report*, completed by an examination that may take *timeout* seconds."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    with tempfile.TemporaryFile() as printed, ours:
        child = fork.Process(target=_examine, args=(report, module, theirs, printed))
        child.start()
        theirs.close()
        step, deadline = "starting", time.monotonic() + timeout
        try:
            while ours.poll(max(0.0, deadline - time.monotonic())):
                report, step = ours.recv()
            end = f"it was not done within {timeout:g} s"
        except EOFError:
            child.join(max(0.1, deadline - time.monotonic()))
            end = _how_it_ended(child.exitcode)
        finally:
            child.kill()
            child.join()
        if not step and not end:
            return report
        return _cut_short(report, f"{end or 'it ended'} while {step}{_last_words(printed)}")


def _examine(report: Report, module: str | None, theirs: Connection, printed: IO[bytes]) -> None:
    """Runs in the child. Runs no exit handlers of modules, and waits for no thread."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent reports Ctrl-C
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(printed.fileno(), 2)
    Examination(report, lambda *told: theirs.send(told)).run(module)
    os._exit(0)


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "it did not end"
    if code < 0:
        return f"it ended by {signal.Signals(-code).name}"
    return f"it ended with status {code}" if code else ""


def _last_words(printed: IO[bytes]) -> str:
    printed.seek(0)
    lines = [line.strip() for line in printed.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return f": {lines[-1]}" if lines else ""


def _cut_short(report: Report, what: str) -> Report:
    if report.verdict is not None:
        return replace(report, notes=(*report.notes, what))
    advice = "" if report.pjsip is None else "; please send us what doctor --json prints"
    return replace(report, verdict=Verdict.REFUSED, reason=what + advice)
