#include "retriable.h"

#include "address.h"
#include "dialogs.h"
#include "hedging.h"
#include "override.h"
#include "plans.h"
#include "resolver.h"
#include "transaction.h"

#include <math.h>
#include <string.h>

/* How long a BYE, an UPDATE or a NOTIFY of a dialog that may move waits where the policy does not say: UDP's first retransmission. */
#define DIALOG_TIMEOUT_S 0.5

/*
 * Returns the seconds without a response after which requests of that method are tried at the next server; INFINITY:
 * never.
 */
static double retriable_timeout_of(const pf_retry_policy *policy, const pj_str_t *method, int in_dialog)
{
    static const char *const repeatable[] = { "BYE", "UPDATE", "NOTIFY" };
    int i;

    for (i = 0; i < policy->timeout_count; i++)
        if (strlen(policy->timeouts[i].method) == (size_t)method->slen &&
            !memcmp(policy->timeouts[i].method, method->ptr, (size_t)method->slen))
            return policy->timeouts[i].seconds;
    for (i = 0; in_dialog && i < (int)PJ_ARRAY_SIZE(repeatable); i++)
        if (strlen(repeatable[i]) == (size_t)method->slen && !memcmp(repeatable[i], method->ptr, (size_t)method->slen))
            return DIALOG_TIMEOUT_S;
    return INFINITY;
}

/*
 * Returns whether the request may go to any server but this one: not if it has its server given, and not within a dialog, unless its
 * cluster takes that over.
 */
static int retriable_may_go_elsewhere(pjsip_tx_data *tdata, const pf_address *server, int in_dialog)
{
    if ((in_dialog && !dialogs_may_move_within(tdata_dest_name(tdata))) || override_server(tdata))
        return 0;
    /* A connection that the application has chosen leaves no choice of servers; a UDP socket does. */
    return server->transport == PF_UDP || tdata_selector(tdata)->type != PJSIP_TPSELECTOR_TRANSPORT;
}

/* Returns whether the request has an answer to a challenge. */
static int retriable_has_credentials(const pjsip_msg *msg)
{
    const pjsip_hdr *header = msg->hdr.next;

    while (header != &msg->hdr && !dialogs_is_credentials(header))
        header = header->next;
    return header != &msg->hdr;
}

/* Returns whether the request answers a challenge of the server that it goes to. */
static int retriable_is_for_challenger(const pjsip_msg *msg, const pj_str_t *call_id)
{
    struct request_info info = { 0 };

    if (retriable_has_credentials(msg))
        dialogs_find(call_id, NULL, &info);
    return info.bound;
}

/*
 * Returns whether a request that went to the one server may go to the other: none leaves TLS, nor the transport, listener or address
 * family that the application has chosen.
 */
static int retriable_may_cross(const pjsip_tpselector *selector, const pf_address *from, const pf_address *to)
{
    if (from->transport == PF_TLS && to->transport != PF_TLS)
        return 0;
    switch (selector->type) {
    case PJSIP_TPSELECTOR_TRANSPORT:
    case PJSIP_TPSELECTOR_LISTENER: return to->transport == from->transport && to->family == from->family;
    case PJSIP_TPSELECTOR_IP_VER:
        return to->family == from->family || (selector->u.ip_ver != PJSIP_TPSELECTOR_USE_IPV4_ONLY &&
                                              selector->u.ip_ver != PJSIP_TPSELECTOR_USE_IPV6_ONLY);
    default: return 1;
    }
}

/*
 * Lists the servers that the request may go to, of those that pjsip was given for it: within a tier those of its
 * transport and family come first. One that its plan has put behind a later tier, as a suspect, stays there, even when
 * Python has judged it meanwhile and it is none any more. Returns how many; a bit of *last_resorts is set for each last
 * resort.
 */
static unsigned retriable_list_candidates(pjsip_tx_data *tdata, const pf_address *server, int for_challenger,
                                          pf_address *candidates, unsigned *last_resorts)
{
    server_addresses planned;
    const pjsip_server_addresses *addresses = tdata_addresses(tdata);
    unsigned total, current = tdata_current(tdata), count = 0, tier = 0, i, to;
    uint64_t places[MAX_CANDIDATES]; /* what they are sorted by */

    if (for_challenger && resolver_answer_anew(tdata, &planned)) {
        addresses = &planned.addresses;
        current = 0;
    }
    total = addresses_count(addresses);
    *last_resorts = 0;
    for (i = 0; i < total && count < MAX_CANDIDATES; i++) {
        const unsigned at = (current + i) % total, own_tier = addresses_priority(addresses, at);
        uint64_t place;
        pf_address each;

        if (!address_of(&each, addresses_address(addresses, at), addresses_type(addresses, at)) ||
            !retriable_may_cross(tdata_selector(tdata), server, &each))
            continue;
        if (i && own_tier > tier) /* the first is the server that it goes to, whatever its tier */
            tier = own_tier;
        place = (uint64_t)(at < current) << 40 | (uint64_t)(i ? tier : own_tier) << 2 |
                (uint64_t)(each.transport != server->transport || each.family != server->family) << 1 |
                (own_tier >= LAST_RESORT);
        for (to = count++; to && places[to - 1] > place; to--) {
            places[to] = places[to - 1];
            candidates[to] = candidates[to - 1];
        }
        places[to] = place;
        candidates[to] = each;
    }
    for (i = 0; i < count; i++)
        if (places[i] & 1)
            *last_resorts |= 1u << i;
    return count;
}

/* Copies octets to *place, which points into the request's room, and advances *place. */
static const void *retriable_store(char **place, const void *octets, size_t size, int terminate)
{
    char *copy = *place;

    memcpy(copy, octets, size);
    if (terminate)
        copy[size] = '\0';
    *place += size + (size_t)terminate;
    return copy;
}

/* Fills in when the server is late by its own round trips. */
static void retriable_set_hedge_timer(struct request *request, const struct server_view *view, int for_challenger,
                                      double now)
{
    struct failover_state *state = &request->state;
    double late = fmax(view->rto, MIN_HEDGE_S);

    /* An INVITE forks where it goes, and only the challenger knows the challenge, so they wait for their time; others may be hedged. */
    if (isfinite(state->timeout) && !state->invite && !for_challenger && hedging_is_on() && view->rto >= 0 &&
        late < state->timeout)
        state->hedge_at = now + late;
}

struct request *retriable_make(pjsip_tx_data *tdata, const pf_address *server, const struct server_view *view,
                               const pj_str_t *branch, const pf_retry_policy *policy, double now)
{
    const pjsip_msg *msg = tdata_msg(tdata);
    const pjsip_method *method = &msg->line.req.method;
    const pjsip_to_hdr *to = host.pjsip_msg_find_hdr(msg, PJSIP_H_TO, NULL);
    const pjsip_cid_hdr *header = host.pjsip_msg_find_hdr(msg, PJSIP_H_CALL_ID, NULL);
    const pj_str_t *name = tdata_dest_name(tdata), *call_id;
    pf_address candidates[MAX_CANDIDATES];
    unsigned last_resorts, count;
    struct request *request;
    int for_challenger;
    const char *bytes;
    size_t size;
    char *place;

    if (!to || !header || !retriable_may_go_elsewhere(tdata, server, to->tag.slen != 0))
        return NULL;
    call_id = &header->id;
    for_challenger = retriable_is_for_challenger(msg, call_id);
    count = retriable_list_candidates(tdata, server, for_challenger, candidates, &last_resorts);
    bytes = tdata_bytes(tdata, &size);
    if (count < 2 || !size || name->slen >= PF_MAX_HOST)
        return NULL;
    request = request_make(&method->name, method->id,
                           count * sizeof *candidates + (size_t)call_id->slen + 1 + (size_t)name->slen + 1 +
                               (size_t)branch->slen + size,
                           now);
    if (!request)
        return NULL;
    place = request->room;
    request->candidates = retriable_store(&place, candidates, count * sizeof *candidates, 0);
    request->call_id = retriable_store(&place, call_id->ptr, (size_t)call_id->slen, 1);
    request->name = retriable_store(&place, name->ptr, (size_t)name->slen, 1);
    request->key.branch_size = (size_t)branch->slen;
    request->key.branch = retriable_store(&place, branch->ptr, request->key.branch_size, 0);
    request->bytes = retriable_store(&place, bytes, size, 0);
    request->size = size;
    request->type = address_pjsip_type(server);
    request->selector = *tdata_selector(tdata);
    request->state.candidate_count = count;
    request->state.last_resorts = last_resorts;
    request->state.timeout = retriable_timeout_of(policy, &method->name, to->tag.slen != 0);
    if (policy->attempts)
        request->state.max_attempts = (unsigned)policy->attempts;
    retriable_set_hedge_timer(request, view, for_challenger, now);
    return request;
}
