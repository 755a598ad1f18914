"""``python -m pjfail run PROGRAM``: somebody else's program, attached where it starts its endpoint.

Nothing of the program runs here: this process becomes the interpreter that runs it, with ``PJFAIL=1`` in its
environment, and ``pjfail.pth`` does the rest.
"""

from __future__ import annotations

import argparse
import logging
import os
import site
import sys
from pathlib import Path
from typing import NoReturn

from ..errors import PjfailError

log = logging.getLogger("pjfail")

NO_PTH = (
    "pjfail.pth is not in the site-packages of this Python, which pip puts there, and without it no program is attached"
)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to *commands*."""
    parser = commands.add_parser(
        "run",
        help="run a Python program that does not know of pjfail",
        usage="%(prog)s [-h] [--config FILE] [--strict] PROGRAM | -m MODULE [ARG ...]",
        description="Run a Python program, and attach pjfail when its pjsua2 endpoint starts.",
        epilog="Exit status: the program's own; 2 for wrong arguments, and where --strict finds wrong settings.",
    )
    parser.add_argument("--config", metavar="FILE", help="a TOML file with the settings, instead of PJFAIL_CONFIG")
    parser.add_argument("--strict", action="store_true", help="do not run the program where pjfail cannot attach")
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER, help="run a module, as python -m does")
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM [ARG ...]", help="a program's file")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> NoReturn:
    """Becomes the program. Raises :class:`pjfail.configuration.BadConfiguration` before that, where it is strict."""
    command = ["-m", *arguments.module] if arguments.module else arguments.program
    if not command:
        arguments.parser.error("give the PROGRAM to run, or -m MODULE")
    if arguments.config:
        os.environ["PJFAIL_CONFIG"] = arguments.config
    os.environ["PJFAIL"] = "1"
    if arguments.strict:
        os.environ["PJFAIL_STRICT"] = "1"
        from .. import configuration  # which wants the core, without which the doctor runs too

        configuration.read(os.environ)
    if not _reads_pth():
        if arguments.strict:
            raise PjfailError(NO_PTH)
        log.warning("the program runs without pjfail: %s", NO_PTH)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *interpreter_options(sys.orig_argv, sys.argv), *command])


def interpreter_options(original: list[str], arguments: list[str]) -> list[str]:
    """The options of the interpreter in *original* (``sys.orig_argv``), where ``-m pjfail`` precedes *arguments*.

    *arguments* is ``sys.argv``. None where this was called in another way.
    """
    options = original[1 : len(original) - len(arguments) + 1]
    if options and options[-1] == "pjfail":
        options.pop()
    elif options:
        options[-1] = options[-1].removesuffix("pjfail")
    if not (options and options[-1].startswith("-") and options[-1].endswith("m")):
        return []
    options[-1] = options[-1][:-1]  # -Om: the letter before stays
    return options if options[-1] != "-" else options[:-1]


def _reads_pth() -> bool:
    """Whether this Python has read ``pjfail.pth``, and so whether that of the program will."""
    folders = {site.getusersitepackages(), *site.getsitepackages()} & set(sys.path)
    return not sys.flags.no_site and any(Path(folder, "pjfail.pth").is_file() for folder in folders)
