"""A host whose structures lie otherwise than its version says is refused, and told which; an unknown version is, too.

Such hosts are made of the real one: an object that brings a `pj_get_version()` of its own, and is linked with the
object that carries pjsip, for everything else. Taken for the host it is that pjsip under another version's name.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
from rig.app import run_app

from pjfail.bridge.host import known_layouts, layout_of
from pjfail.demo.registrar import Registrar

ADDRESS = "127.0.34.1"

# What can be told apart of the released layouts: how messages are sent, transactions, accounts.
LAYOUTS = {
    "2.14": (1, 1, 1),
    "2.14.1": (1, 1, 1),
    "2.15": (1, 1, 2),
    "2.15.1": (1, 1, 2),
    "2.16": (2, 1, 3),
    "2.17": (2, 2, 3),
    "2.17-dev": (2, 2, 4),
}


# Pools' names are cut sooner, as where PJ_MAX_OBJ_NAME is 16.
SHORT_NAMES = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <stdio.h>
    void *pjsip_endpt_create_pool(void *endpt, const char *name, unsigned long size, unsigned long more)
    {
        void *(*create)(void *, const char *, unsigned long, unsigned long) = dlsym(RTLD_NEXT, __func__);
        char cut[16];
        snprintf(cut, sizeof cut, "%s", name);
        return create(endpt, cut, size, more);
    }
"""


def attach_as(version: str | None, source: str = "") -> dict[str, Any]:
    """What comes of attaching to this pjsip as if it were of *version* (None: its own), *source* before its own."""
    if version is not None:
        source += f'const char *pj_get_version(void) {{ return "{version}"; }}'
    [line] = run_app(
        """
        import ctypes, json, subprocess, sys, tempfile
        import pjsua2
        import pjfail
        from pjfail import host
        from pjfail.bridge.host import host_facts
        from rig.prelude import Account, Endpoint, emit

        source = json.loads(sys.argv[1])
        own = host.find()
        with tempfile.TemporaryDirectory() as folder:
            if source:
                other = folder + "/_as_another.so"
                compile = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", other, "-x", "none", "-Wl,--no-as-needed"]
                subprocess.run([*compile, pjsua2._pjsua2.__file__, own], input=source, text=True, check=True)
                ctypes.CDLL(other)
                host.find = lambda named: other
            with Endpoint() as endpoint:
                try:
                    table = pjfail.StaticLookup({"sip.test": ["127.0.34.1:5060"]})
                    failover = pjfail.attach(lookup=table)
                except pjfail.HostError as error:
                    emit(refused=type(error).__name__, why=str(error))
                else:
                    account = Account(endpoint)
                    account.affinity = True
                    code = account.register("sip:alice@sip.test", "sip:sip.test").code
                    try:
                        pinned = failover.pinned(account)
                        why = ""
                        failover.pin(account, "127.0.34.1:5060")
                    except pjfail.HostError as error:
                        why = str(error)
                    facts = host_facts()
                    emit(version=facts.version, layout=facts.layout, accounts=facts.accounts, code=code, why=why)
        """,
        json.dumps(source),
    ).lines
    return line


@functools.cache
def own() -> dict[str, Any]:
    return attach_as(None)


@pytest.fixture(autouse=True, scope="module")
def registrar() -> Any:
    with Registrar(ADDRESS) as registrar:
        yield registrar


def test_the_host_is_known_by_its_version() -> None:
    assert own()["layout"] == layout_of(own()["version"])
    assert own()["accounts"]
    assert own()["code"] == 200
    assert own()["why"] == ""


@pytest.mark.parametrize("version", LAYOUTS)
def test_a_layout_that_is_not_the_hosts_is_refused(version: str) -> None:
    sending, transactions, accounts = LAYOUTS[version]
    own_sending, own_transactions, own_accounts = LAYOUTS[own()["version"]]
    result = attach_as(version)
    if sending != own_sending:
        assert result["refused"] == "LayoutMismatch"
        assert result["why"].startswith("pjsip_server_addresses ")
    elif transactions != own_transactions:
        assert result["refused"] == "LayoutMismatch"
        assert result["why"].startswith("pjsip_transaction ")
    else:
        assert result["code"] == 200
        assert result["accounts"] == (accounts == own_accounts)
        assert ("pjsua_acc_config" in result["why"]) == (accounts != own_accounts)
    if "refused" in result:
        assert version in result["why"]
        assert "doctor" in result["why"]


def test_other_lengths_of_names_are_refused_before_anything_is_read_behind_one() -> None:
    result = attach_as(own()["version"], SHORT_NAMES)
    assert result["refused"] == "LayoutMismatch"
    assert "PJ_MAX_OBJ_NAME" in result["why"]


def test_an_unknown_version_is_refused_with_the_facts() -> None:
    result = attach_as("2.99")
    assert result["refused"] == "UnsupportedVersion"
    assert "pjsip 2.99" in result["why"]
    assert all(known in result["why"] for known in known_layouts())
    assert "doctor" in result["why"]
