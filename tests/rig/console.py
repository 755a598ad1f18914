"""A pjsua2 program with pjfail attached that does, one after the other, what a test says in Python:

    with Console() as console:
        console.run('account = opened("sip:alice@sip.test", "sip:sip.test")')
        assert console.get('account.reregister().code') == 200
        assert console.error('failover.pin(account, "127.0.0.1:0")') == "BadServer"

Any domain has the servers of `table`, else those of `servers`. Lines are run on the program's main thread; with
`threads=0` that thread polls while it waits for an answer. `control` is the path of its control socket.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from .app import App, AppResult

_PROGRAM = """
    import asyncio, json, os, queue, sys, threading, time
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    settings = json.loads(sys.argv[1])
    logged = []

    class Table:
        async def lookup(self, target):
            servers = settings["table"].get(target.host, settings["servers"])
            return await pjfail.StaticLookup({target.host: servers}).lookup(target)

    def opened(uri, registrar="", proxies=(), password=None, kind=Account):
        account = kind(endpoint, proxies, password)
        account.open(uri, registrar)
        return account

    def drained(account):
        # once pjsua has ended what it does by itself, as after a change of settings
        while (answer := endpoint.wait(account.answers, 0.4)) is not None:
            pass
        return account

    def settle():
        failover.servers()
        try:
            failover.resolve("sip:settle.test")  # through the worker, which so has seen all that has happened
        except pjfail.PjfailError:
            pass

    with Endpoint(threads=settings["threads"], transports=settings["transports"], ca=settings["ca"]) as endpoint:
        failover = pjfail.attach(lookup=Table(), policy=pjfail.Policy(backoff=lambda failures, random: 1.0),
                                 retry=pjfail.RetryPolicy(dialogs=settings["dialogs"]), control=settings["control"],
                                 follow=False)
        names = dict(globals())
        while line := heard():
            source = json.loads(line)
            try:
                try:
                    compiled = compile(source, "<test>", "eval")
                except SyntaxError:
                    exec(compile(source, "<test>", "exec"), names)
                    emit(value=None)
                else:
                    emit(value=json.loads(json.dumps(eval(compiled, names), default=str)))
            except BaseException as error:
                emit(error=type(error).__name__, text=str(error))
        names.clear()
"""


class Console:
    """The program, under way."""

    def __init__(
        self,
        servers: Sequence[str] = (),
        *,
        table: Mapping[str, Sequence[str]] | None = None,
        threads: int = 1,
        transports: Sequence[str] = ("udp", "tcp"),
        ca: str | None = None,
        dialogs: Sequence[str] = (),
        control: str | None = None,
    ) -> None:
        settings = {
            "servers": list(servers),
            "table": dict(table or {}),
            "threads": threads,
            "transports": list(transports),
            "ca": ca,
            "dialogs": list(dialogs),
            "control": control,
        }
        self._app = App(_PROGRAM, json.dumps(settings))

    def __enter__(self) -> Console:
        self._app.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._app.__exit__(kind, error, traceback)

    @property
    def pid(self) -> int:
        return self._app.pid

    @property
    def stderr(self) -> str:
        return self._app.stderr

    def signal(self, number: signal.Signals) -> None:
        self._app.signal(number)

    def get(self, source: str) -> Any:
        """The value of an expression; AssertionError when it raises."""
        line = self._tell(source)
        assert "error" not in line, f"{source}\n{line['error']}: {line['text']}"
        return line["value"]

    run = get

    def error(self, source: str, *words: str) -> str:
        """The name of the exception that *source* raises, whose text has *words* in it."""
        line = self._tell(source)
        assert "error" in line, f"{source}\nraised nothing"
        for word in words:
            assert word in line["text"], f"{source}\n{line['error']}: {line['text']}"
        return str(line["error"])

    def finish(self) -> AppResult:
        """Ends the program, which must end well."""
        result = self._app.finish()
        assert result.returncode == 0, f"status {result.returncode}\n{result.stderr[-3000:]}"
        return result

    def _tell(self, source: str) -> dict[str, Any]:
        self._app.tell(json.dumps(source))
        try:
            return self._app.next(40)
        except AssertionError as error:
            error.add_note(f"{source}\nthe program's standard error:\n{self._app.stderr[-5000:]}")
            raise
