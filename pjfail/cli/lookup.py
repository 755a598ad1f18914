"""``python -m pjfail lookup URI``: the servers that a URI leads to, as a table or as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, get_args

from .._tables import print_table
from ..lookup.dns import DnsLookup
from ..lookup.rfc2782 import draw
from ..lookup.rfc3263 import UseOfNaptr
from ..model import FAMILIES, TRANSPORTS, Candidate, Target

COLUMNS = ("server", "name", "priority", "weight", "TTL", "found by")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to *commands*."""
    parser = commands.add_parser(
        "lookup",
        help="list the servers that a SIP URI leads to",
        description="Find the servers of a SIP URI by RFC 3263.",
        epilog="Exit status: 0 when servers were found, 1 when none was, 2 for wrong arguments.",
    )
    parser.add_argument("uri", metavar="URI", help="sip:host, sip:user@host:port;transport=tcp, sips:host")
    parser.add_argument(
        "--nameserver",
        action="append",
        metavar="IP[:PORT]",
        help="a name server to ask instead of the system's; you may give several",
    )
    parser.add_argument(
        "--transports", type=_names, default=TRANSPORTS, help="the client's transports, best first (udp,tcp,tls)"
    )
    parser.add_argument(
        "--families", type=_names, default=FAMILIES, help="the client's kinds of address, best first (ipv4,ipv6)"
    )
    parser.add_argument(
        "--naptr", choices=get_args(UseOfNaptr), default="on", help="when to ask for NAPTR records (on)"
    )
    parser.add_argument("--trace", action="store_true", help="show every DNS query and answer on standard error")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Looks up and prints. Raises :class:`pjfail.LookupFailed`, and :class:`ValueError` for a bad argument."""
    target = Target.parse(arguments.uri)
    lookup = DnsLookup(
        arguments.nameserver,
        transports=arguments.transports,
        families=arguments.families,
        naptr=arguments.naptr,
        trace=_trace if arguments.trace else None,
    )
    candidates = draw(asyncio.run(lookup.lookup(target)), random.Random())
    if arguments.json:
        print(json.dumps(as_json(target, candidates), indent=2))
    else:
        print_table(str(target), COLUMNS, [_row(candidate) for candidate in candidates])
    return 0


def as_json(target: Target, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Returns what ``--json`` prints."""
    return {
        "target": asdict(target),
        "candidates": [
            asdict(candidate.server)
            | {
                "name": candidate.name,
                "priority": candidate.priority,
                "weight": candidate.weight,
                "ttl": round(candidate.ttl),
            }
            for candidate in candidates
        ],
    }


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip().lower() for name in text.split(","))


def _row(candidate: Candidate) -> tuple[str, ...]:
    numbers = (str(candidate.priority), str(candidate.weight))
    found_by = candidate.query or "its own address"
    return (str(candidate.server), candidate.name, *numbers, f"{candidate.ttl:.0f} s", found_by)


def _trace(line: str) -> None:
    print(line, file=sys.stderr)
