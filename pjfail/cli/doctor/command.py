"""``python -m pjfail doctor``: finds the pjsip of this environment, and reports whether pjfail works with it."""

from __future__ import annotations

import argparse
import json
import pkgutil
import platform
import sys
from dataclasses import replace

from ..._tables import print_table
from ...errors import WHERE_PJSUA2_IS_FROM
from ..version import own_version
from . import registrar
from .examination import USUAL
from .process import examined
from .report import Pjfail, Python, Report, Verdict

STATUS = {Verdict.WORKS: 0, Verdict.REFUSED: 1, Verdict.NOTHING: 3}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to *commands*."""
    parser = commands.add_parser(
        "doctor",
        help="show the pjsip of this environment, and whether pjfail works with it",
        description="Find the pjsip of this environment, try pjfail on it in a process of its own, and report.",
        epilog="Exit status: 0 when pjfail works with it, 1 when not (the reason is printed), 2 for wrong arguments, "
        "3 without a pjsip.",
    )
    parser.add_argument("--module", metavar="NAME", help=f"the Python module that loads pjsip ({USUAL})")
    parser.add_argument("--uri", metavar="URI", help="a registrar's URI: show what pjfail makes of it, too")
    parser.add_argument(
        "--nameserver",
        action="append",
        metavar="IP[:PORT]",
        help="a name server to ask about the URI instead of the system's; you may give several",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Examines and prints. Raises :class:`ValueError` for a bad argument."""
    module = arguments.module
    if module is not None and not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(f"--module {module}: write the module's name as in an import statement")
    if arguments.nameserver and arguments.uri is None:
        raise ValueError("--nameserver is asked about a URI; write --uri URI too")
    found = None if arguments.uri is None else registrar.examined(arguments.uri, arguments.nameserver)
    report = examined(Report(Pjfail(own_version()), _python()), module)
    report = replace(report, registrar=found)
    verdict = report.verdict or Verdict.REFUSED
    if arguments.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        _print(report)
    return STATUS[verdict]


def _python() -> Python:
    return Python(platform.python_version(), sys.executable, platform.platform())


def _print(report: Report) -> None:
    print_table("doctor", ("what", "found"), report.rows())
    for note in report.notes:
        print(f"note: {note}")
    print(f"{report.verdict}: {report.reason}")
    if report.verdict is Verdict.NOTHING:
        print(_where_to_look())
        print(f"Where pjsua2 comes from: {WHERE_PJSUA2_IS_FROM}.")
    if report.registrar is not None:
        print_table("registrar", ("what", "found"), report.registrar.rows())
        for sentence in report.registrar.advice:
            print(sentence)


def _where_to_look() -> str:
    likely = sorted({module.name for module in pkgutil.iter_modules() if "pjs" in module.name.lower()})
    seen = f"; these modules here look like it: {', '.join(likely)}" if likely else ""
    return f"Run the Python of your application, or name the module that carries pjsip with --module{seen}."
