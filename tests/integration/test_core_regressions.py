"""What an adversarial reading of the C core found: each of these once hung, crashed, or sent a request astray."""

from __future__ import annotations

import textwrap

import pytest
from rig.app import App, run_app

from pjfail.errors import DETACHED
from pjfail.testing import REFUSING, RESETTING, SILENT, Registrar

FIRST, SECOND = "127.0.32.1", "127.0.32.2"
RESETS = "127.0.32.9"
FAILS_AT_ONCE = "255.255.255.255"  # a TCP connect does, within the call

pytestmark = pytest.mark.usefixtures("first")

HEAD = f"""
    import asyncio, contextlib, logging, os, sys, threading, time
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    import pjsua2 as pj
    import pjfail
    from pjfail._native import ffi, lib
    from pjfail.bridge import plans
    from pjfail.bridge.accounts import account_is
    from rig.prelude import Account, Endpoint, emit

    table = pjfail.StaticLookup({{"sip.test": ["{FIRST}:5060"], "other.test": ["{SECOND}:5060"]}})
"""


def app(body: str) -> str:
    return HEAD + textwrap.indent(textwrap.dedent(body), "    ")


def test_many_polling_threads_do_not_miss_a_wake_up() -> None:
    """Told of one wake-up together, one that found nothing stopped listening: no question was answered any more."""
    [line] = run_app(
        app("""
        class Nothing:
            async def lookup(self, target):
                raise pjfail.LookupFailed("no such name")
        logging.disable()
        with Endpoint(threads=8, log_level=0) as endpoint:
            pjfail.attach(lookup=Nothing())
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            number = 0
            until = time.monotonic() + 12
            while time.monotonic() < until:
                for number in range(number, number + 40):
                    account.send("OPTIONS", f"sip:no{number}.test")
                    if number % 8 == 7:
                        time.sleep(0.0005)
                assert {account.answer(8).code for _ in range(40)} == {502}
                number += 1
            emit(enough=number > 1000)
        """)
    ).lines
    assert line["enough"]


def test_attaching_again_and_again_does_not_use_up_the_ioqueue() -> None:
    """A key that was let go rests for half a second; with none left pjsip's assertion ended the program."""
    [line] = run_app(
        app("""
        with Endpoint() as endpoint:
            for _ in range(80):
                pjfail.attach(lookup=table).detach()
            with pjfail.attach(lookup=table):
                emit(code=Account(endpoint).register("sip:alice@sip.test", "sip:sip.test").code)
        """)
    ).lines
    assert line == {"code": 200}


# A module of pjsip's that stops the first request on its way out until its connection has ended.
HALTING = """
    import ctypes

    class Halting(ctypes.Structure):
        _fields_ = [
            ("links", ctypes.c_void_p * 2), ("name", ctypes.c_char_p), ("name_length", ctypes.c_ssize_t),
            ("id", ctypes.c_int), ("priority", ctypes.c_int), ("begin_and_end", ctypes.c_void_p * 4),
            ("on_rx", ctypes.c_void_p * 2), ("on_tx_request", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)),
            ("on_tx_response", ctypes.c_void_p), ("on_tsx_state", ctypes.c_void_p),
        ]

    class Listening(pj.Endpoint):
        def onTransportState(self, prm):
            if prm.state == pj.PJSIP_TP_STATE_DISCONNECTED:
                ended.set()

    ended, halts = threading.Event(), [True]

    @Halting._fields_[7][1]
    def halt(tdata):
        if halts:
            halts.clear()
            emit(halted=True)
            ended.wait(5)
            time.sleep(0.2)
        return 0

    pjsip = ctypes.CDLL(pj._pjsua2.__file__)
    pjsip.pjsua_get_pjsip_endpt.restype = ctypes.c_void_p
    pjsip.pjsip_endpt_register_module.argtypes = [ctypes.c_void_p, ctypes.POINTER(Halting)]
"""

ATTACHING = """
    class Attaching(Account):
        wanted = False
        def onRegState(self, prm):
            if self.wanted:
                self.wanted = False
                try:
                    emit(attached=pjfail.attach(lookup=table).attached)
                except pjfail.PjsipError as error:
                    emit(error=str(error))
            super().onRegState(prm)
"""


def test_attaching_from_a_callback_is_refused_where_it_would_wait_for_itself() -> None:
    """Once a module has come or gone, pjsip's threads hold a lock while in one, and ours wants it for writing."""
    [during, after] = run_app(
        app(
            textwrap.dedent(ATTACHING)
            + textwrap.dedent(HALTING)
            + textwrap.dedent(f"""
            with Endpoint() as endpoint:
                account = Attaching(endpoint)
                assert account.register("sip:alice@sip.test", "sip:{FIRST}").code == 200
                module = Halting(name=b"another", name_length=7, id=-1, priority=9)
                assert pjsip.pjsip_endpt_register_module(pjsip.pjsua_get_pjsip_endpt(), ctypes.byref(module)) == 0
                account.wanted = True
                refused = account.reregister(20).code
                with pjfail.attach(lookup=table):
                    emit(refused=refused, code=account.options("sip:sip.test").code)
            """)
        )
    ).lines
    assert "callback" in during["error"]
    assert after == {"refused": 200, "code": 200}


def test_attaching_again_from_a_callback_works_at_once() -> None:
    """Our module has stayed with pjsip since the first time."""
    [during, after] = run_app(
        app(
            textwrap.dedent(ATTACHING)
            + textwrap.dedent(f"""
            with Endpoint() as endpoint:
                account = Attaching(endpoint)
                with pjfail.attach(lookup=table):
                    assert account.register("sip:alice@sip.test", "sip:{FIRST}").code == 200
                account.wanted = True
                again = account.reregister(20)
                emit(again=again.code, at_once=again.seconds < 3, code=account.options("sip:sip.test").code)
            """)
        )
    ).lines
    assert during == {"attached": True}
    assert after == {"again": 200, "at_once": True, "code": 200}


def test_events_of_a_transport_within_an_event_are_told() -> None:
    """pjsua shuts down what has disconnected, while that event is told: the shutdown is an event too."""
    [stock, attached] = run_app(
        app(f"""
        states = []
        class Listening(pj.Endpoint):
            def onTransportState(self, prm):
                states.append(prm.state)
        names = {{getattr(pj, name): name[15:] for name in dir(pj) if name.startswith("PJSIP_TP_STATE_")}}
        with Endpoint(kind=Listening) as endpoint:
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            for lookup in (None, table):
                states.clear()
                failover = lookup and pjfail.attach(lookup=lookup)
                account.options("sip:{SECOND}:9;transport=tcp")  # refused
                time.sleep(0.5)
                emit(states=[names[state] for state in states])
        """)
    ).lines
    assert stock["states"] == ["DISCONNECTED", "SHUTDOWN", "DESTROY"]
    assert attached == stock


@pytest.mark.usefixtures("second")
def test_a_request_sent_while_a_probe_fails_goes_its_own_way() -> None:
    """From the application's onTransportState, on pjsip's thread, in the middle of the probe's sending."""
    [line] = run_app(
        app(f"""
        class Listening(pj.Endpoint):
            armed = False
            def onTransportState(self, prm):
                if self.armed:
                    self.armed = False
                    account.send("MESSAGE", "sip:other.test")
                    nested.append(True)
        nested = []
        dead = pjfail.Server("{FAILS_AT_ONCE}", 5060, "tcp")
        lookup = pjfail.StaticLookup({{"dead.test": [dead.endpoint], "other.test": ["{SECOND}:5060"]}})
        with Endpoint(kind=Listening) as endpoint:
            failover = pjfail.attach(lookup=lookup)
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            assert account.options("sip:other.test").code == 200
            endpoint.pj.armed = True
            failover._worker.requests.send("OPTIONS", "sip:dead.test;transport=tcp", dead)
            answer = account.answer(20)
            emit(nested=len(nested), code=answer.code, server=answer.server)
        """)
    ).lines
    assert line == {"nested": 1, "code": 200, "server": f"{SECOND}:5060"}


def test_a_detach_under_pjsips_locks_does_not_wait_for_a_probe_that_wants_them() -> None:
    """onTransportState comes under the transport manager's lock, which the worker's probe needs."""
    [line] = run_app(
        app(f"""
        class Listening(pj.Endpoint):
            armed = False
            def onTransportState(self, prm):
                if self.armed and threading.current_thread().name != "pjfail":
                    self.armed = False
                    threading.Thread(target=lambda: failover._worker.call(probe, 20)).start()
                    probing.wait()
                    time.sleep(0.3)
                    failover.detach()
        probing = threading.Event()
        def probe():
            probing.set()
            try:
                server = pjfail.Server("{FIRST}", 5060, "tcp")
                failover._worker.requests.send("OPTIONS", "sip:sip.test;transport=tcp", server)
            except pjfail.PjfailError:
                pass
        with Endpoint(kind=Listening) as endpoint:
            failover = pjfail.attach(lookup=table)
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            assert account.options("sip:sip.test;transport=tcp").code == 200
            endpoint.pj.armed = True
            try:
                account.send("OPTIONS", "sip:{FAILS_AT_ONCE};transport=tcp")
            except pj.Error:
                pass
            emit(probing=probing.is_set(), attached=failover.attached)
        """)
    ).lines
    assert line == {"probing": True, "attached": False}


def test_a_worker_held_up_does_not_take_the_next_ones_questions() -> None:
    [line] = run_app(
        app("""
        class Blocking:
            async def lookup(self, target):
                blocked.set()
                time.sleep(3.5)
                raise pjfail.LookupFailed("too late")
        class Busy:
            async def lookup(self, target):
                if target.host == "busy.test":
                    time.sleep(2.5)
                return await table.lookup(target)
        blocked = threading.Event()
        with Endpoint() as endpoint:
            failover = pjfail.attach(lookup=Blocking())
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            account.send("OPTIONS", "sip:localhost:5069;transport=tcp")
            blocked.wait()
            failover.detach()
            account.answer(10)
            pjfail.attach(lookup=Busy())
            account.send("MESSAGE", "sip:busy.test")
            time.sleep(0.5)
            account.send("OPTIONS", "sip:sip.test")  # waits while the old worker comes back and the new one is busy
            answers = {answer.method: answer for answer in (account.answer(10), account.answer(10))}
            emit(code=answers["OPTIONS"].code)
        """)
    ).lines
    assert line == {"code": 200}


def test_a_server_is_known_before_the_first_answer_from_it_is() -> None:
    """The worker was still at its books when the application, answered already, asked for them."""
    [line] = run_app(
        app("""
        def slow(*arguments):
            publish(*arguments)
            time.sleep(0.5)
        publish, plans.publish = plans.publish, slow
        with Endpoint() as endpoint:
            failover = pjfail.attach(lookup=table)
            code = Account(endpoint).register("sip:alice@sip.test", "sip:sip.test").code
            emit(code=code, servers=[server.address for server in failover.servers()])
        """)
    ).lines
    assert line == {"code": 200, "servers": [FIRST]}


def test_a_plan_that_comes_after_a_detach_is_not_the_next_attachments() -> None:
    [line] = run_app(
        app(f"""
        class Slow:
            async def lookup(self, target):
                slow.set()
                time.sleep(1)
                return [pjfail.Candidate(pjfail.Server("{FAILS_AT_ONCE}", 5060), target.host, ttl=600)]
        slow = threading.Event()
        def resolve():
            try:
                failover.resolve("sip:sip.test")
            except pjfail.NotAttached as error:
                refused.append(str(error))
        refused = []
        with Endpoint() as endpoint:
            failover = pjfail.attach(lookup=Slow())
            waiting = threading.Thread(target=resolve)
            waiting.start()
            slow.wait()
            failover.detach()
            waiting.join()
            with pjfail.attach(lookup=table) as again:
                account = Account(endpoint)
                account.open("sip:alice@sip.test")
                emit(plans=again.counters().plans, code=account.options("sip:sip.test").code, refused=refused)
        """)
    ).lines
    assert line == {"plans": 0, "code": 200, "refused": [DETACHED]}


def test_counters_in_a_forked_child_do_not_hang() -> None:
    """A thread that the child has not got may have held one of the core's locks."""
    [line] = run_app(
        app("""
        import signal
        def count():
            counters = ffi.new("pf_counters *")
            while not ended:
                lib.pf_read_counters(counters)
        ended = False
        with Endpoint() as endpoint:
            failover = pjfail.attach(lookup=table)
            threads = [threading.Thread(target=count) for _ in range(3)]
            for thread in threads:
                thread.start()
            hung = 0
            for _ in range(60):
                child = os.fork()
                if child == 0:
                    signal.signal(signal.SIGALRM, signal.SIG_DFL)
                    signal.alarm(5)
                    assert failover.counters().resolved == 0
                    os._exit(0)
                if os.waitpid(child, 0)[1] != 0:
                    hung += 1
                    break
            ended = True
            for thread in threads:
                thread.join()
            emit(hung=hung)
        """)
    ).lines
    assert line == {"hung": 0}


def test_a_transport_made_after_attaching_leaves_transactions_with_ears() -> None:
    """pjsua then forgets pjsip's own state callback, which tells a transaction that its connection has ended."""
    code = app(f"""
        with Endpoint() as endpoint:
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            for round in range(2):
                failover = pjfail.attach(lookup=table, retry=pjfail.RetryPolicy.off())
                another = pj.TransportConfig()
                another.boundAddress = "127.0.0.1"
                endpoint.pj.transportCreate(pj.PJSIP_TRANSPORT_UDP, another)
                attached = account.options("sip:{RESETS};transport=tcp")
                failover.detach()
                detached = account.options("sip:{RESETS};transport=tcp")
                emit(codes=[attached.code, detached.code], seconds=attached.seconds + detached.seconds)
    """)
    with Registrar(RESETS, transports=("tcp",)) as resetting:
        resetting.fault = RESETTING
        for line in run_app(code, timeout=150).lines:
            assert line["codes"] == [503, 503]
            assert line["seconds"] < 10


def test_a_lone_server_that_refuses_does_not_use_up_the_keys_of_pjsips_ioqueue(second: Registrar) -> None:
    """Each connection that has ended keeps one for half a second; there are 64, and without one pjsip aborts."""
    with Registrar("127.0.32.3") as refusing:
        refusing.fault = REFUSING
        result = run_app(
            app("""
            hosts = {"sip.test": "127.0.32.1", "other.test": "127.0.32.2", "lone.test": "127.0.32.3"}
            table.update({host: [f"{address}:5060"] for host, address in hosts.items()})
            lone, other = "sip:lone.test;transport=tcp", "sip:other.test;transport=tcp"
            with Endpoint(threads=4, log_level=0) as endpoint:
                pjfail.attach(lookup=table)
                account = Account(endpoint)
                account.open("sip:alice@other.test", other)
                answers = [account.request("OPTIONS", other)]
                for _ in range(1500):
                    with contextlib.suppress(pj.Error):     # it may fail within the call
                        account.send("OPTIONS", lone)
                    time.sleep(0.001)
                for pause, method, uri in ((0, "MESSAGE", other), (1, "SUBSCRIBE", "sip:sip.test;transport=tcp")):
                    time.sleep(pause)
                    account.send(method, uri)
                    while answers[-1].method != method:
                        answers.append(account.answer())
            emit(codes=[answer.code for answer in answers if answer.code != 503])
            """)
        )
    assert result.lines == [{"codes": [200, 200, 200]}]


@pytest.mark.parametrize("servers", [1, 2])
def test_who_asks_again_at_once_does_not_keep_the_polling_thread(servers: int) -> None:
    """It answered, or raced for, what its own answers had caused to be asked: at two servers without an end."""
    [line] = run_app(
        app("""
        class Stubborn(Account):
            def onSendRequest(self, prm):
                super().onSendRequest(prm)
                if prm.e.body.tsxState.tsx.method == "OPTIONS":
                    self.send("OPTIONS", lone)
        table.update({"lone.test": ["127.0.32.7:5060", "127.0.32.8:5060"][:int(sys.argv[1])]})
        lone = "sip:lone.test;transport=tcp"
        with Endpoint(threads=0, log_level=0) as endpoint:
            pjfail.attach(lookup=table)
            account = Stubborn(endpoint)
            account.open("sip:alice@sip.test")
            account.request("MESSAGE", lone)
            account.send("OPTIONS", lone)
            times = [time.monotonic()]
            while times[-1] < times[0] + 3:
                endpoint.pj.libHandleEvents(10)
                times.append(time.monotonic())
            account.send = lambda method, uri: None
            emit(asked=account.answers.qsize(), longest=max(end - begin for begin, end in zip(times, times[1:])))
        """),
        str(servers),
    ).lines
    assert line["asked"] > 60
    assert line["longest"] < 2


def test_an_account_may_be_deleted_while_it_is_read() -> None:
    """pjsip aborts when asked of one that is no more, and looks for it before it takes its lock."""
    [line] = run_app(
        app("""
        with Endpoint(log_level=0) as endpoint:
            pjfail.attach(lookup=table)
            kept, number = Account(endpoint), 1
            kept.open("sip:alice@sip.test", "sip:sip.test")
            found = {True: 0, False: 0}
            until = time.monotonic() + 3
            def read():
                while time.monotonic() < until:
                    found[account_is(number, "bob@sip.test")] += 1
            readers = [threading.Thread(target=read) for _ in range(2)]
            for reader in readers:
                reader.start()
            while time.monotonic() < until:
                account = Account(endpoint)
                account.open("sip:bob@sip.test", "sip:sip.test")
                assert account.getId() == number
                account.shutdown()
            for reader in readers:
                reader.join()
        emit(there=found[True], gone=found[False])
        """)
    ).lines
    assert line["there"] > 100
    assert line["gone"] > 100


def test_the_proxy_of_all_accounts_is_the_next_hop_that_a_pin_is_about(second: Registrar) -> None:
    result = run_app(
        app(f"""
        table.update({{"proxy.test": ["{FIRST}:5060"]}})
        with Endpoint(outbound_proxies=["sip:proxy.test;lr"]) as endpoint:
            failover = pjfail.attach(lookup=table)
            account = Account(endpoint, ["sip:own-proxy.test;lr"])
            account.open("sip:alice@sip.test", "sip:sip.test")
            emit(server=account.reregister().server)
            failover.pin(account, "{SECOND}:5060")
            emit(server=account.reregister().server)
            emit(server=account.options("sip:bob@elsewhere.test").server)
            failover.unpin(account)
            emit(server=account.reregister().server)
        """)
    )
    assert [line["server"] for line in result.lines] == [f"{each}:5060" for each in (FIRST, SECOND, SECOND, FIRST)]


@pytest.mark.parametrize("priority", [9, 6], ids=["before it fails over", "while it does"])
@pytest.mark.parametrize("method", ["OPTIONS", "MESSAGE"])
def test_a_connection_that_ends_while_a_request_is_being_sent_on_it(
    first: Registrar, second: Registrar, priority: int, method: str
) -> None:
    """pjsip starts the transaction's timeout only then, and forgets the end: 32 s of waiting for nobody."""
    code = app(
        textwrap.dedent(HALTING)
        + textwrap.dedent(f"""
        ours = pjfail.StaticLookup({{"sip.test": [("{first}", 1, 1), ("{second}", 2, 1)]}})
        with Endpoint(kind=Listening) as endpoint:
            pjfail.attach(lookup=ours)
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            emit(**account.options("sip:sip.test;transport=tcp")._asdict())
            module = Halting(name=b"halting", name_length=7, id=-1, priority={priority}, on_tx_request=halt)
            assert pjsip.pjsip_endpt_register_module(pjsip.pjsua_get_pjsip_endpt(), ctypes.byref(module)) == 0
            emit(**account.request("{method}", "sip:sip.test;transport=tcp")._asdict())
        """)
    )
    with App(code) as program:
        assert program.next()["server"] == str(first)
        assert program.next() == {"halted": True}
        first.fault = REFUSING
        answer = program.next()
        assert (answer["code"], answer["server"]) == (200, str(second))
        assert answer["seconds"] < 5
        program.finish()


@pytest.mark.usefixtures("second")
def test_a_request_goes_on_while_connections_are_short(first: Registrar) -> None:
    """So many have ended just now that pjsip may make no other: only the connected server was left, which is silent."""
    code = app(
        f"""
        ours = pjfail.StaticLookup({{"sip.test": [("{FIRST}:5060", 1, 1), ("{SECOND}:5060", 2, 1)]}})
        with Endpoint(log_level=0) as endpoint:
            pjfail.attach(lookup=ours)
            account = Account(endpoint, retries=False)
            account.open("sip:alice@sip.test", "sip:sip.test;transport=tcp")
            emit(**account.reregister()._asdict())
            for port in range(9001, 9041):
                with contextlib.suppress(pj.Error):  # where pjsip takes a connection that is at its end
                    account.send("OPTIONS", f"sip:{FIRST}:{{port}};transport=tcp")
            emit(refused=[account.answer().code for _ in range(40)])
            time.sleep(0.1)  # the connections go once their requests are answered
            emit(**account.reregister()._asdict())
        """
    )
    with App(code) as program:
        assert program.next()["server"] == str(first)
        first.fault = SILENT
        assert set(program.next()["refused"]) == {503}
        answer = program.next()
        assert (answer["code"], answer["server"]) == (200, f"{SECOND}:5060")
        program.finish()
