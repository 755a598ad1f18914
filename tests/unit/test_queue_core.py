"""What the C core keeps for a worker that does not fetch: so many of a kind, and what must not be lost in any case."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rig.core import library

ROOM = 4096
FAILOVER, REGISTRATION, DNS_ANSWER, RESPONSE, RULING = 1, 2, 0, 3, 4
DECLARATIONS = """
    int event_queue_open(void (*begin_ticks)(void));
    void event_queue_close(void);
    void event_queue_post_query(pf_query *question);
    int event_queue_post(int kind, void *note);
    unsigned long long event_queue_dropped(void);
    void *calloc(size_t count, size_t size);
"""


class Queue:
    def __init__(self, ffi: Any, lib: Any) -> None:
        self.ffi, self.lib = ffi, lib

    def new(self, kind: str) -> Any:
        """A block that the queue may free."""
        return self.ffi.cast(f"{kind} *", self.lib.calloc(1, self.ffi.sizeof(kind)))

    def ask(self, number: int, until: float) -> None:
        question = self.new("pf_query")
        question.id, question.until, question.refresh = number, until, not until
        self.lib.event_queue_post_query(question)

    def register(self, account: int, code: int, aor: str = "") -> None:
        registration = self.new("pf_registration")
        registration.account, registration.code, registration.aor = account, code, aor.encode() or b"%d" % account
        self.lib.event_queue_post(REGISTRATION, registration)

    def taken(self, fetch: Callable[[], Any]) -> Iterator[Any]:
        while (each := fetch()) != self.ffi.NULL:
            yield each

    @property
    def questions(self) -> list[int]:
        return [each.id for each in self.taken(self.lib.pf_next_query)]

    @property
    def registrations(self) -> list[tuple[int, int]]:
        return [(each.account, each.code) for each in self.taken(self.lib.pf_next_registration)]

    @property
    def dropped(self) -> int:
        return int(self.lib.event_queue_dropped())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return library(tmp_path_factory.mktemp("queue") / "queue.so", "event_queue.c hash_table.c", DECLARATIONS)


@pytest.fixture
def queue(built: tuple[Any, Any]) -> Iterator[Queue]:
    assert built[1].event_queue_open(built[0].NULL)
    yield Queue(*built)
    built[1].event_queue_close()


def test_questions_whose_askers_have_been_answered_go_first(queue: Queue) -> None:
    now = time.monotonic()
    for number in range(3 * ROOM):
        queue.ask(number, now - 1)
    assert queue.dropped == 2 * ROOM
    assert queue.questions == list(range(2 * ROOM, 3 * ROOM))


def test_a_question_that_somebody_waits_for_is_never_dropped(queue: Queue) -> None:
    later = time.monotonic() + 60
    for number in range(2 * ROOM):
        queue.ask(number, later)
    for number in range(ROOM):
        queue.ask(3 * ROOM + number, 0)  # refreshes
    assert queue.dropped == ROOM
    assert queue.questions == list(range(2 * ROOM))
    queue.ask(1, 0)
    assert queue.questions == [1]


def test_failovers_are_bounded(queue: Queue) -> None:
    for code in range(2 * ROOM):
        failover = queue.new("pf_failover")
        failover.code = code
        queue.lib.event_queue_post(FAILOVER, failover)
    assert queue.dropped == ROOM
    assert [each.code for each in queue.taken(queue.lib.pf_next_failover)] == list(range(ROOM))


def test_so_many_held_responses_wait_for_the_application_and_the_next_is_passed_on(queue: Queue) -> None:
    for number in range(300):
        ruling = queue.new("pf_ruling")
        ruling.number = number
        assert queue.lib.event_queue_post(RULING, ruling) == (number < 256)
    assert [each.number for each in queue.taken(queue.lib.pf_next_ruling)] == list(range(256))


def test_the_latest_of_each_account_is_never_dropped(queue: Queue) -> None:
    accounts, rounds = 100, 100
    for code, account in itertools.product(range(rounds), range(accounts)):
        queue.register(account, code)
    assert queue.dropped == rounds * accounts - ROOM - accounts
    told = queue.registrations
    assert len(told) == ROOM + accounts
    for account in range(accounts):
        codes = [code for whose, code in told if whose == account]
        assert codes == sorted(codes)
        assert codes[-1] == rounds - 1


def test_accounts_are_told_of_in_order_until_all_has_been_fetched(queue: Queue) -> None:
    for code in range(ROOM + 2):
        queue.register(1, code)
    queue.register(1, 7, aor="another of that number")
    assert queue.lib.pf_next_registration().code == 0
    queue.register(1, ROOM + 2)
    assert [code for _, code in queue.registrations] == [*range(1, ROOM), ROOM + 2, 7]
    queue.register(1, 5)
    assert queue.registrations == [(1, 5)]


@pytest.mark.parametrize(("kind", "note"), [(DNS_ANSWER, "pf_dns_answer"), (RESPONSE, "pf_response")])
def test_what_python_asked_for_is_never_dropped(queue: Queue, kind: int, note: str) -> None:
    fetch = queue.lib.pf_next_dns_answer if kind == DNS_ANSWER else queue.lib.pf_next_response
    for number in range(2 * ROOM):
        answer = queue.new(note)
        answer.id = number
        queue.lib.event_queue_post(kind, answer)
    assert [each.id for each in queue.taken(fetch)] == list(range(2 * ROOM))
    assert not queue.dropped


def test_closing_forgets_everything(built: tuple[Any, Any]) -> None:
    queue = Queue(*built)
    assert queue.lib.event_queue_open(queue.ffi.NULL)
    for code in range(ROOM + 10):
        queue.register(code % 7, code)
        queue.ask(code, 0)
    queue.lib.event_queue_close()
    assert queue.lib.event_queue_open(queue.ffi.NULL)
    assert not queue.questions
    assert not queue.registrations
    queue.register(1, 200)
    assert queue.registrations == [(1, 200)]
    queue.lib.event_queue_close()
