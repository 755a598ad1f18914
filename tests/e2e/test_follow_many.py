"""Many followed accounts of one program, two Kamailio registrars, and one of them killed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rig.app import App, Line
from rig.kamailio import Kamailio

PROGRAM = Path(__file__).with_name("following_app.py")
FIRST, SECOND = "127.0.63.1", "127.0.63.2"
ACCOUNTS = 200  # or what pjsua has room for: PJSUA_MAX_ACC
CROWD = 100  # of so many it can be told how they are spread
FAILBACK = 4.0
SPREAD = 2.0


@pytest.fixture
def registrars() -> Iterator[tuple[Kamailio, Kamailio]]:
    with Kamailio(FIRST) as first, Kamailio(SECOND) as second:
        yield first, second


def registered(app: App, server: str, since: float) -> list[Line]:
    """The answers of *server* to a REGISTER since then."""
    return [line for line in app.lines if line.get("server") == server and line["code"] == 200 and line["at"] > since]


def until_all(users: set[str], registrar: Kamailio, timeout: float) -> float:
    """When all *users* were registered there."""
    deadline = time.monotonic() + timeout
    while registrar.locations() != users:
        assert time.monotonic() < deadline, f"lost: {sorted(users - registrar.locations())}"
        time.sleep(0.1)
    return time.monotonic()


def asked(app: App, expression: str) -> Any:
    app.tell(f"say(value={expression})")
    while not (line := app.next(20)).get("said"):
        pass
    return line["value"]


def wait(what: Callable[[], object], timeout: float = 5) -> None:
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_spread(answers: list[Line], seconds: float) -> None:
    """Over so long, and nowhere many at once."""
    times = sorted(line["at"] for line in answers)
    if len(times) < CROWD:
        return
    assert times[-1] - times[0] > 0.7 * seconds
    windows = Counter(int((at - times[0]) / 0.1) for at in times)
    expected = len(times) / (seconds / 0.1)
    assert max(windows.values()) < 4 * expected, windows
    assert max(later - sooner for sooner, later in pairwise(times)) < seconds / 2


def states(app: App, call: int) -> list[str]:
    return [line["state"] for line in app.lines if line.get("call") == call]


def test_all_accounts_outlive_their_registrar(
    registrars: tuple[Kamailio, Kamailio], record_property: Callable[[str, object], None]
) -> None:
    first, second = registrars
    with App(PROGRAM, str(ACCOUNTS), str(FAILBACK), FIRST, SECOND) as app:
        while "room" not in (line := app.next(20)):
            pass
        count: int = line["room"]
        users = {f"user{number}" for number in range(count)}
        until_all(users, first, 10)
        wait(lambda: asked(app, "sum(failover.pinned(each) is not None for each in accounts)") == count)
        assert not second.locations()

        killed = time.monotonic()
        first.stop()
        moved = until_all(users, second, 10)
        answers = registered(app, SECOND, killed)
        assert Counter(line["user"] for line in answers) == Counter(range(count)), "one REGISTER each"
        assert_spread(answers, SPREAD)
        assert asked(app, "{str(failover.pinned(each)) for each in accounts} == {'udp:127.0.63.2:5060'}")

        app.tell("call = dial(0, 1)")
        wait(lambda: asked(app, "[each.getInfo().stateText for each in calls]") == ["CONFIRMED", "CONFIRMED"])

        first.serve()
        restored = time.monotonic()
        app.tell(f"failover.restore('udp:{FIRST}:5060')")
        back = until_all(users, first, 1.5 * FAILBACK + 3)
        returns = registered(app, FIRST, restored)
        assert Counter(line["user"] for line in returns) == Counter(range(count))
        assert min(line["at"] for line in returns) >= restored + FAILBACK
        assert_spread(returns, 0.5 * FAILBACK)
        wait(lambda: asked(app, "{str(failover.pinned(each)) for each in accounts} == {'udp:127.0.63.1:5060'}"))

        app.tell("call.hangup(pj.CallOpParam())")
        wait(lambda: states(app, 0)[-1:] == states(app, 1)[-1:] == ["DISCONNECTED"])
        assert (first.received("bye"), second.received("bye")) == (0, 1)
    record_property("moved", moved - killed)
    for name, lines, since in (("moved", answers, killed), ("back", returns, restored)):
        times = sorted(line["at"] - since for line in lines)
        print(f"{name}: first {times[0]:.2f} s, median {times[len(times) // 2]:.2f} s, last {times[-1]:.2f} s")
        print("  a tenth of a second:", sorted(Counter(int((at - times[0]) / 0.1) for at in times).items()))
    print(f"all in the location table {moved - killed:.2f} s after the kill, {back - restored:.2f} s after restore()")
