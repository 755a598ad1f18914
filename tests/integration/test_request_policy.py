"""An order that asks for the request gets a plan for each, made off the SIP threads."""

from __future__ import annotations

from rig.app import run_app

from pjfail.testing import SILENT, Registrar

FIRST, SECOND = "127.0.36.1", "127.0.36.2"

PROGRAM = """
    import sys
    import threading
    import time
    import pjfail
    from rig.prelude import Account, Endpoint, emit

    first, second = sys.argv[1:]
    table = {"sip.test": [(f"{first}:5060", 10, 0), (f"{second}:5060", 10, 0)]}

    def answers(account, count, method="OPTIONS"):
        return [account.request(method, "sip:sip.test").server for _ in range(count)]

"""


def test_a_users_order_sees_method_account_and_call_id() -> None:
    """OPTIONS to the second server, everything else to the first: no plan for all requests could say so."""
    program = (
        PROGRAM
        + """
    seen = []

    def by_method(candidates, health, *, request):
        if request.method:
            seen.append((request.method, request.account, bool(request.call_id), threading.current_thread().name))
        first_comes = request.method != "OPTIONS"
        return sorted(candidates, key=lambda each: (each.server.address == first) != first_comes)

    with Endpoint() as endpoint:
        failover = pjfail.attach(lookup=pjfail.StaticLookup(table), policy=by_method, follow=False)
        account = Account(endpoint)
        registered = account.register("sip:alice@sip.test", "sip:sip.test").server
        emit(servers=[registered, *answers(account, 2), *answers(account, 1, "MESSAGE")], seen=seen[:2])
        unknown = account.options("sip:unknown.test", 20)
        emit(code=unknown.code, waiting=failover.counters().waiting)
    """
    )
    with Registrar(FIRST), Registrar(SECOND):
        told, unknown = run_app(program, FIRST, SECOND).lines
    assert told["servers"] == [f"{FIRST}:5060", f"{SECOND}:5060", f"{SECOND}:5060", f"{FIRST}:5060"]
    assert told["seen"] == [[method, "sip:alice@sip.test", True, "pjfail"] for method in ("REGISTER", "OPTIONS")]
    assert unknown == {"code": 502, "waiting": 0}


def test_a_request_whose_order_comes_too_late_goes_by_the_last_plan() -> None:
    program = (
        PROGRAM
        + """
    late = False

    def slow(candidates, health, *, request):
        if late:
            time.sleep(6)  # longer than the answer may take, see below
        return list(candidates)

    with Endpoint() as endpoint:
        failover = pjfail.attach(lookup=pjfail.StaticLookup(table), policy=slow)
        account = Account(endpoint)
        account.open("sip:alice@sip.test")
        early = account.options("sip:sip.test")
        late = True
        answer = account.options("sip:sip.test", 20)
        emit(codes=[early.code, answer.code], seconds=answer.seconds)
    """
    )
    with Registrar(FIRST), Registrar(SECOND):
        [told] = run_app(program, FIRST, SECOND).lines
    assert told["codes"] == [200, 200]
    assert 3 < told["seconds"] < 6


def test_sticky_accounts_spread_and_stay() -> None:
    """Two servers of equal weight: each account has its own, all its requests go there, and both have some."""
    program = (
        PROGRAM
        + """
    with Endpoint() as endpoint:
        pjfail.attach(lookup=pjfail.StaticLookup(table), policy=pjfail.Sticky())
        accounts = [Account(endpoint) for _ in range(6)]
        for number, account in enumerate(accounts):
            account.open(f"sip:user{number}@sip.test")
        emit(of=[sorted(set(answers(account, 5))) for account in accounts])
    """
    )
    with Registrar(FIRST), Registrar(SECOND):
        [told] = run_app(program, FIRST, SECOND).lines
    assert all(len(servers) == 1 for servers in told["of"])
    assert {server for servers in told["of"] for server in servers} == {f"{FIRST}:5060", f"{SECOND}:5060"}


def test_a_request_with_a_plan_of_its_own_is_failed_over_by_it() -> None:
    program = (
        PROGRAM
        + """
    def first_first(candidates, health, *, request):
        return sorted(candidates, key=lambda each: each.server.address != first)

    with Endpoint() as endpoint:
        failover = pjfail.attach(lookup=pjfail.StaticLookup(table), policy=first_first)
        account = Account(endpoint)
        account.open("sip:alice@sip.test")
        answer = account.options("sip:sip.test")
        emit(code=answer.code, server=answer.server, seconds=answer.seconds)
    """
    )
    with Registrar(FIRST) as first, Registrar(SECOND):
        first.fault = SILENT
        [told] = run_app(program, FIRST, SECOND).lines
    assert (told["code"], told["server"]) == (200, f"{SECOND}:5060")
    assert told["seconds"] < 3
