"""The subscriptions of accounts, as a program of its own without a pjsip."""

from __future__ import annotations

import subprocess
from pathlib import Path

from rig.core import program

SOURCE = """
#include "hash_table.c"
#include "subscriptions.c"

struct host_functions host;
struct layout layout;

static pjsip_from_hdr from;
static long made, freed;

int accounts_write_aor(const pjsip_uri *uri, char *aor, size_t size)
{
    (void)uri;
    return snprintf(aor, size, "user%ld@sip.test", made) > 0;
}

int transaction_subscription(pj_str_t branch, const pjsip_method *method, pjsip_evsub **evsub,
                             enum transaction_event *event)
{
    (void)branch, (void)method;
    *evsub = (pjsip_evsub *)++made;
    *event = TRANSACTION_PRESENCE;
    return 1;
}

static void *find(const pjsip_msg *msg, pjsip_hdr_e type, const void *start)
{
    (void)msg, (void)type, (void)start;
    return &from;
}

static pjsip_evsub_state state(const pjsip_evsub *evsub) { return evsub ? PJSIP_EVSUB_STATE_ACTIVE : 0; }
static pj_status_t release(pjsip_evsub *evsub) { return freed += evsub != NULL, PJ_SUCCESS; }
static pj_status_t end(pjsip_evsub *evsub, pj_bool_t notify) { return evsub && notify ? PJ_SUCCESS : PJ_EINVAL; }

static void subscribed(int account, int times)
{
    static pf_address server;
    static pjsip_via_hdr via;
    static pjsip_cseq_hdr cseq;
    static pjsip_rx_data rdata;

    rdata.msg_info.via = &via;
    rdata.msg_info.cseq = &cseq;
    while (times--)
        subscriptions_on_success(account, &rdata, &server);
    printf("%zu %ld ", subscriptions.table.count, freed);
}

int main(void)
{
    host.pjsip_msg_find_hdr = &find;
    host.pjsip_evsub_get_state = &state;
    host.pjsip_evsub_dec_ref = &release;
    host.pjsip_evsub_terminate = &end;
    /* They are not called: that they are there is asked for. */
    *(void **)&host.pjsip_tsx_get_evsub = *(void **)&host.pjsip_evsub_add_ref = (void *)&find;
    *(void **)&host.pjsua_enum_buddies = *(void **)&host.pjsua_buddy_update_pres = (void *)&find;
    *(void **)&host.pjsua_start_mwi = (void *)&find;
    subscribed(7, MAX_UNKNOWN_AT - 3);
    subscribed(SUBSCRIPTIONS_UNKNOWN, 5);
    subscribed(7, 2);
    subscriptions_clear();
    printf("%ld", made - freed);
    return 0;
}
"""


def test_subscriptions_of_accounts_that_are_not_followed_are_bounded(tmp_path: Path) -> None:
    """The count of those that are kept, and how many of pjsip's are let go; with none left in the end."""
    command = [str(program(tmp_path / "table", SOURCE))]
    told = [int(each) for each in subprocess.check_output(command, text=True, timeout=60).split()]
    assert told == [1021, 0, 1024, 2, 1026, 2, 0]
