"""What pjfail makes of servers that err, come back, or leave one method alone unanswered, in a real pjsua2 program."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from rig.app import App, Line

from pjfail.testing import SILENT, WELL, Fault, Registrar

FIRST, SECOND = "127.0.37.1", "127.0.37.2"
ERRING = Fault(code=500)

pytestmark = pytest.mark.usefixtures("second")

# Does what it is told: a method sends that to the domain; "mark" marks the first down for a second.
APP = """
    import sys
    import pjfail
    from rig.prelude import Account, Endpoint, emit, heard

    first, second, policy = sys.argv[1:]
    table = {"sip.test": [(f"{first}:5060", 10, 0), (f"{second}:5060", 20, 0)]}
    server = pjfail.Server(first, 5060)
    with Endpoint() as endpoint:
        failover = pjfail.attach(lookup=pjfail.StaticLookup(table), policy=eval(policy, vars(pjfail)), follow=False)
        account = Account(endpoint)
        emit(**account.register("sip:alice@sip.test", "sip:sip.test")._asdict())
        while word := heard():
            if word == "health":
                health = failover.servers()[server]
                states = {method: own.state.value for method, own in health.methods.items()}
                counts = {"streak": health.streak, "answers": health.window.answers}
                failover.resolve("sip:sip.test")  # passes through the worker: the plans, too, are of this health then
                emit(state=health.state.value, reason=health.reason, methods=states, **counts)
            elif word == "plan":
                emit(plan=str(failover.resolve("sip:sip.test")))
            elif word == "mark":
                failover.mark_down(server, 1.0)
                emit(marked=True)
            elif word == "follow":
                failover.follow(account, watch=4)
                emit(following=True)
            elif word == "restore":
                failover.restore(server)
                emit(restored=True)
            elif word.startswith("send "):
                account.send(word.removeprefix("send "), "sip:sip.test")
            else:
                emit(**account.request(word, "sip:sip.test")._asdict())
"""
SOON = "backoff=lambda failures, random: 0.5"


def app_with(policy: str = "Policy()") -> App:
    return App(APP, FIRST, SECOND, policy)


def until(app: App, what: Callable[[Line], bool], seconds: float = 60.0) -> Line:
    """The health of the first server, once *what* holds of it."""
    deadline = time.monotonic() + seconds
    while not what(health := app.ask("health")):
        assert time.monotonic() < deadline, health
        time.sleep(0.05)
    return health


def went_to(app: App, method: str = "OPTIONS") -> str:
    return str(app.ask(method)["server"]).partition(":")[0]


def probes(registrar: Registrar) -> int:
    return sum("pjfail@" in request.raw for request in registrar.requests if request.method == "OPTIONS")


def test_five_500_in_a_row_take_a_server_down_and_four_do_not(first: Registrar) -> None:
    with app_with() as app:
        app.next()
        first.fault = ERRING
        assert [app.ask("OPTIONS")["code"] for _ in range(4)] == [500] * 4
        first.fault = WELL
        assert went_to(app) == FIRST  # and this answer begins the count anew
        first.fault = ERRING
        assert [app.ask("OPTIONS")["code"] for _ in range(5)] == [500] * 5
        until(app, lambda health: health["state"] == "down")
        assert went_to(app) == SECOND


def test_a_500_from_further_downstream_is_not_counted(first: Registrar) -> None:
    with app_with() as app:
        app.next()
        first.fault = ERRING
        assert [app.ask("OPTIONS")["code"] for _ in range(4)] == [500] * 4
        first.fault = Fault(code=500, provisional=(100,))
        assert app.ask("OPTIONS")["code"] == 500
        first.fault = WELL
        assert went_to(app) == FIRST


def test_a_server_marked_down_for_a_while_is_probed_and_used_again_though_nothing_failed(first: Registrar) -> None:
    with app_with() as app:
        app.next()
        app.ask("mark")
        assert went_to(app) == SECOND
        until(app, lambda health: health["state"] == "up")
        assert went_to(app) == FIRST
        assert probes(first) == 1


def test_a_silence_that_began_before_the_server_was_restored_is_held_against_nobody(first: Registrar) -> None:
    with app_with() as app:
        app.next()
        first.fault = SILENT
        app.tell("send MESSAGE")
        first.wait_for("MESSAGE")
        app.ask("restore")
        first.wait_for("MESSAGE", count=3)
        first.fault = WELL
        app.ask("plan")  # by the worker, which has judged then
        assert went_to(app) == FIRST
        assert app.ask("health")["state"] == "up"


def test_a_server_must_answer_as_many_probes_as_the_policy_asks_for(first: Registrar) -> None:
    with app_with(f"Policy({SOON}, rise=3)") as app:
        app.next()
        first.fault = SILENT
        app.tell("send MESSAGE")
        until(app, lambda health: health["state"] == "down")
        first.fault = WELL
        until(app, lambda health: health["state"] == "half-open")
        assert went_to(app) == SECOND
        until(app, lambda health: health["state"] == "up")
        assert probes(first) >= 3
        assert went_to(app) == FIRST


@pytest.mark.parametrize(("then", "state"), [(WELL, "up"), (SILENT, "down")])
def test_a_suspect_stands_behind_and_its_probe_decides(first: Registrar, then: Fault, state: str) -> None:
    with app_with("Policy(detect=Consecutive(failures=2))") as app:
        app.next()
        first.fault = SILENT
        app.tell("send MESSAGE")
        until(app, lambda health: health["state"] == "suspect")
        assert went_to(app) == SECOND
        first.fault = then
        until(app, lambda health: health["state"] == state)
        assert probes(first) >= 1
        assert went_to(app) == (FIRST if then is WELL else SECOND)


def test_a_server_falls_after_as_many_failed_probes_as_the_policy_asks_for(first: Registrar) -> None:
    """A followed account's server is probed while it is up; the core sees that OPTIONS fail before the prober does."""
    with app_with("Policy(detect=Consecutive(failures=1, fall=2))") as app:
        app.next()
        app.ask("follow")
        first.wait_for("REGISTER", count=2)  # where it is registered, only a REGISTER tells
        until(app, lambda health: health["state"] == "up")
        first.fault = SILENT
        suspect = until(app, lambda health: health["state"] != "up", seconds=15)
        assert (suspect["state"], suspect["streak"]) == ("suspect", 1), suspect["reason"]
        assert until(app, lambda health: health["state"] != "suspect")["state"] == "down"
        assert probes(first) >= 2


def test_a_method_that_alone_is_unanswered_is_down_alone(first: Registrar) -> None:
    with app_with(f"Policy({SOON}, per_method=True)") as app:
        app.next()
        first.fault = Fault(answers=False, methods=("MESSAGE",))
        app.tell("send MESSAGE")
        until(app, lambda health: health["state"] == "down")
        assert until(app, lambda health: health["state"] == "up")["methods"] == {"MESSAGE": "up"}
        app.tell("send MESSAGE")
        health = until(app, lambda health: health["state"] == "down" or "down" in health["methods"].values())
        assert (health["state"], health["methods"]) == ("up", {"MESSAGE": "down"})


def test_an_answer_to_the_method_that_had_failed_is_news_though_others_were_answered_before(first: Registrar) -> None:
    with app_with(f"Policy({SOON}, per_method=True)") as app:
        app.next()
        first.fault = Fault(answers=False, methods=("MESSAGE",))
        app.tell("send MESSAGE")
        until(app, lambda health: health["state"] == "down")
        until(app, lambda health: health["state"] == "up")
        assert went_to(app, "OPTIONS") == FIRST
        assert app.ask("health")["methods"] == {"MESSAGE": "up"}
        first.fault = WELL  # the retransmission is answered
        until(app, lambda health: not health["methods"])


def test_the_answers_in_between_are_counted_with_the_next_outcome(first: Registrar) -> None:
    with app_with() as app:
        app.next()
        for _ in range(7):
            assert went_to(app) == FIRST
        first.fault = ERRING
        app.ask("OPTIONS")
        assert until(app, lambda health: health["answers"] > 7)["answers"] == pytest.approx(8, abs=0.01)


def test_the_plan_tells_when_a_server_failed(first: Registrar) -> None:
    with app_with() as app:
        app.next()
        first.fault = SILENT
        app.tell("send MESSAGE")
        until(app, lambda health: health["state"] == "down")
        now = time.strftime("%H:%M")
        plan = app.ask("plan")["plan"]
        assert plan.startswith(
            f"first: udp:{SECOND}:5060 up, priority 20, weight 0; second: udp:{FIRST}:5060 down, next tried within "
        )
        assert f" s, silent to MESSAGE at {now}" in plan or time.strftime("%H:%M") != now
        assert plan.endswith(", failure 1")
