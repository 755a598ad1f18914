"""One memory on a real Redis: killed, stopped, flushed, with a password, with TLS, with a stranger's entries."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from rig import shared_app
from rig.app import App, Line
from rig.redis_server import RedisServer
from rig.shared_app import started, until, went_to

from pjfail.testing import SILENT, WELL, Registrar

FIRST, SECOND, REDIS = "127.0.132.1", "127.0.132.2", "127.0.132.9"
SECRET = "xyzzy"
SOON = "Policy(backoff=lambda failures, random: 1.0, slow_start=0)"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer(REDIS) as server:
        yield server


def app_with(redis: RedisServer | str, policy: str = "Policy()", trust: int | None = None) -> App:
    return shared_app.app_with(FIRST, SECOND, redis if isinstance(redis, str) else redis.url, policy, trust)


def status_until(app: App, seconds: float = 15.0, **wanted: object) -> Line:
    deadline = time.monotonic() + seconds
    while not wanted.items() <= (status := app.ask("status")).items():
        assert time.monotonic() < deadline, status
        time.sleep(0.05)
    return status


def said_until(app: App, words: str, seconds: float = 15.0) -> None:
    """Waits until the log of *app* has *words*."""
    deadline = time.monotonic() + seconds
    while words not in app.stderr:
        assert time.monotonic() < deadline, words
        time.sleep(0.05)


def test_what_one_process_has_learnt_another_knows_before_its_first_invite(
    first: Registrar, second: Registrar, redis: RedisServer
) -> None:
    with app_with(redis) as one, app_with(redis) as idle:
        started(one)
        started(idle)
        first.fault = SILENT
        assert went_to(one) == SECOND  # by which the first process knows that its own network is well
        until(one, "down")
        assert until(idle, "down")["told"] == 1
        with app_with(redis) as late:
            assert went_to(started(late), "INVITE") == SECOND
            assert went_to(idle, "INVITE") == SECOND
        assert all(request.method != "INVITE" for request in first.requests)
    assert redis.all_keys()
    assert all(redis.client.ttl(key) > 0 for key in redis.all_keys())


def test_a_process_without_any_server_is_not_believed(first: Registrar, second: Registrar, redis: RedisServer) -> None:
    """Its own network may be broken (kamailio#4911)."""
    with app_with(redis, trust=1) as one, app_with(redis, trust=1) as other:
        started(one)
        started(other)
        assert went_to(other) == FIRST
        first.fault = second.fault = SILENT
        one.ask("OPTIONS")
        until(one, "down", 20)
        first.fault = second.fault = WELL
        for _ in range(10):
            assert went_to(other) == FIRST
            assert other.ask("health")["told"] == 0
            time.sleep(0.2)


def test_redis_is_killed_and_started_anew_and_what_holds_is_told_again(
    first: Registrar, second: Registrar, redis: RedisServer
) -> None:
    with app_with(redis) as one, app_with(redis) as two:
        started(one)
        started(two)
        redis.kill()
        status_until(one, connected=False)
        status_until(two, connected=False)
        first.fault = SILENT
        assert went_to(one) == SECOND  # by its own health
        until(one, "down")
        assert two.ask("health")["state"] == "up"
        redis.start()
        status_until(one, connected=True)
        assert until(two, "down", 15)["told"] == 1
        for app in (one, two):
            assert app.stderr.count("cannot be used") == 1
            assert app.stderr.count("is there again") == 1


def test_a_redis_that_is_stopped_for_ten_seconds_holds_nobody_up(
    first: Registrar, second: Registrar, redis: RedisServer
) -> None:
    with app_with(redis) as one, app_with(redis) as two:
        started(one)
        started(two)
        assert went_to(one) == FIRST
        redis.signal(signal.SIGSTOP)
        began = time.monotonic()
        first.fault = SILENT
        slowest = 0.0
        while time.monotonic() < began + 10:
            before = time.monotonic()
            assert went_to(one) == SECOND
            slowest = max(slowest, time.monotonic() - before)
            one.ask("plan")
            time.sleep(0.2)
        assert slowest < 3  # the first one fails over, the others know
        redis.signal(signal.SIGCONT)
        status_until(one, connected=True)
        until(two, "down", 15)
        assert one.stderr.count("cannot be used") == 1


def test_what_is_flushed_is_told_again(first: Registrar, second: Registrar, redis: RedisServer) -> None:
    with app_with(redis) as one:
        started(one)
        first.fault = SILENT
        went_to(one)
        until(one, "down")
        deadline = time.monotonic() + 20
        while not redis.entries():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        redis.client.flushall()
        while not redis.entries():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with app_with(redis) as late:
            assert went_to(started(late), "INVITE") == SECOND


def test_a_prober_that_is_killed_is_replaced(first: Registrar, second: Registrar, redis: RedisServer) -> None:
    first.fault = SILENT
    with app_with(redis, SOON) as one, app_with(redis, SOON) as two:
        for app in (one, two):
            started(app).ask("plan")
        went_to(one)
        until(one, "down")
        until(two, "down")
        one.signal(signal.SIGKILL)
        first.fault = WELL
        until(two, "up", 12)


def test_a_stranger_in_the_store_is_counted_and_left_alone(
    first: Registrar, second: Registrar, redis: RedisServer
) -> None:
    key = "pjfail:{default}:1:entries"
    redis.client.hset(key, mapping={"x": "y", b"\xff": b"\xff", "udp:1.2.3.4:5060 z": '{"v":2,"kind":"down"}'})
    with app_with(redis) as one:
        assert status_until(started(one), connected=True)["strangers"] == 3
        redis.client.publish("pjfail:{default}:1:news", b"\xff\xfe{")
        assert went_to(one) == FIRST
        assert one.ask("status")["connected"]


def test_a_key_of_another_kind_is_told_of_once(first: Registrar, second: Registrar, redis: RedisServer) -> None:
    redis.client.set("pjfail:{default}:1:entries", "mine")
    with app_with(redis) as one:
        started(one)
        status_until(one, connected=False)
        assert went_to(one) == FIRST
        said_until(one, "WRONGTYPE")
        time.sleep(3)  # it is tried again meanwhile
        assert one.stderr.count("cannot be used: WRONGTYPE") == 1


# What a user of pjfail may do in Redis (docs/howto/shared.md).
ACL = f"user pjfail on >{SECRET} resetkeys resetchannels ~pjfail:* &pjfail:* -@all +@connection " + (
    "+hset +hlen +hgetall +hdel +expire +set +time +publish +subscribe +unsubscribe +multi +exec"
)


def test_a_user_with_no_more_rights_than_the_page_says(first: Registrar, second: Registrar) -> None:
    with RedisServer(REDIS, ACL) as redis:
        url = redis.url.replace("//", f"//pjfail:{SECRET}@")
        with app_with(url, SOON) as one, app_with(url, SOON) as two:
            for app in (one, two):
                started(app).ask("plan")
            first.fault = SILENT
            went_to(one)
            until(one, "down")
            assert until(two, "down")["told"] == 1
            first.fault = WELL
            until(two, "up", 12)
            until(one, "up", 12)
            assert SECRET not in one.stderr


def test_a_wrong_password_is_said_once_and_not_shown(first: Registrar, second: Registrar) -> None:
    with RedisServer(REDIS, ACL) as redis:
        with app_with(redis.url.replace("//", "//pjfail:plugh@")) as one:
            started(one)
            assert went_to(one) == FIRST
            said_until(one, "it does not accept")
            time.sleep(3)  # it is tried again meanwhile
            assert one.stderr.count("it does not accept the user name or the password") == 1
            assert "plugh" not in one.stderr


def test_over_tls_and_its_authority_is_checked(first: Registrar, second: Registrar, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert(REDIS)
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem"
    authority.cert_pem.write_to_path(ca)
    certificate.cert_chain_pems[0].write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    files = (f"tls-cert-file {cert}", f"tls-key-file {key}", f"tls-ca-cert-file {ca}", "tls-auth-clients no")
    with RedisServer(REDIS, *files, tls=ca) as redis, app_with(redis) as one:
        status_until(started(one), connected=True)
        other = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(other)
        with app_with(redis.url.replace(str(ca), str(other))) as two:
            started(two)
            said_until(two, "CERTIFICATE_VERIFY_FAILED")
            assert not two.ask("status")["connected"]
