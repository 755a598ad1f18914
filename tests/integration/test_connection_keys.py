"""A connection takes one of the few keys of pjsip's ioqueue, and keeps it for half a second once it has ended.

pjsip aborts the program when it finds none left. So pjfail refuses connections before, first to the server whose
connections end again and again.
"""

from __future__ import annotations

import textwrap

import pytest
from rig.app import App, run_app

from pjfail.testing import Registrar

FIRST, SECOND = "127.0.37.1", "127.0.37.2"
CLOSED = f"{FIRST}:9001"

HEAD = f"""
    import time
    from contextlib import suppress
    import pjfail
    import pjsua2 as pj
    from rig.prelude import Account, Endpoint, emit
    from rig.pjsip_state import used_keys

    table = pjfail.StaticLookup({{
        "bad.test": ["{CLOSED}"], "good.test": ["{SECOND}:5060"],
        "both.test": [("{CLOSED}", 1, 1), ("{SECOND}:5060", 2, 1)],
    }})
"""


def app(body: str) -> str:
    return HEAD + textwrap.indent(textwrap.dedent(body), "    ")


@pytest.fixture(autouse=True)
def _servers(second: Registrar) -> Registrar:
    return second


@pytest.mark.parametrize("other", ["good.test", "both.test"])
def test_a_server_that_refuses_again_and_again_keeps_nobody_from_the_others(other: str) -> None:
    """40 connections ended within half a second, and for as long no server was connected to."""
    [line] = run_app(
        app(f"""
        with Endpoint(log_level=0) as endpoint:
            pjfail.attach(lookup=table)
            account = Account(endpoint)
            account.open("sip:alice@good.test")
            for _ in range(40):
                with suppress(pj.Error):  # where pjsip takes a connection that is at its end
                    account.send("OPTIONS", "sip:bad.test;transport=tcp")
                account.answer()
            answer = account.options("sip:{other};transport=tcp")
            emit(code=answer.code, server=answer.server, seconds=answer.seconds)
        """)
    ).lines
    assert (line["code"], line["server"]) == (200, f"{SECOND}:5060")
    assert line["seconds"] < 0.4


def test_a_storm_of_connections_that_end_does_not_use_up_the_keys() -> None:
    """Two seconds of it: pjsip would abort."""
    code = app(
        """
        with Endpoint(log_level=0) as endpoint:
            pjfail.attach(lookup=table)
            account = Account(endpoint)
            account.open("sip:alice@good.test")
            until = time.monotonic() + 2
            sent = 0
            while time.monotonic() < until:
                with suppress(pj.Error):  # where pjsip takes a connection that is at its end
                    account.send("OPTIONS", "sip:bad.test;transport=tcp")
                assert account.answer().code == 503
                sent += 1
            emit(sent=sent)
            emit(**account.options("sip:good.test;transport=tcp")._asdict())
        """
    )
    with App(code) as program:
        assert program.next()["sent"] > 64
        assert program.next()["code"] == 200
        program.finish()


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_a_whole_fleet_that_refuses_does_not_use_up_the_keys(transport: str) -> None:
    """pjsip goes through all of a request's servers by itself, and each connect takes a key for half a second."""
    [line] = run_app(
        app(f"""
        fleet = [(f"{transport}:127.0.37.{{number}}:9001", number // 15, 1) for number in range(11, 19)]
        with Endpoint(threads=2, log_level=0, transports=("udp", "tcp", "tls")) as endpoint:
            pjfail.attach(lookup=pjfail.StaticLookup({{"fleet.test": fleet}}), follow=False)
            account = Account(endpoint)
            account.open("sip:alice@fleet.test")
            sent, until = 0, time.monotonic() + 6
            while time.monotonic() < until:
                with suppress(pj.Error):  # where pjsip takes a connection that is at its end
                    account.send("OPTIONS", "sip:fleet.test;transport={transport}")
                    sent += 1
                time.sleep(0.01)
            emit(sent=sent, codes=sorted({{account.answer().code for _ in range(sent)}}))
        """)
    ).lines
    assert line["sent"] > 100
    assert not {200} & set(line["codes"])


def test_counting_the_keys_in_use_takes_none() -> None:
    """The soak counts them while four threads poll. Taking all of them, to count, ended such a program."""
    [line] = run_app(
        app("""
        with Endpoint(log_level=0, threads=4) as endpoint:
            with pjfail.attach(lookup=table):
                account = Account(endpoint)
                account.open("sip:alice@good.test")
                before = used_keys()
                assert account.options("sip:good.test;transport=tcp").code == 200
                connected = used_keys()
                counts = []
                until = time.monotonic() + 2
                while time.monotonic() < until:
                    with suppress(pj.Error):  # where pjsip takes a connection that is at its end
                        account.send("OPTIONS", "sip:bad.test;transport=tcp")
                    counts += [used_keys() for _ in range(3)]
                    assert account.answer().code == 503
            time.sleep(1)
            emit(connected=connected - before, most=max(counts) - before, detached=used_keys() - before)
        """)
    ).lines
    assert line["connected"] == 1
    assert 1 <= line["most"] <= 64
    assert line["detached"] == 0, "the connection to the live server has a key, the attachment's own has none"
