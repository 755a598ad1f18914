"""Where else pjsip may lie in a process, and what may have become of it: each works, or says why not and what to do."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from rig import telephony
from rig.app import PYTHON, TESTS, Line, run_app

from pjfail.errors import DETACHED
from pjfail.testing import Registrar

ADDRESS = "127.0.38.1"
SITE = Path(sysconfig.get_path("purelib"))

HEAD = f"""
import ctypes, gc, json, os, sys
sys.path += {[str(SITE), str(TESTS.parent)]}
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # pjsip's log

import pjfail

def emit(**fields):
    print(json.dumps(fields), file=out, flush=True)

def attach(host=None):
    # what comes of it: the status of a request for which pjfail must know the way, or the refusal
    table = pjfail.StaticLookup({{"sip.test": ["{ADDRESS}:5060"]}})
    try:
        with pjfail.attach(lookup=table, host=host) as failover:
            return failover.request("OPTIONS", "sip:sip.test", timeout=10).code
    except pjfail.HostError as error:
        return f"{{type(error).__name__}}: {{error}}"
"""


def run(body: str, *folders: Path, program: Path | None = None) -> list[Line]:
    """What a program prints, which finds modules in *folders* first; *program* is run in Python's place."""
    first = f"\nsys.path[:0] = {[str(folder) for folder in folders]}\n"
    return run_app(HEAD + first + dedent(body), python=PYTHON if program is None else str(program)).lines


@pytest.fixture(autouse=True)
def registrar() -> Iterator[Registrar]:
    with Registrar(ADDRESS) as registrar:
        yield registrar


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the module telephony, which carries pjsip and is no pjsua2."""
    return telephony.extension(tmp_path_factory.mktemp("extension")).parent


def copy_of_pjsua2(folder: Path) -> Path:
    """pjsua2, installed once more: its extension."""
    shutil.copy(SITE / "pjsua2.py", folder)
    [extension] = SITE.glob("_pjsua2.*.so")
    return Path(shutil.copy(extension, folder))


# --- other objects ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "None",
        "telephony",
        "telephony.__file__",
        "pathlib.Path(telephony.__file__)",
        "os.path.relpath(telephony.__file__)",
    ],
)
def test_an_extension_of_another_name(folder: Path, host: str) -> None:
    lines = run(
        f"""
        import pathlib, telephony
        emit(before=attach({host}))
        telephony.start()
        emit(code=attach({host}))
        telephony.stop()
        """,
        folder,
    )
    assert lines[0]["before"].startswith("NoEndpoint: ")
    assert lines[1] == {"code": 200}


def test_a_pjsip_with_fewer_keys_than_the_headers_have(tmp_path: Path) -> None:
    telephony.extension(tmp_path, "-DFEWER_KEYS")
    lines = run(
        """
        import telephony
        from pjfail._native import ffi, lib
        telephony.start()
        emit(code=attach(telephony))
        facts = ffi.new("pf_host_facts *")
        lib.pf_read_host_facts(facts)
        emit(keys=facts.keys)
        telephony.stop()
        """,
        tmp_path,
    )
    assert lines == [{"code": 200}, {"keys": 24}]


def test_pjsua2_under_another_name_and_in_a_package(tmp_path: Path) -> None:
    package = tmp_path / "voice" / "line"
    package.mkdir(parents=True)
    copy_of_pjsua2(package)
    (package / "pjsua2.py").rename(package / "__init__.py")
    lines = run(
        """
        import voice.line as pj
        endpoint = pj.Endpoint()
        endpoint.libCreate()
        endpoint.libInit(pj.EpConfig())
        endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, pj.TransportConfig())
        endpoint.libStart()
        emit(found=attach(), named=attach(pj))
        endpoint.libDestroy()
        """,
        tmp_path,
    )
    assert lines == [{"found": 200, "named": 200}]


@pytest.mark.parametrize("mode", ["RTLD_LOCAL", "RTLD_GLOBAL"])
def test_a_library_loaded_by_hand(folder: Path, mode: str) -> None:
    [line] = run(
        f"""
        library = ctypes.CDLL("{folder}/telephony.so", mode=ctypes.{mode})
        assert library.pjsua_create() == 0 and library.pjsua_init(None, None, None) == 0
        library.pjsua_get_pjsip_endpt.restype = ctypes.c_void_p
        endpoint = ctypes.c_void_p(library.pjsua_get_pjsip_endpt())
        assert library.pjsip_udp_transport_start(endpoint, None, None, 1, None) == 0
        assert library.pjsua_start() == 0
        emit(code=attach())
        library.pjsua_destroy()
        """
    )
    assert line == {"code": 200}


def test_a_pjsip_without_pjsua(tmp_path: Path) -> None:
    library = telephony.library(tmp_path)
    [line] = run(
        f"""
        library = ctypes.CDLL("{library}")
        assert library.sip_start() == 0
        emit(found=attach(), named=attach("{library}"))
        """
    )
    for said in line.values():
        assert said.startswith(f"UnusablePjsip: {library} carries pjsip, but no pjsua")
        assert "pjsua2" in said


def test_pjlib_alone_is_no_pjsip(tmp_path: Path) -> None:
    """Nor does it hide one."""
    library = telephony.library(tmp_path, "-DPJLIB_ALONE")
    [line] = run(f"""
        assert ctypes.CDLL("{library}").sip_start() == 0
        emit(found=attach(), named=attach("{library}"))
    """)
    assert line["found"].startswith("NoPjsip: this process has no pjsip")
    assert line["named"].startswith(f"NoPjsip: {library} carries no pjsip")


# --- hidden symbols ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["exclude-libs", "version-script"])
def test_an_extension_that_hides_pjsip(tmp_path: Path, how: str) -> None:
    script = tmp_path / "telephony.map"
    script.write_text("{ global: PyInit_*; local: *; };")
    flag = {"exclude-libs": "--exclude-libs,ALL", "version-script": f"--version-script={script}"}[how]
    hiding = telephony.extension(tmp_path, f"-Wl,{flag}")
    [line] = run(
        """
        import telephony
        telephony.start()
        emit(found=attach(), named=attach(telephony))
        telephony.stop()
        """,
        tmp_path,
    )
    for said in line.values():
        assert said.startswith(f"UnusablePjsip: {hiding} seems to carry pjsip")
        assert "exports none" in said
        assert "--exclude-libs" in said


def test_an_extension_that_hides_a_part_of_pjsip(tmp_path: Path) -> None:
    script = tmp_path / "telephony.map"
    script.write_text("{ global: PyInit_*; pjsua_*; pjsip_*; local: *; };")
    telephony.extension(tmp_path, f"-Wl,--version-script={script}")
    [line] = run(
        """
        import telephony
        telephony.start()
        emit(said=attach())
        telephony.stop()
        """,
        tmp_path,
    )
    assert line["said"].startswith("UnsupportedVersion: ")
    assert "does not export pj_get_version()" in line["said"]
    assert "hides some of its functions" in line["said"]


def test_a_stripped_extension_works(tmp_path: Path) -> None:
    """strip leaves the dynamic symbols in."""
    subprocess.run(["strip", copy_of_pjsua2(tmp_path)], check=True)
    lines = run(
        """
        import pjsua2 as pj
        from rig.prelude import Endpoint
        with Endpoint():
            emit(code=attach(), file=pj._pjsua2.__file__)
        """,
        tmp_path,
    )
    assert lines == [{"code": 200, "file": str(next(tmp_path.glob("_pjsua2.*.so")))}]


# --- the main program -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exporting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with Python and pjsip in it, whose functions can be seen."""
    return telephony.program(tmp_path_factory.mktemp("exporting"), "-rdynamic")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, linked as programs are."""
    return telephony.program(tmp_path_factory.mktemp("plain"))


def test_a_program_in_c_with_pjsip_in_it(exporting: Path) -> None:
    lines = run(
        f"""
        import telephony
        telephony.start()
        emit(found=attach(), module=attach(telephony), path=attach("{exporting}"))
        telephony.stop()
        """,
        program=exporting,
    )
    assert lines == [{"found": 200, "module": 200, "path": 200}]


def test_a_program_in_c_that_hides_its_pjsip(plain: Path) -> None:
    [line] = run(
        """
        import telephony
        telephony.start()
        emit(found=attach(), module=attach(telephony))
        telephony.stop()
        """,
        program=plain,
    )
    for said in line.values():
        assert said.startswith("UnusablePjsip: the main program seems to carry pjsip")
        assert "-rdynamic" in said


def test_pjsua2_in_a_program_that_exports_a_pjsip(exporting: Path) -> None:
    """The loader binds pjsua2 to the program's functions: there is one pjsip, whose state is the program's."""
    [line] = run(
        """
        import pjsua2 as pj
        from rig.prelude import Endpoint
        from pjfail import host
        with Endpoint():
            emit(found=attach(), named=attach(pj), at=[host.find(), host.find(pj)])
        """,
        program=exporting,
    )
    assert line == {"found": 200, "named": 200, "at": [None, None]}


def test_pjsua2_in_a_program_that_hides_its_pjsip(plain: Path) -> None:
    """Then pjsua2 has its own."""
    [line] = run(
        """
        from rig.prelude import Endpoint
        with Endpoint():
            emit(code=attach())
        """,
        program=plain,
    )
    assert line == {"code": 200}


# --- two of them ------------------------------------------------------------------------------------------------------


def test_of_two_pjsips_the_user_names_one(folder: Path) -> None:
    [line] = run(
        """
        import pjsua2 as pj, telephony
        from pjfail import host
        from rig.prelude import Endpoint
        with Endpoint():
            emit(found=attach(), pjsua2=attach(pj), file=attach(pj._pjsua2.__file__), other=attach(telephony),
                 carrier=host.find(pj))
        """,
        folder,
    )
    assert line["found"].startswith("TwoPjsips: ")
    assert line["carrier"] in line["found"]
    assert str(folder / "telephony.so") in line["found"]
    assert "host=" in line["found"]
    assert (line["pjsua2"], line["file"]) == (200, 200)
    assert line["other"].startswith("NoEndpoint: ")
    assert str(folder / "telephony.so") in line["other"]


def test_two_pjsips_at_work(folder: Path) -> None:
    [line] = run(
        """
        import pjsua2 as pj, telephony
        from rig.prelude import Endpoint
        telephony.start()
        with Endpoint():
            emit(codes=[attach(pj), attach(telephony), attach(pj)])
        telephony.stop()
        """,
        folder,
    )
    assert line == {"codes": [200, 200, 200]}


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        pytest.param("'/nowhere/_pjsua2.so'", "is not loaded into this process; import it", id="no such file"),
        pytest.param("next(iter(pjfail.host.loaded_objects()[2:]))", "carries no pjsip", id="no pjsip"),
        pytest.param("json", "the module json is not a shared object", id="a module of Python"),
        pytest.param("sys", "the main program carries no pjsip", id="a module within the program"),
    ],
)
def test_a_host_that_is_none(host: str, reason: str) -> None:
    [line] = run(
        f"""
        import pjfail.host
        from rig.prelude import Endpoint
        with Endpoint():
            emit(said=attach({host}))
        """
    )
    assert line["said"].startswith("NoPjsip: ")
    assert reason in line["said"]


# --- files that change ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linked", [False, True], ids=["file", "symbolic link"])
@pytest.mark.parametrize("fate", ["deleted", "replaced"])
def test_a_file_that_pip_takes_from_under_a_program(tmp_path: Path, fate: str, linked: bool) -> None:
    """The object stays loaded, and is still the one."""
    extension = copy_of_pjsua2(tmp_path)
    if linked:
        (tmp_path / "real").mkdir()
        extension.rename(tmp_path / "real" / "pjsua2")
        extension.symlink_to(tmp_path / "real" / "pjsua2")
    [line] = run(
        f"""
        import pathlib, pjsua2 as pj
        from rig.prelude import Endpoint
        file = pathlib.Path(pj._pjsua2.__file__)
        real = file.resolve()
        with Endpoint():
            real.unlink()
            if {fate == "replaced"}:
                real.write_text("something else")
            emit(codes=[attach(), attach(pj), attach(file)])
        """,
        tmp_path,
    )
    assert line == {"codes": [200, 200, 200]}


# --- endpoints and processes that end ---------------------------------------------------------------------------------


def test_an_attachment_kept_from_an_endpoint_that_is_gone() -> None:
    """It does nothing any more, and nothing to the one that came after it."""
    lines = run(
        """
        from rig.prelude import Endpoint
        first = Endpoint()
        old = pjfail.attach()
        first.destroy()
        del first
        gc.collect()
        with Endpoint():
            with pjfail.attach() as new:
                try:
                    old.resolve("sip:sip.test")
                except pjfail.NotAttached as error:
                    emit(said=str(error))
                old.detach()
                emit(old=old.attached, new=new.attached)
            emit(code=attach())
        """
    )
    assert lines[0]["said"] == DETACHED
    assert lines[1:] == [{"old": False, "new": True}, {"code": 200}]


def test_a_worker_held_up_past_its_endpoint_leaves_the_next_attachment_alone() -> None:
    """Nor does it take what is meant for that one's worker."""
    [line] = run(
        """
        import threading, time
        from rig.prelude import Account, Endpoint
        class Blocking:
            async def lookup(self, target):
                begun.set()
                while held.is_set():
                    time.sleep(0.01)
                raise pjfail.LookupFailed("no")
        begun, held = threading.Event(), threading.Event()
        held.set()
        first = Endpoint()
        old = pjfail.attach(lookup=Blocking())
        account = Account(first)
        account.open("sip:alice@sip.test")
        account.send("OPTIONS", "sip:sip.test")
        assert begun.wait(10)
        del account
        first.destroy()
        del first
        gc.collect()
        [worker] = [thread for thread in threading.enumerate() if thread.name == "pjfail"]
        with Endpoint(), pjfail.attach() as new:
            held.clear()
            worker.join(10)
            ended = not worker.is_alive()
            old.detach()
            emit(ended=ended, old=old.attached, new=new.attached)
        """
    )
    assert line == {"ended": True, "old": False, "new": True}


def test_a_forked_child_is_told_where_pjfail_is() -> None:
    lines = run(
        """
        from rig.prelude import Endpoint
        with Endpoint():
            with pjfail.attach(lookup=pjfail.StaticLookup({})):
                if (child := os.fork()) == 0:
                    emit(child=attach())
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
            emit(parent=attach())
        """
    )
    assert lines[0]["child"].startswith("NoEndpoint: ")
    assert "forked" in lines[0]["child"]
    assert lines[1] == {"parent": 200}


def test_a_program_that_forks_before_it_attaches() -> None:
    """As one does that goes into the background; it polls, since threads do not come along."""
    [line] = run(
        """
        from rig.prelude import Account, Endpoint
        endpoint = Endpoint(threads=0)
        if (child := os.fork()) == 0:
            pjfail.attach(lookup=pjfail.StaticLookup({"sip.test": ["127.0.38.1:5060"]}))
            emit(code=Account(endpoint).register("sip:alice@sip.test", "sip:sip.test").code)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        endpoint.destroy()
        """
    )
    assert line == {"code": 200}
