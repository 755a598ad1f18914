"""One request to exactly one server, outside of any account and dialog: who gets it, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from rig.certificates import Authority
from rig.console import Console
from rig.network import unanswered_connects
from rig.tls import TlsServer

from pjfail.testing import REFUSING, RESETTING, SILENT, UNAVAILABLE, WELL, Fault, Registrar, Request
from pjfail.testing.sockets import Peer

FIRST, CHOSEN, THIRD, FOURTH = "127.0.43.1", "127.0.43.2", "127.0.43.3", "127.0.43.4"
TRANSPORTS = ("udp", "tcp", "tls")
FAULTS = {"silent": SILENT, "refusing": REFUSING, "resetting": RESETTING, "503": UNAVAILABLE}

# What the servers say beyond what a registrar says; `rewrite` of one makes its raw responses anew.
EXTRA = (
    ("X-Repeated", "1"),
    ("x-repeated", "2"),
    ("X-Folded", "over\r\n\t two lines"),  # of three lines pjsip keeps the last alone
    ("Contact", "<sip:a%0d%0aX-Evil:%20yes@example.com>, <sip:b%20c@example.com>"),
    ("k", "timer"),
    ("Content-Type", "application/octet-stream"),
)
BODY = "a\0b\r\n\r\nc"


class _Telling:
    """Answers OPTIONS with all sorts of headers and a body."""

    def _receive(self, request: Request, peer: Peer) -> None:
        super()._receive(request, _Rewriting(peer) if request.method == "OPTIONS" else peer)  # type: ignore[misc]


@dataclass
class _Rewriting:
    peer: Peer

    def send(self, message: bytes) -> None:
        head = message.partition(b"\r\nContent-Length")[0].replace(b"SIP/2.0 200 OK", b"SIP/2.0  200 \t Very  fine")
        lines = "".join(f"\r\n{name}: {value}" for name, value in EXTRA)
        self.peer.send(head + f"{lines}\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY}".encode())

    def reset(self) -> None:
        self.peer.reset()


class TellingRegistrar(_Telling, Registrar):
    pass


class TellingTlsServer(_Telling, TlsServer):
    pass


def uri(transport: str, host: str = "sip.test") -> str:
    return f"sip:bob@{host}" + ("" if transport == "udp" else f";transport={transport}")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def servers(authority: Authority) -> Iterator[dict[tuple[str, str], Registrar]]:
    certificate = authority.issue("sip.test")
    made: dict[tuple[str, str], Registrar] = {}
    for address in (FIRST, CHOSEN):
        made["udp", address] = made["tcp", address] = TellingRegistrar(address, 5060, ("udp", "tcp"))
        made["tls", address] = TellingTlsServer(address, certificate)
    for server in set(made.values()):
        server.start()
    yield made
    for server in set(made.values()):
        server.stop()


@pytest.fixture(scope="module")
def console(authority: Authority) -> Iterator[Console]:
    with Console(transports=TRANSPORTS, ca=str(authority.path)) as console:
        console.run("""
def told(*arguments, **more):
    response = failover.request(*arguments, **more)
    return [response.code, response.reason, [list(pair) for pair in response.headers], response.body.decode("latin1"),
            str(response.server), response.rtt]

async def at_once(count, method, uri, server):
    requests = [failover.request_async(method, uri, server=server) for _ in range(count)]
    return [response.code for response in await asyncio.gather(*requests)]

def asked(count, uri, server=None, timeout=5.0):
    # who answered, or what was raised: request() for a count of 0, else so many of request_async() at once
    async def one():
        return str((await failover.request_async("OPTIONS", uri, server=server, timeout=timeout)).server)
    async def several():
        return await asyncio.gather(*(one() for _ in range(count)))
    try:
        answered = asyncio.run(several()) if count else [
            str(failover.request("OPTIONS", uri, server=server, timeout=timeout).server)]
    except pjfail.RequestFailed as error:
        answered = [type(error).__name__]
    return sorted(set(answered))
""")
        yield console


@pytest.fixture(autouse=True)
def well(servers: dict[tuple[str, str], Registrar]) -> Iterator[None]:
    yield
    for server in servers.values():
        server.fault = WELL
        server.realm = None


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_chosen_server_alone_gets_it_and_all_it_says_comes_back(
    console: Console, servers: dict[tuple[str, str], Registrar], transport: str
) -> None:
    """Though no plan has that server, and the host cannot even be looked up; TLS shows and checks the URI's host."""
    target = f'"OPTIONS", "{uri(transport)}", server="{CHOSEN}:{5061 if transport == "tls" else 5060}"'
    headers = '[("X-One", "1"), ("Subject", "a"), ("X-One", "2"), ("Contact", "<sip:c@x.test>, <sip:d@x.test>")]'
    before = len(servers[transport, FIRST].requests)
    code, reason, told, body, server, rtt = console.get(f'told({target}, headers={headers}, body=b"\\0b", timeout=5)')
    assert (code, reason, body) == (200, "Very  fine", BODY)
    assert server == f"{transport}:{CHOSEN}:{5061 if transport == 'tls' else 5060}"
    assert 0 < rtt < 2
    names = [name for name, _ in told]
    assert names[:5] == ["Via", "From", "To", "Call-ID", "CSeq"]
    assert "X-Evil" not in names
    assert [value for name, value in told if name.lower() == "x-repeated"] == ["1", "2"]
    assert dict(map(tuple, told))["X-Folded"] == "over two lines"
    contacts = [value.lower() for name, value in told if name == "Contact"]
    assert contacts == ["<sip:a%0d%0ax-evil:%20yes@example.com>", "<sip:b%20c@example.com>"]
    assert dict(map(tuple, told))["Supported"] == "timer"
    [request] = servers[transport, CHOSEN].requests[-1:]
    assert (request.method, request.uri, request.transport) == ("OPTIONS", uri(transport), transport)
    assert (request.every("x-one"), request.header("subject")) == (["1", "2"], "a")
    assert request.every("contact") == ["<sip:c@x.test>", "<sip:d@x.test>"]
    assert request.raw.endswith("\r\n\r\n\0b")
    assert len(servers[transport, FIRST].requests) == before
    chosen = servers[transport, CHOSEN]
    if isinstance(chosen, TlsServer):
        assert chosen.handshake_of(request).sni == "sip.test"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_without_a_server_the_plan_decides_and_the_headers_wait_for_it(
    console: Console, servers: dict[tuple[str, str], Registrar], transport: str
) -> None:
    """The request goes out on another thread, once the target has been looked up, with what it was given."""
    for number in range(20):
        host = f"n{number}.{transport}.example"
        console.run(f'settings["table"]["{host}"] = ["{transport}:{FIRST}:5060"]')
        headers = f'[("X-Header-{number}", "{number}" * 200), ("Contact", "<sip:{number}@x.test>")]'
        assert console.get(f'told("OPTIONS", "{uri(transport, host)}", headers={headers})[0]') == 200
        request = servers[transport, FIRST].requests[-1]
        assert request.header(f"x-header-{number}") == f"{number}" * 200
        assert request.header("contact") == f"<sip:{number}@x.test>"


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_without_a_server_it_fails_over_once_the_plan_is_known_and_with_one_it_does_not(
    console: Console, servers: dict[tuple[str, str], Registrar], transport: str, name: str
) -> None:
    fault = FAULTS[name]
    hosts = [f"{kind}.{name}.test" for kind in ("planned", "cold")]
    first, planned, cold = f"{transport}:{FIRST}:5060", *(uri(transport, host) for host in hosts)
    for host in hosts:
        console.run(f'settings["table"]["{host}"] = ["{FIRST}:5060", "{CHOSEN}:5060"]')
    console.run(f'failover.resolve("{planned}")')
    for count, target in ((0, planned), (1, planned), (20, planned), (20, cold)):
        servers[transport, FIRST].fault = WELL
        console.run(f'failover.restore("{first}")')
        assert console.get(f'asked(1, "{planned}", "{first}")') == [first]
        servers[transport, FIRST].fault = fault
        assert console.get(f'asked({count}, "{target}")') == [f"{transport}:{CHOSEN}:5060"]
    before = len(servers[transport, CHOSEN].requests)
    [end] = console.get(f'asked(0, "{planned}", "{first}", timeout=1)')
    assert end in (first if name == "503" else "", "RequestTimeout", "RequestFailed")
    assert len(servers[transport, CHOSEN].requests) == before


def test_codes_are_returned_and_a_challenge_is_not_answered(
    console: Console, servers: dict[tuple[str, str], Registrar]
) -> None:
    for code in (404, 503, 603):
        servers["udp", CHOSEN].fault = Fault(code=code)
        assert console.get(f'told("MESSAGE", "{uri("udp")}", server="{CHOSEN}:5060")[0]') == code
    servers["udp", CHOSEN].fault = WELL
    servers["udp", CHOSEN].realm = "test"
    before = len(servers["udp", CHOSEN].requests)
    console.run(f'response = failover.request("MESSAGE", "{uri("udp")}", server="{CHOSEN}:5060")')
    assert console.get("response.code") == 401
    assert "Digest" in console.get('response.header("www-authenticate")')
    assert len(servers["udp", CHOSEN].requests) == before + 1


def test_the_application_hears_nothing_of_it(console: Console) -> None:
    console.run('account = opened("sip:alice@sip.test")')
    assert console.get(f'told("OPTIONS", "{uri("udp")}", server="{CHOSEN}:5060")[0]') == 200
    console.run("endpoint.run(0.3)")
    assert console.get("account.answers.empty()")


def test_how_it_ends_without_an_answer(console: Console, servers: dict[tuple[str, str], Registrar]) -> None:
    def ended(transport: str, timeout: float = 2.0) -> tuple[str, float]:
        port = 5061 if transport == "tls" else 5060
        began = time.monotonic()
        request = f'failover.request("OPTIONS", "{uri(transport)}", server="{CHOSEN}:{port}", timeout={timeout})'
        return console.error(request, "OPTIONS"), time.monotonic() - began

    for transport in TRANSPORTS:
        servers[transport, CHOSEN].fault = SILENT
        name, seconds = ended(transport, 0.5)
        assert (name, 0.4 < seconds < 1.5) == ("RequestTimeout", True)
        servers[transport, CHOSEN].fault = WELL
    for transport in ("tcp", "tls"):
        servers[transport, CHOSEN].fault = RESETTING
        name, seconds = ended(transport, 5)
        assert (name, seconds < 2) == ("RequestFailed", True), "the connection was reset with the request unanswered"
        servers[transport, CHOSEN].fault = REFUSING
        name, seconds = ended(transport, 5)
        assert (name, seconds < 2) == ("RequestFailed", True)
        servers[transport, CHOSEN].fault = WELL
    refused = f'failover.request("OPTIONS", "{uri("tcp")}", server="{THIRD}:5060")'
    assert console.error(refused, "refused") == "RequestFailed"
    assert console.error('failover.request("OPTIONS", "sip:nobody.invalid;transport=tcp")') == "RequestFailed"
    large = f'failover.request("OPTIONS", "{uri("udp")}", server="{CHOSEN}:5060", body="x" * 70000)'
    assert console.error(large) in ("RequestFailed", "RequestTimeout")


def test_a_certificate_for_another_name_fails_it_and_is_not_held_against_the_server(
    console: Console, servers: dict[tuple[str, str], Registrar]
) -> None:
    request = f'failover.request("OPTIONS", "{uri("tls", "other.test")}", server="{CHOSEN}:5061")'
    before = len(servers["tls", CHOSEN].requests)
    assert console.error(request) == "RequestFailed"
    console.run("settle()")
    assert len(servers["tls", CHOSEN].requests) == before
    states = console.get("{str(server): health.state.value for server, health in failover.servers().items()}")
    assert states.get(f"tls:{CHOSEN}:5061", "up") == "up"
    again = f'told("OPTIONS", "{uri("tls")}", server="{CHOSEN}:5061")[0]'
    assert console.get(again) == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_two_hundred_at_once(console: Console, servers: dict[tuple[str, str], Registrar], transport: str) -> None:
    server = f"{CHOSEN}:{5061 if transport == 'tls' else 5060}"
    codes = console.get(f'asyncio.run(at_once(200, "OPTIONS", "{uri(transport)}", "{server}"))')
    assert codes == [200] * 200


def test_asyncio_may_time_out_and_cancel(console: Console, servers: dict[tuple[str, str], Registrar]) -> None:
    servers["udp", CHOSEN].fault = SILENT
    request = f'failover.request_async("OPTIONS", "{uri("udp")}", server="{CHOSEN}:5060", timeout=0.3)'
    assert console.error(f"asyncio.run({request})", "no answer within 0.3 s") == "RequestTimeout"
    console.run(f"""
async def cancelled():
    task = asyncio.ensure_future({request.replace("0.3", "30")})
    await asyncio.sleep(0.1)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return len(failover._worker.requests._sent)
""")
    assert console.get("asyncio.run(cancelled())") == 0


def test_misuse(console: Console) -> None:
    def error(arguments: str, *words: str) -> str:
        return console.error(f"failover.request({arguments})", *words)

    assert error('"INVITE", "sip:sip.test"', "needs a dialog") == "ValueError"
    assert error('"OPTIONS", "tel:+123"') == "BadURI"
    assert error('"OPTIONS", "sip:"') == "BadURI"
    assert error('"OPTIONS", "sip:sip.test;transport=tcp", server="udp:127.0.0.1:5060"') == "BadServer"
    assert error('"OPTIONS", "sips:sip.test", server="tcp:127.0.0.1:5060"') == "BadServer"
    assert error('"OPTIONS", "sip:sip.test", server="sip.test:5060"') == "BadServer"
    assert error('"OPTIONS", "sip:sip.test", server="127.0.0.1:0"') == "BadServer"
    assert error('"OPTIONS", "sip:sip.test", server=5060', "is not a valid server") == "TypeError"
    assert error('"OPTIONS", "sip:sip.test", server=b"127.0.0.1:5060"', "is not a valid server") == "TypeError"
    for header in ("Contact", "<sip:"), ("Expires", "abc"), ("Authorization", "x"), ("From", "no uri"), ("To", "<sip:"):
        given = f'"OPTIONS", "sip:sip.test", headers=[{header}]'
        assert error(given, "cannot parse the header", ": ".join(header)) == "ValueError"
    assert error('"OPTIONS", "sip:a b@sip.test"', "sip:a b@sip.test") == "BadURI"
    assert error('"OPTIONS", "sip:sip.test", server="[::1]:5060"', "no udp transport over IPv6") == "BadServer"
    # long ones are no crash, whatever becomes of them
    for long in ("sip:" + "u" * 5000 + "@sip.test", "sip:" + "h" * 300 + ".test"):
        console._tell(f'failover.request("OPTIONS", "{long}", server="{CHOSEN}:5060", timeout=0.5)')
    assert console.get(f'told("OPTIONS", "sip:%41%FF%00@sip.test", server="{CHOSEN}:5060")[0]') == 200
    assert console.get(f'told("OPTIONS", "sip:[::1]", server="{CHOSEN}:5060")[0]') == 200


def test_a_probe_for_an_account_that_makes_no_header_tells_nothing(console: Console) -> None:
    probe = f"probe(failover._worker.requests, pjfail.Server('{CHOSEN}', 5060), 'sip.test', 1.0, 'sip:a>b')"
    console.run("from pjfail.probe import probe")
    assert console.get(f"asyncio.run({probe})") is None


def test_a_listener_cannot_wait_for_an_answer(console: Console) -> None:
    console.run(f"""
heard_of = queue.SimpleQueue()
def listener(event):
    try:
        failover.request("OPTIONS", "{uri("udp")}", server="{CHOSEN}:5060", timeout=1)
    except RuntimeError as error:
        heard_of.put(str(error))
failover._worker._news._listeners = (listener,)
failover.mark_down("udp:{THIRD}:5060")
""")
    assert "listener" in console.get("heard_of.get(timeout=30)")
    console.run("failover._worker._news._listeners = ()")


def test_a_detach_ends_those_who_wait_and_the_next_attachment_is_not_answered_for_them() -> None:
    """The last attachment's transaction goes on; its answer comes in the time of the next one."""
    with Registrar(THIRD) as first, Registrar(FOURTH) as chosen, Console() as console:
        first.fault = Fault(delay=2.0)
        chosen.fault = SILENT
        console.run(f"""
ends = queue.SimpleQueue()
def ask(server, timeout):
    try:
        ends.put(failover.request("OPTIONS", "sip:sip.test", server=server, timeout=timeout).code)
    except pjfail.PjfailError as error:
        ends.put(type(error).__name__)
threading.Thread(target=ask, args=("{THIRD}:5060", 30), daemon=True).start()
""")
        first.wait_for("OPTIONS")
        console.run("failover.detach()")
        assert console.get("ends.get(timeout=30)") == "NotAttached"
        assert console.error('failover.request("OPTIONS", "sip:sip.test")') == "NotAttached"
        console.run("failover = pjfail.attach(lookup=Table())")
        console.run(f'ask("{FOURTH}:5060", 3)')
        assert console.get("ends.get(timeout=30)") == "RequestTimeout"


@pytest.mark.parametrize("chosen", [f', server="{CHOSEN}:5060"', ""])
def test_nobody_is_asked_any_more_once_the_time_is_over(
    console: Console, servers: dict[tuple[str, str], Registrar], chosen: str
) -> None:
    """pjsip would repeat it for 32 s, over UDP after 0.5, 1.5, 3.5 s and so on."""
    silent = [servers["udp", address] for address in (FIRST, CHOSEN)]
    host = f"{len(chosen)}.over.test"
    console.run(f'settings["table"]["{host}"] = ["{FIRST}:5060", "{CHOSEN}:5060"]')
    for server in silent:
        server.fault = SILENT
    began = time.monotonic()
    request = f'failover.request("OPTIONS", "sip:{host}"{chosen}, timeout=0.7)'
    assert console.error(request, "no answer within 0.7 s") == "RequestTimeout"
    time.sleep(3.5)
    sent = [request.at - began for server in silent for request in server.requests if host in request.uri]
    assert sent
    assert max(sent) < 1.4


def test_each_request_ends_once_whatever_ends_it() -> None:
    """Answered as its time is over, refused, given up before it is sent, cancelled again and again."""
    with Registrar(THIRD) as slow, Registrar(FOURTH) as silent, Console() as console:
        slow.fault = Fault(delay=0.3)
        silent.fault = SILENT
        console.run(f"""
from pjfail.bridge import queue as fetched, requests
ends = []
def noted(answers=fetched.answers):
    for answer in answers():
        ends.append(answer.number)
        yield answer
fetched.answers = noted

async def one(server, timeout, transport):
    uri = "sip:sip.test" + ("" if transport == "udp" else ";transport=tcp")
    try:
        return (await failover.request_async("OPTIONS", uri, server=server, timeout=timeout)).code
    except pjfail.PjfailError as error:
        return type(error).__name__

async def many(transport):
    close = [one("{THIRD}:5060", 0.28 + number / 5000, transport) for number in range(200)]
    others = [one("127.0.43.9:5060", 0.5, transport), *(one("{FOURTH}:5060", 0.0001, transport) for _ in range(50))]
    return await asyncio.gather(*close, *others)
""")
        for transport in ("udp", "tcp"):
            ended = console.get(f'asyncio.run(many("{transport}"))')
            assert set(ended) <= {200, "RequestTimeout", "RequestFailed"}
            console.run("for number in ends * 2: requests.cancel(number)")
        console.run("endpoint.run(0.5)")
        numbers = console.get("ends")
        assert len(numbers) == len(set(numbers)) == 502
        assert console.get("requests.cancel(0)") is None  # one that never was
        console.finish()


def test_the_time_may_be_over_while_pjsip_waits_for_a_plan_or_a_connection() -> None:
    """The plan, or the connection, comes when the transaction is gone."""
    with unanswered_connects(THIRD, 5060), Registrar(FOURTH) as server, Console([f"{FOURTH}:5060"]) as console:
        console.run(f"""
soon = Table.lookup
async def later(self, target):
    await asyncio.sleep(0.5 if target.host.startswith("slow") else 0)
    return await soon(self, target)
Table.lookup = later

async def one(uri, server):
    try:
        return (await failover.request_async("OPTIONS", uri, server=server, timeout=0.2)).code
    except pjfail.PjfailError as error:
        return type(error).__name__

async def many():
    planned = [one(f"sip:slow{{number}}.test", None) for number in range(50)]
    connected = [one("sip:sip.test;transport=tcp", "{THIRD}:5060") for _ in range(50)]
    return sorted(set(await asyncio.gather(*planned, *connected)))
""")
        assert console.get("asyncio.run(many())") == ["RequestTimeout"]
        console.run("endpoint.run(1)")
        branches = {request.branch for request in server.requests}
        assert all(branch.startswith("z9hG4bK") and branch.isprintable() for branch in branches), branches
        assert len(branches) == len(server.requests)  # sent late, but not repeated
        assert console.get('failover.request("OPTIONS", "sip:sip.test").code') == 200
        console.finish()


@pytest.mark.parametrize("threads", [1, 4])
def test_a_detach_in_the_midst_of_requests_whose_time_is_over(threads: int) -> None:
    with Registrar(FOURTH) as silent, Console(threads=threads) as console:
        silent.fault = SILENT
        console.run(f"""
async def one(timeout):
    try:
        await failover.request_async("OPTIONS", "sip:sip.test", server="{FOURTH}:5060", timeout=timeout)
    except pjfail.PjfailError as error:
        return type(error).__name__

async def many():
    asyncio.get_running_loop().run_in_executor(None, lambda: (time.sleep(0.25), failover.detach()))
    return sorted(set(await asyncio.gather(*(one(0.2 + number / 4000) for number in range(400)))))
""")
        for _ in range(3):
            assert set(console.get("asyncio.run(many())")) <= {"NotAttached", "RequestTimeout"}
            console.run("failover = pjfail.attach(lookup=Table())")
        console.finish()


def test_a_host_that_polls_asks_from_asyncio_or_another_thread() -> None:
    with Registrar(FOURTH), Console(threads=0) as console:
        console.run(f"""
async def polling():
    request = asyncio.ensure_future(
        failover.request_async("OPTIONS", "sip:sip.test;transport=tcp", server="{FOURTH}:5060"))
    while not request.done():
        endpoint.pj.libHandleEvents(10)
        await asyncio.sleep(0)
    return (await request).code

def beside():
    ends = queue.SimpleQueue()
    thread = threading.Thread(
        target=lambda: ends.put(failover.request("OPTIONS", "sip:sip.test", server="{FOURTH}:5060").code))
    thread.start()
    while thread.is_alive():
        endpoint.pj.libHandleEvents(10)
    return ends.get()
""")
        assert console.get("asyncio.run(polling())") == 200
        assert console.get("beside()") == 200


def test_who_waits_in_pjsips_own_thread_is_told_that_it_did_not_run() -> None:
    """In a callback, and in a program that polls; it is not said of a server that is silent."""
    request = f'failover.request("OPTIONS", "sip:sip.test", server="{FOURTH}:5060", timeout=0.8)'
    stalled = "pjsip's thread did not run for the first 0.8 s of them"
    with Registrar(FOURTH) as server:
        with Console(threads=0) as console:
            assert console.error(request, "no answer within 0.8 s", stalled, "request_async()") == "RequestTimeout"
            console.finish()
        with Console([f"{FOURTH}:5060"]) as console:
            console.run(f"""
class Asking(Account):
    def onRegState(self, prm):
        try:
            {request}
        except pjfail.RequestTimeout as error:
            heard_of.put(str(error))

heard_of = queue.SimpleQueue()
account = opened("sip:alice@sip.test", "sip:sip.test", kind=Asking)
account.setRegistration(True)
""")
            assert stalled in console.get("heard_of.get(timeout=30)")
            server.fault = SILENT
            error = console._tell(request)["text"]
            assert error == f"OPTIONS sip:sip.test to udp:{FOURTH}:5060: no answer within 0.8 s"
