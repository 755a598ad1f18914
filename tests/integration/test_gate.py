"""Detaching while pjsip's threads are inside pjfail: it once ended the program, hung it, or freed what was in use."""

from __future__ import annotations

import contextlib
import subprocess
import textwrap
import time
from pathlib import Path

import pytest
from rig.app import App, run_app
from rig.dns_server import DnsServer

from pjfail.testing import RESETTING, SILENT, UNAVAILABLE, WELL, Registrar

FIRST, SECOND = "127.0.36.1", "127.0.36.2"
NAME_SERVER = "127.0.36.53"
FAILS_AT_ONCE = "255.255.255.255"  # a TCP connect does, within the call

HEAD = f"""
    import ctypes, gc, logging, os, sys, threading, time
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    import pjsua2 as pj
    import pjfail
    from pjfail._native import ffi, lib
    from rig.prelude import Account, Endpoint, emit, heard

    table = pjfail.StaticLookup({{"sip.test": [("{FIRST}:5060", 1, 1), ("{SECOND}:5060", 2, 1)]}})

    def outstanding():
        counters = ffi.new("pf_counters *")
        lib.pf_read_counters(counters)
        return counters.outstanding

    def idle(seconds=1.0):
        '''Whether this process uses less than half of one core.'''
        before = time.process_time()
        time.sleep(seconds)
        return time.process_time() - before < seconds / 2
"""


def app(body: str) -> str:
    return HEAD + textwrap.indent(textwrap.dedent(body), "    ")


# --- F1: name servers that pjsip's own resolver asks ------------------------------------------------------------------


def test_a_detach_with_a_dns_query_open() -> None:
    """A resolver that was destroyed left the query's timer armed: pjsip's assertion ended the program 2 s later."""
    code = app(f"""
        with Endpoint() as endpoint:
            lookup = pjfail.PjsipDnsLookup(nameservers=["{NAME_SERVER}:5300"])
            failover = pjfail.attach(lookup=lookup)
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            account.send("OPTIONS", "sip:a.test")
            time.sleep(0.3)
            failover.detach()
            time.sleep(4)
            heard()
            with pjfail.attach(lookup=lookup) as failover:
                emit(server=failover.resolve("sip:a.test:5060").servers[0].address)
    """)
    with DnsServer(["a.test. 60 IN A 127.0.36.1"], address=NAME_SERVER, port=5300) as server:
        server.fault("silent")
        with App(code) as program:
            time.sleep(5)
            server.mend()
            assert program.ask("") == {"server": FIRST}
            program.finish()
    assert server.asked("SRV"), "the query was never open"


def test_name_servers_change_from_one_attachment_to_the_next() -> None:
    """There are more of them than resolvers of ours, which stay until the endpoint ends; no descriptors are lost."""
    ports = range(5300, 5312)
    with contextlib.ExitStack() as servers:
        for port in ports:
            zone = [f"a{port}.test. 60 IN A 127.0.36.{port - 5200}"]
            servers.enter_context(DnsServer(zone, address=NAME_SERVER, port=port))
        [line] = run_app(
            app(f"""
            addresses, descriptors = [], []
            with Endpoint() as endpoint:
                for round in range(2):
                    for port in range({ports.start}, {ports.stop}):
                        lookup = pjfail.PjsipDnsLookup(nameservers=[f"{NAME_SERVER}:{{port}}"])
                        with pjfail.attach(lookup=lookup) as failover:
                            addresses.append(failover.resolve(f"sip:a{{port}}.test:5060").servers[0].address)
                    descriptors.append(len(os.listdir("/proc/self/fd")))
                lookups = [pjfail.PjsipDnsLookup(nameservers=[f"{NAME_SERVER}:5300"]) for _ in range(12)]
                with pjfail.attach(lookup=pjfail.ChainLookup(*lookups)) as failover:
                    addresses.append(failover.resolve("sip:a5300.test:5060").servers[0].address)
            gc.collect()
            emit(addresses=addresses, grown=descriptors[1] - descriptors[0])
            """)
        ).lines
    assert line["addresses"] == [f"127.0.36.{port - 5200}" for port in [*ports, *ports, 5300]]
    assert line["grown"] <= 0


# --- F3: a thread that is in our module's callback --------------------------------------------------------------------

# The first server says 503, and no connect to the next one works: the application is told so beneath our callback.
DETACHING = f"""
    class Listening(pj.Endpoint):
        armed = False
        def onTransportState(self, prm):
            if self.armed and prm.state != pj.PJSIP_TP_STATE_CONNECTED:
                self.armed = False
                inside()
    bad = pjfail.StaticLookup({{"sip.test": [("{FIRST}:5060", 1, 1), ("{FAILS_AT_ONCE}:5060", 2, 1)]}})
    with Endpoint(kind=Listening, threads=2) as endpoint:
        failover = pjfail.attach(lookup=bad)        # before any traffic: pjsip takes no lock around its modules then
        account = Account(endpoint)
        account.open("sip:alice@sip.test")
        endpoint.pj.armed = True
        account.send("OPTIONS", "sip:sip.test;transport=tcp")
        outside()
        code = account.answer(20).code
        calm = idle()
        with pjfail.attach(lookup=table):
            again = account.options("sip:sip.test;transport=udp").code
        emit(code=code, calm=calm, again=again, outstanding=outstanding())
    emit(ended=True)
"""

BY_WHOM = {
    "by another thread": """
        waiting, detached = threading.Event(), threading.Event()
        def inside():
            waiting.set()
            detached.wait(10)
            time.sleep(0.3)
        def outside():
            assert waiting.wait(10)
            failover.detach()
            detached.set()
    """,
    "by the callback itself": """
        def inside():
            failover.detach()
        def outside():
            pass
    """,
    "by several threads": """
        waiting, gone = threading.Event(), threading.Event()
        def inside():
            waiting.set()
            gone.wait(10)
        def outside():
            assert waiting.wait(10)
            threads = [threading.Thread(target=lib.pf_detach, args=(failover._attachment,)) for _ in range(6)]
            for thread in threads:
                thread.start()
            time.sleep(0.3)
            gone.set()
            for thread in threads:
                thread.join()
            assert not failover.attached
    """,
}


@pytest.mark.usefixtures("second")
@pytest.mark.parametrize("who", BY_WHOM)
def test_a_detach_while_a_thread_is_in_our_module(first: Registrar, who: str) -> None:
    """Once the module was linked to itself that thread called it for ever, and libDestroy() waited for that thread."""
    first.fault = UNAVAILABLE
    with App(app(textwrap.dedent(BY_WHOM[who]) + textwrap.dedent(DETACHING))) as program:
        assert program.next() == {"code": 503, "calm": True, "again": 200, "outstanding": 0}
        assert program.next() == {"ended": True}
        program.finish()


def test_a_detach_in_the_callback_that_gets_a_held_response(first: Registrar, second: Registrar) -> None:
    """The polling thread hands it to the transaction from within pjfail: the detach must not wait for that thread."""
    first.fault, second.fault = SILENT, UNAVAILABLE
    code = app("""
        class Detaching(Account):
            def onSendRequest(self, prm):
                begun = time.monotonic()
                failover.detach()
                seconds.append(time.monotonic() - begun)
                try:
                    pjfail.attach(lookup=table)
                except pjfail.PjsipError as error:
                    refused.append(str(error))
                super().onSendRequest(prm)
        seconds, refused = [], []
        with Endpoint() as endpoint:
            failover = pjfail.attach(lookup=table)
            account = Detaching(endpoint)
            account.open("sip:alice@sip.test")
            held = account.options("sip:sip.test", 20)
            emit(code=held.code, at_once=seconds[0] < 1, refused=refused)
            heard()
            with pjfail.attach(lookup=table):
                another = Account(endpoint)
                another.open("sip:bob@sip.test")
                emit(code=another.options("sip:sip.test").code, outstanding=outstanding())
    """)
    with App(code) as program:
        line = program.next()
        assert (line["code"], line["at_once"]) == (503, True)
        assert "the end of the last attachment" in line["refused"][0]
        second.fault = WELL
        answer = program.ask("")
        assert answer["code"] == 200
        program.finish()


# --- F7: a thread that found us attached just before ------------------------------------------------------------------

# A thread that has asked for it stops for a moment at the n-th lock that it takes in pjfail's core.
HALTING = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <pthread.h>
    #include <string.h>
    #include <unistd.h>

    volatile int halted;
    static int (*real_lock)(pthread_mutex_t *);
    static __thread int locks_left;

    __attribute__((constructor)) static void find(void) { real_lock = dlsym(RTLD_NEXT, "pthread_mutex_lock"); }

    void halt_at(int lock)
    {
        locks_left = lock;
    }

    int pthread_mutex_lock(pthread_mutex_t *mutex)
    {
        Dl_info caller;

        if (locks_left && dladdr(__builtin_return_address(0), &caller) && strstr(caller.dli_fname, "_native") &&
            !--locks_left) {
            halted = 1;
            usleep(300000);
        }
        return real_lock(mutex);
    }
"""


@pytest.mark.usefixtures("first", "second")
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_detach_while_a_request_is_being_noted(
    transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was listed after the lists had been cleared, and its transport used when the next attachment ended."""
    halting, source = tmp_path / "halting.so", tmp_path / "halting.c"
    source.write_text(HALTING)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", halting, source], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(halting))
    monkeypatch.setenv("MALLOC_PERTURB_", "165")
    lines = run_app(
        app(f"""
        # Two servers over UDP, so that the request can go on to the other one; over TCP they would race.
        servers = ["{FIRST}:5060", "{SECOND}:5060"] if "{transport}" == "udp" else ["{FIRST}:5060"]
        ours = pjfail.StaticLookup({{"sip.test": servers}})
        halting = ctypes.CDLL(os.environ["LD_PRELOAD"])
        halted = ctypes.c_int.in_dll(halting, "halted")
        def send(lock):
            endpoint.pj.libRegisterThread("sender")
            halting.halt_at(lock)
            account.send("OPTIONS", "sip:sip.test;transport={transport}")
            halting.halt_at(0)
        lock, halted.value = 0, 1
        while halted.value:
            lock, halted.value = lock + 1, 0
            with Endpoint(threads=2, log_level=0) as endpoint:
                account = Account(endpoint)
                account.open("sip:alice@sip.test")
                # From now on pjsip takes a lock around its modules: what we keep is not safe by that.
                assert account.options("sip:{FIRST}").code == 200
                failover = pjfail.attach(lookup=ours)
                assert account.options("sip:sip.test;transport={transport}").code == 200
                sending = threading.Thread(target=send, args=(lock,))
                sending.start()
                while sending.is_alive() and not halted.value:
                    time.sleep(0.001)
                failover.detach()
                sending.join()
                left = outstanding()
                emit(left=left, code=account.answer(20).code)
            del endpoint, account, failover
            gc.collect()
        emit(locks=lock - 1)
        """),
        timeout=120,
    ).lines
    assert lines.pop()["locks"] >= 5
    assert {line["left"] for line in lines} == {0}
    assert {line["code"] for line in lines} <= {200, 502}


# --- traffic ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("first", "second")
def test_attaching_again_at_once_while_four_threads_poll() -> None:
    """50 times under traffic: every request is answered, by the system's own localhost while we are detached."""
    system = Registrar("127.0.0.1", port=0)
    code = app(f"""
        name = "sip:localhost:{system.port}"
        ours = pjfail.StaticLookup({{"localhost": ["{FIRST}:5060", "{SECOND}:5060"]}})
        uris = [name, f"{{name}};transport=tcp", "sip:{FIRST}", "sip:{SECOND};transport=tcp"]
        sent, ended = [], threading.Event()
        def traffic(number):
            endpoint.pj.libRegisterThread(f"sender {{number}}")
            while not ended.is_set():
                try:
                    account.send("OPTIONS", uris[number])
                    sent.append(number)
                except pj.Error:
                    pass
                time.sleep(0.004)
        with Endpoint(threads=4, log_level=0) as endpoint:
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            senders = [threading.Thread(target=traffic, args=(number,)) for number in range(4)]
            for sender in senders:
                sender.start()
            for round in range(50):
                failover = pjfail.attach(lookup=ours)
                time.sleep(round % 5 * 0.02)
                failover.detach()
            ended.set()
            for sender in senders:
                sender.join()
            codes = [account.answer(40).code for _ in sent]
            left = outstanding()
            with pjfail.attach(lookup=ours):
                another = Account(endpoint)
                another.open("sip:bob@localhost")
                last = another.options(name).code
            emit(sent=len(sent), well=codes.count(200), left=left, last=last, calm=idle())
    """)
    with system:
        [line] = run_app(code, timeout=150).lines
    assert line["sent"] > 500
    assert line["well"] == line["sent"]
    assert (line["left"], line["last"], line["calm"]) == (0, 200, True)


@pytest.mark.parametrize("ending", ["0", "pj.PJSUA_DESTROY_NO_NETWORK"])
def test_an_endpoint_that_ends_while_it_is_detached_from(first: Registrar, second: Registrar, ending: str) -> None:
    """With requests under way, that nobody answers."""
    first.fault = second.fault = SILENT
    lines = run_app(
        app(f"""
        for round in range(4):
            endpoint = Endpoint(threads=4, log_level=0, ending={ending})
            failover = pjfail.attach(lookup=table)
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            for number in range(20):
                account.send("OPTIONS", "sip:sip.test" + ";transport=tcp" * (number % 2))
            time.sleep(0.2 * round)
            detaching = threading.Thread(target=failover.detach)
            detaching.start()
            endpoint.destroy()
            detaching.join()
            emit(left=outstanding())
            del endpoint, account
            gc.collect()
        """),
        timeout=120,
    ).lines
    assert lines == [{"left": 0}] * 4


def preload(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Has programs started from now on call the functions in *code*, C, before those of the same name."""
    library, source = folder / "preloaded.so", folder / "preloaded.c"
    source.write_text(code)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))


SLOW_NAMES = r"""
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <netdb.h>
    #include <string.h>
    #include <unistd.h>

    int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
    {
        __typeof__(&getaddrinfo) real = (__typeof__(&getaddrinfo))dlsym(RTLD_NEXT, "getaddrinfo");

        if (name && !strcmp(name, "sip.test"))
            sleep(6);
        return real(name, service, hints, found);
    }
"""


@pytest.mark.usefixtures("first")
def test_attaching_again_does_not_wait_for_the_system_to_look_names_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query that waited is answered by pjsip's own resolver after the detach, on the spot: here after six seconds.

    The endpoint's end waits for that.
    """
    preload(tmp_path, monkeypatch, SLOW_NAMES)
    [line] = run_app(
        app("""
        class Stalled(pjfail.Lookup):
            async def lookup(self, target):
                await asyncio.sleep(60)
        with Endpoint() as endpoint:
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            failover = pjfail.attach(lookup=Stalled())
            account.send("OPTIONS", "sip:sip.test")
            failover.detach()
            begun = time.monotonic()
            with pjfail.attach(lookup=table):
                emit(seconds=time.monotonic() - begun, code=account.options("sip:sip.test").code)
        """)
    ).lines
    assert line["seconds"] < 1.5
    assert line["code"] == 200


SLOW_SENDS = r"""
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <sys/socket.h>
    #include <unistd.h>

    /* A connect on this machine succeeds within the call; elsewhere it does not. */
    int connect(int fd, const struct sockaddr *address, socklen_t size)
    {
        int type = 0, failed = ((__typeof__(&connect))dlsym(RTLD_NEXT, "connect"))(fd, address, size);

        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){ sizeof type });
        if (failed || type != SOCK_STREAM || !(fcntl(fd, F_GETFL) & O_NONBLOCK))
            return failed;
        errno = EINPROGRESS;
        return -1;
    }

    ssize_t send(int fd, const void *octets, size_t size, int flags)
    {
        ssize_t sent = ((__typeof__(&send))dlsym(RTLD_NEXT, "send"))(fd, octets, size, flags);

        usleep(50000);
        return sent;
    }
"""


@pytest.mark.parametrize("when", ["attached", "detached"])
def test_a_response_overtakes_its_own_sending_over_a_new_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The thread that learns of the connect returns from sending while another brings the response.

    That one is with the application for a while, and keeps the transaction's lock. Detached, nobody has told us of the
    connection.
    """
    servers = [f"127.0.36.{number}" for number in range(11, 27)]
    preload(tmp_path, monkeypatch, SLOW_SENDS)
    code = app(f"""
        class Slow(Account):
            def onSendRequest(self, prm):
                time.sleep(0.1)
                super().onSendRequest(prm)
        with Endpoint(threads=4) as endpoint:
            account = Slow(endpoint)
            account.open("sip:alice@sip.test")
            failover = pjfail.attach(lookup=table)
            if "{when}" == "detached":
                failover.detach()
            emit(codes=[account.options(f"sip:{{server}};transport=tcp").code for server in {servers}])
            failover.detach()
    """)
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.enter_context(Registrar(server))
        [line] = run_app(code).lines
    assert line["codes"] == [200] * len(servers)


LATE_SENDERS = r"""
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <sys/socket.h>
    #include <unistd.h>

    ssize_t send(int fd, const void *octets, size_t size, int flags)
    {
        ssize_t sent = ((__typeof__(&send))dlsym(RTLD_NEXT, "send"))(fd, octets, size, flags);

        usleep(5000);
        return sent;
    }
"""


def test_a_request_outlives_the_end_of_its_connection_while_its_sender_is_held_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a busy machine, between sending and noting that: another thread had pjsip end it with 503 by then."""
    preload(tmp_path, monkeypatch, LATE_SENDERS)
    code = app(f"""
        def in_turn(candidates, health, *, request):  # each request asks for itself, and is sent by a polling thread
            return sorted(candidates, key=lambda each: each.priority)
        with Endpoint(threads=4) as endpoint:
            account = Account(endpoint)
            account.open("sip:alice@sip.test")
            servers = {{"sip.test": ["tcp:{FIRST}:5060", "tcp:{SECOND}:5060"]}}
            failover = pjfail.attach(servers=servers, policy=in_turn, follow=False)
            emit(codes=[account.options("sip:sip.test;transport=tcp").code for _ in range(20)])
    """)
    with Registrar(FIRST) as first, Registrar(SECOND) as second:
        first.fault = RESETTING
        [line] = run_app(code).lines
        assert {request.method for request in first.requests} == {"OPTIONS"}
        assert second.requests
    assert line["codes"] == [200] * 20
