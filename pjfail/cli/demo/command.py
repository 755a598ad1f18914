"""``python -m pjfail demo``: runs the demo on this terminal."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time

from ...errors import WHERE_PJSUA2_IS_FROM
from . import namespace
from .scenario import DemoFailed, Scenario
from .view import choose_view


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to *commands*."""
    parser = commands.add_parser(
        "demo",
        help="watch a pjsua2 program whose SIP server falls silent",
        description="Run a pjsua2 program with stock pjsip and with pjfail, while its server falls silent.",
        epilog="Exit status: 0 when the program with pjfail outlived its server, 1 when not, 130 on Ctrl-C.",
    )
    parser.add_argument("--fast", action="store_true", help="only run the half with pjfail, in 6 s instead of 38 s")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Returns 0 if the program with pjfail outlived its server, 1 if not or if something is missing, 130 on Ctrl-C."""
    if importlib.util.find_spec("pjsua2") is None:
        return _fail(f"pjsua2 is not installed for this Python; {WHERE_PJSUA2_IS_FROM}")
    try:
        namespace.raise_loopback()
        return _play(fast=arguments.fast)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of standard output has ended
        raise
    except OSError as error:
        namespace.enter()
        return _fail(f"{error.strerror or error}; run the demo as root, and end the program that uses port 53")
    except DemoFailed as error:
        return _fail(str(error))


def _play(*, fast: bool) -> int:
    with Scenario(fast=fast) as scenario, choose_view() as view:
        while scenario.advance(time.monotonic()):
            view.update(scenario)
            time.sleep(0.1)
        view.update(scenario)
        view.conclude(scenario)
        return 0 if scenario.outlived() else 1


def _fail(why: str) -> int:
    print(f"demo: {why}", file=sys.stderr)
    return 1
