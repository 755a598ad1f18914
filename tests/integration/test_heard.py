"""What a program says of its servers: by itself, and with a log of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from rig.app import App, run_app

from pjfail.testing import SILENT, WELL, NameServer, Registrar

FIRST, SECOND, NAME_SERVER = "127.0.97.1", "127.0.97.2", "127.0.97.53"
ZONE = f"""
$TTL 300
@           SOA  ns hostmaster 1 3600 600 86400 300
@           NS   ns
ns          A    {NAME_SERVER}
_sip._udp   SRV  0 0 5060 first
_sip._udp   SRV  1 0 5060 second
first       A    {FIRST}
second      A    {SECOND}
"""

# "register" has the account register and waits for the answer, "send" does not, "answer" waits; "down" waits until so
# many servers are down.
APP = """
    import logging
    import sys
    import time
    import pjfail
    from rig.prelude import Account, Endpoint, emit, heard

    if sys.argv[1:]:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    with Endpoint(log_level=0) as endpoint:
        failover = pjfail.attach(lookup=pjfail.DnsLookup(["127.0.97.53"]))
        account = Account(endpoint, retries=False)
        account.open("sip:alice@voip.test", "sip:voip.test")
        failover.follow(account)
        while job := heard():
            what, _, count = job.partition(" ")
            if what == "register":
                emit(code=account.reregister().code)
            elif what == "send":
                account.send_register()
                emit(sent=True)
            elif what == "answer":
                emit(code=account.answer().code)
            else:
                deadline = time.monotonic() + 30
                while sum(each.state.value == "down" for each in failover.servers().values()) != int(count):
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                emit(down=count)
"""


@pytest.fixture(autouse=True)
def name_server() -> Iterator[None]:
    with NameServer(ZONE, "voip.test", NAME_SERVER):
        yield


def lines_of(first: Registrar, second: Registrar, *arguments: str) -> list[str]:
    """What pjfail says while one server dies, then the other, and that comes back; without figures."""
    with App(APP, *arguments) as app:
        assert app.ask("register")["code"] == 200
        first.fault = SILENT
        assert app.ask("register")["code"] == 200
        app.ask("down 1")
        second.fault = SILENT
        app.ask("send")
        app.ask("down 2")
        second.fault = WELL
        assert app.ask("answer")["code"] == 200
        app.ask("down 1")
        result = app.finish()
    lines = [line for line in result.stderr.splitlines() if "127.0.97" in line]
    return [re.sub(r"\b\d+(\.\d+)? (s|min)\b", "N s", line) for line in lines]


def test_a_program_without_a_log_is_told_what_matters(first: Registrar, second: Registrar) -> None:
    """By Python's own last resort, in this order, and nothing else."""
    one, other = f"udp:{FIRST}:5060 (first.voip.test)", f"udp:{SECOND}:5060 (second.voip.test)"
    down = "is down, next tried within N s: silent to REGISTER (failure 1)"
    told = lines_of(first, second)
    assert told[:2] == [f"{one} {down}", f"{other} {down}"]
    assert len(told) == 4
    assert told[2].startswith("no server of sip:voip.test")
    assert f"answers ({one}: silent to REGISTER; {other}: silent to REGISTER)" in told[2]
    assert told[3].startswith(f"account 0 (alice@voip.test) is on no server, after {other}: ")


def test_a_log_tells_the_cause_before_the_effect(first: Registrar, second: Registrar) -> None:
    """And the level of each line, and how long a server was out."""
    one, other = f"udp:{FIRST}:5060 (first.voip.test)", f"udp:{SECOND}:5060 (second.voip.test)"
    told = lines_of(first, second, "with a log")
    expected = [
        rf"INFO sip:voip\.test\S*: first: {re.escape(one)} up, ",
        rf"INFO account 0 \(alice@voip\.test\) is on {re.escape(one)}: it registered",
        rf"INFO REGISTER failed over from {re.escape(one)} to {re.escape(other)} after N s: ",
        rf"WARNING {re.escape(one)} is down, ",
        rf"INFO account 0 \(alice@voip\.test\) is on {re.escape(other)}, after {re.escape(one)}: ",
        rf"WARNING {re.escape(other)} is down, ",
        r"INFO sip:voip\.test\S*: now first: ",
        r"ERROR no server of sip:voip\.test",
        r"WARNING account 0 \(alice@voip\.test\) is on no server",
        # Whichever it gets first once it is well again:
        rf"INFO {re.escape(other)} is up again after N s: it answered 200 to (REGISTER|OPTIONS \(probe\))$",
        rf"INFO account 0 \(alice@voip\.test\) is on {re.escape(other)}: (it registered with|udp:\S+ is healthy)",
    ]
    found = iter(told)
    for pattern in expected:
        assert any(re.match(pattern, line) for line in found), (pattern, told)


def test_accounts_that_lose_their_last_server_together_are_one_line(first: Registrar) -> None:
    """A program with 1 000 accounts had 1 000 warnings."""
    code = f"""
        import time
        import pjfail
        from rig.prelude import Account, Endpoint, emit

        told = []

        def moved():
            return [event.account for event in told if isinstance(event, pjfail.events.AccountMoved)]

        with Endpoint(log_level=0) as endpoint:
            failover = pjfail.attach(servers={{"sip.test": ["{FIRST}"]}}, listeners=[told.append])
            accounts = [Account(endpoint, retries=False) for _ in range(20)]
            for number, account in enumerate(accounts):
                account.register(f"sip:user{{number}}@sip.test", "sip:sip.test")
                failover.follow(account)
            for count in (20, 40):
                deadline = time.monotonic() + 10
                while len(moved()) < count and time.monotonic() < deadline:
                    time.sleep(0.02)
                failover.mark_down("{FIRST}")
            emit(moved=sorted(moved()))
    """
    result = run_app(code)
    assert result.lines == [{"moved": sorted([*range(20), *range(20)])}], "each account is an event of its own"
    [line] = [line for line in result.stderr.splitlines() if "is on no server" in line]
    assert line.startswith(f"account 0 (user0@sip.test) is on no server, after udp:{FIRST}:5060 (sip.test): ")
    assert line.endswith("; with it 19 more of sip:sip.test")
