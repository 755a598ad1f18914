"""What cannot be pinned, asked or kept: clear exceptions, no crash, the earlier pin stays. Accounts of every shape."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rig.app import SANITIZED
from rig.console import Console

from pjfail.testing import Registrar

FIRST, PINNED, NEXT = "127.0.44.1", "127.0.44.2", "127.0.44.3"


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Registrar]]:
    with Registrar(FIRST) as first, Registrar(PINNED) as pinned, Registrar(NEXT) as following:
        yield {FIRST: first, PINNED: pinned, NEXT: following}


@pytest.fixture(scope="module")
def console() -> Iterator[Console]:
    with Console([f"{FIRST}:5060"]) as console:
        console.run("Account.affinity = True")
        yield console


@pytest.mark.parametrize(
    ("account", "server", "error", "words"),
    [
        ("99", f"{NEXT}:5060", "UnknownAccount", "99"),
        ("-1", f"{NEXT}:5060", "UnknownAccount", "-1"),
        ("2**40", f"{NEXT}:5060", "UnknownAccount", "1099511627776"),
        ("Account(endpoint)", f"{NEXT}:5060", "UnknownAccount", "-1"),
        ("True", f"{NEXT}:5060", "TypeError", "is not a valid account"),
        ("'alice'", f"{NEXT}:5060", "TypeError", "is not a valid account"),
        ("None", f"{NEXT}:5060", "TypeError", "is not a valid account"),
        ("Account", f"{NEXT}:5060", "TypeError", "is not a valid account"),
        ("alice", "", "BadServer", "is not a valid server"),
        ("alice", f"{NEXT}:", "BadServer", "is not a valid server"),
        ("alice", f"{NEXT}:0", "BadServer", "not a valid port number"),
        ("alice", f"{NEXT}:65536", "BadServer", "not a valid port number"),
        ("alice", "300.1.1.1:5060", "BadServer", "not a valid host name or numeric"),
        ("alice", "gone.test", "BadServer", "is a host name that leads to no server in any plan yet"),
        ("alice", f"sip:{NEXT}", "BadServer", "is a URI; write its host alone"),
        ("alice", "[::1]:5060", "BadServer", "no udp transport over IPv6"),
        ("alice", f"sctp:{NEXT}:5060", "BadServer", "not a valid transport"),
        ("alice", f"tls:{NEXT}:5061", "BadServer", "no tls transport"),
        ("tcp", f"udp:{NEXT}:5060", "BadServer", "speaks tcp"),
        ("homeless", f"{NEXT}:5060", "AffinityError", "neither a proxy nor a registrar"),
    ],
)
def test_the_earlier_pin_is_kept(
    console: Console, servers: dict[str, Registrar], account: str, server: str, error: str, words: str
) -> None:
    if console.get("'alice' not in globals()"):
        console.run('alice = opened("sip:alice@sip.test", "sip:sip.test")')
        console.run('tcp = opened("sip:tcp@sip.test", "sip:sip.test;transport=tcp")')
        console.run('homeless = opened("sip:homeless@sip.test")')
        console.run(f'failover.pin(alice, "{PINNED}:5060"); failover.pin(tcp, "{PINNED}:5060")')
    assert console.error(f'failover.pin({account}, "{server}")', words) == error
    assert console.get("str(failover.pinned(alice))") == f"udp:{PINNED}:5060"
    assert console.get("str(failover.pinned(tcp))") == f"tcp:{PINNED}:5060"
    assert console.get("alice.reregister().server") == f"{PINNED}:5060"


def test_a_server_of_no_such_type(console: Console) -> None:
    console.run('typed = opened("sip:typed@sip.test", "sip:sip.test")')
    for server in ("5060", "None", "b'127.0.0.1:5060'", "('127.0.0.1', 5060)"):
        assert console.error(f"failover.pin(typed, {server})", "is not a valid server") == "TypeError"
    assert console.get("failover.pinned(typed)") is None


def test_another_account_that_gets_the_id_is_not_pinned(console: Console, servers: dict[str, Registrar]) -> None:
    console.run('gone = opened("sip:gone@sip.test", "sip:sip.test"); number = gone.getId()')
    console.run(f'failover.pin(gone, "{PINNED}:5060")')
    console.run('del gone; heir = opened("sip:heir@sip.test", "sip:sip.test")')
    assert console.get("heir.getId() == number"), "pjsua gives the id to the next account"
    assert console.get("failover.pinned(heir)") is None
    assert console.get("heir.reregister().server") == f"{FIRST}:5060"
    if not console.get("failover.native_affinity"):  # follow() leaves accounts with pjsip's own affinity alone
        console.run("failover.follow(heir); failover.unfollow(heir)")  # no pin is in its way
    console.run(f'failover.pin(heir, "{NEXT}:5060")')
    assert console.get("drained(heir).reregister().server") == f"{NEXT}:5060"
    console.run("failover.unpin(heir)")
    console.run(f'failover.pin(heir, "{PINNED}:5060"); number = heir.getId(); del heir')
    console.run("failover.unpin(number)")  # nobody's
    assert console.error("failover.pinned(number)") == "UnknownAccount"


@pytest.mark.parametrize(
    "uri",
    [
        'sip:plain@sip.test',
        '\\"Zo\\u00eb, the; <first>\\" <sip:display@sip.test>',
        'sip:%41%42c@sip.test',
        'sip:%FF%FE@sip.test',
        'sip:caf%C3%A9@sip.test',
        'sip:a%20b;phone-context=x@sip.test;user=phone',
        'sip:UPPER@SIP.TEST',
        'sip:port@sip.test:5099',
        'sip:v6@[2001:db8::1]',
        'sip:sip.test',
        'sips:secure@sip.test',
    ],
)  # fmt: skip
def test_accounts_of_every_shape(console: Console, servers: dict[str, Registrar], uri: str) -> None:
    """Their From is what tells them apart on the wire. (sips: has TLS, of which this endpoint has none.)"""
    console.run(f'shaped = opened("{uri}", "sip:sip.test")')
    if uri.startswith("sips"):
        console._tell(f'failover.pin(shaped, "{PINNED}:5060")')
    else:
        console.run(f'failover.pin(shaped, "{PINNED}:5060")')
        assert console.get("shaped.reregister().server") == f"{PINNED}:5060"
        console.run("failover.unpin(shaped)")
        assert console.get("shaped.reregister().server") == f"{FIRST}:5060"
    console.run("del shaped")


@pytest.mark.parametrize("uri", ["tel:+15551234", f"sip:{'u' * 300}@sip.test", f"sip:{'u' * 600}@sip.test"])
def test_accounts_that_have_no_address_of_record_for_us(console: Console, uri: str) -> None:
    made = console._tell(f'shaped = opened("{uri}", "sip:sip.test")')
    if "error" not in made:
        assert console.error(f'failover.pin(shaped, "{PINNED}:5060")') == "BadURI"
        console.run("del shaped")


def test_a_numeric_registrar_is_a_next_hop_too_and_its_calls_stay(
    console: Console, servers: dict[str, Registrar]
) -> None:
    """A call from before the pin, whose Contact is the registrar's address to the letter, ends where it began."""
    uri = f"sip:{FIRST}:5060;transport=udp"
    console.run(f'numeric = opened("sip:numeric@{FIRST}", "{uri}")')
    console.run("""
class Phone(pj.Call):
    def onCallState(self, prm):
        if self.getInfo().state == pj.PJSIP_INV_STATE_CONFIRMED:
            confirmed.put(True)
confirmed = queue.SimpleQueue()
""")
    console.run(f'phone = Phone(numeric); phone.makeCall("{uri}", pj.CallOpParam(True)); confirmed.get(timeout=10)')
    console.run(f'failover.pin(numeric, "{PINNED}:5060")')
    assert console.get("numeric.reregister().server") == f"{PINNED}:5060"
    assert console.get(f'numeric.options("{uri}").server') == f"{PINNED}:5060"
    before = len([each for each in servers[PINNED].requests if each.method == "BYE"])
    console.run("phone.hangup(pj.CallOpParam(True))")
    servers[FIRST].wait_for("BYE")
    assert len([each for each in servers[PINNED].requests if each.method == "BYE"]) == before
    console.run("failover.unpin(numeric)")


def test_an_account_modified_meanwhile(console: Console, servers: dict[str, Registrar]) -> None:
    """The pin is for the next hop that the account had; it is in force for the new one once it is pinned again."""
    console.run('moved = opened("sip:moved@sip.test", "sip:sip.test")')
    console.run(f'failover.pin(moved, "{PINNED}:5060")')
    console.run("""
config = pj.AccountConfig()
config.idUri, config.regConfig.registrarUri = "sip:moved@other.test", "sip:other.test"
config.regConfig.registerOnAdd = False
if hasattr(config.sipConfig, "serverAffinity"):
    config.sipConfig.serverAffinity = pj.PJSUA_SERVER_AFFINITY_ENABLED
moved.modify(config)
""")
    assert console.get("failover.pinned(moved)") is None
    console.run(f'drained(moved); failover.pin(moved, "{NEXT}:5060")')
    assert console.get("moved.reregister().server") == f"{NEXT}:5060"
    console.run("failover.unpin(moved)")


def test_pins_change_while_requests_are_under_way(console: Console, servers: dict[str, Registrar]) -> None:
    """On two Python threads, with a SIP thread that resolves: every request is answered by one of the two."""
    console.run('busy = opened("sip:busy@sip.test", "sip:sip.test")')
    console.run(f"""
def churn():
    while not over.is_set():
        for server in ("{PINNED}:5060", "{NEXT}:5060"):
            failover.pin(busy, server)
        failover.unpin(busy)
over = threading.Event()
threads = [threading.Thread(target=churn) for _ in range(2)]
for thread in threads:
    thread.start()
answers = [busy.options("sip:sip.test") for _ in range(300)]
over.set()
for thread in threads:
    thread.join()
failover.unpin(busy)
""")
    assert console.get("{answer.code for answer in answers} == {200}")
    assert console.get("len({answer.server for answer in answers})") > 1


def test_nothing_is_left_behind(console: Console, servers: dict[str, Registrar]) -> None:
    """Pins, routes and requests by the thousand; the memory of the second half shows what is never given back."""
    console.run(f"""
def used():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

def pins(count):
    for _ in range(count):
        failover.pin(many, "{PINNED}:5060")
        failover.unpin(many)

def asked(count):
    async def all():
        for _ in range(count // 100):
            await asyncio.gather(
                *(failover.request_async("OPTIONS", "sip:sip.test;transport=tcp", server="{PINNED}:5060")
                  for _ in range(100)))
    asyncio.run(all())

def grown(work, count):
    work(count)
    before = used()
    work(count)
    return used() - before

many = opened("sip:many@sip.test", "sip:sip.test")
""")
    assert console.get("grown(pins, 5000)") < 1000 or SANITIZED, "KiB; sanitizers take memory of their own"
    servers[PINNED]._requests.clear()
    assert console.get("grown(asked, 3000)") < 3000, "KiB; over UDP pjsip would keep transactions for 5 s"
    servers[PINNED]._requests.clear()
    assert console.get("len(failover._worker.requests._sent)") == 0


def test_detached_and_in_a_forked_child() -> None:
    with Console([f"{FIRST}:5060"]) as console:
        console.run('alice = opened("sip:alice@sip.test", "sip:sip.test")')
        calls = [
            f'failover.pin(alice, "{PINNED}:5060")',
            "failover.unpin(alice)",
            "failover.pinned(alice)",
            "failover.enable_affinity(alice)",
            f'failover.route_via(alice, "{PINNED}:5060")',
            "failover.native_affinity",
            f'failover.request("OPTIONS", "sip:sip.test", server="{PINNED}:5060")',
        ]
        console.run(f"""
def raised(calls):
    found = []
    for call in calls:
        try:
            eval(call)
            found.append("nothing")
        except BaseException as error:
            found.append(type(error).__name__)
    return found

def in_child(calls):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, json.dumps(raised(calls)).encode())
        os._exit(0)
    os.close(writing)
    found = json.loads(os.read(reading, 4096))
    os.waitpid(child, 0)
    return found
calls = {calls!r}
""")
        assert console.get("in_child(calls)") == ["NotAttached"] * len(calls)
        console.run("failover.detach()")
        assert console.get("raised(calls)") == ["NotAttached"] * len(calls)
