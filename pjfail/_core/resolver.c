/*
 * resolver.c: decides, on whatever thread sends a message, whether a query is answered on the spot or has to wait.
 *
 * resolver_resolve() is called by pjsip with the transaction's lock held. It never blocks: literal addresses that no plan
 * answers for are left to pjsip's own code, a plan at hand is used, everything else waits in queries.c.
 */
#include "resolver.h"

#include "address.h"
#include "affinity.h"
#include "connection_attempts.h"
#include "connections.h"
#include "dialogs.h"
#include "event_queue.h"
#include "gate.h"
#include "override.h"
#include "text.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/*
 * Written while attaching and detaching, under the lock of attach.c; read by SIP threads between. built_in is a resolver
 * of pjsip's with neither DNS nor us behind it: it applies pjsip's own rules to literal addresses. It lives as long
 * as the endpoint, because a SIP thread may be inside it while we detach.
 */
static struct {
    pjsip_endpoint *endpt;
    pj_pool_t *pool;
    pjsip_resolver_t *built_in;
    _Atomic(pj_dns_resolver *) saved;                 /* the worker asks for it too */
    _Atomic(pjsip_resolver_callback *) send_callback; /* that of pjsip's own sends, whose token is a pjsip_send_state */
} resolver;

/* While a thread discovers send_callback, its own query is kept here and refused. */
struct discovery {
    pj_pool_t *pool;
    void *token;
    pjsip_resolver_callback *callback;
};
static __thread struct discovery *resolver_discovery;

/* Returns whether the host is an address, and fills that in, with the port, as plans_answer_for() takes it. */
static int resolver_is_numeric(const pjsip_host_info *info, pf_address *at)
{
    const pj_str_t *name = &info->addr.host;
    char text[INET6_ADDRSTRLEN + 1];

    memset(at, 0, sizeof *at);
    if (name->slen < 2 || name->slen >= (pj_ssize_t)sizeof text)
        return name->slen < 1;
    memcpy(text, name->ptr, (size_t)name->slen);
    text[name->slen] = '\0';
    at->port = (unsigned short)info->addr.port;
    at->family = inet_pton(AF_INET, text, at->ip) == 1 ? 4 : inet_pton(AF_INET6, text, at->ip) == 1 ? 6 : 0;
    return at->family != 0;
}

/* Returns the request that this query is about; NULL: a response, a raw send, or the application's own query. */
static pjsip_msg *resolver_request_of(pj_pool_t *pool, void *token, pjsip_resolver_callback *callback)
{
    pjsip_tx_data *tdata;

    if (callback != atomic_load_explicit(&resolver.send_callback, memory_order_relaxed))
        return NULL;
    tdata = ((pjsip_send_state *)token)->tdata;
    return tdata_pool(tdata) == pool && tdata_msg(tdata)->type == PJSIP_REQUEST_MSG ? tdata_msg(tdata) : NULL;
}

/*
 * Returns whether pjsip sends the request over TCP where its servers are there for UDP (RFC 3261 section 18.1.1). That encodes it, which
 * pjsip does next where the first server speaks UDP. The thread that sends it.
 */
static int resolver_is_large(const pf_target *target, pjsip_tx_data *tdata)
{
    const pjsip_tpselector_type selector = tdata_selector(tdata)->type;
    size_t size;

    if (target->transport > PF_UDP || target->secure || selector == PJSIP_TPSELECTOR_TRANSPORT ||
        selector == PJSIP_TPSELECTOR_LISTENER)
        return 0;
    if (host.pjsip_sip_cfg_var && host.pjsip_sip_cfg_var->endpt.disable_tcp_switch)
        return 0;
    if (host.pjsip_tx_data_encode(tdata) != PJ_SUCCESS)
        return 0;
    tdata_bytes(tdata, &size);
    return size >= PJSIP_UDP_SIZE_THRESHOLD;
}

/* Returns the family that pjsip puts first for the account (ipv6Use), whatever our order is; 0: none. */
static int resolver_preference_of(const pjsip_tpselector *selector)
{
    if (selector->type != PJSIP_TPSELECTOR_IP_VER)
        return 0;
    switch (selector->u.ip_ver) {
    case PJSIP_TPSELECTOR_PREFER_IPV4: return 4;
    case PJSIP_TPSELECTOR_PREFER_IPV6: return 6;
    default: return 0;
    }
}

static pjsip_tx_data *resolver_tdata_of(const pjsip_msg *request, void *token)
{
    return request ? ((pjsip_send_state *)token)->tdata : NULL;
}

/* tdata: the request's; NULL: it is none. */
static void resolver_fill_request_info(const pf_target *target, pjsip_tx_data *tdata, const pj_str_t *name,
                                       struct request_info *request_info)
{
    const pjsip_tpselector *selector = tdata ? tdata_selector(tdata) : NULL;
    pjsip_msg *request = tdata ? tdata_msg(tdata) : NULL;
    pjsip_cid_hdr *call_id = request ? host.pjsip_msg_find_hdr(request, PJSIP_H_CALL_ID, NULL) : NULL;
    pjsip_to_hdr *to = request ? host.pjsip_msg_find_hdr(request, PJSIP_H_TO, NULL) : NULL;

    memset(request_info, 0, sizeof *request_info);
    request_info->sends = request != NULL;
    request_info->free_to_race =
        selector && selector->type != PJSIP_TPSELECTOR_TRANSPORT && request->line.req.method.id != PJSIP_ACK_METHOD;
    request_info->prefers = selector ? resolver_preference_of(selector) : 0;
    request_info->in_dialog = to && to->tag.slen;
    request_info->large = tdata && resolver_is_large(target, tdata);
    if (call_id)
        dialogs_find(&call_id->id, to ? &to->tag : NULL, request_info);
    request_info->may_move = request_info->in_dialog && dialogs_may_move_within(name);
}

static pf_query *resolver_make_query(const pf_target *target, pjsip_msg *request, int refresh)
{
    pf_query *query = calloc(1, sizeof *query);
    pjsip_from_hdr *from;
    pjsip_to_hdr *to;
    pjsip_cid_hdr *call_id;

    if (!query)
        return NULL;
    query->target = *target;
    query->refresh = refresh;
    if (!request)
        return query;
    copy_text(query->method, sizeof query->method, &request->line.req.method.name);
    from = host.pjsip_msg_find_hdr(request, PJSIP_H_FROM, NULL);
    to = host.pjsip_msg_find_hdr(request, PJSIP_H_TO, NULL);
    call_id = host.pjsip_msg_find_hdr(request, PJSIP_H_CALL_ID, NULL);
    if (from && from->uri) {
        int length = pjsip_uri_print(PJSIP_URI_IN_FROMTO_HDR, pjsip_uri_get_uri(from->uri), query->from_uri,
                                     sizeof query->from_uri - 1);
        query->from_uri[length > 0 ? length : 0] = '\0';
    }
    if (call_id)
        copy_text(query->call_id, sizeof query->call_id, &call_id->id);
    if (to)
        copy_text(query->to_tag, sizeof query->to_tag, &to->tag);
    return query;
}

static struct pending_query *resolver_make_pending(pj_pool_t *pool, const pjsip_host_info *info, void *token,
                                                   pjsip_resolver_callback *callback,
                                                   const struct request_info *request_info)
{
    struct pending_query *pending = calloc(1, sizeof *pending);

    if (pending) {
        pending->pool = pool;
        pending->info = *info;
        copy_text(pending->name, sizeof pending->name, &info->addr.host);
        pending->info.addr.host.ptr = pending->name;
        pending->token = token;
        pending->callback = callback;
        pending->request_info = *request_info;
        pending->since = clock_now();
    }
    return pending;
}

/* Writes the one server; the name of the host in the query stays, which TLS shows and checks. */
static void resolver_write_one(const pf_address *server, const pjsip_host_info *info, server_addresses *one)
{
    pj_sockaddr sockaddr;
    int length = address_to_sockaddr(server, &sockaddr);

    addresses_set(one, 0, &info->addr.host, address_pjsip_type(server), &sockaddr, length, 0, 0);
    addresses_set_count(one, 1);
}

/*
 * Makes the polling thread answer, by the plan of the target, or with that server only. Returns 0 if there is no
 * memory.
 */
static int resolver_defer(const pf_target *target, const pf_address *server, struct pending_query *pending)
{
    pf_entry entry;
    struct plan *own = NULL;

    if (server) {
        memset(&entry, 0, sizeof entry);
        entry.server = *server;
        own = plans_make(target, &entry, 1);
    }
    if (pending && (own || !server) && queries_defer(target, pending, own))
        return 1;
    plans_drop(own);
    free(pending);
    return 0;
}

/*
 * Symptom: after its connection has ended, an account sends no REGISTER any more. pjsip's own affinity (after 2.17)
 * leaves the registration bound to that connection. Unbinds it.
 */
static void resolver_unbind_from_closed(pjsip_tx_data *tdata)
{
    const pjsip_tpselector *selector = tdata_selector(tdata);
    pjsip_tpselector none;

    if (selector->type == PJSIP_TPSELECTOR_TRANSPORT && transport_is_closing(selector->u.transport)) {
        memset(&none, 0, sizeof none);
        host.pjsip_tx_data_set_transport(tdata, &none);
    }
}

/* Returns whether the request shows the worker an account that may be followed. */
static int resolver_finds_account(pjsip_msg *request)
{
    return request->line.req.method.id == PJSIP_REGISTER_METHOD && affinity_finds_accounts() &&
           host.pjsip_msg_find_hdr(request, PJSIP_H_CONTACT, NULL);
}

int resolver_answer_anew(pjsip_tx_data *tdata, server_addresses *planned)
{
    struct request_info request_info;
    pf_target target;
    pf_query *query;
    int refresh = 0;

    if (!affinity_next_hop(tdata, &target))
        return 0;
    resolver_fill_request_info(&target, tdata, tdata_dest_name(tdata), &request_info);
    if (affinity_answer(&target, tdata_msg(tdata), &request_info) ||
        plans_answer(&target, target_hash(&target), &request_info, tdata_dest_name(tdata), 1, planned, &refresh) ==
            PLAN_NONE)
        return 0;
    if (refresh && (query = resolver_make_query(&target, tdata_msg(tdata), 1)) != NULL)
        event_queue_post_query(query);
    return 1;
}

/* Answers a query, or has it wait. Inside the gate. */
static void resolver_resolve_inside(pj_pool_t *pool, const pjsip_host_info *info, void *token,
                                    pjsip_resolver_callback *callback)
{
    pf_target target;
    struct request_info request_info;
    struct pending_query *pending;
    pf_query *query;
    pjsip_msg *request;
    const pf_address *only_server;
    server_addresses planned;
    pf_address at;
    uint64_t hash;
    int refresh, known, numeric, named = 0;

    request = resolver_request_of(pool, token, callback);
    numeric = resolver_is_numeric(info, &at);
    known = target_of_host_info(info, &target);
    only_server = request ? override_server(((pjsip_send_state *)token)->tdata) : NULL;
    if (only_server) {
        resolver_write_one(only_server, info, &planned);
        /*
         * The connection is new and may fail at once, which must not happen within this call: see connections_bear().
         */
        if (only_server->transport != PF_UDP && known) {
            resolver_fill_request_info(&target, resolver_tdata_of(request, token), &info->addr.host, &request_info);
            if (resolver_defer(&target, only_server, resolver_make_pending(pool, info, token, callback, &request_info)))
                return;
        }
        connections_answer(callback, PJ_SUCCESS, token, &planned.addresses);
        return;
    }
    if (known) {
        if (request && request->line.req.method.id == PJSIP_REGISTER_METHOD && pf_has_native_affinity())
            resolver_unbind_from_closed(((pjsip_send_state *)token)->tdata);
        resolver_fill_request_info(&target, resolver_tdata_of(request, token), &info->addr.host, &request_info);
        /* A dialog that was not recorded has named its server itself, if that is an address. */
        named = numeric && request_info.in_dialog && !request_info.bound;
        if (!named && affinity_answer(&target, request, &request_info)) {
            queries_count_inline(1);
            resolver_write_one(&request_info.server, info, &planned);
            if ((!request_info.large && connections_bear(&planned.addresses)) ||
                !resolver_defer(&target, &request_info.server,
                                resolver_make_pending(pool, info, token, callback, &request_info)))
                connections_answer(callback, PJ_SUCCESS, token, &planned.addresses);
            return;
        }
    }
    /*
     * Plans answer for addresses to requests alone: a response goes back to where its request came from. They also
     * answer to the first REGISTER of an account that is going to be followed, so that its server is known by then.
     */
    if (!known || (numeric && (!request || named || (!plans_answer_for(&at) && !resolver_finds_account(request))))) {
        if (known)
            queries_count_inline(0);
        host.pjsip_resolve(resolver.built_in, pool, info, token, callback);
        return;
    }
    hash = target_hash(&target);
    if (!(request && queries_each()) &&
        plans_answer(&target, hash, &request_info, &info->addr.host, 0, &planned, &refresh) == PLAN_FRESH) {
        if (refresh && (query = resolver_make_query(&target, request, 1)) != NULL)
            event_queue_post_query(query);
        queries_count_inline(1);
        if (connection_attempts_are_useful(&planned, &request_info) &&
            (pending = resolver_make_pending(pool, info, token, callback, &request_info)) != NULL) {
            if (connection_attempts_start(pending, &planned))
                return;
            free(pending);
        }
        if (connections_bear(&planned.addresses) ||
            !resolver_defer(&target, NULL, resolver_make_pending(pool, info, token, callback, &request_info)))
            connections_answer(callback, PJ_SUCCESS, token, &planned.addresses);
        return;
    }
    pending = resolver_make_pending(pool, info, token, callback, &request_info);
    query = resolver_make_query(&target, request, 0);
    if (pending && query && queries_ask(&target, hash, pending, query))
        return;
    free(pending);
    pf_free(query);
    if (gate_is_open())
        callback(PJ_ERESOLVE, token, NULL); /* out of memory: an error that pjsip knows */
    else
        host.pjsip_endpt_resolve(resolver.endpt, pool, (pjsip_host_info *)info, token,
                                 callback); /* detached a moment ago */
}

/* The pjsip_ext_resolver's function. Any thread, most often with a transaction's lock held. */
static void resolver_resolve(pjsip_resolver_t *unused, pj_pool_t *pool, const pjsip_host_info *info, void *token,
                             pjsip_resolver_callback *callback)
{
    (void)unused;
    if (resolver_discovery) {
        resolver_discovery->pool = pool;
        resolver_discovery->token = token;
        resolver_discovery->callback = callback;
        callback(PJ_ERESOLVE, token, NULL);
    } else if (gate_enter()) {
        resolver_resolve_inside(pool, info, token, callback);
        gate_leave();
    } else if (gate_is_forked_child()) { /* we stay installed in a forked child, which has no worker to ask */
        host.pjsip_resolve(resolver.built_in, pool, info, token, callback);
    } else { /* detached a moment ago */
        host.pjsip_endpt_resolve(resolver.endpt, pool, (pjsip_host_info *)info, token, callback);
    }
}

/* --- installing and removing ------------------------------------------------------------------------------------- */

static void resolver_forget_endpoint(pjsip_endpoint *endpt)
{
    if (resolver.endpt != endpt)
        return;
    host.pjsip_resolver_destroy(resolver.built_in);
    host.pjsip_endpt_release_pool(endpt, resolver.pool);
    memset(&resolver, 0, sizeof resolver);
}

static int resolver_make_built_in(pjsip_endpoint *endpt)
{
    pj_status_t status;

    if (resolver.endpt == endpt)
        return PF_OK;
    resolver.pool = host.pjsip_endpt_create_pool(endpt, "pjfail", 512, 512);
    if (!resolver.pool)
        return host_problem(PF_PJSIP_FAILED, PJ_ENOMEM, "pjsip_endpt_create_pool()");
    status = host.pjsip_resolver_create(resolver.pool, &resolver.built_in);
    if (status == PJ_SUCCESS) {
        status = host.pjsip_endpt_atexit(endpt, &resolver_forget_endpoint);
        if (status != PJ_SUCCESS)
            host.pjsip_resolver_destroy(resolver.built_in);
    }
    if (status != PJ_SUCCESS) {
        host.pjsip_endpt_release_pool(endpt, resolver.pool);
        return host_problem(PF_PJSIP_FAILED, status, "pjsip_resolver_create()");
    }
    resolver.endpt = endpt;
    return PF_OK;
}

static void resolver_on_unsent(pjsip_send_state *state, pj_ssize_t sent, pj_bool_t *again)
{
    (void)state;
    (void)sent;
    *again = PJ_FALSE;
}

/* Sends a request that our resolver refuses, to discover the callback of pjsip's sends. Nothing reaches the wire. */
static int resolver_discover_send_callback(pjsip_endpoint *endpt)
{
    static const pj_str_t target = { "sip:pjfail.invalid", 18 }, from = { "<sip:pjfail@pjfail.invalid>", 27 };
    struct discovery discovery = { NULL, NULL, NULL };
    const pj_str_t *name;
    pjsip_tx_data *tdata;
    pj_pool_t *pool;
    pj_status_t status;
    int fits;

    status = host.pjsip_endpt_create_request(endpt, host.pjsip_get_options_method(), &target, &from, &from, NULL, NULL,
                                             7, NULL, &tdata);
    if (status != PJ_SUCCESS)
        return host_problem(PF_PJSIP_FAILED, status, "pjsip_endpt_create_request()");
    pool = tdata_pool(tdata);
    host.pjsip_tx_data_add_ref(tdata);
    resolver_discovery = &discovery;
    status = host.pjsip_endpt_send_request_stateless(endpt, tdata, NULL, &resolver_on_unsent);
    resolver_discovery = NULL;
    name = tdata_dest_name(tdata);
    fits = status == PJ_SUCCESS && discovery.pool == pool && discovery.token &&
           ((pjsip_send_state *)discovery.token)->tdata == tdata && name->slen == 14 &&
           !memcmp(name->ptr, "pjfail.invalid", 14);
    host.pjsip_tx_data_dec_ref(tdata);
    if (!fits)
        return host_problem(PF_BAD_LAYOUT, status, "pjsip_send_state");
    atomic_store(&resolver.send_callback, discovery.callback);
    return PF_OK;
}

int resolver_install(pjsip_endpoint *endpt)
{
    static pjsip_ext_resolver ours = { &resolver_resolve };
    pj_dns_resolver *built_in;
    pj_status_t status;
    int result = resolver_make_built_in(endpt);

    if (result != PF_OK)
        return result;
    /* Setting our resolver while the built-in one is set would destroy that, while pjsua still uses it. */
    built_in = host.pjsip_endpt_get_resolver(endpt);
    host.pjsip_endpt_set_resolver(endpt, NULL);
    resolver.saved = built_in;
    status = host.pjsip_endpt_set_ext_resolver(endpt, &ours);
    result = status == PJ_SUCCESS ? resolver_discover_send_callback(endpt)
                                  : host_problem(PF_PJSIP_FAILED, status, "pjsip_endpt_set_ext_resolver()");
    if (result != PF_OK)
        resolver_remove(endpt);
    return result;
}

void resolver_remove(pjsip_endpoint *endpt)
{
    host.pjsip_endpt_set_ext_resolver(endpt, NULL);
    /* The application may have given the endpoint another one meanwhile. */
    if (resolver.saved && !host.pjsip_endpt_get_resolver(endpt))
        host.pjsip_endpt_set_resolver(endpt, resolver.saved);
    resolver.saved = NULL;
}

pj_dns_resolver *resolver_saved(void) { return atomic_load(&resolver.saved); }
