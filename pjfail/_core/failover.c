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
#include "outgoing.h"
#include "port_check.h"
#include "registrations.h"
#include "requests.h"
#include "retriable.h"
#include "send_guard.h"
#include "servers.h"
#include "standby.h"
#include "text.h"
#include "transaction.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Seconds after a connection's end within which pjsip ends its transactions, if it does. */
#define TSX_END_S 0.02

/*
 * Seconds that a connection's end waits for a thread that sends the request, or works with its transaction. That is done within a
 * millisecond, or a few on a busy machine, unless it waits for this thread; and pjsip ends the transaction at once.
 */
#define SETTLE_S 0.02

/* Timers that are due within so many seconds are processed together. */
#define SLACK_S 0.005

/* Written by failover_open() alone, while nothing else runs, except the atomics. */
static struct {
    _Atomic double due; /* the soonest that a tick was asked for */
    void (*wake_at)(double when);
    void (*begin_ticks)(void);
    double (*polled_since)(double now);
    atomic_int on;
    pf_retry_policy policy;
} failover;

static struct {
    atomic_ullong retried, hedged, suppressed;
} failover_counted;

static pf_retry_policy failover_wanted;

void pf_set_retry_policy(const pf_retry_policy *policy) { failover_wanted = *policy; }

/* Makes the polling thread tick at that time, too. No lock held. */
static void failover_schedule(double when)
{
    double due = atomic_load(&failover.due);

    while (when < due)
        if (atomic_compare_exchange_weak(&failover.due, &due, when)) {
            failover.wake_at(when);
            break;
        }
}

/* Starts a check of the port of a UDP server; udp, overdue: as in port_check.h. No lock of ours held. */
static void failover_check_port(const pf_address *server, pjsip_transport *udp, int overdue, double now)
{
    double due = INFINITY;

    if (server->transport == PF_UDP && failover.policy.port_check)
        due = port_check_start(server, udp, overdue, now);
    if (isfinite(due))
        failover_schedule(due);
}

/* --- decisions ---------------------------------------------------------------------------------------------------- */

/* A decision, with everything needed to carry it out: a value that is valid without the lock. */
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
    decision->due = decision->actions.forget ? INFINITY : request_schedule_locked(request);
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

/*
 * Notes that the application has hung up on an INVITE that had no response: pjsip sends its CANCEL once there is one, and says
 * nothing until then. Returns whether it has. No lock of ours held.
 */
static int failover_note_hang_up(struct request *request)
{
    const struct failover_event event = { .kind = FAILOVER_CANCELLED, .attempt = -1 };
    struct decision decision;

    if (!request->bytes || request->key.method_id != PJSIP_INVITE_METHOD || !transaction_is_hung_up(&request->key))
        return 0;
    failover_decide_unlocked(request, &event, clock_now(), &decision);
    return 1;
}

/* --- a request is sent ------------------------------------------------------------------------------------------- */

/* Begins to watch a request that is sent for the first time, or that pjsip itself sends to its next server. */
static void failover_begin(pjsip_tx_data *tdata, const pf_address *server, const pj_str_t *branch, uint64_t hash,
                           double now)
{
    pjsip_msg *msg = tdata_msg(tdata);
    const pjsip_method *method = &msg->line.req.method;
    pjsip_transport *transport = tdata_transport(tdata);
    struct request *request = NULL;
    int put, on, account, removes;
    struct server_view view;
    pf_target next_hop;
    double due;

    if (!servers_view(server, now, &view))
        return;
    on = atomic_load(&failover.on) && method->id != PJSIP_CANCEL_METHOD;
    if (on)
        request = retriable_make(tdata, server, &view, branch, &failover.policy, now);
    if (!request)
        request = request_make(&method->name, method->id, 0, now);
    if (!request)
        return;
    request->state.reliable = server->transport != PF_UDP;
    account = request->account = affinity_registers(tdata, &next_hop);
    removes = request->removes = method->id == PJSIP_REGISTER_METHOD && observer_removes_binding(msg);
    if (request->state.reliable && method->id == PJSIP_REGISTER_METHOD && !removes)
        request->contact_port = contact_port_of(msg);
    if (on && view.answered_recently)
        request->state.check_port_at = now + fmax(view.rto, MIN_HEDGE_S);
    pthread_mutex_lock(&requests.lock);
    if (request->state.candidate_count)
        hedging_earn_locked();
    request_add_attempt_locked(request, server, &view, transport, now);
    put = request_put_locked(request, hash);
    due = put ? request_schedule_locked(request) : INFINITY;
    pthread_mutex_unlock(&requests.lock);
    if (!put) {
        request_release(request);
        return;
    }
    failover.begin_ticks();
    failover_schedule(due);
    if (server->transport != PF_UDP)
        connections_carry(transport);
    if (on && !view.answered_recently)
        failover_check_port(server, transport, 0, now);
    if (account >= 0 || account == AFFINITY_NOT_FOLLOWED) {
        const pf_address original = servers_original(server);

        affinity_tell(account, msg, &next_hop, &original, NULL, 0, -1, removes);
        if (account >= 0)
            standby_on_register(account, tdata, removes);
        if (removes)
            registrations_on_removal(account >= 0 ? account : REGISTRATIONS_UNKNOWN, msg);
    }
}

/* Reports silent servers. No lock held. */
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

    for (i = 0; i < MAX_ATTEMPTS; i++) {
        pjsip_transport *udp = attempts & 1u << i ? request_hold_connection(request, (int)i) : NULL;

        if (udp) {
            forking_send(request, &decision->attempts[i].server, udp);
            host.pjsip_transport_dec_ref(udp);
        }
    }
}

/* Cancels the INVITE at the servers of these attempts. No lock held. */
static void failover_cancel(const struct request *request, const struct decision *decision, unsigned attempts)
{
    unsigned i;

    for (i = 0; i < MAX_ATTEMPTS; i++)
        if (attempts & 1u << i)
            forking_cancel(request, &decision->attempts[i].server);
}

/* The application has sent a CANCEL: sends one to the other servers where its INVITE rings. */
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
    failover_cancel(request, &decision, decision.actions.cancel);
    request_release(request);
}

/* A request is sent again: to a server that has it, or by pjsip itself to its next one. Returns 0 if it begins anew. */
static int failover_on_repetition(struct request *request, const pf_address *server, pjsip_transport *transport,
                                  double now)
{
    const double polled_since = failover.polled_since(now);
    struct decision decision;
    unsigned copies = 0;
    int at, walked_on;

    memset(&decision.actions, 0, sizeof decision.actions);
    pthread_mutex_lock(&requests.lock);
    at = request_attempt_at_locked(request, server, transport);
    /* Sending or a connect has failed, and pjsip has gone on to its next server, where the request begins anew. */
    walked_on = at < 0 && request->state.attempt_count == 1;
    if (at >= 0) {
        copies = failover_resume(&request->state, polled_since, now) & ~(1u << at);
        copies |= failover_resend(&request->state, at, now, &decision.actions);
    } else if (!walked_on) {
        struct server_view view;

        servers_view(server, now, &view);
        request_add_attempt_locked(request, server, &view, transport, now);
    }
    failover_fill_decision_locked(request, &decision);
    pthread_mutex_unlock(&requests.lock);
    if (walked_on)
        return 0;
    if (copies && failover_note_hang_up(request))
        copies = 0;
    failover_schedule(decision.due);
    failover_send_copies(request, &decision, copies);
    failover_report_silent(request, &decision);
    return 1;
}

void failover_on_tx_request(pjsip_tx_data *tdata)
{
    const pjsip_method *method = &tdata_msg(tdata)->line.req.method;
    pjsip_transport *transport = tdata_transport(tdata);
    struct request *request;
    pjsip_via_hdr *via;
    pf_address server;
    uint64_t hash;
    double now;
    int begins;

    if (method->id == PJSIP_ACK_METHOD || !address_of(&server, tdata_destination(tdata), transport_type(transport)))
        return;
    via = host.pjsip_msg_find_hdr(tdata_msg(tdata), PJSIP_H_VIA, NULL);
    if (!via || !via->branch_param.slen)
        return;
    if (method->id == PJSIP_CANCEL_METHOD)
        failover_on_cancel(via, &server);
    now = clock_now();
    hash = transaction_hash(&via->branch_param, &method->name);
    request = request_hold(hash);
    begins = !request || !failover_on_repetition(request, &server, transport, now);
    if (request)
        request_finish(request, begins);
    if (begins)
        failover_begin(tdata, &server, &via->branch_param, hash, now);
}

/* --- the next server ---------------------------------------------------------------------------------------------- */

static void failover_post(const struct request *request, const pf_address *left, const pf_address *taken,
                          enum failover_reason reason, int code)
{
    pf_failover *note = calloc(1, sizeof *note);

    atomic_fetch_add(reason == RETRY_SLOW ? &failover_counted.hedged : &failover_counted.retried, 1);
    if (!note)
        return;
    note->left = servers_original(left);
    note->taken = servers_original(taken);
    note->why = (int)reason;
    note->code = code;
    note->after = clock_now() - request->state.began;
    memcpy(note->method, request->key.method, sizeof note->method);
    strncpy(note->call_id, request->call_id, sizeof note->call_id - 1);
    event_queue_post(EVENT_FAILOVER, note);
}

/* Returns the candidates that the core itself suspects, as a bit mask. */
static unsigned failover_list_suspects_locked(const struct request *request)
{
    unsigned suspects = 0, i;

    for (i = 0; i < request->state.candidate_count; i++)
        if (!(request->state.tried & 1u << i) && servers_is_suspect(&request->candidates[i]))
            suspects |= 1u << i;
    return suspects;
}

/* Schedules the request's next look anew. No lock held. */
static void failover_reschedule(struct request *request)
{
    double due;

    pthread_mutex_lock(&requests.lock);
    due = request_schedule_locked(request);
    pthread_mutex_unlock(&requests.lock);
    failover_schedule(due);
}

/* Takes the next candidate, and marks it as tried. Returns 0 if there is none. */
static int failover_take_candidate_locked(struct request *request, enum failover_reason reason, pf_address *server)
{
    int candidate = failover_next_candidate(&request->state, failover_list_suspects_locked(request), reason);

    if (candidate < 0)
        return 0;
    *server = request->candidates[candidate];
    request->state.tried |= 1u << candidate;
    return 1;
}

/* The transport to that server, referenced. Returns 0 when there is none, which is noted. No lock held. */
static int failover_connect(struct request *request, const pf_address *server, pjsip_transport **transport)
{
    unsigned candidates = request_candidates_of(request, server);
    pj_status_t status = PJ_SUCCESS;

    *transport = server->transport == PF_UDP ? request_hold_transport(request, server) : NULL;
    if (!*transport)
        status = server->transport == PF_UDP
                     ? connections_acquire(server, request->name, &request->selector, transport)
                     : connections_connect(server, request->name, &request->selector, transport);
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
 * Sends the request to the next server that can be reached; returns 0 if there is none. With along, the transaction
 * moves there at once. A SIP thread, no lock held.
 */
static int failover_try_next_server(struct request *request, const struct decision *decision)
{
    const struct failover_actions *actions = &decision->actions;
    static const pf_address nobody;
    const pf_address *left = actions->left >= 0 ? &decision->attempts[actions->left].server : &nobody;

    for (;;) {
        pjsip_transport *transport;
        pf_address server;
        struct server_view view;
        double now, due;
        int taken, at;

        pthread_mutex_lock(&requests.lock);
        taken = failover_take_candidate_locked(request, actions->reason, &server);
        pthread_mutex_unlock(&requests.lock);
        if (!taken)
            return 0;
        if (!failover_connect(request, &server, &transport))
            continue;
        /* The attempt is recorded before the request is sent: the response may be quick. */
        now = clock_now();
        servers_view(&server, now, &view);
        pthread_mutex_lock(&requests.lock);
        at = request_add_attempt_locked(request, &server, &view, transport, now);
        due = request_schedule_locked(request);
        pthread_mutex_unlock(&requests.lock);
        failover_schedule(due);
        if (actions->move_along && at >= 0 && request_move_transaction(request, &server, transport))
            failover_reschedule(request);
        taken = at >= 0 && forking_send(request, &server, transport) == PJ_SUCCESS;
        if (taken && !servers_answered_within(&server, RECENT_ANSWER_S))
            failover_check_port(&server, transport, 0, now);
        host.pjsip_transport_dec_ref(transport);
        if (taken) {
            failover_post(request, left, &server, actions->reason, actions->code);
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
 * Closes a connection on which the server has sent nothing since the request, so that later requests do not wait on
 * it. Requests that wait on it already may go on waiting. No lock held.
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

/* Carries out the actions that concern servers. No lock held. */
static void failover_act_on_servers(const struct request *request, const struct decision *decision, double now)
{
    const struct failover_actions *actions = &decision->actions;
    unsigned i;

    if (!(actions->suspect | actions->abandon | actions->silent | actions->resend))
        return;
    for (i = 0; i < MAX_ATTEMPTS; i++) {
        if (actions->suspect & 1u << i)
            servers_suspect(&decision->attempts[i].server);
        if (actions->abandon & 1u << i)
            failover_abandon_connection(request, decision, i, now);
    }
    failover_report_silent(request, decision);
    failover_send_copies(request, decision, actions->resend);
}

/* Carries out the actions that concern the transaction, when no other server is tried. No lock held. */
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
 * Catches up with a connection that ended while another thread was working with the transaction, most likely sending
 * it. pjsip itself misses that end, because it starts the transaction's timeout afterwards; or it is about to end the
 * transaction, which the next look shows. Returns 0 if there is nothing to do now. Polling thread, no lock held.
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
        return 0; /* that thread has gone on with the request */
    send_guard_wait(request->link.hash, SEND_TIMEOUT_S);
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

/* Tries the next server, as decided; if none is left, decides again. Returns whether a server was tried. */
static int failover_retry(struct request *request, struct decision *decision, int code)
{
    struct failover_event event = { .kind = FAILOVER_NOBODY_LEFT,
                                    .attempt = decision->actions.left,
                                    .code = code,
                                    .reason = decision->actions.reason };

    if (!failover_note_hang_up(request) && failover_try_next_server(request, decision))
        return 1;
    failover_decide_unlocked(request, &event, clock_now(), decision);
    return 0;
}

/* Processes a request that is due. Polling thread, no lock held. */
static void failover_process(struct request *request, double now)
{
    struct failover_event event = { .kind = FAILOVER_TIMER, .attempt = -1 };
    struct decision decision;
    double polled_since = failover.polled_since(now);
    unsigned copies;
    pjsip_transport *udp;
    int trying, expired;

    if (!failover_catch_up(request))
        return;
    pthread_mutex_lock(&requests.lock);
    copies = failover_resume(&request->state, polled_since, now);
    trying = request->state.state == REQUEST_TRYING && !failover_was_just_repeated(&request->state, now) &&
             (failover_has_candidate(&request->state) || request->state.stranded);
    event.may_hedge = hedging_is_affordable_locked();
    expired = failover_asks_if_alive(&request->state, now);
    pthread_mutex_unlock(&requests.lock);
    if (trying && !transaction_awaits_final(&request->key))
        event.kind = FAILOVER_GIVEN_UP;
    event.alive = expired && transaction_exists(&request->key);
    failover_decide_unlocked(request, &event, now, &decision);
    if (decision.actions.check_port) {
        udp = request_hold_connection(request, 0); /* NULL: the request is only watched */
        failover_check_port(&decision.attempts[0].server, udp, 1, now);
        if (udp)
            host.pjsip_transport_dec_ref(udp);
    }
    if (copies && event.kind == FAILOVER_TIMER && !failover_note_hang_up(request))
        decision.actions.resend |= copies;
    failover_act_on_servers(request, &decision, now);
    if (decision.actions.retry && failover_retry(request, &decision, 0))
        return;
    failover_act_on_transaction(request, &decision);
}

/*
 * An ICMP says that the server's port is closed: its requests are tried elsewhere at once. Anybody may forge an ICMP,
 * so the first one only makes the server suspect. Polling thread, no lock held.
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
    for (attempt = request_first_at_server_locked(server); attempt; attempt = request_next_attempt_locked(attempt)) {
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

    atomic_store(&failover.due, INFINITY);
    while ((refusals = port_check_next_refused(now + SLACK_S, &server, &next_port)) != 0)
        failover_on_port_closed(&server, refusals, now);
    for (;;) {
        pthread_mutex_lock(&requests.lock);
        request = request_first_due_locked(&due);
        if (due > now + SLACK_S)
            request = NULL;
        if (request) {
            request->refs++;
            heap_put(&requests.heap, &request->timer,
                     now + 2 * SLACK_S); /* so that another polling thread takes other requests */
        }
        pthread_mutex_unlock(&requests.lock);
        if (!request)
            break;
        failover_process(request, now);
        pthread_mutex_lock(&requests.lock);
        if (request->listed && request->timer.due <= now + SLACK_S)
            heap_put(&requests.heap, &request->timer,
                     now + 2 * SLACK_S); /* whatever it wants, other requests wait too */
        pthread_mutex_unlock(&requests.lock);
        request_release(request);
    }
    failover_schedule(fmin(due, next_port));
}

/* --- a response comes --------------------------------------------------------------------------------------------- */

static int failover_is_retriable(int code)
{
    int i;

    for (i = 0; i < failover.policy.code_count; i++)
        if (failover.policy.codes[i] == code || (failover.policy.codes[i] == code / 100 && !dialogs_is_challenge(code)))
            return 1;
    return 0;
}

/* Returns whether the response says anything new. */
static int failover_expects_response(const struct attempt_state *attempt, int heard)
{
    return !attempt->ended || (attempt->guessed && heard);
}

/* Records what the response says about its server, before the decision. */
static void failover_observe_locked(struct request *request, const struct failover_event *event, double now,
                                    struct observed_response *observed)
{
    const struct attempt_state *state = &request->state.attempts[event->attempt];

    observed->server = request->attempts[event->attempt].server;
    observed->server_hash = request->attempts[event->attempt].server_hash;
    observed->registrar = request->attempts[failover_credited_attempt(&request->state, event->attempt)].server;
    observed->heard = event->heard;
    observed->after_provisional = state->provisional;
    observed->settled = request->settled;
    observed->account = request->account;
    observed->removes = request->removes;
    /*
     * Karn's rule: after a retransmission it is unknown which copy was answered. The final response to an INVITE waits
     * for a person.
     */
    observed->rtt =
        event->heard && state->sends == 1 && !state->resumed && !state->provisional ? now - state->first_sent : -1;
    observed->at = now;
    request->settled |= event->code >= 200 && event->code < 300;
}

/*
 * Returns where our ACK for the response goes: to the attempt's server, over its own connection (NULL: one is found or
 * opened), otherwise to where the response came from.
 */
static const pf_address *failover_sender_of(const struct decision *decision, int attempt, const pf_address *source,
                                            pjsip_rx_data *rdata, pjsip_transport *own, pjsip_transport **over)
{
    *over = attempt < 0 ? rdata->tp_info.transport : own;
    return attempt < 0 ? source : &decision->attempts[attempt].server;
}

/* Writes the servers that the request may still be tried at, as they would be taken. */
static int failover_list_remaining_locked(const struct request *request, pf_address *remaining)
{
    struct failover_state state = request->state;
    const unsigned suspects = failover_list_suspects_locked(request);
    int count = 0, candidate;

    while ((candidate = failover_next_candidate(&state, suspects, RETRY_CODE)) >= 0) {
        remaining[count++] = request->candidates[candidate];
        state.tried |= request_candidates_of(request, &request->candidates[candidate]);
    }
    return count;
}

/* Asks the application about a response that is held. Returns 0 where there is no room. No lock held. */
static int failover_ask(struct request *request, const pjsip_rx_data *rdata, const struct failover_event *event,
                        const struct decision *decision)
{
    static atomic_uint last;
    const int size = outgoing_response_room(rdata);
    pf_ruling *ruling = calloc(1, sizeof *ruling + (size_t)size + request->size);

    if (!ruling)
        return 0;
    outgoing_write_response(rdata, ruling->text, size, &ruling->head, &ruling->body);
    memcpy(ruling->text + ruling->head + ruling->body, request->bytes, request->size);
    ruling->message = (int)request->size;
    ruling->code = event->code;
    ruling->request = request->link.hash;
    ruling->number = atomic_fetch_add(&last, 1) + 1;
    if (event->attempt >= 0) {
        ruling->server = decision->attempts[event->attempt].server;
        ruling->rtt = clock_now() - decision->attempts[event->attempt].first_sent;
    }
    pthread_mutex_lock(&requests.lock);
    request->ruling = ruling->number;
    ruling->remaining_count = failover_list_remaining_locked(request, ruling->remaining);
    pthread_mutex_unlock(&requests.lock);
    return event_queue_post(EVENT_RULING, ruling);
}

/* The application cannot be asked: the response is its answer. */
static void failover_pass_on(struct request *request, const struct failover_event *asked, struct decision *decision)
{
    const struct failover_event event = { .kind = FAILOVER_NOBODY_LEFT,
                                          .attempt = asked->attempt,
                                          .heard = asked->heard,
                                          .code = asked->code,
                                          .reason = RETRY_CODE };

    failover_decide_unlocked(request, &event, clock_now(), decision);
}

void pf_rule(unsigned long long hash, unsigned number, int retry)
{
    const struct failover_event event = { .kind = FAILOVER_RULED, .attempt = -1, .retriable = retry };
    struct failover_actions actions;
    struct request *request;
    double due = INFINITY;

    if (!host_enter())
        return;
    request = request_hold(hash);
    if (request) {
        pthread_mutex_lock(&requests.lock);
        if (request->ruling == number) {
            failover_decide(&request->state, &event, clock_now(), &actions);
            due = request_schedule_locked(request);
        }
        pthread_mutex_unlock(&requests.lock);
        failover_schedule(due);
        request_release(request);
    }
    host_leave(0);
}

/* Returns a hash of the response's To tag. */
static uint64_t failover_tag_of(const pjsip_rx_data *rdata)
{
    const pjsip_to_hdr *to = RDATA_INFO(rdata)->to;

    return to ? hash_text(HASH_SEED, &to->tag) : 0;
}

pj_bool_t failover_on_rx_response(pjsip_rx_data *rdata, struct contact_sent *sent)
{
    const pjsip_via_hdr *via = RDATA_INFO(rdata)->via;
    const pjsip_cseq_hdr *cseq = RDATA_INFO(rdata)->cseq;
    int code = RDATA_INFO(rdata)->msg->line.status.code, observe = 0, moved = 0, retried = 0, hidden;
    struct failover_event event = { .kind = FAILOVER_RESPONSE, .code = code, .retriable = failover_is_retriable(code) };
    struct observed_response observed;
    struct decision decision;
    struct request *request;
    pjsip_transport *over, *own = NULL;
    const pf_address *sender;
    pf_address source;
    uint64_t hash;
    double now;

    if (!via || !cseq || !via->branch_param.slen)
        return PJ_FALSE;
    now = clock_now();
    event.askable = failover.policy.decides && code >= 300 && !dialogs_is_challenge(code);
    if (!address_of(&source, RDATA_SOURCE(rdata), transport_type(rdata->tp_info.transport)))
        memset(&source, 0, sizeof source);
    hash = transaction_hash(&via->branch_param, &cseq->method.name);
    pthread_mutex_lock(&requests.lock);
    request = request_find_locked(hash);
    if (request) {
        request->refs++;
        event.attempt = request_attempt_of_response_locked(request, &source, &event.heard);
        event.same_dialog =
            request->state.state == REQUEST_COMPLETED && code >= 200 && failover_tag_of(rdata) == request->final_tag;
        /* A server that has the request by another way, too, refuses the second copy (RFC 3261, 8.2.2.2): that is no answer yet. */
        event.retriable |= code == PJSIP_SC_LOOP_DETECTED && request->state.attempt_count > 1;
        observe = event.attempt >= 0 && failover_expects_response(&request->state.attempts[event.attempt], event.heard);
        if (observe)
            failover_observe_locked(request, &event, now, &observed);
        failover_decide_locked(request, &event, now, &decision);
        if (code >= 200) {
            sent->account = request->account;
            sent->port = request->contact_port;
        }
        /* Where the response ends the request and is passed on, as most are, nothing follows that needs these. */
        if (!decision.actions.forget || !decision.actions.pass || decision.actions.move_to >= 0) {
            if (decision.actions.pass && code >= 200)
                request->final_tag = failover_tag_of(rdata);
            own = request_hold_connection_locked(request, event.attempt);
        }
        if (own && code >= 200) { /* over TCP or UDP, it is the same server that has said so */
            const pf_address original = servers_original(&request->attempts[event.attempt].server);

            request->state.tried |= request_candidates_of(request, &original);
        }
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
    if (decision.actions.hold && !held_response_keep(request, rdata) && decision.actions.ask)
        failover_pass_on(request, &event, &decision);
    if (decision.actions.ask && !failover_ask(request, rdata, &event, &decision))
        failover_pass_on(request, &event, &decision);
    /* Over the attempt's own connection: the response may have come over another one. */
    if (decision.actions.move_to >= 0 && own)
        moved = request_move_transaction(request, &decision.attempts[decision.actions.move_to].server, own);
    /* If the attempt's connection is not established yet, the transaction can neither be moved nor send an ACK. */
    if (decision.actions.acknowledge_unmoved && !moved)
        forking_acknowledge(request, sender, over, rdata);
    failover_cancel(request, &decision, decision.actions.cancel);
    request_finish(request, decision.actions.forget);
    if (own)
        host.pjsip_transport_dec_ref(own);
    hidden = retried || !decision.actions.pass;
    if (hidden && code >= 200)
        atomic_fetch_add(&failover_counted.suppressed, 1);
    return hidden;
}

/* --- a connection ends -------------------------------------------------------------------------------------------- */

/*
 * Called when the connection of one attempt has ended. Keeps the transaction from hearing of it if another server may
 * still answer or be tried; otherwise pjsip ends the transaction.
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
        busy = !send_guard_wait(request->link.hash, SETTLE_S);
        event.kept = !busy && transaction_try_keep_alive(&request->key, transport, outlives, SETTLE_S, &busy);
        event.kept |= busy;
    }
    pthread_mutex_lock(&requests.lock);
    memset(&decision.actions, 0, sizeof decision.actions);
    /* The server may have been tried again meanwhile. */
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

/*
 * Returns whether any request on the connection will never be answered; method: that of the last one. Records the end
 * for all of them.
 */
static int failover_loses_requests(const pjsip_transport *transport, char method[16])
{
    HOLD_LOCK(&requests.lock);
    struct attempt *attempt;
    int lost = 0;

    for (attempt = request_first_on_connection_locked(transport); attempt;
         attempt = request_next_attempt_locked(attempt)) {
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

void failover_open(void (*wake_at)(double when), void (*begin_ticks)(void), double (*polled_since)(double now))
{
    pthread_mutex_lock(&requests.lock);
    failover.wake_at = wake_at;
    failover.begin_ticks = begin_ticks;
    failover.polled_since = polled_since;
    failover.policy = failover_wanted;
    dialogs_set_clusters(failover_wanted.clusters, failover_wanted.enabled ? failover_wanted.cluster_count : 0);
    hedging_open(failover_wanted.hedge_budget);
    atomic_store(&failover.due, INFINITY);
    atomic_store(&requests.unwatched, 0);
    pthread_mutex_unlock(&requests.lock);
    atomic_store(&failover_counted.retried, 0);
    atomic_store(&failover_counted.hedged, 0);
    atomic_store(&failover_counted.suppressed, 0);
    atomic_store(&failover.on, failover_wanted.enabled);
}

/*
 * Moves a transaction that listens to no connection any more to an attempt whose connection exists. Returns 0 if there
 * is none.
 */
static int failover_move_back(struct request *request, const struct decision *decision)
{
    int moved = 0, i;

    for (i = (int)decision->attempt_count - 1; i >= 0 && !moved; i--) {
        pjsip_transport *connection = request_hold_connection(request, i);

        if (connection) {
            moved = request_move_transaction(request, &decision->attempts[i].server, connection);
            host.pjsip_transport_dec_ref(connection);
        }
    }
    return moved;
}

/* Returns the attempts at whose server the transaction is, a bit each. */
static unsigned failover_attempts_of_transaction(const struct request *request, const struct decision *decision)
{
    unsigned attempts = 0, i;
    pf_address server;

    if (transaction_where(&request->key, &server))
        for (i = 0; i < decision->attempt_count; i++)
            attempts |= (unsigned)address_equals(&decision->attempts[i].server, &server) << i;
    return attempts;
}

/* Gives the request back to pjsip, as if it had gone to no other server. No lock held. */
static void failover_give_back(struct request *request)
{
    const struct failover_event event = { .kind = FAILOVER_DETACH, .attempt = -1 };
    struct decision decision;

    failover_decide_unlocked(request, &event, clock_now(), &decision);
    if (!request->bytes || (decision.actions.deliver_held && held_response_deliver(request)))
        return;
    if (transaction_is_kept(&request->key) && !failover_move_back(request, &decision) &&
        !held_response_deliver(request))
        transaction_end(&request->key);
    if (decision.actions.cancel)
        failover_cancel(request, &decision,
                        decision.actions.cancel & ~failover_attempts_of_transaction(request, &decision));
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
