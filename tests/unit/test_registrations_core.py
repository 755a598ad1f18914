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
void keepalive_set(const pjsip_transport *transport, double seconds) { (void)transport, (void)seconds; }

static unsigned told;

int event_queue_post(enum event_kind kind, void *event)
{
    const pf_registration *registration = event;

    told += kind == EVENT_REGISTRATION && registration->account == 7 && registration->closed;
    free(event);
    return 1;
}

static const pjsip_transport *connection(int number) { return (const pjsip_transport *)(size_t)(16 * number + 16); }

static void end(int number)
{
    registrations_on_transport_state(connection(number), PJSIP_TP_STATE_DISCONNECTED, NULL);
}

static void limit(void)
{
    int i;

    for (i = 0; i < MAX_STRANGERS + 5; i++)
        registrations_put(registrations_stranger((unsigned)i), "alice@sip.test", connection(i));
    printf("%u %zu", registrations.strangers, registrations.by_account.count);
    registrations_put(7, "alice@sip.test", connection(0));
    printf(" %zu", registrations.by_account.count);
    for (i = 0; i < MAX_STRANGERS + 5; i++)
        end(i);
    printf(" %u %zu %zu", registrations.strangers, registrations.by_account.count, registrations.by_connection.count);
}

static void adopted(void)
{
    registrations_put(registrations_stranger(5), "alice@sip.test", connection(1));
    registrations_put(registrations_stranger(6), "alice@sip.test", connection(2));
    pf_adopt_registration("alice@sip.test", 5, 7);
    printf("%u", registrations.strangers);
    end(2);
    printf(" %u", told);
    end(1);
    printf(" %u %zu", told, registrations.by_connection.count);
}

static void registered_again(void)
{
    registrations_put(registrations_stranger(5), "alice@sip.test", connection(1));
    registrations_put(7, "alice@sip.test", connection(2));
    pf_adopt_registration("alice@sip.test", 5, 7);
    pf_adopt_registration("alice@sip.test", 99, 7);
    end(1);
    printf("%u", told);
    end(2);
    printf(" %u %u", told, registrations.strangers);
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
    assert said(table, "limit") == [4096, 4096, 4097, 0, 0, 0]


def test_the_end_of_a_connection_is_told_to_the_account_that_has_become_followed(table: Path) -> None:
    assert said(table, "adopted") == [1, 0, 1, 0]


def test_of_an_account_that_has_registered_again_the_newer_connection_counts(table: Path) -> None:
    assert said(table, "registered again") == [0, 1, 0]
