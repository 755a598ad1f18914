"""``python -m pjfail ctl COMMAND``: asks and steers another process's pjfail."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..._tables import print_table
from ...control.client import Client, find
from ...control.server import LEVELS
from ...errors import ControlError
from ...model import Target, parse_server
from . import fleet, words

SILENCE = 2.0
"""Seconds after which the command says that it waits."""

COMMANDS = {
    "process": "show which program it is",
    "servers": "list the servers, with how each one does",
    "plan": "show where requests to a URI go, and why",
    "plans": "show the plans in force",
    "accounts": "list the accounts that are followed or pinned, each with its server",
    "events": "show the last events",
    "counters": "show what the core has counted",
    "shared": "show the memory that processes share",
    "drain": "send new requests elsewhere; dialogs stay",
    "mark-down": "put a server behind the others",
    "restore": "take a server for up again",
    "refresh": "look servers up again",
    "log": "set the level of the logger pjfail",
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to *commands*."""
    parser = commands.add_parser(
        "ctl",
        help="see and steer a running program",
        description="Ask and steer the pjfail of a running program that has a control socket: one that was started "
        "with PJFAIL_CONTROL=1, or that calls pjfail.attach(control=True).",
        epilog="Exit status: 0 done, 1 refused or not reached, 2 wrong arguments.",
    )
    parser.add_argument("--to", metavar="PID|SOCKET|all", help="which program, if there are several")
    fleet.add(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    # "command" alone would hide what main() keeps there.
    each = parser.add_subparsers(required=True, dest="asked", metavar="COMMAND")
    for name, said in COMMANDS.items():
        one = each.add_parser(name, help=said, description=f"{said[0].upper()}{said[1:]}.")
        one.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
        if name in ("drain", "mark-down", "restore"):
            one.add_argument("server", metavar="SERVER", help="address:port, or udp:address:port")
        if name == "mark-down":
            one.add_argument(
                "seconds", metavar="SECONDS", type=fleet.seconds, nargs="?", help="for how long (until restored)"
            )
        if name in ("plan", "refresh"):
            one.add_argument("uri", metavar="URI", nargs="?" if name == "refresh" else None, help="a SIP URI")
        if name == "events":
            one.add_argument("--follow", action="store_true", help="go on with each event as it comes")
        if name == "log":
            one.add_argument("level", metavar="LEVEL", type=str.lower, choices=LEVELS, help=", ".join(LEVELS))


def run(arguments: argparse.Namespace) -> int:
    """Asks, and prints what is answered. Raises ControlError when nothing can be asked, and ValueError."""
    if arguments.fleet:
        return fleet.run(arguments)
    fleet.require_fleet(arguments)
    command: str = arguments.asked
    names = ("server", "seconds", "uri", "level")
    given = {name: value for name in names if (value := getattr(arguments, name, None)) is not None}
    if "uri" in given:
        Target.parse(given["uri"])  # what is written wrong here is a wrong argument
    if "server" in given:
        parse_server(given["server"])
    paths = find(arguments.to)
    if command == "events" and arguments.follow:
        if len(paths) > 1:
            raise ValueError(f"--follow follows one program; name one of {', '.join(path.stem for path in paths)}")
        return _follow(paths[0], as_json=arguments.json)
    answers: list[dict[str, Any]] = []
    for path in paths:
        try:
            with Client(path) as client, _told_of_waiting(client):
                answers.append({"pid": client.pid, "result": client.ask(command, given)})
        except ControlError as error:
            if arguments.to != "all":
                raise
            answers.append({"socket": str(path), "error": str(error)})
    if arguments.json:
        print(json.dumps(answers if arguments.to == "all" else answers[0]["result"], indent=2))
    else:
        for answer in answers:
            if arguments.to == "all":
                print(f"process {answer.get('pid', answer.get('socket'))}")
            if "error" in answer:
                print(f"pjfail: {answer['error']}", file=sys.stderr)
            else:
                _PRINT[command](answer["result"])
    return 1 if any("error" in answer for answer in answers) else 0


@contextlib.contextmanager
def _told_of_waiting(client: Client) -> Iterator[None]:
    """Says on standard error whom the block waits for, if it takes long."""
    words = f"pjfail: waiting for process {client.pid}, {client.timeout:g} s at the most"
    timer = threading.Timer(SILENCE, lambda: print(words, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _follow(path: Any, *, as_json: bool) -> int:
    with Client(path) as client:
        with _told_of_waiting(client):
            events = client.events()
        for event in events:
            print(json.dumps(event) if as_json else "  ".join(words.event_cells(event)), flush=True)
    return 0


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        print_table(title, columns, rows)
    else:
        print(f"no {title}")


def _facts(facts: dict[str, Any]) -> None:
    for name, value in facts.items():
        print(f"{name:<12} {value}")


_PRINT: dict[str, Callable[[Any], None]] = {
    "process": _facts,
    "counters": _facts,
    "log": _facts,
    "shared": lambda facts: _facts(facts) if facts else print("there is no shared memory"),
    "plan": lambda plan: _table("plan", words.PLAN_COLUMNS, words.plan_cells([plan])),
    "plans": lambda plans: _table("plans", words.PLAN_COLUMNS, words.plan_cells(plans)),
    "accounts": lambda rows: _table("accounts", words.ACCOUNT_COLUMNS, [*map(words.account_cells, rows)]),
    "events": lambda rows: _table("events", words.EVENT_COLUMNS, [*map(words.event_cells, rows)]),
    "refresh": lambda _: print("the servers are looked up again"),
    **{
        name: lambda rows: _table("servers", words.SERVER_COLUMNS, [*map(words.server_cells, rows)])
        for name in ("servers", "drain", "mark-down", "restore")
    },
}
