#include "contact.h"

#include "accounts.h"
#include "hash_table.h"
#include "register_copy.h"

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

enum { AS_USUAL = 1, ALWAYS = 2 }; /* allow_contact_rewrite */

/* Of as many accounts, at the most, it is known that the last try was in vain. */
enum { MAX_CONTACTS_TRIED = 1024 };

static struct {
    atomic_ullong tried[2][MAX_CONTACTS_TRIED]; /* by refused or accepted, and by AOR; 0: the last Contact was right */
} contact;

int contact_port_of(const pjsip_msg *request)
{
    struct contact_place at;

    register_copy_read_place(request, &at);
    return at.port;
}

/* Returns whether the server saw this machine's own address, with another port than the Contact has. */
static int contact_is_wrong(const pjsip_rx_data *answer, const struct contact_place *seen, int port)
{
    const pj_str_t *own = &transport_local_name(answer->tp_info.transport)->host;

    return seen->port && seen->port != port && strlen(seen->host) == (size_t)own->slen &&
           !memcmp(seen->host, own->ptr, (size_t)own->slen);
}

/*
 * Returns whether the same was tried with the account's last answer of that kind, in vain: pjsua leaves a Contact alone while
 * outbound (RFC 5626) is active, and each try costs half a kilobyte of the account's pool. Two accounts that share a place forget for each
 * other. SIP threads.
 */
static int contact_is_tried(const pjsip_rx_data *answer, const char *aor, const struct contact_place *seen, int port)
{
    const int accepted = RDATA_INFO(answer)->msg->line.status.code < 300;
    const uint64_t account = hash_bytes(HASH_SEED, aor, strlen(aor));
    const uint64_t what = hash_bytes(hash_bytes(account, &seen->port, sizeof seen->port), &port, sizeof port);
    atomic_ullong *place = &contact.tried[accepted][account % MAX_CONTACTS_TRIED];

    if (contact_is_wrong(answer, seen, port))
        return atomic_exchange(place, what) == what;
    atomic_store(place, 0);
    return 1;
}

pj_bool_t contact_put_right(pjsip_rx_data *answer, const struct contact_sent *sent)
{
    const pjsip_from_hdr *from = RDATA_INFO(answer)->from;
    pjsip_process_rdata_param below_us;
    struct contact_place seen;
    char aor[PF_MAX_URI];
    int id;

    if (!sent->port || !from || !accounts_write_aor(from->uri, aor, sizeof aor))
        return PJ_FALSE;
    register_copy_read_seen(RDATA_INFO(answer)->msg, &seen);
    if (contact_is_tried(answer, aor, &seen, sent->port))
        return PJ_FALSE;
    id = accounts_set_contact_rewrite(sent->account < 0 ? PJSUA_INVALID_ID : sent->account, aor, AS_USUAL, ALWAYS);
    if (id == PJSUA_INVALID_ID)
        return PJ_FALSE;
    memset(&below_us, 0, sizeof below_us);
    below_us.start_prio = PJSIP_MOD_PRIORITY_TRANSPORT_LAYER;
    below_us.silent = PJ_TRUE;
    host.pjsip_endpt_process_rx_data(host_endpoint(), answer, &below_us, NULL);
    accounts_set_contact_rewrite(id, aor, ALWAYS, AS_USUAL);
    return PJ_TRUE;
}
