"""``python -m pjfail``: the subcommands.

Exit status: 0 success, 1 nothing found or failed, 2 wrong arguments, 130 interrupted; the doctor also has 3.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ..errors import PjfailError
from .version import own_version

SUBCOMMANDS = {
    "run": "run",
    "lookup": "lookup",
    "probe": "probe.command",
    "doctor": "doctor.command",
    "demo": "demo.command",
    "watch": "control.watch",
    "ctl": "control.ctl",
}
"""The modules of the subcommands; one is imported when its subcommand is run, or when help is asked for."""


def make_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Returns the parser with all subcommands and their options, or with that named *only*, if there is such a one.

    The documentation uses it too.
    """
    parser = argparse.ArgumentParser(prog="python -m pjfail", description="SIP server failover for pjsip.")
    parser.add_argument("--version", action="version", version=f"pjfail {own_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in [only] if only in SUBCOMMANDS else SUBCOMMANDS:
        import_module(f".{SUBCOMMANDS[name]}", __package__).add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the subcommand that *arguments* (default: the process's) name, and returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parsed = argparse.Namespace()
    _open_closed_streams()
    try:
        make_parser(next(iter(arguments), None)).parse_args(arguments, parsed)
        status: int = parsed.run(parsed)
        print(end="", flush=True)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # a broken pipe: the reader (head, a pager) has read enough
            _tell(error, parsed)
        _let_go_of_stdout()
        return 1
    except (PjfailError, ValueError) as error:
        _tell(error, parsed)
        return 2 if isinstance(error, ValueError) else 1
    return status


def _tell(error: Exception, parsed: argparse.Namespace) -> None:
    """Prints *error* on standard error, and with ``--json`` also as an object on standard output."""
    print(f"pjfail: {error}", file=sys.stderr)
    if getattr(parsed, "json", False):
        with contextlib.suppress(OSError):  # it may have been standard output that failed
            print(json.dumps({"error": str(error)}, indent=2), flush=True)


def _open_closed_streams() -> None:
    """Opens /dev/null in place of each stream that the shell closed (``>&-``); Python has None there."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open while the process is
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - open while the process is


def _let_go_of_stdout() -> None:
    """Keeps Python from trying at exit to write again what could not be written."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
