"""An unmodified pjsua2 program with pjfail attached, and registrars that fail: where does the next request go?

Without failing over: what becomes of the request under way is test_failover_of_requests.py's.
"""

from __future__ import annotations

import time

import pytest
from rig.app import App, run_app

from pjfail.testing import REFUSING, SILENT, UNAVAILABLE, Fault, Registrar

FIRST, SECOND = "127.0.30.1", "127.0.30.2"

# Registers, then does what it is told: a method sends that to the domain; "servers" tells what pjfail knows.
APP = """
    import sys
    import pjfail
    from rig.prelude import Account, Endpoint, emit, heard

    transport, *servers = sys.argv[1:]
    priorities = range(10, 10 + 10 * len(servers), 10)
    table = {"sip.test": [(server, priority, 0) for server, priority in zip(servers, priorities)]}
    uri = "sip:sip.test" + ("" if transport == "udp" else f";transport={transport}")
    with Endpoint() as endpoint:
        failover = pjfail.attach(follow=False, retry=pjfail.RetryPolicy.off(), lookup=pjfail.StaticLookup(table))
        account = Account(endpoint)
        emit(**account.register("sip:alice@sip.test", uri)._asdict())
        while word := heard():
            if word == "servers":
                emit(**{str(server): health.state.value for server, health in failover.servers().items()})
            elif word.startswith("send "):
                account.send(word.removeprefix("send "), uri)
            elif word == "REGISTER":
                emit(**account.reregister()._asdict())
            else:
                emit(**account.request(word, uri)._asdict())
"""


def app_on(transport: str) -> App:
    return App(APP, transport, f"{FIRST}:5060", f"{SECOND}:5060")


def until_down(app: App, server: str) -> None:
    """Until the worker has judged what pjsip's threads have seen."""
    until = time.monotonic() + 60
    while app.ask("servers")[server] != "down":
        assert time.monotonic() < until, "it is held against nobody"
        time.sleep(0.1)


def test_a_domain_is_found_and_the_first_priority_used(first: Registrar, second: Registrar) -> None:
    with app_on("udp") as app:
        answer = app.next()
        assert (answer["code"], answer["server"]) == (200, f"{FIRST}:5060")
        assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"
        assert not second.requests


def test_after_silence_the_next_request_goes_to_the_next_server(first: Registrar, second: Registrar) -> None:
    with app_on("udp") as app:
        assert app.next()["code"] == 200
        first.fault = SILENT
        app.tell("send MESSAGE")
        first.wait_for("MESSAGE", count=3)  # two retransmissions: now it is silent
        answer = app.ask("OPTIONS")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        assert answer["seconds"] < 1
        assert not [request for request in first.requests if request.method == "OPTIONS"]
        until_down(app, f"udp:{FIRST}:5060")


def test_the_core_steps_aside_before_python_has_spoken(first: Registrar, second: Registrar) -> None:
    """First aid: with the worker held up by a listener, the suspect is last all the same."""
    code = APP.replace("lookup=pjfail.StaticLookup(table))", "lookup=pjfail.StaticLookup(table), policy=slow)").replace(
        "    with Endpoint() as endpoint:",
        "    import time\n"
        "    def slow(candidates, health):\n"
        "        if any(not known.usable for known in health.values()):\n"
        "            time.sleep(30)\n"
        "        return sorted(candidates, key=lambda candidate: candidate.priority)\n"
        "    with Endpoint() as endpoint:",
    )
    with App(code, "udp", f"{FIRST}:5060", f"{SECOND}:5060") as app:
        assert app.next()["code"] == 200
        first.fault = SILENT
        app.tell("send MESSAGE")
        first.wait_for("MESSAGE", count=3)
        answer = app.ask("OPTIONS")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")


def test_a_refused_connection_moves_this_request_and_the_next(first: Registrar, second: Registrar) -> None:
    with app_on("tcp") as app:
        assert app.next()["server"] == f"{FIRST}:5060"
        first.fault = REFUSING
        # The open connection ends, and pjsip's next connect is refused: it walks on by itself, and pjfail remembers.
        answers = [app.ask("OPTIONS") for _ in range(3)]
        assert [answer["code"] for answer in answers[1:]] == [200, 200]
        assert answers[-1]["server"] == f"{SECOND}:5060"
        until_down(app, f"tcp:{FIRST}:5060")


def test_a_503_sends_the_next_request_elsewhere(first: Registrar, second: Registrar) -> None:
    with app_on("udp") as app:
        app.next()
        first.fault = UNAVAILABLE
        assert app.ask("OPTIONS")["code"] == 503
        answer = app.ask("OPTIONS")
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")


def test_a_503_from_further_downstream_is_not_the_servers_own(first: Registrar, second: Registrar) -> None:
    with app_on("udp") as app:
        app.next()
        first.fault = Fault(code=503, provisional=(100,))
        assert app.ask("OPTIONS")["code"] == 503
        first.fault = Fault()
        assert app.ask("OPTIONS")["server"] == f"{FIRST}:5060"


@pytest.mark.parametrize("code", [404, 500])
def test_other_errors_are_no_reason_to_go_elsewhere(first: Registrar, second: Registrar, code: int) -> None:
    with app_on("udp") as app:
        app.next()
        first.fault = Fault(code=code)
        assert app.ask("OPTIONS")["code"] == code
        assert app.ask("OPTIONS")["code"] == code
        assert not second.requests
        assert app.ask("servers")[f"udp:{FIRST}:5060"] == "up"


def test_with_every_server_down_all_are_still_tried(first: Registrar, second: Registrar) -> None:
    with app_on("udp") as app:
        app.next()
        first.fault = second.fault = UNAVAILABLE
        assert [app.ask("OPTIONS")["code"] for _ in range(2)] == [503, 503]
        until = time.monotonic() + 5  # the worker judges while the application has its answer already
        while set(app.ask("servers").values()) != {"down"}:
            assert time.monotonic() < until
        first.fault = second.fault = Fault()
        assert app.ask("OPTIONS")["code"] == 200


def test_a_challenge_is_answered_to_the_server_that_challenged() -> None:
    """Both servers weigh the same and know only their own nonce: credentials sent to the other would be refused."""
    app = """
        import queue
        import sys
        import pjfail
        import pjsua2 as pj
        from rig.prelude import Account, Endpoint, emit

        class Writer(Account):
            def onInstantMessageStatus(self, prm):
                ends.put(prm.code)

        ends = queue.SimpleQueue()
        with Endpoint() as endpoint:
            table = {"sip.test": [(f"{address}:5060", 1, 0) for address in sys.argv[1:]]}
            pjfail.attach(lookup=pjfail.StaticLookup(table), follow=False)
            account = Writer(endpoint, password="secret")
            emit(code=account.register("sip:alice@sip.test", "sip:sip.test").code)
            buddy = pj.Buddy()
            to = pj.BuddyConfig()
            to.uri = "sip:sip.test"
            buddy.create(account, to)
            for _ in range(16):
                message = pj.SendInstantMessageParam()
                message.content = "hello"
                buddy.sendInstantMessage(message)
                emit(code=ends.get(timeout=60))
            del buddy
    """
    with Registrar(FIRST, realm="test") as first, Registrar(SECOND, realm="test") as second:
        answers = [line["code"] for line in run_app(app, FIRST, SECOND).lines]
        assert answers == [200] * 17
        challenged = {request.call_id for request in first.requests}, {request.call_id for request in second.requests}
        assert all(challenged), "the load was not spread, so this test has shown nothing"
        assert not challenged[0] & challenged[1], "credentials went to the server that had not asked for them"


def test_a_registration_is_refreshed_where_it_was_made() -> None:
    """Among servers of equal rank, requests of one Call-ID stay together; another registration may go elsewhere."""
    app = """
        import sys
        import pjfail
        from rig.prelude import Account, Endpoint
        with Endpoint() as endpoint:
            pjfail.attach(lookup=pjfail.StaticLookup({"sip.test": [(f"{each}:5060", 1, 0) for each in sys.argv[1:]]}))
            for number in range(12):
                account = Account(endpoint)
                assert account.register(f"sip:{number}@sip.test", "sip:sip.test").code == 200
                for _ in range(3):
                    assert account.reregister().code == 200
    """
    with Registrar(FIRST) as first, Registrar(SECOND) as second:
        run_app(app, FIRST, SECOND)
        seen = {request.call_id for request in first.requests}, {request.call_id for request in second.requests}
        assert all(seen), "all went to one server, so this test has shown nothing"
        assert not seen[0] & seen[1]


def test_weights_hold() -> None:
    """RFC 2782: within a tier, requests go to servers in proportion to their weights."""
    servers = [Registrar(f"127.0.30.{number}") for number in (11, 12, 13)]
    app = """
        import sys
        import pjfail
        from rig.prelude import Account, Endpoint, emit
        weights = dict(zip(sys.argv[1:], (60, 30, 10)))
        with Endpoint() as endpoint:
            table = {"sip.test": [(f"{server}:5060", 1, weight) for server, weight in weights.items()]}
            pjfail.attach(lookup=pjfail.StaticLookup(table))
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            for _ in range(300):
                assert account.options("sip:sip.test").code == 200
    """
    for server in servers:
        server.start()
    try:
        run_app(app, *(server.address for server in servers))
        shares = [len({each.branch for each in server.requests}) / 300 for server in servers]
    finally:
        for server in servers:
            server.stop()
    assert sum(shares) == pytest.approx(1, abs=0.05)  # on a busy machine some are sent to a second one, too
    assert shares == pytest.approx([0.6, 0.3, 0.1], abs=0.12)  # four standard deviations


def test_a_server_that_answers_again_is_probed_and_used_again(first: Registrar, second: Registrar) -> None:
    code = APP.replace(
        "lookup=pjfail.StaticLookup(table))",
        "lookup=pjfail.StaticLookup(table), policy=pjfail.Policy(backoff=lambda failures, random: 1.0))",
    )
    with App(code, "udp", f"{FIRST}:5060", f"{SECOND}:5060") as app:
        app.next()
        first.fault = UNAVAILABLE
        assert app.ask("OPTIONS")["code"] == 503
        assert app.ask("OPTIONS")["server"] == f"{SECOND}:5060"
        first.fault = Fault()
        probe = first.wait_for("OPTIONS", count=2)[-1]
        assert "pjfail@sip.test" in probe.raw
        deadline = time.monotonic() + 60
        while app.ask("OPTIONS")["server"] != f"{FIRST}:5060":
            assert time.monotonic() < deadline, "the probe was answered, but the server is not used"
        assert app.ask("servers")[f"udp:{FIRST}:5060"] == "up"


def test_a_probe_that_is_not_answered_keeps_the_server_down_longer(first: Registrar, second: Registrar) -> None:
    code = APP.replace(
        "lookup=pjfail.StaticLookup(table))",
        "lookup=pjfail.StaticLookup(table), listeners=[told],"
        " policy=pjfail.Policy(backoff=lambda failures, random: 0.5 * failures))",
    ).replace(
        "    with Endpoint() as endpoint:",
        "    def told(event):\n"
        "        if isinstance(event, pjfail.events.ServerDown):\n"
        "            emit(failures=event.health.failures, reason=event.health.reason)\n"
        "    with Endpoint() as endpoint:",
    )
    with App(code, "udp", f"{FIRST}:5060", f"{SECOND}:5060") as app:
        app.next()
        first.fault = SILENT
        app.tell("send MESSAGE")
        downs = [app.next(20) for _ in range(3)]
        assert [down["failures"] for down in downs] == [1, 2, 3]
        assert downs[0]["reason"] == "silent to MESSAGE"
        assert downs[1]["reason"].startswith("silent to OPTIONS")  # the probe: the application sends none before
        assert app.ask("OPTIONS")["server"] == f"{SECOND}:5060"


def test_a_server_that_the_policy_leaves_out_is_watched_all_the_same(first: Registrar, second: Registrar) -> None:
    """The most natural policy of all; the one left out must be found again when it is well."""
    code = APP.replace(
        "lookup=pjfail.StaticLookup(table))",
        "lookup=pjfail.StaticLookup(table, ttl=2), policy=pjfail.Policy("
        "order=lambda candidates, health: [each for each in candidates if health[each.server].usable],"
        "backoff=lambda failures, random: 3.0))",
    )
    with App(code, "udp", f"{FIRST}:5060", f"{SECOND}:5060") as app:
        app.next()
        first.fault = UNAVAILABLE
        assert app.ask("OPTIONS")["code"] == 503
        first.fault = Fault()
        assert app.ask("OPTIONS")["server"] == f"{SECOND}:5060"
        deadline = time.monotonic() + 60
        while app.ask("OPTIONS")["server"] != f"{FIRST}:5060":
            assert time.monotonic() < deadline, "the server is well, but nothing goes there again"
            time.sleep(0.1)


def test_a_large_request_goes_over_tcp_and_over_udp_where_tcp_is_refused() -> None:
    """pjsip puts TCP copies before the UDP servers of a plan; one of 40 servers must leave them room."""
    app = """
        import sys
        import pjfail
        import pjsua2 as pj
        from rig.prelude import Account, Endpoint, emit
        with Endpoint() as endpoint:
            table = [f"127.0.30.{number}:5060" for number in range(1, 41)]
            pjfail.attach(lookup=pjfail.StaticLookup({"sip.test": table}))
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            large = pj.SendRequestParam()
            large.method = "MESSAGE"
            large.txOption.targetUri = "sip:sip.test"
            large.txOption.contentType = "text/plain"
            large.txOption.msgBody = "x" * 2000
            account.sendRequest(large)
            emit(**account.answer(20)._asdict())
    """
    for transports in (("udp", "tcp"), ("udp",)):
        with Registrar(FIRST, transports=transports) as registrar:
            [line] = run_app(app).lines
            assert (line["code"], line["server"]) == (200, f"{FIRST}:5060")
            assert {request.transport for request in registrar.requests} == {transports[-1]}
