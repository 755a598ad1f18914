"""``python -m pjfail doctor`` as a process, on this environment's pjsip and on modules that are none, or worse."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from rig import telephony
from rig.dns_server import DnsServer

import pjfail
from pjfail.cli.doctor.process import examined
from pjfail.cli.doctor.report import Pjfail, Python, Report, Verdict

SITE = Path(sysconfig.get_path("purelib"))
ROOT = Path(pjfail.__file__).parents[1]
WORKS, REFUSED, NOTHING = 0, 1, 3


def command(*arguments: str, folder: Path | None = None, program: str = sys.executable) -> subprocess.Popen[str]:
    """The doctor under way, who finds modules in *folder* too."""
    return subprocess.Popen(
        [program, "-m", "pjfail", "doctor", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, filter(None, (folder, ROOT, SITE))))},
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def doctor(*arguments: str, folder: Path | None = None, program: str = sys.executable) -> tuple[int, str]:
    """The exit status, and all that is printed, which is no error."""
    with command(*arguments, folder=folder, program=program) as process:
        out, err = process.communicate(timeout=90)
    assert err == ""
    return process.returncode, out


def report(module: str | None = None, folder: Path | None = None, program: str = sys.executable) -> tuple[int, Any]:
    """The exit status and the JSON."""
    chosen = () if module is None else ("--module", module)
    status, out = doctor("--json", *chosen, folder=folder, program=program)
    return status, json.loads(out)


def module(folder: Path, source: str) -> str:
    """The name of a module in *folder*."""
    (folder / "voice.py").write_text(dedent(source))
    return "voice"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True


# --- pjsips that work -------------------------------------------------------------------------------------------------


def test_the_pjsip_of_this_environment_works() -> None:
    status, told = report()
    assert (status, told["verdict"], told["notes"]) == (WORKS, "works", [])
    assert told["pjfail"]["version"] == metadata.version("pjfail")
    assert told["python"]["executable"] == sys.executable
    assert (told["module"]["name"], told["module"]["file"]) == ("pjsua2", str(SITE / "pjsua2.py"))
    pjsip = told["pjsip"]
    version = "import pjsua2 as pj; print(pj.Endpoint().libVersion().full)"
    known = subprocess.run([sys.executable, "-c", version], capture_output=True, text=True, check=True, timeout=30)
    assert pjsip["version"] == pjsip["build"]["PJ_VERSION"] == known.stdout.split()[-1]
    assert pjsip["layout"] in told["pjfail"]["layouts"]
    assert pjsip["addresses"] in (16, 32)
    assert pjsip["accounts"] is pjsip["tls"] is pjsip["dns_resolver"] is True
    assert pjsip["digests"] is None or "MD5" in pjsip["digests"]
    assert pjsip["ipv6"] is (pjsip["build"]["PJ_HAS_IPV6"] == "1" if has_ipv6() else None)
    assert (pjsip["linkage"], Path(pjsip["object"]).name[:7]) in (("static", "_pjsua2"), ("shared", "libpjsu"))


def test_the_keys_of_the_json_stay() -> None:
    _, told = report()
    assert list(told) == ["pjfail", "python", "module", "pjsip", "verdict", "reason", "notes", "registrar"]
    assert list(told["pjfail"]) == ["version", "built_for", "layouts"]
    assert list(told["python"]) == ["version", "executable", "platform"]
    assert list(told["module"]) == ["name", "file"]
    assert " ".join(told["pjsip"]) == (
        "object linkage version layout addresses accounts native_affinity own_lookups digests tls ipv6 dns_resolver "
        "build"
    )


def test_the_table_is_for_people() -> None:
    status, out = doctor()
    assert status == WORKS
    lines = [line.strip("│ ") for line in out.splitlines()]
    assert lines[-1] == "works: pjfail.attach() was tried on an endpoint, and detached"
    for what in ("pjfail", "Python", "module", "pjsip", "layout", "accounts", "TLS"):
        assert any(line.split()[:1] == [what] for line in lines), what
    assert "pjsua_core.c" not in out


def test_an_extension_that_is_no_pjsua2(tmp_path: Path) -> None:
    extension = telephony.extension(tmp_path)
    status, told = report("telephony", tmp_path)
    assert (status, told["verdict"]) == (WORKS, "works")
    assert (told["pjsip"]["object"], told["pjsip"]["linkage"]) == (str(extension), "static")


def test_a_module_with_an_endpoint_of_its_own(tmp_path: Path) -> None:
    telephony.extension(tmp_path)
    status, told = report(module(tmp_path, "import telephony; assert telephony.start() == 0"), tmp_path)
    assert (status, told["verdict"], told["pjsip"]["tls"]) == (WORKS, "works", True)


def test_the_program_that_embeds_python(tmp_path: Path) -> None:
    program = telephony.program(tmp_path, "-rdynamic")
    status, told = report(program=str(program))
    assert (status, told["verdict"], told["module"]) == (WORKS, "works", None)
    assert (told["pjsip"]["object"], told["pjsip"]["linkage"]) == (str(program), "program")


def test_a_pjsip_that_aborts_when_it_is_tried_further(tmp_path: Path) -> None:
    """What was known by then is told, the verdict among it."""
    telephony.extension(tmp_path, "-DWITHOUT_DNS")
    status, told = report("telephony", tmp_path)
    assert (status, told["verdict"]) == (WORKS, "works")
    assert (told["pjsip"]["tls"], told["pjsip"]["dns_resolver"]) == (True, None)
    [note] = told["notes"]
    assert note.startswith("it ended by SIGABRT while creating a DNS resolver: ")
    assert "Resolver is disabled" in note


@pytest.mark.parametrize(
    ("variant", "note"),
    [("LATE_DIGESTS", "Call endpoint.utilSslGetAvailableCiphers() once"), ("WITHOUT_DIGESTS", "TLS library lacks MD5")],
)
def test_a_pjsip_that_cannot_answer_a_challenge_works_with_a_note(tmp_path: Path, variant: str, note: str) -> None:
    """In tests/hosts it is the wheel pjsua2-python 2.15.1."""
    telephony.extension(tmp_path, f"-D{variant}")
    status, told = report("telephony", tmp_path)
    assert (status, told["verdict"], told["pjsip"]["digests"]) == (WORKS, "works", [])
    assert [note in each for each in told["notes"]] == [True]
    _, out = doctor("--module", "telephony", folder=tmp_path)
    assert re.search(r"digests\W+none", out)
    assert "note: pjsip " in out


def test_a_pjsip_that_cannot_be_kept_from_its_own_lookups_works_with_a_note(tmp_path: Path) -> None:
    telephony.extension(tmp_path, "-DOTHER_CALLS")
    status, told = report("telephony", tmp_path)
    assert (status, told["verdict"], told["pjsip"]["own_lookups"]) == (WORKS, "works", False)
    [note] = told["notes"]
    assert "natConfig.contactUseSrcPort = 0" in note


# --- registrars -------------------------------------------------------------------------------------------------------

ZONE = [
    "_sip._udp.srv.test. 60 IN SRV 10 1 5060 a.srv.test.",
    "_sip._udp.srv.test. 60 IN SRV 20 1 5070 b.srv.test.",
    "srv.test. 60 IN A 192.0.2.9",
    "a.srv.test. 60 IN A 192.0.2.1",
    "b.srv.test. 60 IN A 192.0.2.2",
    "_sip._udp.alone.test. 60 IN SRV 10 1 5060 a.srv.test.",
    "_sip._tcp.alone.test. 60 IN SRV 10 1 5060 a.srv.test.",
    "two.test. 60 IN A 192.0.2.3",
    "two.test. 60 IN A 192.0.2.4",
]


@pytest.fixture(scope="module")
def name_server() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as running:
        yield running


@pytest.mark.parametrize(
    ("uri", "kind", "servers", "advice"),
    [
        ("sip:192.0.2.7", "address", ["udp:192.0.2.7:5060"], ["one server: there is nothing", '"192.0.2.7": ["192.0']),
        ("sip:192.0.2.7:5070;transport=tcp", "address", ["tcp:192.0.2.7:5070"], ["contactUseSrcPort = 0"]),
        (
            "sip:srv.test",
            "SRV",
            ["udp:192.0.2.1:5060 (a.srv.test)", "udp:192.0.2.2:5070 (b.srv.test)"],
            ["2 servers: pjfail fails over among them"],
        ),
        (
            "sip:srv.test:5060",
            "host",
            ["udp:192.0.2.9:5060 (srv.test)"],
            ["one server", "the port keeps the SRV records of srv.test from being asked", "write sip:srv.test"],
        ),
        (
            "sip:alone.test",
            "SRV",
            ["tcp:192.0.2.1:5060 (a.srv.test)", "udp:192.0.2.1:5060 (a.srv.test)"],
            ["one server: there is nothing", 'attach(servers={"alone.test": ['],
        ),
        (
            "sip:two.test:5060;transport=tcp",
            "host",
            ["tcp:192.0.2.3:5060 (two.test)", "tcp:192.0.2.4:5060 (two.test)"],
            ["2 servers"],
        ),
        ("sip:gone.test", "nothing", [], ["gone.test has no SRV record and no address", "attach(servers="]),
    ],
)
def test_what_pjfail_makes_of_a_registrar(
    name_server: DnsServer, uri: str, kind: str, servers: list[str], advice: list[str]
) -> None:
    status, out = doctor("--json", "--uri", uri, "--nameserver", str(name_server))
    told = json.loads(out)["registrar"]
    assert (status, told["uri"], told["kind"]) == (WORKS, uri, kind)
    assert sorted(told["servers"]) == servers
    for words in advice:
        assert words in " ".join(told["advice"])
    if "port keeps" not in " ".join(advice):
        assert "port keeps" not in " ".join(told["advice"])


def test_a_registrar_is_shown_behind_the_verdict(name_server: DnsServer) -> None:
    status, out = doctor("--uri", "sip:srv.test", "--nameserver", str(name_server))
    assert status == WORKS
    verdict, found = out.index("works: "), out.index("a domain with SRV records")
    assert verdict < found < out.index("192.0.2.1:5060 (a.srv.test)") < out.index("192.0.2.2:5070 (b.srv.test)")
    assert out.splitlines()[-1] == "2 servers: pjfail fails over among them"


def test_what_is_no_uri_is_status_2() -> None:
    with command("--uri", "srv.test") as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert "is not a valid SIP URI" in err


# --- those that do not ------------------------------------------------------------------------------------------------


def test_an_unknown_version_is_refused(tmp_path: Path) -> None:
    telephony.extension(tmp_path, "-DUNKNOWN_VERSION")
    status, told = report("telephony", tmp_path)
    assert (status, told["verdict"], told["pjsip"]["version"]) == (REFUSED, "refused", "2.99")
    assert (told["pjsip"]["layout"], told["pjsip"]["build"]["PJ_HAS_THREADS"]) == (None, "1")
    for known in ("2.99", *told["pjfail"]["layouts"], "send us"):
        assert known in told["reason"]


def test_a_hidden_pjsip_is_refused(tmp_path: Path) -> None:
    telephony.extension(tmp_path, "-Wl,--exclude-libs,ALL")
    status, out = doctor("--module", "telephony", folder=tmp_path)
    assert status == REFUSED
    assert out.splitlines()[-1].startswith(f"refused: {tmp_path}/telephony.so seems to carry pjsip")


def test_a_pjsip_of_which_a_part_is_hidden_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "telephony.map"
    script.write_text("{ global: PyInit_*; pjsua_*; pjsip_*; pj_log_*; pj_dump_config; pj_strerror; local: *; };")
    telephony.extension(tmp_path, f"-Wl,--version-script={script}")
    status, told = report("telephony", tmp_path)
    assert (status, told["verdict"], told["pjsip"]["version"]) == (REFUSED, "refused", None)
    assert "does not export pj_get_version()" in told["reason"]


def test_two_pjsips_are_refused(tmp_path: Path) -> None:
    telephony.extension(tmp_path)
    status, told = report(module(tmp_path, "import pjsua2, telephony"), tmp_path)
    assert (status, told["verdict"], told["pjsip"]) == (REFUSED, "refused", None)
    assert "host=" in told["reason"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise RuntimeError('no licence')", "the module voice cannot be imported: RuntimeError: no licence"),
        ("raise SystemExit(2)", "the module voice cannot be imported: SystemExit: 2"),
        ("import a_part_that_is_missing", "cannot be imported: ModuleNotFoundError: No module named 'a_part_that"),
        ("import os; os._exit(4)", "it ended with status 4 while importing voice"),
        ("import os; os._exit(0)", "it ended while importing voice"),
        ("import os; os.write(2, b'deep trouble'); os.abort()", "SIGABRT while importing voice: deep trouble"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_a_module_that_fails_at_import_is_refused(tmp_path: Path, source: str, reason: str) -> None:
    status, told = report(module(tmp_path, source), tmp_path)
    assert (status, told["verdict"], told["pjsip"]) == (REFUSED, "refused", None)
    assert reason in told["reason"]


def test_without_its_core_pjfail_says_so(tmp_path: Path) -> None:
    """As installed for another Python."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pjfail._native'] = None\n")
    status, told = report(folder=tmp_path)
    assert (status, told["verdict"]) == (REFUSED, "refused")
    assert "pjfail's compiled core cannot be loaded" in told["reason"]
    assert "a clone of pjfail" in told["reason"]


# --- none at all ------------------------------------------------------------------------------------------------------


def test_a_python_without_pjsua2(tmp_path: Path) -> None:
    """One that has pjfail, what it needs, and nothing else."""
    for needed in ("cffi", "_cffi_backend*.so", "dns", "idna", "pycparser"):
        for path in SITE.glob(needed):
            (tmp_path / path.name).symlink_to(path)
    done = subprocess.run(
        [sys.executable, "-S", "-m", "pjfail", "doctor"],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": os.environ["PATH"]},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (NOTHING, "")
    *_, verdict, advice, source = done.stdout.splitlines()
    assert verdict == "nothing found: this Python has no module pjsua2"
    assert "--module" in advice
    assert "make pjsua2-wheel" in source


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module", "this Python has no module no_such_module"),
        ("json.no_such_part", "this Python has no module json.no_such_part"),
        ("json", "the module json has loaded no pjsip into the process"),
    ],
)
def test_a_module_that_brings_no_pjsip(name: str, reason: str) -> None:
    status, told = report(name)
    assert (status, told["verdict"], told["pjsip"], told["reason"]) == (NOTHING, "nothing found", None, reason)
    _, out = doctor("--module", name)
    assert "pjsua2" in out.splitlines()[-1]


@pytest.mark.parametrize("name", ["", "two words", "./voice.py", "a..b"])
def test_what_is_no_name_of_a_module_is_status_2(name: str) -> None:
    with command("--module", name) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, "")
    assert "write the module's name" in err


# --- modules that do not let go ---------------------------------------------------------------------------------------


def test_what_a_module_prints_and_starts_is_not_waited_for(tmp_path: Path) -> None:
    source = """
        import atexit, threading, time
        from pjsua2 import *
        print("welcome")
        threading.Thread(target=time.sleep, args=(600,)).start()
        atexit.register(time.sleep, 600)
    """
    status, told = report(module(tmp_path, source), tmp_path)
    assert (status, told["verdict"], told["notes"]) == (WORKS, "works", [])


def test_a_module_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = module(tmp_path, "import time; time.sleep(600)")
    began = time.monotonic()
    told = examined(Report(Pjfail(""), Python("", "", "")), name, timeout=1.5)
    assert told.verdict is Verdict.REFUSED
    assert told.reason.startswith("it was not done within 1.5 s while importing voice")
    assert time.monotonic() - began < 20


def test_ctrl_c_is_quiet_and_status_130(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    name = module(tmp_path, f"import os, time; open({str(begun)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    with command("--module", name, folder=tmp_path) as process:
        while not (begun.exists() and begun.read_text()):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 130
    assert not Path("/proc", begun.read_text()).exists()
