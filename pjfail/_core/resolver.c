/*
 * resolver.c: decides, on whatever thread sends a message, whether a question is answered on the spot or has to wait.
 *
 * resolve() is called by pjsip with the transaction's lock held. It never blocks: literal addresses are left to
 * pjsip's own code, a plan at hand is used, everything else waits in queries.c.
 */
#include "resolver.h"

#include "affinity.h"
#include "connections.h"
#include "address.h"
#include "dialogs.h"
#include "gate.h"
#include "event_queue.h"
#include "connection_attempts.h"
#include "override.h"
#include "text.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/*
 * Written while attaching and detaching, under core.c's lock; read by SIP threads between. stock is a resolver
 * of pjsip's with neither DNS nor us behind it: it applies pjsip's own rules to literal addresses. It lives as long
 * as the endpoint, because a SIP thread may be inside it while we detach.
 */
static struct {
    pjsip_endpoint *endpt;
    pj_pool_t *pool;
    pjsip_resolver_t *stock;
    _Atomic(pj_dns_resolver *) set_aside;       /* the worker asks for it too */
    _Atomic(pjsip_resolver_callback *) send_callback;   /* that of pjsip's own sends, whose token is a pjsip_send_state */
} self;

/* While a thread learns send_callback, its own question is kept here and refused. */
struct lesson {
    pj_pool_t *pool;
    void *token;
    pjsip_resolver_callback *callback;
};
static __thread struct lesson *learning;

static int is_numeric(const pj_str_t *host)
{
    unsigned char octets[16];
    char text[INET6_ADDRSTRLEN + 1];

    if (host->slen < 2 || host->slen >= (pj_ssize_t)sizeof text)
        return host->slen < 1;
    memcpy(text, host->ptr, (size_t)host->slen);
    text[host->slen] = '\0';
    return inet_pton(AF_INET, text, octets) == 1 || inet_pton(AF_INET6, text, octets) == 1;
}

/* The request that this question is about, or NULL: a response, a raw send, a question of the application's own. */
static pjsip_msg *request_of(pj_pool_t *pool, void *token, pjsip_resolver_callback *callback)
{
    pjsip_tx_data *tdata;

    if (callback != atomic_load_explicit(&self.send_callback, memory_order_relaxed))
        return NULL;
    tdata = ((pjsip_send_state *)token)->tdata;
    return tdata_pool(tdata) == pool && tdata_msg(tdata)->type == PJSIP_REQUEST_MSG ? tdata_msg(tdata) : NULL;
}

static void who_asks(pjsip_msg *request, void *token, struct request_info *asker)
{
    const pjsip_tpselector *selector = request ? tdata_selector(((pjsip_send_state *)token)->tdata) : NULL;
    pjsip_cid_hdr *call_id = request ? host.pjsip_msg_find_hdr(request, PJSIP_H_CALL_ID, NULL) : NULL;
    pjsip_to_hdr *to = request ? host.pjsip_msg_find_hdr(request, PJSIP_H_TO, NULL) : NULL;

    memset(asker, 0, sizeof *asker);
    asker->sends = request != NULL;
    asker->free_to_race = selector && selector->type != PJSIP_TPSELECTOR_TRANSPORT &&
                          selector->type != PJSIP_TPSELECTOR_LISTENER && request->line.req.method.id != PJSIP_ACK_METHOD;
    asker->in_dialog = to && to->tag.slen;
    if (call_id)
        dialogs_find(&call_id->id, to ? &to->tag : NULL, asker);
}

static pf_query *make_question(const pf_target *target, pjsip_msg *request, int refresh)
{
    pf_query *question = calloc(1, sizeof *question);
    pjsip_from_hdr *from;
    pjsip_to_hdr *to;
    pjsip_cid_hdr *call_id;

    if (!question)
        return NULL;
    question->target = *target;
    question->refresh = refresh;
    if (!request)
        return question;
    copy_text(question->method, sizeof question->method, &request->line.req.method.name);
    from = host.pjsip_msg_find_hdr(request, PJSIP_H_FROM, NULL);
    to = host.pjsip_msg_find_hdr(request, PJSIP_H_TO, NULL);
    call_id = host.pjsip_msg_find_hdr(request, PJSIP_H_CALL_ID, NULL);
    if (from && from->uri) {
        int length = pjsip_uri_print(PJSIP_URI_IN_FROMTO_HDR, pjsip_uri_get_uri(from->uri), question->from_uri,
                                     sizeof question->from_uri - 1);
        question->from_uri[length > 0 ? length : 0] = '\0';
    }
    if (call_id)
        copy_text(question->call_id, sizeof question->call_id, &call_id->id);
    if (to)
        copy_text(question->to_tag, sizeof question->to_tag, &to->tag);
    return question;
}

static struct pending_query *make_waiter(pj_pool_t *pool, const pjsip_host_info *info, void *token,
                                  pjsip_resolver_callback *callback, const struct request_info *asker)
{
    struct pending_query *waiter = calloc(1, sizeof *waiter);

    if (waiter) {
        waiter->pool = pool;
        waiter->info = *info;
        copy_text(waiter->name, sizeof waiter->name, &info->addr.host);
        waiter->info.addr.host.ptr = waiter->name;
        waiter->token = token;
        waiter->callback = callback;
        waiter->asker = *asker;
        waiter->since = clock_now();
    }
    return waiter;
}

/* Whatever host was asked for, its name stays what TLS shows and checks. */
static void make_answer_of(const pf_address *server, const pjsip_host_info *info, answer *one)
{
    pj_sockaddr sockaddr;
    int length = address_to_sockaddr(server, &sockaddr);

    answer_set(one, 0, &info->addr.host, address_pjsip_type(server), &sockaddr, length, 0, 0);
    answer_set_count(one, 1);
}

/* Has the polling thread answer, by the plan of the target, or with that server alone. 0: no memory. */
static int put_off(const pf_target *target, const pf_address *server, struct pending_query *waiter)
{
    pf_entry entry;
    struct plan *own = NULL;

    if (server) {
        memset(&entry, 0, sizeof entry);
        entry.server = *server;
        own = plans_make(target, &entry, 1);
    }
    if (waiter && (own || !server) && queries_defer(target, waiter, own))
        return 1;
    plans_drop(own);
    free(waiter);
    return 0;
}

/* pjsip's own affinity leaves a registration bound to its connection when that ends: no REGISTER would go out ever again. */
static void free_of_connection(pjsip_tx_data *tdata)
{
    const pjsip_tpselector *selector = tdata_selector(tdata);
    pjsip_tpselector none;

    if (selector->type == PJSIP_TPSELECTOR_TRANSPORT && transport_is_closing(selector->u.transport)) {
        memset(&none, 0, sizeof none);
        host.pjsip_tx_data_set_transport(tdata, &none);
    }
}

/* Inside the gate. */
static void resolver_resolve_inside(pj_pool_t *pool, const pjsip_host_info *info, void *token, pjsip_resolver_callback *callback)
{
    pf_target target;
    struct request_info asker;
    struct pending_query *waiter;
    pf_query *question;
    pjsip_msg *request;
    const pf_address *only_server;
    answer planned;
    uint64_t hash;
    int refresh, known, numeric;

    request = request_of(pool, token, callback);
    numeric = is_numeric(&info->addr.host);
    known = target_of_host_info(info, &target);
    only_server = request ? override_server(((pjsip_send_state *)token)->tdata) : NULL;
    if (only_server) {
        make_answer_of(only_server, info, &planned);
        /* Its connection is but a moment old, and may have failed: not within the call. See connections_bear(). */
        if (only_server->transport != PF_UDP && known) {
            who_asks(request, token, &asker);
            if (put_off(&target, only_server, make_waiter(pool, info, token, callback, &asker)))
                return;
        }
        connections_answer(callback, PJ_SUCCESS, token, &planned.addresses);
        return;
    }
    if (known) {
        if (request && request->line.req.method.id == PJSIP_REGISTER_METHOD && pf_has_native_affinity())
            free_of_connection(((pjsip_send_state *)token)->tdata);
        who_asks(request, token, &asker);
        /* A dialog that nobody has noted has named its server itself where that is an address. */
        if (!(numeric && asker.in_dialog && !asker.bound) && affinity_answer(&target, request, &asker)) {
            queries_count_inline(1);
            make_answer_of(&asker.server, info, &planned);
            if (connections_bear(&planned.addresses) ||
                !put_off(&target, &asker.server, make_waiter(pool, info, token, callback, &asker)))
                connections_answer(callback, PJ_SUCCESS, token, &planned.addresses);
            return;
        }
    }
    if (!known || numeric) {
        if (known)
            queries_count_inline(0);
        host.pjsip_resolve(self.stock, pool, info, token, callback);
        return;
    }
    hash = target_hash(&target);
    if (!(request && queries_each()) &&
        plans_answer(&target, hash, &asker, &info->addr.host, 0, &planned, &refresh) == PLAN_FRESH) {
        if (refresh && (question = make_question(&target, request, 1)) != NULL)
            event_queue_post_query(question);
        queries_count_inline(1);
        if (connection_attempts_are_useful(&planned, &asker) &&
            (waiter = make_waiter(pool, info, token, callback, &asker)) != NULL) {
            if (connection_attempts_start(waiter, &planned))
                return;
            free(waiter);
        }
        if (connections_bear(&planned.addresses) ||
            !put_off(&target, NULL, make_waiter(pool, info, token, callback, &asker)))
            connections_answer(callback, PJ_SUCCESS, token, &planned.addresses);
        return;
    }
    waiter = make_waiter(pool, info, token, callback, &asker);
    question = make_question(&target, request, 0);
    if (waiter && question && queries_ask(&target, hash, waiter, question))
        return;
    free(waiter);
    pf_free_query(question);
    if (gate_is_open())
        callback(PJ_ERESOLVE, token, NULL);     /* out of memory: an error that pjsip knows */
    else
        host.pjsip_endpt_resolve(self.endpt, pool, (pjsip_host_info *)info, token, callback);   /* detached a moment ago */
}

/* The pjsip_ext_resolver's function. Any thread, most often with a transaction's lock held. */
static void resolve(pjsip_resolver_t *resolver, pj_pool_t *pool, const pjsip_host_info *info, void *token,
                    pjsip_resolver_callback *callback)
{
    (void)resolver;
    if (learning) {
        learning->pool = pool;
        learning->token = token;
        learning->callback = callback;
        callback(PJ_ERESOLVE, token, NULL);
    } else if (gate_enter()) {
        resolver_resolve_inside(pool, info, token, callback);
        gate_leave();
    } else if (gate_is_forked_child()) {     /* we stay installed in a forked child, which has no worker to ask */
        host.pjsip_resolve(self.stock, pool, info, token, callback);
    } else {                            /* detached a moment ago */
        host.pjsip_endpt_resolve(self.endpt, pool, (pjsip_host_info *)info, token, callback);
    }
}

/* --- installing and removing ------------------------------------------------------------------------------------- */

static void forget_endpoint(pjsip_endpoint *endpt)
{
    if (self.endpt != endpt)
        return;
    host.pjsip_resolver_destroy(self.stock);
    host.pjsip_endpt_release_pool(endpt, self.pool);
    memset(&self, 0, sizeof self);
}

static int make_stock(pjsip_endpoint *endpt)
{
    pj_status_t status;

    if (self.endpt == endpt)
        return PF_OK;
    self.pool = host.pjsip_endpt_create_pool(endpt, "pjfail", 512, 512);
    if (!self.pool)
        return host_problem(PF_PJSIP_FAILED, PJ_ENOMEM, "pjsip_endpt_create_pool()");
    status = host.pjsip_resolver_create(self.pool, &self.stock);
    if (status == PJ_SUCCESS) {
        status = host.pjsip_endpt_atexit(endpt, &forget_endpoint);
        if (status != PJ_SUCCESS)
            host.pjsip_resolver_destroy(self.stock);
    }
    if (status != PJ_SUCCESS) {
        host.pjsip_endpt_release_pool(endpt, self.pool);
        return host_problem(PF_PJSIP_FAILED, status, "pjsip_resolver_create()");
    }
    self.endpt = endpt;
    return PF_OK;
}

static void unsent(pjsip_send_state *state, pj_ssize_t sent, pj_bool_t *again)
{
    (void)state;
    (void)sent;
    *again = PJ_FALSE;
}

/* Sends a request that our resolver refuses, to learn which callback pjsip's sends come with. Nothing reaches the wire. */
static int learn(pjsip_endpoint *endpt)
{
    static const pj_str_t target = { "sip:pjfail.invalid", 18 }, from = { "<sip:pjfail@pjfail.invalid>", 27 };
    struct lesson lesson = { NULL, NULL, NULL };
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
    learning = &lesson;
    status = host.pjsip_endpt_send_request_stateless(endpt, tdata, NULL, &unsent);
    learning = NULL;
    name = tdata_dest_name(tdata);
    fits = status == PJ_SUCCESS && lesson.pool == pool && lesson.token &&
           ((pjsip_send_state *)lesson.token)->tdata == tdata && name->slen == 14 &&
           !memcmp(name->ptr, "pjfail.invalid", 14);
    host.pjsip_tx_data_dec_ref(tdata);
    if (!fits)
        return host_problem(PF_BAD_LAYOUT, status, "pjsip_send_state");
    atomic_store(&self.send_callback, lesson.callback);
    return PF_OK;
}

int resolver_install(pjsip_endpoint *endpt)
{
    static pjsip_ext_resolver ours = { &resolve };
    pj_dns_resolver *built_in;
    pj_status_t status;
    int result = make_stock(endpt);

    if (result != PF_OK)
        return result;
    /* Setting ours while the built-in one is there would destroy that, with pjsua still holding it. */
    built_in = host.pjsip_endpt_get_resolver(endpt);
    host.pjsip_endpt_set_resolver(endpt, NULL);
    self.set_aside = built_in;
    status = host.pjsip_endpt_set_ext_resolver(endpt, &ours);
    result = status == PJ_SUCCESS ? learn(endpt) : host_problem(PF_PJSIP_FAILED, status, "pjsip_endpt_set_ext_resolver()");
    if (result != PF_OK)
        resolver_remove(endpt);
    return result;
}

void resolver_remove(pjsip_endpoint *endpt)
{
    host.pjsip_endpt_set_ext_resolver(endpt, NULL);
    /* The application may have given the endpoint another one meanwhile. */
    if (self.set_aside && !host.pjsip_endpt_get_resolver(endpt))
        host.pjsip_endpt_set_resolver(endpt, self.set_aside);
    self.set_aside = NULL;
}

pj_dns_resolver *resolver_saved(void) { return atomic_load(&self.set_aside); }
