"""Programs with a shared memory, and what one asks them."""

from __future__ import annotations

import time

from .app import App, Line

# Does what it is told: a method sends that to the domain.
APP = """
    import logging, os, sys
    import pjfail
    from rig.prelude import Account, Endpoint, emit, heard

    first, second, shared, policy = sys.argv[1:]
    logging.basicConfig(level=logging.INFO)
    table = {"sip.test": [(f"{first}:5060", 10, 0), (f"{second}:5060", 20, 0)]}
    server = pjfail.Server(first, 5060)
    with Endpoint() as endpoint:
        failover = pjfail.attach(
            lookup=pjfail.StaticLookup(table), policy=eval(policy, vars(pjfail)), shared=eval(shared, vars(pjfail))
        )
        account = Account(endpoint)
        account.open("sip:alice@sip.test")
        emit(ready=True)
        while word := heard():
            if word == "health":
                health = failover.servers().get(server, pjfail.Health())
                emit(state=health.state.value, reason=health.reason, told=health.told)
            elif word == "plan":
                emit(plan=str(failover.resolve("sip:sip.test")))
            elif word == "status":
                status = failover.shared()
                emit(**{name: getattr(status, name) for name in status.__slots__})
            elif word == "fork":
                child = os.fork()
                if not child:
                    try:
                        failover.servers()
                        os._exit(1)
                    except pjfail.NotAttached:
                        os._exit(0 if pjfail.attached() is None else 2)
                emit(status=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            else:
                emit(**account.request(word, "sip:sip.test")._asdict())
"""


def app_with(first: str, second: str, store: object, policy: str = "Policy()", trust: int | None = None) -> App:
    """A program whose domain has these two servers."""
    return App(APP, first, second, f"Shared({str(store)!r}, trust={trust})", policy)


def started(app: App) -> App:
    assert app.next() == {"ready": True}
    return app


def until(app: App, state: str, seconds: float = 8.0) -> Line:
    """The first server's health in the program, once it is in *state*."""
    deadline = time.monotonic() + seconds
    while (health := app.ask("health"))["state"] != state:
        assert time.monotonic() < deadline, health
        time.sleep(0.02)
    app.ask("plan")  # passes through the worker: the plans, too, are of this health then
    return health


def went_to(app: App, method: str = "OPTIONS") -> str:
    return str(app.ask(method)["server"]).partition(":")[0]
