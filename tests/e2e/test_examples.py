"""The programs of examples/, these very files, while their servers fail."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import wave
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rig.app import PYTHON, App
from rig.example import EXAMPLES, ROOT, ZONE, Example
from rig.network import BECOME, alone
from rig.sipp import Sipp

from pjfail.testing import REFUSING, SILENT, UNAVAILABLE, NameServer, Registrar

FIRST, SECOND, THIRD = "127.0.88.1", "127.0.88.2", "127.0.88.3"
SERVERS = [f"{FIRST}:5060", f"{SECOND}:5060"]
NAME_SERVER = "127.0.88.53:5353"

# Calls URI, and tells how loud it has been there; once told to, hangs up.
CALLER = """
    import sys
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit, heard

    with Endpoint(transports=("udp",)) as endpoint:
        account = Account(endpoint)
        account.open("sip:alice@caller.example")
        call = account.call(sys.argv[1])
        emit(code=account.answer(10).code)
        media = call.getAudioMedia(-1)
        media.startTransmit(endpoint.pj.audDevManager().getPlaybackDevMedia())
        loudest = 0
        for _ in range(30):
            endpoint.run(0.05)
            loudest = max(loudest, media.getTxLevel())  # from the call to the bridge
        emit(loudest=loudest)
        heard()
        call.hangup(pj.CallOpParam())
        emit(code=account.answer(10).code)
        del call
"""


@pytest.fixture
def first() -> Iterator[Registrar]:
    with Registrar(FIRST, transports=("udp",)) as registrar:
        yield registrar


@pytest.fixture
def second() -> Iterator[Registrar]:
    with Registrar(SECOND, transports=("udp",)) as registrar:
        yield registrar


@pytest.fixture
def name_server() -> Iterator[NameServer]:
    with NameServer(ZONE, "voip.example", "127.0.88.53", 5353) as server:
        yield server


@pytest.fixture(scope="session")
def embed() -> Path:
    """The C example, built against the tree that the extension was built against."""
    tree = os.environ.get("PJPROJECT_DIR") or ROOT / "third_party/pjproject/src"
    command = ["make", "--silent", f"-j{os.cpu_count()}", "-C", str(EXAMPLES), f"PJPROJECT_DIR={Path(tree).resolve()}"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return ROOT / "build/embed"


def interrupted(program: Example) -> int:
    program.interrupt()
    return program.finish()


# --- the plain program ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "fails"), [("REFUSING", "CALLING"), ("UNAVAILABLE", "DISCONNECTED 503")])
def test_the_plain_program_outlives_its_server_by_one_line(tmp_path: Path, fault: str, fails: str) -> None:
    changed = tmp_path / "plain_app.py"
    diff = EXAMPLES / "plain_app.diff"
    subprocess.run(["patch", "-s", "-o", str(changed), str(EXAMPLES / "plain_app.py"), str(diff)], check=True)
    assert len(re.findall(r"^[+-](?![+-])", diff.read_text(), re.MULTILINE)) == 1
    outage = [*alone(), PYTHON, str(Path(__file__).with_name("plain_outage.py"))]
    with (
        App(BECOME, *outage, str(EXAMPLES / "plain_app.py"), fault, "3") as stock_app,
        App(BECOME, *outage, str(changed), fault, "20") as changed_app,
    ):
        stock, outliving = stock_app.next(60), changed_app.next(60)
    assert any(fails in line for line in stock["lines"])
    assert not any("CONFIRMED" in line for line in stock["lines"])
    assert not stock["second"]
    assert len([line for line in outliving["lines"] if "CONFIRMED" in line]) >= 3
    assert not any("DISCONNECTED" in line and "DISCONNECTED 200" not in line for line in outliving["lines"])
    assert {"INVITE", "ACK", "BYE"} <= set(outliving["second"])
    assert outliving["status"] == 0


# --- the voice bot ----------------------------------------------------------------------------------------------------


def bot(*words: str) -> Example:
    return Example(EXAMPLES / "voice_bot.py", "bot@voip.example", "--nameserver", NAME_SERVER, "--expires", "7", *words)


def contact(registrar: Registrar) -> str:
    found = re.search(r"<([^>]*)>", registrar.wait_for("REGISTER")[-1].header("contact"))
    assert found
    return found[1]


def test_the_voice_bot_moves_and_its_call_stays(name_server: NameServer, first: Registrar, second: Registrar) -> None:
    with bot() as program:
        program.wait_for(rf"bot@voip\.example.*is on udp:{FIRST}:5060 ")
        with App(CALLER, contact(first)) as caller:
            assert caller.next()["code"] == 200
            assert caller.next()["loudest"] > 20, "the bot did not play"
            first.fault = SILENT
            second.wait_for("REGISTER", timeout=12)
            program.wait_for(rf"bot@voip\.example.*is on udp:{SECOND}:5060 .*, after udp:{FIRST}:5060 ")
            caller.tell("hang up")
            assert caller.next()["code"] == 200
        assert interrupted(program) == 0


def test_the_voice_bot_has_a_password(name_server: NameServer) -> None:
    with Registrar(FIRST, transports=("udp",), realm="voip.example") as first, bot("--password", "secret") as program:
        program.wait_for("registration: 200")
        assert 'username="bot"' in first.requests[-1].header("authorization")
        assert interrupted(program) == 0


def test_the_voice_bot_plays_a_file(
    name_server: NameServer, first: Registrar, second: Registrar, tmp_path: Path
) -> None:
    with wave.open(str(tmp_path / "greeting.wav"), "wb") as wav:
        wav.setparams((1, 2, 8000, 0, "NONE", ""))
        wav.writeframes((b"\x00\x10" * 8 + b"\x00\xf0" * 8) * 500)  # 500 Hz
    with bot("--play", str(tmp_path / "greeting.wav")) as program:
        program.wait_for("registration: 200")
        with App(CALLER, contact(first)) as caller:
            assert caller.next()["code"] == 200
            assert caller.next()["loudest"] > 20
        assert interrupted(program) == 0


# --- the dialer -------------------------------------------------------------------------------------------------------


def dialer(*words: str) -> Example:
    trunk = [word for server in SERVERS for word in ("--trunk", server)]
    return Example(EXAMPLES / "dialer.py", *trunk, "--caller", "100@trunk.example", "--talk", "0.2", *words)


def test_the_dialer_calls_through_a_trunk_that_fails(first: Registrar) -> None:
    first.fault = SILENT
    with Sipp(SECOND, "answers", calls=2) as callee, dialer("200", "201") as program:
        assert program.finish() == 0
        callee.finish()
        assert [line[:12] for line in program.seen("answered")] == ["200 answered", "201 answered"]
        assert program.seen(rf"INVITE failed over from udp:{FIRST}:5060 \(.*\) to udp:{SECOND}:5060 ")
    assert {request.uri for request in first.requests} == {"sip:200@trunk.example"}


def test_the_dialer_has_a_password() -> None:
    with Registrar(FIRST, transports=("udp",), realm="trunk.example") as first:
        with dialer("200", "--password", "secret") as program:
            assert program.finish() == 0
        invitations = [request for request in first.requests if request.method == "INVITE"]
        assert 'username="100"' in invitations[-1].header("authorization")


def test_the_dialer_says_that_nobody_answered(first: Registrar, second: Registrar) -> None:
    first.fault = second.fault = UNAVAILABLE
    with dialer("200") as program:
        assert program.finish() == 1
        assert program.seen("200 failed after")


# --- asyncio, and the policy ------------------------------------------------------------------------------------------


def asyncio_app(servers: Path) -> Example:
    return Example(EXAMPLES / "asyncio_app.py", "alice@voip.example", "--servers", str(servers), "--every", "0.5")


def test_the_asyncio_program_sees_its_servers_come_and_go(first: Registrar, second: Registrar, tmp_path: Path) -> None:
    servers = tmp_path / "servers.json"
    servers.write_text(json.dumps({"voip.example": SERVERS}))
    with Registrar(THIRD, transports=("udp",)) as third, asyncio_app(servers) as program:
        program.wait_for("registration: 200")
        for server in SERVERS:
            program.wait_for(f"udp:{server} answered 200")
        first.fault = SILENT
        program.wait_for(f"udp:{FIRST}:5060 is down")
        servers.write_text("{")
        program.wait_for("servers.json: Expecting property name")
        servers.write_text(json.dumps({"voip.example": [str(second), str(third)]}))
        program.wait_for(f"udp:{THIRD}:5060 answered 200")
        assert interrupted(program) == 0


def test_the_policy_keeps_requests_on_the_own_site_while_it_is_well(first: Registrar, second: Registrar) -> None:
    words = ["sip:voip.example", *SERVERS, "--site", f"{SECOND}/32", "--every", "0.3"]
    with Example(EXAMPLES / "own_policy.py", *words) as program:
        program.wait_for(f"udp:{SECOND}:5060 answered 200", 3)
        assert not first.requests
        second.fault = SILENT
        program.wait_for(f"udp:{FIRST}:5060 answered 200", 2)
        assert interrupted(program) == 0


# --- the C program ----------------------------------------------------------------------------------------------------


def test_the_c_program_fails_over_without_python(embed: Path, first: Registrar, second: Registrar) -> None:
    with Example(embed, "alice@voip.example", *SERVERS) as program:
        program.wait_for(f"REGISTER 200 OK from {FIRST}")
        assert not second.requests
        first.fault = REFUSING
        program.wait_for(f"REGISTER 200 OK from {SECOND}")
        assert interrupted(program) == 0
        assert not program.seen("REGISTER [3-9]")
    with Example(embed, "alice@voip.example", FIRST) as program:
        assert program.finish() == 2
        assert program.seen("usage: embed")


# --- all of them ------------------------------------------------------------------------------------------------------


def test_ctrl_c_in_the_middle_ends_them(
    embed: Path, name_server: NameServer, first: Registrar, second: Registrar, tmp_path: Path
) -> None:
    """With a request under way that nobody answers."""
    first.fault = second.fault = SILENT
    servers = tmp_path / "servers.json"
    servers.write_text(json.dumps({"voip.example": SERVERS}))
    policy = Example(EXAMPLES / "own_policy.py", "sip:policy.example", *SERVERS, "--site", f"{SECOND}/32")
    words = ["plain@voip.example", "--nameserver", "127.0.88.53", "--call", "sip:echo@voip.example"]
    plain = Example(EXAMPLES / "plain_app.py", *words)
    asking = {  # by whom their requests are from or to
        "bot@": bot(),
        "100@": dialer("200"),
        "alice@": asyncio_app(servers),
        "policy.example": policy,
        "embed@": Example(embed, "embed@voip.example", *SERVERS),
    }

    def asked(who: str) -> bool:
        return any(who in request.raw for server in (first, second) for request in server.requests)

    with ExitStack() as stack:
        for program in (plain, *asking.values()):
            stack.enter_context(program)
        plain.wait_for("CALLING")
        until = time.monotonic() + 15
        while missing := [who for who in asking if not asked(who)]:
            assert time.monotonic() < until, missing
            time.sleep(0.02)
        for program in (plain, *asking.values()):
            program.interrupt()
        for program in (plain, *asking.values()):
            assert program.finish() == (1 if program is asking["100@"] else 0), program.program
            assert not program.seen("Traceback|Assertion"), program.program


@pytest.mark.parametrize(
    ("program", "words", "complaint"),
    [
        ("plain_app", "voip.example --nameserver 127.0.88.53", "'voip.example' is not a valid USER@DOMAIN"),
        ("plain_app", "alice@voip.example --nameserver here", "invalid ip_address value: 'here'"),
        ("voice_bot", "bot@", "'bot@' is not a valid USER@DOMAIN"),
        ("voice_bot", "bot@voip.example --nameserver here", "'here' is not a valid name server"),
        ("voice_bot", "bot@voip.example --play nothing.wav", "nothing.wav: there is no such file"),
        ("dialer", "200 --caller 100@trunk.example --trunk sip:192.0.2.1", "'sip:192.0.2.1' is "),
        ("asyncio_app", "alice@voip.example --servers nothing.json", "No such file or directory"),
        ("own_policy", "voip.example 127.0.88.1:5060 --site 127.0.88.0/24", "'voip.example' is not a valid SIP URI"),
        ("own_policy", "sip:voip.example 127.0.88.1:x --site 127.0.88.0/24", "'127.0.88.1:x' is not a valid server"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line(program: str, words: str, complaint: str) -> None:
    with Example(EXAMPLES / f"{program}.py", *words.split()) as example:
        assert example.finish() == 2
        assert complaint in example.lines[-1]
