"""``python -m pjfail ctl --fleet``: an order to all processes that share one memory."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import socket
import threading

from ...errors import BadServer
from ...model import Server, parse_server
from ...shared import Shared
from ...shared.entries import ORDERS
from ...shared.orders import give


def add(parser: argparse.ArgumentParser) -> None:
    """Adds the options to those of ``ctl``."""
    parser.add_argument(
        "--fleet", action="store_true", help=f"tell all processes that share a memory: {', '.join(ORDERS)}"
    )
    parser.add_argument(
        "--shared", metavar="PLACE", help="with --fleet: the memory (PJFAIL_SHARED, or the file of PJFAIL_CONFIG)"
    )
    parser.add_argument(
        "--for", dest="holds", metavar="SECONDS", type=seconds, help="with --fleet: for how long (3600)"
    )
    parser.add_argument("--author", help="with --fleet: who says so (the user at this machine)")


def seconds(text: str) -> float:
    """Reads an argument: for how long. Raises ArgumentTypeError."""
    try:
        read = float(text)
    except ValueError:
        read = 0.0
    if not 0 < read <= threading.TIMEOUT_MAX:
        most = f"{threading.TIMEOUT_MAX:.0f}"
        raise argparse.ArgumentTypeError(f"{text!r} is not valid; give seconds, more than 0 and at most {most}")
    return read


def require_fleet(arguments: argparse.Namespace) -> None:
    """Raises ValueError for an option that is only for --fleet."""
    for option, given in (("shared", arguments.shared), ("for", arguments.holds), ("author", arguments.author)):
        if given is not None:
            raise ValueError(f"--{option} is for --fleet; leave it out, or write --fleet too")


def run(arguments: argparse.Namespace) -> int:
    """Gives the order. Raises ValueError, StoreFailed."""
    if arguments.to is not None:
        raise ValueError("--to names one program, and --fleet is for all that share a memory; leave one of them out")
    if arguments.asked not in ORDERS:
        raise ValueError(f"--fleet is for {', '.join(ORDERS)}, not for {arguments.asked}")
    settings = Shared(arguments.shared) if arguments.shared else _configured()
    if settings is None:
        raise ValueError('--fleet needs the shared memory; set PJFAIL_SHARED, or write --shared "redis://host:port/db"')
    transport, _, port = parse_server(arguments.server)
    if transport is None or not port:
        raise BadServer(
            f"{arguments.server!r}: a fleet's server has a transport, an address and a port; write udp:192.0.2.1:5060"
        )
    server = Server.parse(arguments.server)
    author = arguments.author or f"{getpass.getuser()}@{socket.gethostname()}"
    given = arguments.holds if arguments.holds is not None else getattr(arguments, "seconds", None)
    holds = give(settings, arguments.asked, server, author, given)
    if arguments.json:
        print(json.dumps({"server": str(server), "order": arguments.asked, "author": author, "seconds": holds}))
    elif arguments.asked == "restore":
        print(f"{settings.label}: {server} is to be up again, says {author}")
    else:
        print(f"{settings.label}: {arguments.asked} {server} for {holds:g} s, says {author}")
    return 0


def _configured() -> Shared | None:
    from ... import configuration  # which loads the core: ctl does without

    return configuration.read(os.environ).shared
