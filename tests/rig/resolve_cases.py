"""The shared cases of `tests/cases`: which servers a URI leads to, with a zone, for a client; and the check of one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml

from pjfail.errors import LookupFailed
from pjfail.lookup import DnsLookup
from pjfail.model import Candidate, Target

_FOLDER = Path(__file__).parents[1] / "cases"
ZONES: Mapping[str, dict[str, Any]] = yaml.safe_load((_FOLDER / "zones.yaml").read_text())
CASES: Mapping[str, dict[str, Any]] = {
    case["id"]: case for case in yaml.safe_load((_FOLDER / "resolve.yaml").read_text())
}

_FAMILIES = {"v4": "ipv4", "v6": "ipv6"}

OURS: Mapping[str, list[list[str]] | str] = {
    # ip_default, no_srv_default: conflicts.yaml says UDP alone, where these stacks add TCP.
    "sipx-001": [["udp:1.1.0.1:5060"]],
    "sipx-002": [["udp:1.1.0.1:101"]],
    "sipx-003": [["udp:1.2.1.0:5060"]],
    "sipx-004": [["udp:1.2.1.0:102"]],
    "sipx-005": [["udp:1.3.1.0:5060", "udp:1.3.1.1:5060"]],
    "sipx-006": [["udp:1.3.1.0:103", "udp:1.3.1.1:103"]],
    "sipx-010": [["udp:1.6.1.0:106"]],
    "sipx-011": [["udp:1.10.1.0:106"]],
    "sipx-016": [["udp:1.9.1.0:106"]],
    # srv_target_fail: SRV records that lead nowhere are no reason for the domain's own address.
    "sipx-015": "fail",
    "sipx-032": [["udp:1.11.1.0:5060"]],
    "sipx-049": "fail",
    "sipx-086": "fail",
    # srv_merge: transports are not merged.
    "sipx-017": [["udp:2.1.6.0:666"], ["tcp:2.1.6.1:667"]],
    "sipx-065": [["udp:2.1.4.0:8000"], ["tcp:2.1.4.0:8001"]],  # and _sip._tls is no label of RFC 3263
    "sipx-076": [["udp:1.25.1.0:666"], ["tcp:1.25.1.0:667"]],
    "sipx-094": [["udp:2.1.4.0:8001"], ["udp:2.1.4.0:8003"], ["tcp:2.1.4.0:8002"], ["tcp:2.1.4.0:8004"]],
    "sipx-095": [["udp:2.1.4.0:8001", "udp:2.1.4.0:8003"], ["tcp:2.1.4.0:8002", "tcp:2.1.4.0:8004"]],
    # srv: there is no switch to leave SRV out.
    "sipx-060": [["udp:2.1.4.0:5060"]],
    "sipx-061": [["tcp:2.1.4.0:5060"]],
    "sipx-062": [["tcp:2.1.6.0:5066", "tcp:2.1.6.1:5067"]],
}
"""What comes out in the cases whose policy we have no switch for: conflicts.yaml's choice."""


def switches(case: dict[str, Any]) -> dict[str, Any]:
    """The arguments of DnsLookup for what the client of *case* is and has."""
    policy = case.get("policy", {})
    given = {
        "transports": case["ua"]["transports"],
        "families": [_FAMILIES[each] for each in case["ua"]["families"]],
    }
    given |= {name: policy[name] for name in ("naptr", "cname_limit") if name in policy}
    if policy.get("srv_select") == "udp_only":
        given["transports"] = ["udp"]
    return given


def expected(case: dict[str, Any]) -> list[list[str]] | str:
    """The servers by group, in order from group to group; or "fail"."""
    if (ours := OURS.get(case["id"])) is not None:
        return ours
    if case["expect"]["kind"] == "fail":
        return "fail"
    return [[_server(each) for each in group] for group in case["expect"]["groups"]]


def names(case: dict[str, Any]) -> dict[str, str]:
    """The host names that *case* says are kept with a server."""
    if case["id"] in OURS or case["expect"]["kind"] == "fail":
        return {}
    first = case["expect"]["groups"][0][0]
    return {_server(first): first["name"]} if "name" in first else {}


def _server(listed: Mapping[str, Any]) -> str:
    return f"{listed['transport']}:{listed['ip']}:{listed['port']}"


def check(case: dict[str, Any], nameserver: str) -> None:
    """AssertionError unless DnsLookup finds, through *nameserver*, what *case* says."""
    lookup = DnsLookup([nameserver], hosts=None, **switches(case))
    target = Target.parse(case["query"]["uri"])
    if expected(case) == "fail":
        with pytest.raises(LookupFailed) as caught:
            asyncio.run(lookup.lookup(target))
        assert not caught.value.temporary
        return
    found = asyncio.run(lookup.lookup(target))
    assert _groups(found) == [sorted(group) for group in expected(case)]
    assert {str(each.server): each.name for each in found if str(each.server) in names(case)} == names(case)


def _groups(found: list[Candidate]) -> list[list[str]]:
    return [sorted(str(each.server) for each in tier) for _, tier in groupby(found, key=lambda each: each.priority)]
