"""The connections that accounts are registered over, as a program of its own without a pjsip."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from rig.core import program

SOURCE = """
#include "hash_table.c"
#include "registrations.c"

#include <stdio.h>

struct host_functions host;

int accounts_write_aor(const pjsip_uri *uri, char *aor, size_t size) { return uri && aor && size; }
void keepalive_set(const pj_sockaddr *peer, double seconds) { (void)peer, (void)seconds; }

static unsigned told;

int event_queue_post(enum event_kind kind, void *event)
{
    const pf_registration *registration = event;

    told += kind == EVENT_REGISTRATION && registration->account == 7 && registration->closed;
    free(event);
    return 1;
}

static pjsip_transport connections[MAX_UNKNOWN + 5];

static void end(int number)
{
    registrations_on_transport_state(&connections[number], PJSIP_TP_STATE_DISCONNECTED, NULL);
}

static void limit(void)
{
    char aor[32];
    int i;

    for (i = 0; i < MAX_UNKNOWN + 5; i++) {
        snprintf(aor, sizeof aor, "user%d@sip.test", i);
        registrations_put(REGISTRATIONS_UNKNOWN, aor, &connections[i]);
    }
    printf("%zu", registrations.by_account.count);
    registrations_put(7, "alice@sip.test", &connections[0]);
    printf(" %zu", registrations.by_account.count);
    for (i = 0; i < MAX_UNKNOWN + 5; i++)
        end(i);
    printf(" %u %zu %zu", told, registrations.by_account.count, registrations.by_connection.count);
}

static void adopted(void)
{
    registrations_put(REGISTRATIONS_UNKNOWN, "alice@sip.test", &connections[1]);
    registrations_put(REGISTRATIONS_UNKNOWN, "bob@sip.test", &connections[2]);
    registrations_adopt(7, "alice@sip.test", 0);
    end(2);
    printf("%u", told);
    end(1);
    printf(" %u %zu", told, registrations.by_connection.count);
}

static void registered_again(void)
{
    registrations_put(REGISTRATIONS_UNKNOWN, "alice@sip.test", &connections[1]);
    registrations_put(7, "alice@sip.test", &connections[2]);
    registrations_adopt(7, "alice@sip.test", 0);
    end(1);
    printf("%u", told);
    end(2);
    printf(" %u %zu", told, registrations.by_account.count);
}

int main(int count, char **arguments)
{
    (void)count;
    switch (arguments[1][0]) {
    case 'l': limit(); break;
    case 'a': adopted(); break;
    default: registered_again();
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return program(tmp_path_factory.mktemp("registrations") / "table", SOURCE)


def said(table: Path, what: str) -> list[int]:
    return [int(each) for each in subprocess.check_output([str(table), what], text=True, timeout=60).split()]


def test_connections_of_accounts_that_are_not_followed_are_bounded(table: Path) -> None:
    assert said(table, "limit") == [20000, 20001, 1, 0, 0]


def test_the_end_of_a_connection_is_told_to_the_account_that_has_become_followed(table: Path) -> None:
    assert said(table, "adopted") == [0, 1, 0]


def test_of_an_account_that_has_registered_again_the_newer_connection_counts(table: Path) -> None:
    assert said(table, "registered again") == [0, 1, 0]
