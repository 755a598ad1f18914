#include "failover.h"

#include "address.h"
#include "affinity.h"
#include "connections.h"
#include "dialogs.h"
#include "event_queue.h"
#include "forking.h"
#include "hedging.h"
#include "held_response.h"
#include "lock.h"
#include "observer.h"
#include "override.h"
#include "plans.h"
#include "port_check.h"
#include "raw_send.h"
#include "requests.h"
#include "send_guard.h"
#include "servers.h"
#include "text.h"
#include "transaction.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* A server is not taken for slow sooner than this, however fast it was: a tenth of a second. */
#define MIN_HEDGE_S 0.105

/* This long after a connection's end pjsip has ended the transaction because of it, if it does. */
#define TSX_END_S 0.02

/* Timers that are due within this are looked at together. */
#define SLACK_S 0.005

/* Guarded by requests.lock, but what is only written by failover_open() while nothing runs. */
static struct {
    double due; /* the soonest that a tick was asked for */
    void (*wake_at)(double when);
    atomic_int on;
    pf_retry_policy policy;
} failover;

static struct {
    atomic_ullong retried, hedged, suppressed;
} failover_counted;

static pf_retry_policy failover_wanted;

void pf_set_retry_policy(const pf_retry_policy *policy) { failover_wanted = *policy; }

/* Has the polling thread tick at that time, too. No lock held. */
static void failover_schedule(double when)
{
    int sooner;

    pthread_mutex_lock(&requests.lock);
    sooner = when < failover.due;
    if (sooner)
        failover.due = when;
    pthread_mutex_unlock(&requests.lock);
    if (sooner)
        failover.wake_at(when);
}

/* Looks whether the server's port is closed, where udp is a UDP transport. No lock of ours held. */
static void failover_check_port(const pf_address *server, pjsip_transport *udp, double now)
{
    double due = INFINITY;

    if (server->transport == PF_UDP && failover.policy.port_check)
        due = port_check_start(server, udp, now);
    if (isfinite(due))
        failover_schedule(due);
}

/* --- decisions ---------------------------------------------------------------------------------------------------- */

/* What was decided, with all that doing it needs: a value, good without the lock. */
struct decision {
    struct failover_actions actions;
    double due;
    unsigned attempt_count;
    struct {
        pf_address server;
        double first_sent;
    } attempts[MAX_ATTEMPTS];
};

static void failover_fill_decision_locked(struct request *request, struct decision *decision)
{
    unsigned i;

    decision->attempt_count = request->state.attempt_count;
    for (i = 0; i < decision->attempt_count; i++) {
        decision->attempts[i].server = request->attempts[i].server;
        decision->attempts[i].first_sent = request->state.attempts[i].first_sent;
    }
    decision->due = request_schedule_locked(request);
}

static void failover_decide_locked(struct request *request, const struct failover_event *event, double now,
                                   struct decision *decision)
{
    failover_decide(&request->state, event, now, &decision->actions);
    if (decision->actions.retry && decision->actions.reason == RETRY_SLOW)
        hedging_spend_locked();
    failover_fill_decision_locked(request, decision);
}

static void failover_decide_unlocked(struct request *request, const struct failover_event *event, double now,
                                     struct decision *decision)
{
    HOLD_LOCK(&requests.lock);
    failover_decide_locked(request, event, now, decision);
}

/* --- a request is sent ------------------------------------------------------------------------------------------- */

/* After how many seconds of silence the method's requests are tried at the next server; INFINITY: never. */
static double failover_timeout_of(const pj_str_t *method)
{
    int i;

    for (i = 0; i < failover.policy.timeout_count; i++)
        if (strlen(failover.policy.timeouts[i].method) == (size_t)method->slen &&
            !memcmp(failover.policy.timeouts[i].method, method->ptr, (size_t)method->slen))
            return failover.policy.timeouts[i].seconds;
    return INFINITY;
}

/* Returns whether the request may go to any server but this one: not within a dialog, nor as a challenge's answer. */
static int failover_may_go_elsewhere(pjsip_tx_data *tdata, const pf_address *server)
{
    pjsip_msg *msg = tdata_msg(tdata);
    pjsip_to_hdr *to = host.pjsip_msg_find_hdr(msg, PJSIP_H_TO, NULL);
    pjsip_cid_hdr *call_id = host.pjsip_msg_find_hdr(msg, PJSIP_H_CALL_ID, NULL);
    const pjsip_tpselector *selector = tdata_selector(tdata);
    struct request_info info;

    if (!to || to->tag.slen || !call_id || override_is_for(tdata))
        return 0;
    /* The application's own choice of a connection leaves no choice of servers; its choice of a UDP socket does. */
    if (server->transport != PF_UDP &&
        (selector->type == PJSIP_TPSELECTOR_TRANSPORT || selector->type == PJSIP_TPSELECTOR_LISTENER))
        return 0;
    memset(&info, 0, sizeof info);
    dialogs_find(&call_id->id, NULL, &info);
    return !info.bound;
}

/* The servers that pjsip was given for this request, over the same transport: Via and Contact stay true. */
static unsigned failover_list_candidates(const pjsip_tx_data *tdata, const pf_address *server, pf_address *candidates,
                                         unsigned *last_resorts)
{
    const pjsip_server_addresses *addresses = tdata_addresses(tdata);
    unsigned total = addresses_count(addresses), current = tdata_current(tdata), count = 0, i;

    *last_resorts = 0;
    for (i = 0; i < total && count < MAX_CANDIDATES; i++) {
        unsigned at = (current + i) % total;
        pf_address *each = &candidates[count];

        if (address_of(each, addresses_address(addresses, at), addresses_type(addresses, at)) &&
            each->transport == server->transport && each->family == server->family) {
            if (addresses_priority(addresses, at) >= LAST_RESORT)
                *last_resorts |= 1u << count;
            count++;
        }
    }
    return count;
}

/* Copies octets to where place points in the request's own block, and moves place on. */
static const void *failover_store(char **place, const void *octets, size_t size, int terminate)
{
    char *copy = *place;

    memcpy(copy, octets, size);
    if (terminate)
        copy[size] = '\0';
    *place += size + (size_t)terminate;
    return copy;
}

/* Fills in when the server is late by its own measure, and when to look whether its port is closed. */
static void failover_set_early_timers(struct request *request, const pf_address *server, double now)
{
    struct failover_state *state = &request->state;
    double rto = servers_rto(server), late = fmax(rto, MIN_HEDGE_S);

    /* An INVITE forks where it goes, so it waits for its time; the others may be hedged. */
    if (isfinite(state->timeout) && !state->invite && hedging_is_on() && rto >= 0 && late < state->timeout)
        state->hedge_at = now + late;
    if (servers_answered_within(server, RECENT_ANSWER_S))
        state->check_port_at = now + late;
}

/* A request that may be tried at other servers; NULL: it may not, there are none, or there is no memory. */
static struct request *failover_make_retriable(pjsip_tx_data *tdata, const pf_address *server, const pjsip_via_hdr *via,
                                               double now)
{
    pjsip_msg *msg = tdata_msg(tdata);
    const pjsip_method *method = &msg->line.req.method;
    pjsip_cid_hdr *call_id = host.pjsip_msg_find_hdr(msg, PJSIP_H_CALL_ID, NULL);
    const pj_str_t *name = tdata_dest_name(tdata);
    pf_address candidates[MAX_CANDIDATES];
    char *place;
    unsigned last_resorts, count = failover_list_candidates(tdata, server, candidates, &last_resorts);
    struct request *request;
    const char *bytes;
    size_t size;

    bytes = tdata_bytes(tdata, &size);
    if (count < 2 || !size || name->slen >= PF_MAX_HOST)
        return NULL;
    request = request_make(&method->name, method->id,
                           count * sizeof *candidates + (size_t)call_id->id.slen + 1 + (size_t)name->slen + 1 +
                               (size_t)via->branch_param.slen + size,
                           now);
    if (!request)
        return NULL;
    place = request->room;
    request->candidates = failover_store(&place, candidates, count * sizeof *candidates, 0);
    request->call_id = failover_store(&place, call_id->id.ptr, (size_t)call_id->id.slen, 1);
    request->name = failover_store(&place, name->ptr, (size_t)name->slen, 1);
    request->key.branch_size = (size_t)via->branch_param.slen;
    request->key.branch = failover_store(&place, via->branch_param.ptr, request->key.branch_size, 0);
    request->bytes = failover_store(&place, bytes, size, 0);
    request->size = size;
    request->state.candidate_count = count;
    request->state.last_resorts = last_resorts;
    request->state.timeout = failover_timeout_of(&method->name);
    if (failover.policy.attempts)
        request->state.max_attempts = (unsigned)failover.policy.attempts;
    if (server->transport == PF_UDP) {
        request->udp = tdata_transport(tdata);
        host.pjsip_transport_add_ref(request->udp);
    }
    failover_set_early_timers(request, server, now);
    return request;
}

/* A request goes out for the first time, or to a server that pjsip walked on to by itself. */
static void failover_begin(pjsip_tx_data *tdata, const pf_address *server, const pjsip_via_hdr *via, uint64_t hash,
                           double now)
{
    pjsip_msg *msg = tdata_msg(tdata);
    const pjsip_method *method = &msg->line.req.method;
    pjsip_transport *transport = tdata_transport(tdata);
    struct request *request = NULL;
    int put, check, account, removes;
    double due;

    if (!servers_know(server))
        return;
    if (atomic_load(&failover.on) && method->id != PJSIP_CANCEL_METHOD && failover_may_go_elsewhere(tdata, server))
        request = failover_make_retriable(tdata, server, via, now);
    if (!request)
        request = request_make(&method->name, method->id, 0, now);
    if (!request)
        return;
    request->state.reliable = server->transport != PF_UDP;
    account = request->account = affinity_registers(tdata);
    removes = request->removes = method->id == PJSIP_REGISTER_METHOD && observer_removes_binding(msg);
    check = request->state.candidate_count && isinf(request->state.check_port_at);
    pthread_mutex_lock(&requests.lock);
    if (request->state.candidate_count)
        hedging_earn_locked();
    request_add_attempt_locked(request, server, transport, now);
    put = request_put_locked(request, hash);
    due = put ? request_schedule_locked(request) : INFINITY;
    pthread_mutex_unlock(&requests.lock);
    if (!put) {
        request_release(request);
        return;
    }
    failover_schedule(due);
    if (server->transport != PF_UDP)
        connections_carry(transport);
    if (check)
        failover_check_port(server, transport, now);
    if (account >= 0)
        affinity_tell(account, msg, server, 0, -1, removes);
}

/* Tells of silent servers. No lock held. */
static void failover_report_silent(const struct request *request, const struct decision *decision)
{
    unsigned i;

    for (i = 0; i < MAX_ATTEMPTS; i++)
        if (decision->actions.silent & 1u << i)
            observer_on_silence(&decision->attempts[i].server, request->key.method, decision->attempts[i].first_sent);
}

/* Sends copies over UDP. No lock held. */
static void failover_send_copies(const struct request *request, const struct decision *decision, unsigned attempts)
{
    unsigned i;

    for (i = 0; i < MAX_ATTEMPTS; i++)
        if (attempts & 1u << i)
            raw_send_datagram(request->udp, &decision->attempts[i].server, request->bytes, request->size);
}

/* A CANCEL of the application's: the other servers where its INVITE rings get theirs. */
static void failover_on_cancel(const pjsip_via_hdr *via, const pf_address *server)
{
    static const pj_str_t invite = { "INVITE", 6 };
    struct request *request = request_hold(transaction_hash(&via->branch_param, &invite));
    struct failover_event event = { .kind = FAILOVER_CANCELLED };
    struct decision decision;

    if (!request)
        return;
    pthread_mutex_lock(&requests.lock);
    event.attempt = request_attempt_at_locked(request, server, NULL);
    failover_decide_locked(request, &event, clock_now(), &decision);
    pthread_mutex_unlock(&requests.lock);
    if (decision.actions.cancel_others)
        forking_cancel_others(request, decision.actions.cancel_except);
    request_release(request);
}

void failover_on_tx_request(pjsip_tx_data *tdata)
{
    const pjsip_method *method = &tdata_msg(tdata)->line.req.method;
    pjsip_transport *transport = tdata_transport(tdata);
    struct request *request;
    struct decision decision;
    unsigned copies = 0;
    pjsip_via_hdr *via;
    pf_address server;
    uint64_t hash;
    double now;
    int at, walked_on = 0;

    if (method->id == PJSIP_ACK_METHOD || !address_of(&server, tdata_destination(tdata), transport_type(transport)))
        return;
    via = host.pjsip_msg_find_hdr(tdata_msg(tdata), PJSIP_H_VIA, NULL);
    if (!via || !via->branch_param.slen)
        return;
    if (method->id == PJSIP_CANCEL_METHOD)
        failover_on_cancel(via, &server);
    now = clock_now();
    hash = transaction_hash(&via->branch_param, &method->name);
    memset(&decision.actions, 0, sizeof decision.actions);
    pthread_mutex_lock(&requests.lock);
    request = request_find_locked(hash);
    if (request) {
        request->refs++;
        at = request_attempt_at_locked(request, &server, transport);
        /* A connect has failed and pjsip has walked on: the bytes are others now, and the time begins anew. */
        walked_on = at < 0 && request->state.attempt_count == 1 && !request->udp;
        if (at >= 0)
            copies = failover_resend(&request->state, at, now, &decision.actions);
        else if (!walked_on)
            request_add_attempt_locked(request, &server, transport, now);
        failover_fill_decision_locked(request, &decision);
    }
    pthread_mutex_unlock(&requests.lock);
    if (request && !walked_on) {
        failover_schedule(decision.due);
        failover_send_copies(request, &decision, copies);
        failover_report_silent(request, &decision);
    } else {
        if (request)
            request_forget(request);
        failover_begin(tdata, &server, via, hash, now);
    }
    if (request)
        request_release(request);
}

/* --- the next server ---------------------------------------------------------------------------------------------- */

static void failover_post(const struct request *request, const pf_address *left, const pf_address *taken,
                          enum failover_reason reason, int code)
{
    pf_failover *note = calloc(1, sizeof *note);

    atomic_fetch_add(reason == RETRY_SLOW ? &failover_counted.hedged : &failover_counted.retried, 1);
    if (!note)
        return;
    note->left = *left;
    note->taken = *taken;
    note->why = (int)reason;
    note->code = code;
    note->after = clock_now() - request->state.began;
    memcpy(note->method, request->key.method, sizeof note->method);
    strncpy(note->call_id, request->call_id, sizeof note->call_id - 1);
    event_queue_post(EVENT_FAILOVER, note);
}

/* Those of its candidates that the core itself suspects, a bit each. */
static unsigned failover_list_suspects_locked(const struct request *request)
{
    unsigned suspects = 0, i;

    for (i = 0; i < request->state.candidate_count; i++)
        if (!(request->state.tried & 1u << i) && servers_is_suspect(&request->candidates[i]))
            suspects |= 1u << i;
    return suspects;
}

/* The candidate to be tried next, marked as tried. Returns 0 when there is none. */
static int failover_take_candidate_locked(struct request *request, pf_address *server)
{
    int candidate = failover_next_candidate(&request->state, failover_list_suspects_locked(request));

    if (candidate < 0)
        return 0;
    *server = request->candidates[candidate];
    request->state.tried |= 1u << candidate;
    return 1;
}

/*
 * A connection to that server, referenced; NULL over UDP. Returns 0 when there is none, which is noted. No lock held.
 */
static int failover_connect(struct request *request, const pf_address *server, pjsip_transport **connection)
{
    unsigned candidates = request_candidates_of(request, server);
    pj_status_t status;

    *connection = NULL;
    if (request->udp)
        return 1;
    status = connections_connect(server, request->name, connection);
    if (status == PJ_SUCCESS)
        return 1;
    pthread_mutex_lock(&requests.lock);
    if (status == PJ_ETOOMANYCONN)
        failover_note_deferred(&request->state, candidates, clock_now());
    else
        failover_note_unreachable(&request->state, candidates, clock_now());
    pthread_mutex_unlock(&requests.lock);
    return 0;
}

/*
 * Sends the request to the next server that will have it; returns 0 when there is none. With along, the transaction moves there at
 * once. A SIP thread, no lock held.
 */
static int failover_try_next_server(struct request *request, const struct decision *decision, int code)
{
    const struct failover_actions *actions = &decision->actions;
    static const pf_address nobody;
    const pf_address *left = actions->left >= 0 ? &decision->attempts[actions->left].server : &nobody;

    for (;;) {
        pjsip_transport *connection;
        pf_address server;
        double now, due;
        int taken, at;

        pthread_mutex_lock(&requests.lock);
        taken = failover_take_candidate_locked(request, &server);
        pthread_mutex_unlock(&requests.lock);
        if (!taken)
            return 0;
        if (!failover_connect(request, &server, &connection))
            continue;
        /* It is in the table before it is on the wire: its response may be quick. */
        now = clock_now();
        pthread_mutex_lock(&requests.lock);
        at = request_add_attempt_locked(request, &server, connection ? connection : request->udp, now);
        due = request_schedule_locked(request);
        pthread_mutex_unlock(&requests.lock);
        failover_schedule(due);
        if (actions->move_along && at >= 0)
            transaction_move(&request->key, &server, connection ? connection : request->udp);
        taken = at >= 0 && forking_send(request, &server, connection, request->bytes, request->size) == PJ_SUCCESS;
        if (connection)
            host.pjsip_transport_dec_ref(connection);
        if (taken) {
            if (!servers_answered_within(&server, RECENT_ANSWER_S))
                failover_check_port(&server, request->udp, now);
            failover_post(request, left, &server, actions->reason, code);
            return 1;
        }
        pthread_mutex_lock(&requests.lock);
        if (at >= 0)
            request->state.attempts[at].ended = 1;
        pthread_mutex_unlock(&requests.lock);
    }
}

/* --- doing what was decided --------------------------------------------------------------------------------------- */

/*
 * A connection whose server has said nothing since the request was sent is closed, for later requests shall not wait on it.
 * Requests that wait on it may still do so. No lock held.
 */
static void failover_abandon_connection(const struct request *request, const struct decision *decision, unsigned index,
                                        double now)
{
    pjsip_transport *connection;

    if (servers_answered_within(&decision->attempts[index].server, now - decision->attempts[index].first_sent))
        return;
    connection = request_hold_connection(request, (int)index);
    if (connection) {
        host.pjsip_transport_shutdown2(connection, PJ_FALSE);
        host.pjsip_transport_dec_ref(connection);
    }
}

/* Does what concerns servers, whatever becomes of the request. No lock held. */
static void failover_act_on_servers(const struct request *request, const struct decision *decision, double now)
{
    const struct failover_actions *actions = &decision->actions;
    unsigned i;

    for (i = 0; i < MAX_ATTEMPTS; i++) {
        if (actions->suspect & 1u << i)
            servers_suspect(&decision->attempts[i].server);
        if (actions->abandon & 1u << i)
            failover_abandon_connection(request, decision, i, now);
    }
    failover_report_silent(request, decision);
    failover_send_copies(request, decision, actions->resend);
}

/* Does what concerns the transaction, once nobody else is to be tried. No lock held. */
static void failover_act_on_transaction(struct request *request, const struct decision *decision)
{
    const struct failover_actions *actions = &decision->actions;

    if (actions->deliver_held && !held_response_deliver(request))
        transaction_end(&request->key);
    if (actions->end_transaction)
        transaction_end(&request->key);
    if (actions->forget)
        request_forget(request);
}

/* --- time --------------------------------------------------------------------------------------------------------- */

/*
 * Catches up with a connection that has ended while another thread was at the transaction, sending it most likely: pjsip itself
 * forgets that end, for it starts the transaction's timeout afterwards, or is about to end the transaction, which the next look
 * tells. Returns 0 when there is nothing to do now. Polling thread, no lock held.
 */
static int failover_catch_up(struct request *request)
{
    const double next = clock_now() + TSX_END_S;
    const pjsip_transport *ended;
    int listed;

    pthread_mutex_lock(&requests.lock);
    ended = request->unsettled;
    request->unsettled = NULL;
    listed = request->listed;
    pthread_mutex_unlock(&requests.lock);
    if (!ended)
        return 1;
    if (!listed)
        return 0; /* that thread has walked on with the request */
    send_guard_wait(request->link.hash);
    if (!transaction_keep_alive(&request->key, ended)) {
        request_forget(request);
        return 0;
    }
    pthread_mutex_lock(&requests.lock);
    if (request->listed)
        heap_put(&requests.heap, &request->timer, next);
    pthread_mutex_unlock(&requests.lock);
    return 0;
}

/* Tries the next server, as was decided; with nobody left, decides what else is to be done. Returns whether it went on. */
static int failover_retry(struct request *request, struct decision *decision, int code)
{
    struct failover_event event = { .kind = FAILOVER_NOBODY_LEFT,
                                    .attempt = decision->actions.left,
                                    .code = code,
                                    .reason = decision->actions.reason };

    if (failover_try_next_server(request, decision, code))
        return 1;
    failover_decide_unlocked(request, &event, clock_now(), decision);
    return 0;
}

/* A request whose time has come. Polling thread, no lock held. */
static void failover_process(struct request *request, double now)
{
    struct failover_event event = { .kind = FAILOVER_TIMER, .attempt = -1 };
    struct decision decision;
    int trying, expired;

    if (!failover_catch_up(request))
        return;
    pthread_mutex_lock(&requests.lock);
    trying = request->state.state == REQUEST_TRYING && !failover_was_just_repeated(&request->state, now) &&
             (failover_has_candidate(&request->state) || request->state.stranded);
    event.may_hedge = hedging_is_affordable_locked();
    expired = failover_asks_if_alive(&request->state, now);
    pthread_mutex_unlock(&requests.lock);
    if (trying && !transaction_is_unanswered(&request->key))
        event.kind = FAILOVER_GIVEN_UP;
    event.alive = expired && transaction_exists(&request->key);
    failover_decide_unlocked(request, &event, now, &decision);
    if (decision.actions.check_port)
        failover_check_port(&decision.attempts[0].server, request->udp, now);
    failover_act_on_servers(request, &decision, now);
    if (decision.actions.retry && failover_retry(request, &decision, 0))
        return;
    failover_act_on_transaction(request, &decision);
}

/*
 * An ICMP says that the server's port is closed: its requests go on at once. Anybody may forge one, so the server is but suspect
 * until there is a second. Polling thread, no lock held.
 */
static void failover_on_port_closed(const pf_address *server, int refusals, double now)
{
    struct failover_event event = { .kind = FAILOVER_PORT_CLOSED };
    struct failover_actions actions;
    struct attempt *attempt;

    if (refusals > 1)
        observer_on_refusal(server);
    else
        servers_suspect(server);
    pthread_mutex_lock(&requests.lock);
    for (attempt = request_first_at_server_locked(server); attempt; attempt = attempt->next) {
        event.attempt = (int)(attempt - attempt->request->attempts);
        failover_decide(&attempt->request->state, &event, now, &actions);
        request_schedule_now_locked(attempt->request);
    }
    pthread_mutex_unlock(&requests.lock);
}

void failover_tick(double now)
{
    struct request *request;
    double due, next_port;
    pf_address server;
    int refusals;

    pthread_mutex_lock(&requests.lock);
    failover.due = INFINITY;
    pthread_mutex_unlock(&requests.lock);
    while ((refusals = port_check_next_refused(now + SLACK_S, &server, &next_port)) != 0)
        failover_on_port_closed(&server, refusals, now);
    for (;;) {
        pthread_mutex_lock(&requests.lock);
        request = request_first_due_locked(&due);
        if (due > now + SLACK_S)
            request = NULL;
        if (request) {
            request->refs++;
            heap_put(&requests.heap, &request->timer, now + 2 * SLACK_S); /* another polling thread finds others */
        } else {
            due = fmin(due, next_port);
            failover.due = fmin(failover.due, due);
        }
        pthread_mutex_unlock(&requests.lock);
        if (!request)
            break;
        failover_process(request, now);
        pthread_mutex_lock(&requests.lock);
        if (request->listed && request->timer.due <= now + SLACK_S)
            heap_put(&requests.heap, &request->timer, now + 2 * SLACK_S); /* whatever it wants: others wait as well */
        pthread_mutex_unlock(&requests.lock);
        request_release(request);
    }
    if (isfinite(due))
        failover.wake_at(due);
}

/* --- a response comes --------------------------------------------------------------------------------------------- */

static int failover_is_retriable(int code)
{
    int i;

    for (i = 0; i < failover.policy.code_count; i++)
        if (failover.policy.codes[i] == code)
            return 1;
    return 0;
}

/* Returns whether the response tells anything new. */
static int failover_expects_response(const struct attempt_state *attempt, int heard)
{
    return !attempt->ended || (attempt->guessed && heard);
}

/* What the response tells of its server, before it is decided about. */
static void failover_observe_locked(struct request *request, const struct failover_event *event,
                                    struct observed_response *observed)
{
    const struct attempt_state *state = &request->state.attempts[event->attempt];

    observed->server = request->attempts[event->attempt].server;
    observed->heard = event->heard;
    observed->after_provisional = state->provisional;
    observed->settled = request->settled;
    observed->account = request->account;
    observed->removes = request->removes;
    /* Karn: after a retransmission nobody knows which copy was answered. An INVITE's final waits for a human. */
    observed->rtt = event->heard && state->sends == 1 && !state->provisional ? clock_now() - state->first_sent : -1;
    request->settled |= event->code >= 200 && event->code < 300;
}

/*
 * Where an ACK of ours for the response goes: to the attempt's server over its own connection (NULL: one is found or made), else to
 * where it came from.
 */
static const pf_address *failover_sender_of(const struct decision *decision, int attempt, const pf_address *source,
                                            pjsip_rx_data *rdata, pjsip_transport *own, pjsip_transport **over)
{
    *over = attempt < 0 ? rdata->tp_info.transport : own;
    return attempt < 0 ? source : &decision->attempts[attempt].server;
}

pj_bool_t failover_on_rx_response(pjsip_rx_data *rdata)
{
    const pjsip_via_hdr *via = RDATA_INFO(rdata)->via;
    const pjsip_cseq_hdr *cseq = RDATA_INFO(rdata)->cseq;
    const pj_str_t *tag = RDATA_INFO(rdata)->to ? &RDATA_INFO(rdata)->to->tag : NULL;
    int code = RDATA_INFO(rdata)->msg->line.status.code, observe = 0, moved = 0, retried = 0, hidden;
    uint64_t tag_hash = tag ? hash_bytes(HASH_SEED, tag->ptr, (size_t)tag->slen) : 0;
    struct failover_event event = { .kind = FAILOVER_RESPONSE, .code = code, .retriable = failover_is_retriable(code) };
    struct observed_response observed;
    struct decision decision;
    struct request *request;
    pjsip_transport *over, *own = NULL;
    const pf_address *sender;
    pf_address source;
    double now;

    if (!via || !cseq || !via->branch_param.slen)
        return PJ_FALSE;
    now = clock_now();
    if (!address_of(&source, RDATA_SOURCE(rdata), transport_type(rdata->tp_info.transport)))
        memset(&source, 0, sizeof source);
    pthread_mutex_lock(&requests.lock);
    request = request_find_locked(transaction_hash(&via->branch_param, &cseq->method.name));
    if (request) {
        request->refs++;
        event.attempt = request_attempt_of_response_locked(request, &source, &event.heard);
        event.same_dialog = request->state.state == REQUEST_COMPLETED && code >= 200 && tag_hash == request->final_tag;
        observe = event.attempt >= 0 && failover_expects_response(&request->state.attempts[event.attempt], event.heard);
        if (observe)
            failover_observe_locked(request, &event, &observed);
        failover_decide_locked(request, &event, now, &decision);
        if (decision.actions.pass && code >= 200)
            request->final_tag = tag_hash;
        own = request_hold_connection_locked(request, event.attempt);
    }
    pthread_mutex_unlock(&requests.lock);
    if (!request)
        return PJ_FALSE;
    if (observe)
        observer_on_response(rdata, &observed);
    failover_schedule(decision.due);
    failover_act_on_servers(request, &decision, now);
    sender = failover_sender_of(&decision, event.attempt, &source, rdata, own, &over);
    if (decision.actions.acknowledge)
        forking_acknowledge(request, sender, over, rdata);
    if (decision.actions.hang_up)
        forking_hang_up(request, sender, over, rdata);
    if (decision.actions.retry)
        retried = failover_retry(request, &decision, code);
    if (decision.actions.hold)
        held_response_keep(request, rdata);
    /* Over the attempt's own connection: the response may have come by another. */
    if (decision.actions.move_to >= 0 && (request->udp || own))
        moved = transaction_move(&request->key, &decision.attempts[decision.actions.move_to].server,
                                 request->udp ? request->udp : own);
    /* Where its own connection is not there yet, the transaction cannot be moved, nor send an ACK. */
    if (decision.actions.acknowledge_unmoved && !moved)
        forking_acknowledge(request, sender, over, rdata);
    if (decision.actions.cancel_others)
        forking_cancel_others(request, decision.actions.cancel_except);
    if (decision.actions.forget)
        request_forget(request);
    request_release(request);
    if (own)
        host.pjsip_transport_dec_ref(own);
    hidden = retried || !decision.actions.pass;
    if (hidden && code >= 200)
        atomic_fetch_add(&failover_counted.suppressed, 1);
    return hidden;
}

/* --- a connection ends -------------------------------------------------------------------------------------------- */

/*
 * The connection of one attempt has ended. The transaction is kept from hearing of it where somebody else may still answer, or be
 * asked; else pjsip ends it by itself.
 */
static void failover_on_attempt_lost(struct request *request, int attempt, pjsip_transport *transport)
{
    struct failover_event event = { .kind = FAILOVER_CONNECTION_ENDED, .attempt = attempt };
    struct decision decision;
    int open, outlives, busy = 0;
    double now = clock_now();

    pthread_mutex_lock(&requests.lock);
    open = request->state.candidate_count && request->state.state != REQUEST_COMPLETED;
    outlives = failover_outlives_connection(&request->state);
    pthread_mutex_unlock(&requests.lock);
    if (open) {
        busy = send_guard_is_sending_elsewhere(request->link.hash);
        event.kept = !busy && transaction_try_keep_alive(&request->key, transport, outlives, &busy);
        event.kept |= busy;
    }
    pthread_mutex_lock(&requests.lock);
    memset(&decision.actions, 0, sizeof decision.actions);
    /* It may have been tried there anew meanwhile. */
    if (request->attempts[attempt].transport == transport && !request->state.attempts[attempt].ended) {
        failover_decide_locked(request, &event, now, &decision);
        if (busy)
            request->unsettled = transport;
        if (event.kept)
            request_schedule_now_locked(request);
    }
    pthread_mutex_unlock(&requests.lock);
    if (event.kept)
        failover_schedule(now);
    if (decision.actions.forget)
        request_forget(request);
}

/* Returns whether a request on that connection will never be answered; method: the last one's. All are noted. */
static int failover_loses_requests(const pjsip_transport *transport, char method[16])
{
    HOLD_LOCK(&requests.lock);
    struct attempt *attempt;
    int lost = 0;

    for (attempt = request_first_on_connection_locked(transport); attempt; attempt = attempt->next) {
        struct attempt_state *state = &attempt->request->state.attempts[attempt - attempt->request->attempts];

        if (state->ended || state->provisional || state->silent)
            continue;
        state->silent = 1;
        strcpy(method, attempt->request->key.method);
        lost = 1;
    }
    return lost;
}

void failover_on_transport_state(pjsip_transport *transport, pjsip_transport_state state,
                                 const pjsip_transport_state_info *info)
{
    pf_outcome outcome;

    if (connections_on_state(transport, state, info, &outcome) &&
        (failover_loses_requests(transport, outcome.method) || outcome.seen != PF_DISCONNECTED))
        servers_record_failure(&outcome.server, &outcome);
    if (state != PJSIP_TP_STATE_DISCONNECTED && state != PJSIP_TP_STATE_DESTROY)
        return;
    for (;;) {
        struct request *request = NULL;
        pjsip_transport *own = NULL;
        struct attempt *attempt;

        pthread_mutex_lock(&requests.lock);
        attempt = request_first_on_connection_locked(transport);
        if (attempt) {
            request = attempt->request;
            request->refs++;
            request_unlist_attempt_locked(attempt);
            own = request_take_connection_locked(attempt);
        }
        pthread_mutex_unlock(&requests.lock);
        if (!attempt)
            return;
        if (state == PJSIP_TP_STATE_DISCONNECTED)
            failover_on_attempt_lost(request, (int)(attempt - request->attempts), transport);
        if (own)
            host.pjsip_transport_dec_ref(own);
        request_release(request);
    }
}

/* --- opening and closing ------------------------------------------------------------------------------------------ */

void failover_open(void (*wake_at)(double when))
{
    pthread_mutex_lock(&requests.lock);
    failover.wake_at = wake_at;
    failover.policy = failover_wanted;
    hedging_open(failover_wanted.hedge_budget);
    failover.due = INFINITY;
    atomic_store(&requests.unwatched, 0);
    pthread_mutex_unlock(&requests.lock);
    atomic_store(&failover_counted.retried, 0);
    atomic_store(&failover_counted.hedged, 0);
    atomic_store(&failover_counted.suppressed, 0);
    atomic_store(&failover.on, failover_wanted.enabled);
}

/* Moves a transaction that listens to no connection any more to an attempt whose connection is there. Returns 0 when none is. */
static int failover_move_back(const struct request *request, const struct decision *decision)
{
    int moved = 0, i;

    for (i = (int)decision->attempt_count - 1; i >= 0 && !moved; i--) {
        pjsip_transport *connection = request_hold_connection(request, i);

        if (connection) {
            moved = transaction_move(&request->key, &decision->attempts[i].server, connection);
            host.pjsip_transport_dec_ref(connection);
        }
    }
    return moved;
}

/* The attempt where the transaction is; -1: nowhere. */
static int failover_attempt_of_transaction(const struct request *request, const struct decision *decision)
{
    pf_address server;
    int i;

    for (i = transaction_where(&request->key, &server) ? (int)decision->attempt_count - 1 : -1; i >= 0; i--)
        if (!memcmp(&decision->attempts[i].server, &server, sizeof server))
            break;
    return i;
}

/* The request is pjsip's alone again, as if it had never gone anywhere else. No lock held. */
static void failover_give_back(struct request *request)
{
    const struct failover_event event = { .kind = FAILOVER_DETACH, .attempt = -1 };
    struct decision decision;

    failover_decide_unlocked(request, &event, clock_now(), &decision);
    if (!request->bytes)
        return;
    if (!request->udp && transaction_is_kept(&request->key) && !failover_move_back(request, &decision) &&
        !held_response_deliver(request))
        transaction_end(&request->key);
    if (decision.actions.cancel_others)
        forking_cancel_others(request, failover_attempt_of_transaction(request, &decision));
}

void failover_close(void)
{
    struct request *request;

    atomic_store(&failover.on, 0);
    port_check_close();
    do {
        pthread_mutex_lock(&requests.lock);
        request = request_take_any_locked();
        pthread_mutex_unlock(&requests.lock);
        if (request) {
            failover_give_back(request);
            request_release(request);
        }
    } while (request);
}

double failover_connection_attempt_delay(void)
{
    return failover_wanted.enabled ? failover_wanted.connection_attempt_delay : -1;
}

unsigned long long failover_outstanding(void)
{
    HOLD_LOCK(&requests.lock);
    return requests.table.count;
}

void failover_count(pf_counters *counters)
{
    counters->retried = atomic_load(&failover_counted.retried);
    counters->hedged = atomic_load(&failover_counted.hedged);
    counters->suppressed = atomic_load(&failover_counted.suppressed);
    counters->outstanding = failover_outstanding();
    counters->unwatched = pf_unwatched();
}

unsigned long long pf_unwatched(void) { return atomic_load(&requests.unwatched); }
