"""The shared cases through PjsipDnsLookup: those that want no NAPTR records, which pjsip's resolver cannot read."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rig.app import Line, run_app
from rig.dns_server import DnsServer
from rig.resolve_cases import CASES, ZONES, expected, switches

ADDRESS = "127.0.34.53"

# Looks each case up and prints what it found. What the endpoint has is hidden from the lookup: the case says it.
APP = """
    import json, sys
    import pjfail
    from rig.prelude import Endpoint, emit

    class AsTheCaseSays:
        def __init__(self, **options):
            self.pjsip = pjfail.PjsipDnsLookup(**options)
        async def lookup(self, target):
            return await self.pjsip.lookup(target)

    with Endpoint() as endpoint:
        for case in json.load(open(sys.argv[1])):
            options = {name: case[name] for name in ("nameservers", "transports", "families")}
            with pjfail.attach(lookup=AsTheCaseSays(**options)) as failover:
                try:
                    places = failover.resolve(case["uri"]).entries
                    emit(id=case["id"], places=[[place.tier, str(place.server)] for place in places])
                except pjfail.LookupFailed as error:
                    emit(id=case["id"], error=str(error))
"""


def applies(case: dict[str, Any]) -> bool:
    if "cname_limit" in switches(case):
        return False
    has_naptr = any(" NAPTR " in record for record in ZONES[case["zone"]]["records"])
    return switches(case).get("naptr") == "off" or not has_naptr


CHOSEN = {name: case for name, case in CASES.items() if applies(case)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Line]:
    """What one program found for all of them."""
    with ExitStack() as stack:
        zones = sorted({case["zone"] for case in CHOSEN.values()})
        servers = {
            zone: stack.enter_context(DnsServer(ZONES[zone]["records"], address=ADDRESS, port=5400 + number))
            for number, zone in enumerate(zones)
        }
        asked = [
            {"id": name, "uri": case["query"]["uri"], "nameservers": [str(servers[case["zone"]])]}
            | {switch: switches(case)[switch] for switch in ("transports", "families")}
            for name, case in CHOSEN.items()
        ]
        path = Path(tmp_path_factory.mktemp("cases"), "cases.json")
        path.write_text(json.dumps(asked))
        return {line["id"]: line for line in run_app(APP, str(path), timeout=150).lines}


@pytest.mark.parametrize("name", CHOSEN)
def test_shared_case(name: str, found: dict[str, Line]) -> None:
    groups = expected(CASES[name])
    if groups == "fail":
        assert "error" in found[name]
        return
    tiers: dict[int, list[str]] = {}
    for tier, server in found[name]["places"]:
        tiers.setdefault(tier, []).append(server)
    assert [sorted(tier) for tier in tiers.values()] == [sorted(group) for group in groups]


def test_enough_cases_apply() -> None:
    assert len(CHOSEN) >= 60
