"""A diagonal of the registrars that people have, the ways in which a server fails, and the transports.

All of it is in tests/apps (`make test-apps`).
"""

from __future__ import annotations

from pathlib import Path

from rig.app import App
from rig.certificates import Authority
from rig.kamailio import DebianKamailio
from rig.two_servers import DIAGONAL, Cell, check, matrix


@matrix(DIAGONAL)
def test_a_program_with_two_servers_outlives_the_first(cell: Cell, tmp_path: Path) -> None:
    check(cell, tmp_path)


def test_an_invented_domain_is_refused_by_debians_kamailio_and_a_hidden_route_is_not(tmp_path: Path) -> None:
    """As the page "Two servers, no SRV" says."""
    authority = Authority(tmp_path)
    table = {"pbx.internal": ["127.0.94.1", "127.0.94.2"]}
    program = f"""
        import pjfail
        from rig.prelude import Account, Endpoint, emit

        with Endpoint() as endpoint:
            pjfail.attach(servers={table!r}, lookup=pjfail.DnsLookup(["127.0.94.53"]))
            for transport in ("udp", "tcp"):
                account = Account(endpoint, retries=False)
                invented = account.register("sip:alice@pbx.internal", f"sip:pbx.internal;transport={{transport}}")
                proxy = f"sip:pbx.internal;transport={{transport}};lr;hide"
                account = Account(endpoint, proxies=[proxy], retries=False)
                kept = account.register("sip:alice@voip.test", "sip:voip.test")
                emit(invented=invented.code, kept=kept.code)
    """
    with DebianKamailio("127.0.94.2", "voip.test", authority=authority), App(program) as app:
        for _ in ("udp", "tcp"):
            assert app.next() == {"invented": 403, "kept": 200}
