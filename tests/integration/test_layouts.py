"""A host whose structures lie otherwise than its version says is refused, and told which; an unknown version is, too.

Such hosts are made of the real one: an object that brings a `pj_get_version()` of its own, and is linked with the
object that carries pjsip, for everything else. Taken for the host it is that pjsip under another version's name.
"""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rig.app import run_app
from rig.core import program

from pjfail.bridge.host import known_layouts, layout_of
from pjfail.testing import Registrar

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


# A received message's Via lies so many octets further behind, as where PJSIP_MAX_PKT_LEN is so much more.
LONGER_PACKETS = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    int pjsip_tsx_create_key(void *pool, void *key, int role, const void *method, const char *message)
    {
        int (*create)(void *, void *, int, const void *, const char *) = dlsym(RTLD_NEXT, __func__);
        return create(pool, key, role, method, message + MORE);
    }
"""

# As where an ioqueue of one's own cannot be made.
NO_IOQUEUE = "int pj_ioqueue_create(void *pool, unsigned long keys, void **ioqueue) { return 70007; }"

# As where pjsua's configuration is not to be found.
OTHER_CALLS = "unsigned pjsua_call_get_max_count(void) { return 77777; }"


def attach_as(version: str | None, source: str = "", *, traffic: bool = True) -> dict[str, Any]:
    """What comes of attaching to this pjsip as if it were of *version* (None: its own), *source* before its own.

    Without *traffic* nothing is sent: a host that only seems to be another receives messages as it ever did.
    """
    if version is not None:
        source += f'const char *pj_get_version(void) {{ return "{version}"; }}'
    [line] = run_app(
        """
        import ctypes, json, subprocess, sys, tempfile
        import pjsua2
        import pjfail
        from pjfail import host
        from pjfail._native import ffi, lib
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
                    facts = ffi.new("pf_host_facts *")
                    lib.pf_read_host_facts(facts)
                    figures = {"packet": facts.packet, "keys": facts.keys, "own_lookups": facts.own_lookups}
                    if sys.argv[2:]:
                        failover.detach()
                        emit(**figures)
                        raise SystemExit
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
                    emit(version=facts.version, layout=facts.layout, accounts=facts.accounts, code=code, why=why,
                         **figures)
        """,
        json.dumps(source),
        *([] if traffic else ["no traffic"]),
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


@pytest.mark.parametrize("more", [-1600, 0, 60_000, 131_072, 1_000_000])
def test_packets_of_whatever_length_are_found_out(more: int) -> None:
    result = attach_as(own()["version"], LONGER_PACKETS.replace("MORE", f"({more})"), traffic=False)
    assert result["packet"] == own()["packet"] + more


@pytest.mark.parametrize("more", [1_048_576, 2_000_000, 60_000_000])
def test_packets_that_are_too_long_are_refused_by_name(more: int) -> None:
    result = attach_as(own()["version"], LONGER_PACKETS.replace("MORE", str(more)), traffic=False)
    assert result["refused"] == "LayoutMismatch"
    assert "PJSIP_MAX_PKT_LEN" in result["why"]


def test_without_a_file_descriptor_to_compare_with_the_error_says_so() -> None:
    """It is no other layout; and with one, the next attach() works."""
    (line,) = run_app(
        """
        import resource
        import pjfail
        from rig.prelude import Endpoint, emit

        with Endpoint():
            pjfail.attach(servers={"sip.test": ["127.0.34.1"]}).detach()  # Python has loaded all modules now
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            try:
                pjfail.attach(servers={"sip.test": ["127.0.34.1"]})
                why = ""
            except pjfail.HostError as error:
                why = str(error)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            with pjfail.attach(servers={"sip.test": ["127.0.34.1"]}):
                emit(why=why)
        """
    ).lines
    assert "memfd_create() failed" in line["why"]
    assert "has another layout" not in line["why"]


def test_the_number_of_keys_is_the_hosts_own(tmp_path: Path) -> None:
    source = '#include <pjsip.h>\n#include <stdio.h>\nint main(void) { printf("%d", PJSIP_MAX_TRANSPORTS); }'
    assert own()["keys"] == int(subprocess.check_output([program(tmp_path / "keys", source)]))


def test_without_a_known_number_of_keys_all_else_works() -> None:
    result = attach_as(own()["version"], NO_IOQUEUE)
    assert (result["keys"], result["code"], result["accounts"]) == (0, 200, True)


@pytest.mark.parametrize(("calls", "threads", "accounts"), [(1, 0, 3), (2, 1, 5), (4, 1, 0), (8, 2, 5), (3, 3, 8)])
def test_pjsuas_configuration_is_found_whatever_it_is(calls: int, threads: int, accounts: int) -> None:
    """Much else in pjsua's state is a small number with zeros behind it."""
    [line] = run_app(
        f"""
        import pjfail
        from pjfail.bridge.host import host_facts
        from rig.prelude import Account, Endpoint, emit

        with Endpoint(max_calls={calls}, threads={threads}, outbound_proxies=["sip:127.0.0.1;lr"]) as endpoint:
            accounts = [Account(endpoint) for _ in range({accounts})]
            for number, account in enumerate(accounts):
                account.open(f"sip:{{number}}@sip.test", "sip:sip.test")
            with pjfail.attach(lookup=pjfail.StaticLookup({{"sip.test": ["127.0.34.1:5060"]}})):
                emit(found=host_facts().own_lookups)
        """
    ).lines
    assert line["found"]


def test_without_pjsuas_configuration_all_else_works() -> None:
    result = attach_as(own()["version"], OTHER_CALLS)
    assert (result["own_lookups"], result["code"], result["accounts"]) == (0, 200, True)
    assert own()["own_lookups"]


def test_an_unknown_version_is_refused_with_the_facts() -> None:
    result = attach_as("2.99")
    assert result["refused"] == "UnsupportedVersion"
    assert "pjsip 2.99" in result["why"]
    assert all(known in result["why"] for known in known_layouts())
    assert "doctor" in result["why"]
