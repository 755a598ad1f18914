"""`python -m pjfail run` and `PJFAIL=1`: what is the program's own stays so; programs where pjfail cannot attach."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rig.app import PYTHON
from rig.launched import APPS, Launched, environment

RUN = ["-m", "pjfail", "run"]
SHOW = """import sys
print([sys.argv, __name__, __file__, __spec__ and __spec__.name, sys.flags.optimize, sys.path[0], sys.stdin.read()])
"""
ENDPOINT = """
import pjsua2 as pj
ep = pj.Endpoint()
ep.libCreate()
config = pj.EpConfig()
config.logConfig.consoleLevel = 0
ep.libInit(config)
ep.libStart()
"""
WHO = "import pjfail\nprint(pjfail.attached())\n"


def ran(*command: str, given: str = "", folder: Path = APPS, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, *command],
        input=given,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(**variables),
        timeout=60,
        check=False,
    )


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return tmp_path / "app.py"


def test_a_program_sees_nothing_of_its_launcher(program: Path) -> None:
    program.write_text(SHOW)
    words = [str(program), "--config", "x", "-m", "--", "-h"]
    plain = ran("-O", *words, given="hello", folder=program.parent)
    assert plain.returncode == 0, plain.stderr
    assert ran("-O", *RUN, "--config", "y.toml", *words, given="hello", folder=program.parent).stdout == plain.stdout
    module = ["-m", "app", "--strict", "-m"]
    plain = ran(*module, given="hello", folder=program.parent)
    assert ran(*RUN, *module, given="hello", folder=program.parent).stdout == plain.stdout


def test_the_end_of_a_program_is_its_own(program: Path) -> None:
    program.write_text("import sys; sys.exit(7)")
    assert ran(*RUN, str(program)).returncode == 7
    program.write_text("def fail():\n    raise RuntimeError('no')\n\nfail()\n")
    plain, done = ran(str(program)), ran(*RUN, str(program))
    assert (done.returncode, done.stderr) == (plain.returncode, plain.stderr)
    plain, done = ran("missing.py"), ran(*RUN, "missing.py")
    assert (done.returncode, done.stderr) == (plain.returncode, plain.stderr)


def test_a_signal_reaches_the_program(program: Path) -> None:
    program.write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)")
    with Launched([*RUN, str(program)]) as launched:
        launched.wait_for(f"{launched.pid}\n")
        launched.signal(signal.SIGTERM)
        assert launched.finish() == -signal.SIGTERM


def test_without_the_variable_nothing_is_imported() -> None:
    show = "import sys; print(sorted(each for each in sys.modules if 'pjfail' in each), len(sys.meta_path))"
    modules = ran("-c", show, PJFAIL="0").stdout
    assert modules == ran("-c", show).stdout
    assert modules.startswith("[] ")
    assert ran("-c", show, PJFAIL="1").stdout.startswith("['_pjfail_hook'] ")


def test_a_loader_is_left_as_it_was() -> None:
    each = "(type(m.__loader__), m.__spec__.loader is m.__loader__)"
    show = f"import pjsua2, _pjsua2; print([{each} for m in (pjsua2, _pjsua2)])"
    assert ran("-c", show, PJFAIL="1").stdout == ran("-c", show).stdout


def test_an_attachment_of_the_programs_own_wins(program: Path) -> None:
    own = "import pjfail\nown = pjfail.attach()\n"
    end = "print(own is pjfail.attached(), own.attached)\nep.libDestroy(pj.PJSUA_DESTROY_NO_NETWORK)\n"
    after = ENDPOINT + WHO + own + end
    before = ENDPOINT.replace("ep.libStart()", f"{own}ep.libStart()") + end
    for code in (after, before):
        program.write_text(code)
        done = ran(*RUN, str(program))
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("True True\n")
    program.write_text(ENDPOINT + WHO)
    assert "attached to" in ran(*RUN, str(program)).stdout


def test_a_program_runs_on_without_pjfail_where_it_cannot_attach(program: Path) -> None:
    (program.parent / "pjfail.toml").write_text("[retry]\nattempt = 3\n")
    program.write_text(ENDPOINT + WHO)
    wrong = "pjfail.toml, line 2: retry.attempt: this is not a known key; did you mean attempts?"
    done = ran(*RUN, "--config", "pjfail.toml", "app.py", folder=program.parent)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "None")
    told = f"pjfail is not attached, and the program runs without it: {program.parent}/{wrong}"
    assert [line for line in done.stderr.splitlines() if "not attached" in line] == [told]
    done = ran(*RUN, "--strict", "--config", "pjfail.toml", "app.py", folder=program.parent)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"pjfail: {wrong}\n")
    done = ran("app.py", folder=program.parent, PJFAIL="1", PJFAIL_STRICT="1", PJFAIL_CONFIG="pjfail.toml")
    assert done.returncode == 1
    assert done.stderr.endswith(f"{wrong}\n")
    assert "None" not in done.stdout


def test_a_control_socket_that_cannot_be_made_costs_no_failover(program: Path) -> None:
    """As where several processes are given one path, or a container may not be written to."""
    path = f"{program.parent}/missing/x.sock"
    (program.parent / "pjfail.toml").write_text(f'control = "{path}"\n')
    program.write_text(ENDPOINT + WHO)
    for settings in ({"PJFAIL_CONTROL": path}, {"PJFAIL_CONFIG": f"{program.parent}/pjfail.toml"}):
        done = ran(*RUN, str(program), **settings)
        assert "attached to" in done.stdout, done.stderr
        assert "there is no control socket" in done.stderr
        done = ran(*RUN, "--strict", str(program), **settings)
        assert done.returncode == 1
        assert "create this folder" in done.stderr


def test_a_wrong_command_is_told() -> None:
    done = ran(*RUN)
    assert done.returncode == 2
    assert "give the PROGRAM to run, or -m MODULE" in done.stderr


def test_without_pth_a_program_runs_and_says_so(program: Path) -> None:
    """-S: Python reads no .pth file; what pjfail itself needs is named in PYTHONPATH."""
    program.write_text("print('running')")
    path = ":".join(each for each in sys.path if each)
    done = ran("-S", *RUN, str(program), PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (0, "running\n")
    assert "the program runs without pjfail: pjfail.pth is not in the site-packages" in done.stderr
    done = ran("-S", *RUN, "--strict", str(program), PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (1, "")
