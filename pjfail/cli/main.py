"""``python -m pjfail``: the subcommands.

Exit status: 0 done, 1 nothing found or not done, 2 wrong arguments, 130 interrupted; the doctor has a 3 of its own.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..errors import PjfailError
from . import lookup
from .demo import command as demo
from .doctor import command as doctor
from .doctor.command import own_version
from .probe import command as probe

SUBCOMMANDS = (lookup, probe, doctor, demo)


def make_parser() -> argparse.ArgumentParser:
    """All subcommands and their options; the documentation reads them here too."""
    parser = argparse.ArgumentParser(prog="python -m pjfail", description="SIP server failover for pjsip.")
    parser.add_argument("--version", action="version", version=f"pjfail {own_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for subcommand in SUBCOMMANDS:
        subcommand.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the subcommand that *arguments* (the process's by default) name, and returns its exit status."""
    try:
        parsed = make_parser().parse_args(arguments)
        status: int = parsed.run(parsed)
        print(end="", flush=True)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # there, who reads has read enough: head, a pager that was left
            print(f"pjfail: {error}", file=sys.stderr)
        _let_go_of_stdout()
        return 1
    except (PjfailError, ValueError) as error:
        print(f"pjfail: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    return status


def _let_go_of_stdout() -> None:
    """What cannot be written is not tried once more at exit."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

