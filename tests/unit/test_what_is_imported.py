"""What an import of pjfail loads: each module costs a program that starts a part of a millisecond, some many."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Used by some, or in some situations.
NEVER_AT_FIRST = {
    "argparse",
    "cffi",
    "dns.asyncquery",
    "dns.query",
    "http",
    "json",
    "pjfail.cli",
    "pjfail.configuration",
    "pjfail.control.commands",
    "pjfail.control.server",
    "pjfail.listeners",
    "pjfail.lookup.cachefile",
    "pjfail.lookup.chain",
    "pjfail.lookup.pjsip_dns",
    "pjfail.lookup.static",
    "pjfail.lookup.system",
    "pjfail.shared.link",
    "pjfail.shared.sharing",
    "pjfail.testing",
    "prometheus_client",
    "redis",
    "sqlite3",
    "tomllib",
}
NOT_FOR_THE_DOCTOR = {"asyncio", "dns", "pjfail.cli.demo", "pjfail.cli.probe", "pjfail.lookup.dns", "ssl"}


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import pjfail; pjfail.attach", NEVER_AT_FIRST),
        ("import pjfail; pjfail.attach; pjfail.DnsLookup()", NEVER_AT_FIRST),
        ("from pjfail.cli.main import main; main(['doctor', '--module', 'no_such_module'])", NOT_FOR_THE_DOCTOR),
    ],
    ids=["attach", "attach with the default lookup", "doctor"],
)
def test_what_few_need_is_not_imported(code: str, unwanted: set[str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert unwanted & set(ran.stdout.splitlines()[-1].split()) == set()


def test_everything_public_is_there_when_it_is_asked_for() -> None:
    code = """
import pjfail, pjfail.lookup, pjfail.listeners
for module in (pjfail, pjfail.lookup, pjfail.listeners):
    for name in module.__all__:
        assert name in dir(module)
        assert getattr(module, name) is not None
"""
    subprocess.run([sys.executable, "-c", code], check=True)
