"""The table of the requests under way, as a program of its own without a pjsip."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from rig.core import program

SOURCE = """
#include "address.c"
#include "failover_decide.c"
#include "heap.c"
#include "requests.c"
#include "hash_table.c"

#include <stdio.h>

struct host_functions host;

static const pf_address first = { .family = 4, .transport = PF_UDP, .port = 5060 };
static const pf_address second = { .family = 4, .transport = PF_UDP, .port = 5062 };
static const pf_address elsewhere = { .family = 4, .transport = PF_UDP, .port = 9999 };

int transaction_move(const struct transaction_key *key, const pf_address *server, pjsip_transport *transport)
{
    return key && server && transport;
}

static struct request *make(unsigned number)
{
    const struct server_view view = { .hash = address_hash(&first) };
    static const pj_str_t method = { "OPTIONS", 7 };
    struct request *request = request_make(&method, PJSIP_OTHER_METHOD, 0, number);

    request_add_attempt_locked(request, &first, &view, NULL, number);
    return request;
}

static unsigned take_all(void)
{
    struct request *request;
    unsigned count = 0;

    for (; (request = request_take_any_locked()) != NULL; count++)
        request_release(request);
    return count;
}

static void limit(void)
{
    unsigned i;

    for (i = 0; i < MAX_REQUESTS + 5; i++) {
        struct request *request = make(i);

        if (!request_put_locked(request, i + 1))
            request_release(request);
    }
    printf("%zu %llu", requests.table.count, (unsigned long long)requests.unwatched);
    request_forget(request_find_locked(1));
    printf(" %d", request_put_locked(make(0), 1));
    i = take_all();
    printf(" %u %zu %zu", i, requests.table.count, requests.attempts.count);
}

static unsigned at_first(void)
{
    const struct attempt *attempt = request_first_at_server_locked(&first);
    unsigned count = 0;

    for (; attempt; attempt = request_next_attempt_locked(attempt))
        count++;
    return count;
}

static void lists(void)
{
    unsigned ended, i;

    for (ended = 1; ended <= 3; ended++) {
        for (i = 1; i <= 3; i++)
            request_put_locked(make(i), i);
        printf("%u ", at_first());
        request_forget(request_find_locked(ended));
        printf("%u ", at_first());
        request_unlist_attempt_locked(request_first_at_server_locked(&first));
        printf("%u ", at_first());
        take_all();
    }
}

static void whose(struct request *request, const pf_address *source)
{
    int heard, attempt = request_attempt_of_response_locked(request, source, &heard);

    printf("%d%s ", attempt, heard ? "+" : "-");
}

static void responses(void)
{
    const struct server_view view = { .hash = address_hash(&second) };
    struct request *request = make(1);

    whose(request, &elsewhere);
    request_add_attempt_locked(request, &second, &view, NULL, 2);
    whose(request, &first);
    whose(request, &elsewhere);
    request->state.attempts[1].ended = 1;
    whose(request, &second);
    whose(request, &elsewhere);
    request->state.attempts[0].ended = 1;
    whose(request, &elsewhere);
    request_release(request);
}

int main(void)
{
    limit();
    printf("\\n");
    lists();
    printf("\\n");
    responses();
    return 0;
}
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    made = program(Path(tmp_path_factory.mktemp("requests")) / "program", SOURCE)
    run = subprocess.run([made], check=True, timeout=60, capture_output=True, text=True)
    return [line.split() for line in run.stdout.splitlines()]


def test_requests_beyond_the_limit_are_counted_and_left_alone(printed: list[list[str]]) -> None:
    """Once one has ended, there is room for the next; at the end nothing is left."""
    assert printed[0] == ["65536", "5", "1", "65536", "0", "0"]


def test_requests_are_found_by_their_server_until_they_end(printed: list[list[str]]) -> None:
    assert printed[1] == ["3", "2", "1"] * 3


def test_a_response_belongs_to_its_server_or_to_the_newest_open_attempt_or_to_nobody(printed: list[list[str]]) -> None:
    """A lone server may answer from where it likes; of several, one is heard (+) from its own address alone."""
    assert printed[2] == ["0+", "0+", "1-", "1+", "0-", "-1-"]
