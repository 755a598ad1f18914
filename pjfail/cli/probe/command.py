"""``python -m pjfail probe URI``: shows which servers of the URI answer, as a table or as JSON."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._tables import print_table
from ...errors import WHERE_PJSUA2_IS_FROM, NoPjsip, PjfailError, RequestTimeout
from ...lookup import DnsLookup
from ...model import TRANSPORTS, Candidate, Plan, Response, Server, Target, Transport, parse_transport

if TYPE_CHECKING:
    from ...failover import Failover
    from .endpoint import Endpoint

COLUMNS = ("server", "name", "priority", "weight", "answer", "round trip", "certificate")
# Responses that say that the server will not serve (408: something downstream does not).
NO_SERVICE = (408, 503)


@dataclass(frozen=True, slots=True)
class Probed:
    """What became of one candidate's OPTIONS: a response, or a ``problem``; ``certificate`` has what is wrong with the
    certificate.
    """

    candidate: Candidate
    response: Response | None
    problem: str
    certificate: tuple[str, ...]

    @property
    def alive(self) -> bool:
        return self.response is not None and self.response.code not in NO_SERVICE


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand to *commands*."""
    parser = commands.add_parser(
        "probe",
        help="show which servers of a SIP URI answer",
        description="Find the servers of a SIP URI and send an OPTIONS to each, all at once.",
        epilog="Exit status: 0 when a server answered (other than by 408 or 503), 1 when none did.",
    )
    parser.add_argument("uri", metavar="URI", help="sip:host, sip:host:port;transport=tcp, sips:host")
    parser.add_argument(
        "--nameserver",
        action="append",
        metavar="IP[:PORT]",
        help="a name server to ask instead of the system's; you may give several",
    )
    parser.add_argument("--timeout", type=float, default=3.0, metavar="S", help="seconds to wait for an answer (3)")
    parser.add_argument("--transports", default=",".join(TRANSPORTS), help="the transports to ask over (udp,tcp,tls)")
    parser.add_argument("--ca", metavar="FILE", help="certificates (PEM) to trust instead of the system's")
    parser.add_argument("--insecure", action="store_true", help="ask servers even if their certificate is wrong")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Probes and prints. Raises :class:`pjfail.PjfailError`, and :class:`ValueError` for a bad argument."""
    target = Target.parse(arguments.uri)
    transports = _transports(arguments.transports)
    if not 0 < arguments.timeout < math.inf:
        raise ValueError(f"--timeout {arguments.timeout:g}: give seconds, more than 0")
    if arguments.ca is not None and not Path(arguments.ca).is_file():
        raise ValueError(f"--ca {arguments.ca}: this file does not exist; give a PEM file")
    lookup = DnsLookup(arguments.nameserver, transports=transports)
    if importlib.util.find_spec("pjsua2") is None:
        raise NoPjsip(f"probe sends with pjsua2, which this Python lacks; {WHERE_PJSUA2_IS_FROM}")
    from ...failover import attach
    from .endpoint import Endpoint

    logging.getLogger("pjfail").addHandler(logging.NullHandler())  # the table has what it would warn of
    with Endpoint(transports, arguments.ca, insecure=arguments.insecure) as endpoint:
        with attach(lookup=lookup) as failover:
            plan = failover.resolve(arguments.uri, timeout=10.0)
            probed = asyncio.run(probe_all(failover, endpoint, plan, arguments.timeout))
    if arguments.json:
        print(json.dumps(as_json(target, probed), indent=2))
    else:
        _print_table(target, probed)
    return 0 if any(each.alive for each in probed) else 1


async def probe_all(failover: Failover, endpoint: Endpoint, plan: Plan, timeout: float) -> list[Probed]:
    """Sends an OPTIONS to all servers of *plan* at once; *timeout* is in seconds."""
    servers = list(dict.fromkeys(plan.servers))
    results = await asyncio.gather(*(_probe(failover, plan.target, server, timeout) for server in servers))
    found = dict(zip(servers, results, strict=True))
    return [
        Probed(place.candidate, *found[place.server], endpoint.certificate_problems(place.server))
        for place in plan.entries
    ]


async def _probe(failover: Failover, target: Target, server: Server, timeout: float) -> tuple[Response | None, str]:
    host = f"[{target.host}]" if ":" in target.host else target.host
    port = f":{target.port}" if target.port else ""
    uri = f"sip:{host}{port};transport={server.transport}"
    try:
        return await failover.request_async("OPTIONS", uri, server=server, timeout=timeout), ""
    except RequestTimeout:
        return None, f"no answer within {timeout:g} s"
    except PjfailError as error:
        return None, str(error).partition(f"{server}")[2].lstrip(": ") or str(error)


def as_json(target: Target, probed: Sequence[Probed]) -> dict[str, Any]:
    """Returns what ``--json`` prints: round trips in seconds, null for what there was not."""
    return {
        "target": asdict(target),
        "candidates": [
            asdict(each.candidate.server)
            | {
                "name": each.candidate.name,
                "priority": each.candidate.priority,
                "weight": each.candidate.weight,
                "ttl": round(each.candidate.ttl),
                "alive": each.alive,
                "code": each.response.code if each.response else None,
                "reason": each.response.reason if each.response else None,
                "problem": each.problem or None,
                "rtt": round(each.response.rtt, 6) if each.response else None,
                "certificate": list(each.certificate),
            }
            for each in probed
        ],
    }


def _transports(text: str) -> tuple[Transport, ...]:
    names = [name.strip() for name in text.split(",")]
    transports = tuple(transport for name in names if (transport := parse_transport(name)) is not None)
    if len(transports) != len(names) or len(set(transports)) != len(transports):
        raise ValueError(f"--transports {text}: choose among {', '.join(TRANSPORTS)}")
    return transports


def _print_table(target: Target, probed: Sequence[Probed]) -> None:
    """Prints the table, with a column for certificates only if there are any."""
    shown = len(COLUMNS) - (not any(each.candidate.server.transport == "tls" for each in probed))
    print_table(str(target), COLUMNS[:shown], [_row(each)[:shown] for each in probed])


def _row(probed: Probed) -> tuple[str, ...]:
    candidate, response = probed.candidate, probed.response
    answer, round_trip = probed.problem, ""
    if response is not None:
        answer, round_trip = f"{response.code} {response.reason}", f"{response.rtt * 1000:.1f} ms"
    certificate = "; ".join(probed.certificate)
    if candidate.server.transport == "tls" and response is not None and not certificate:
        certificate = "good"
    numbers = (candidate.priority, candidate.weight)
    return (str(candidate.server), candidate.name, *map(str, numbers), answer, round_trip, certificate)
