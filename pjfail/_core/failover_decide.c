#include "failover_decide.h"

#include <math.h>
#include <string.h>

/* Seconds: a request that pjsip retransmitted within this time has not been given up by the application. */
#define REPEATED_S 0.05

/* A clock begins anew so often: a process that never keeps up still gets its requests on. */
enum { MAX_RESUMES = 3 };

/* For this long after sending a copy, do not repeat it when pjsip retransmits: both timers may fire together. */
#define COPY_PAUSE_S 0.4

/* The least time between copies to a server that was suspect before the request: if all are, copies would double what is sent. */
#define SUSPECT_COPY_PAUSE_S 2.0

/* A server that got a single datagram gets a second one this long after its timeout: pjsip's own retransmission comes first, if any. */
#define SECOND_COPY_S 0.05

/* A connection that is silent for this long is abandoned: later requests shall not wait on it. */
#define CONNECTION_SILENT_S 5.0

/* A server over UDP is silent if it has left this many sends unanswered (T1, 2*T1: 1.5 s) ... */
enum { SILENT_SENDS = 3 };

/* ... or two of them for this long, after another server has answered the request. */
#define OVERTAKEN_SILENT_S 1.5

/* If the last server is silent for this long, the application gets the held response. */
#define HELD_RESPONSE_S 4.0

/* The application has this long to decide. */
#define RULING_S 0.5

/* A server that could not be connected to, or has lost its connection, is tried again after this, once no other is left. */
#define UNREACHABLE_RETRY_S 1.0

/* A server that no connect was allowed to yet is tried again after this; a request without any connection waits this often. */
#define DEFERRED_RETRY_S 0.1
enum { MAX_DEFERRALS = 10 };

/* How often a request is repeated over UDP, where pjsip's transaction does not (RFC 3261, 17.1.1.2 and 17.1.2.2). */
#define T1_S 0.5
#define T2_S 4.0
enum { MAX_SENDS = 7 }; /* of an INVITE */

/* Timer F (RFC 3261, 17.1.2.2) and a little more; after how long the transaction of an INVITE that rings is asked for. */
#define TIMER_F_S 33.0
#define RINGING_S 300.0

/* Times that were meant to coincide may differ by this, which is also how early the polling thread may look. */
#define SLACK_S 0.005

/* Returns the attempt's bit; -1: none. */
static unsigned decide_bit(int attempt) { return attempt >= 0 ? 1u << attempt : 0; }

static int decide_is_open(const struct attempt_state *attempt) { return !attempt->ended; }

static int decide_is_unanswered(const struct attempt_state *attempt)
{
    return !attempt->ended && !attempt->provisional;
}

/* Returns whether a server has said that it works on the request: nobody else is then tried because of silence. */
static int decide_is_worked_on(const struct failover_state *request)
{
    unsigned i;

    for (i = 0; i < request->attempt_count; i++)
        if (decide_is_open(&request->attempts[i]) && request->attempts[i].provisional)
            return 1;
    return 0;
}

static const struct attempt_state *decide_newest(const struct failover_state *request)
{
    return &request->attempts[request->newest];
}

void failover_start(struct failover_state *request, double now)
{
    request->state = REQUEST_TRYING;
    request->began = now;
    request->expires_at = now + TIMER_F_S;
    request->hedge_at = request->check_port_at = INFINITY;
    request->winner = -1;
}

/* Returns the attempts but for one (-1: none) whose servers may be ringing, which only a CANCEL ends; a bit each. */
static unsigned decide_list_ringing(const struct failover_state *request, int except)
{
    unsigned ringing = 0, i;

    for (i = 0; i < request->attempt_count; i++)
        if (request->attempts[i].provisional && (!request->attempts[i].ended || request->attempts[i].guessed) &&
            (int)i != except)
            ringing |= 1u << i;
    return ringing;
}

int failover_add_attempt(struct failover_state *request, int at, unsigned candidates, int suspect, double now)
{
    struct attempt_state *attempt;

    request->tried |= candidates;
    if (at < 0 && request->attempt_count >= request->max_attempts)
        return -1;
    request->newest = at < 0 ? (int)request->attempt_count++ : at;
    attempt = &request->attempts[request->newest];
    memset(attempt, 0, sizeof *attempt);
    attempt->candidates = candidates;
    attempt->suspected = attempt->began_suspect = suspect != 0;
    attempt->hedge_of = request->hedge_of;
    attempt->reliable = request->reliable;
    attempt->first_sent = attempt->last_sent = now;
    attempt->sends = 1;
    return request->newest;
}

static void decide_count_send(struct failover_state *request, int index, double now, struct failover_actions *actions)
{
    struct attempt_state *attempt = &request->attempts[index];

    attempt->last_sent = now;
    if (++attempt->sends >= SILENT_SENDS && decide_is_unanswered(attempt) && !attempt->silent) {
        attempt->silent = 1;
        actions->silent |= 1u << index;
    }
}

/* A server gets a copy of each of pjsip's retransmissions; one that was suspect before, at twice the time that the last had taken. */
static int decide_wants_copy(const struct attempt_state *attempt, double now)
{
    if (!decide_is_unanswered(attempt) || attempt->reliable)
        return 0;
    if (attempt->began_suspect)
        return attempt->last_sent + SUSPECT_COPY_PAUSE_S < now &&
               now - attempt->first_sent > 2 * (attempt->last_sent - attempt->first_sent);
    return attempt->last_sent + COPY_PAUSE_S < now;
}

int failover_was_just_repeated(const struct failover_state *request, double now)
{
    const struct attempt_state *attempt = &request->attempts[0];

    return !request->invite && request->attempt_count == 1 && attempt->sends > 1 &&
           attempt->last_sent + REPEATED_S > now;
}

unsigned failover_resend(struct failover_state *request, int index, double now, struct failover_actions *actions)
{
    unsigned copies = 0, i;

    memset(actions, 0, sizeof *actions);
    decide_count_send(request, index, now, actions);
    if (request->reliable || request->cancelled || request->state == REQUEST_COMPLETED)
        return 0;
    for (i = 0; i < request->attempt_count; i++)
        if ((int)i != index && decide_wants_copy(&request->attempts[i], now)) {
            decide_count_send(request, (int)i, now, actions);
            copies |= 1u << i;
        }
    return copies;
}

unsigned failover_resume(struct failover_state *request, double polled_since, double now)
{
    unsigned copies = 0, i;

    for (i = 0; i < request->attempt_count; i++) {
        struct attempt_state *attempt = &request->attempts[i];

        if (!decide_is_unanswered(attempt) || attempt->silent || attempt->last_sent >= polled_since ||
            attempt->resumed >= MAX_RESUMES)
            continue;
        attempt->first_sent = attempt->last_sent = now;
        attempt->sends = 1;
        attempt->resumed++;
        request->hedge_at = INFINITY;
        if (request->state == REQUEST_TRYING && request->candidate_count && !request->reliable && !request->cancelled &&
            !attempt->refused)
            copies |= 1u << i;
    }
    return copies;
}

static unsigned decide_count_open(const struct failover_state *request)
{
    unsigned count = 0, i;

    for (i = 0; i < request->attempt_count; i++)
        count += (unsigned)decide_is_open(&request->attempts[i]);
    return count;
}

/* --- candidates -------------------------------------------------------------------------------------------------- */

static unsigned decide_untried(const struct failover_state *request)
{
    unsigned all = request->candidate_count >= MAX_CANDIDATES ? ~0u : (1u << request->candidate_count) - 1;

    return request->attempt_count < request->max_attempts && !request->cancelled
               ? all & ~request->tried & ~request->barred
               : 0;
}

int failover_has_candidate(const struct failover_state *request) { return decide_untried(request) != 0; }

int failover_next_candidate(const struct failover_state *request, unsigned suspects, enum failover_reason reason)
{
    unsigned left = decide_untried(request), ranks[4], rank, i;

    if (reason == RETRY_SLOW)
        left &= ~request->last_resorts;
    ranks[0] = left & ~request->last_resorts & ~suspects;
    ranks[1] = left & ~request->last_resorts & suspects;
    ranks[2] = left & request->last_resorts & ~suspects;
    ranks[3] = left & request->last_resorts & suspects;
    for (rank = 0; rank < 4; rank++)
        for (i = 0; i < request->candidate_count; i++)
            if (ranks[rank] & 1u << i)
                return (int)i;
    return -1;
}

void failover_note_unreachable(struct failover_state *request, unsigned candidates, double now)
{
    request->tried |= candidates;
    request->unreachable |= candidates;
    request->retry_unreachable_at = now + UNREACHABLE_RETRY_S;
}

void failover_note_deferred(struct failover_state *request, unsigned candidates, double now)
{
    request->tried |= candidates;
    request->deferred |= candidates;
    request->retry_deferred_at = now + DEFERRED_RETRY_S;
}

/* Returns whether to wait for a server that no connect was allowed to yet. */
static int decide_should_wait(const struct failover_state *request)
{
    return request->state == REQUEST_TRYING && !request->cancelled && request->deferred &&
           request->deferrals < MAX_DEFERRALS;
}

int failover_outlives_connection(const struct failover_state *request)
{
    return (request->state == REQUEST_TRYING && (failover_has_candidate(request) || request->deferred)) ||
           request->attempt_count > 1 || request->ruling != RULING_NONE;
}

/* Allows the candidates whose time has come to be tried again. */
static void decide_release_candidates(struct failover_state *request, double now)
{
    if (request->state == REQUEST_TRYING && request->unreachable && request->retry_unreachable_at <= now + SLACK_S &&
        isfinite(request->timeout) && !failover_has_candidate(request)) {
        request->tried &= ~request->unreachable;
        request->unreachable = 0;
    }
    if (request->deferred && request->retry_deferred_at <= now + SLACK_S) {
        request->tried &= ~request->deferred;
        request->deferred = 0;
        request->deferrals++;
    }
}

/* --- responses --------------------------------------------------------------------------------------------------- */

static void decide_complete(struct failover_state *request, int winner, double now)
{
    request->state = REQUEST_COMPLETED;
    request->winner = winner;
    request->ruling = RULING_NONE;
    request->expires_at = now + TIMER_F_S;
}

/* Records a final response. */
static void decide_end_attempt(struct attempt_state *attempt, int heard)
{
    attempt->ended = 1;
    attempt->guessed = !heard;
}

/*
 * Decides about a response after the application's final one: it does not reach the application, and a call that is
 * not wanted any more is ended.
 */
static void decide_late(struct failover_state *request, const struct failover_event *event,
                        struct failover_actions *actions)
{
    /* The transaction has ended with its first copy, and acknowledges no second one. */
    const int repeated = request->invite && event->code >= 300 && request->reliable && event->attempt >= 0 &&
                         !request->attempts[event->attempt].reliable && request->attempts[event->attempt].ended;

    if (event->attempt >= 0 && event->code < 200)
        request->attempts[event->attempt].provisional = 1;
    else if (event->attempt >= 0)
        decide_end_attempt(&request->attempts[event->attempt], event->heard);
    if (repeated) {
        actions->acknowledge = 1;
    } else if (event->same_dialog || (event->attempt >= 0 && event->attempt == request->winner)) {
        actions->pass = 1;
    } else if (request->invite && event->code >= 300) {
        actions->acknowledge = 1;
    } else if (request->invite && event->code >= 200) {
        actions->hang_up = 1;
    } else if (request->invite && event->code > 100) {
        actions->cancel = decide_list_ringing(request, -1) & decide_bit(event->attempt);
    }
}

/* Marks the servers suspect that had the request before the one that has answered, and have not answered. */
static void decide_suspect_overtaken(struct failover_state *request, int answered, int final,
                                     struct failover_actions *actions)
{
    unsigned i;

    for (i = 0; i < request->attempt_count; i++) {
        struct attempt_state *attempt = &request->attempts[i];

        if ((int)i == answered)
            continue;
        attempt->overtaken |= (unsigned char) final;
        if (answered >= 0 && attempt->first_sent < request->attempts[answered].first_sent &&
            decide_is_unanswered(attempt) && !attempt->suspected) {
            attempt->suspected = 1;
            actions->suspect |= 1u << i;
        }
    }
}

static void decide_pass(struct failover_state *request, const struct failover_event *event,
                        struct failover_actions *actions)
{
    actions->pass = 1;
    /* ACK, CANCEL and the answer to a challenge follow the server that answered. */
    if (event->attempt >= 0 && (request->attempt_count > 1 || event->code == 401 || event->code == 407))
        actions->move_to = event->attempt;
    actions->acknowledge_unmoved = request->attempt_count > 1 && request->invite && event->code >= 300;
    if (request->invite && event->code >= 200 && request->attempt_count > 1)
        actions->cancel = decide_list_ringing(request, event->heard ? event->attempt : -1);
}

/* Holds the response, unless the application decides about another one. */
static void decide_hold(struct failover_state *request, int attempt, struct failover_actions *actions)
{
    if (request->ruling == RULING_NONE || request->asked_attempt == attempt)
        actions->hold = request->holds = 1;
}

static void decide_retry(struct failover_state *request, enum failover_reason reason, int left,
                         struct failover_actions *actions)
{
    actions->retry = 1;
    actions->reason = reason;
    actions->left = left;
    request->hedge_of = (unsigned char)(reason == RETRY_SLOW ? 1 + left : 0);
}

static void decide_ask(struct failover_state *request, const struct failover_event *event, double now,
                       struct failover_actions *actions)
{
    request->ruling = RULING_AWAITED;
    request->ruling_until = now + RULING_S;
    request->asked_attempt = event->attempt;
    request->asked_code = event->code;
    actions->ask = 1;
    actions->acknowledge = request->invite;
    decide_hold(request, event->attempt, actions);
}

int failover_credited_attempt(const struct failover_state *request, int attempt)
{
    int hedge_of = attempt >= 0 ? request->attempts[attempt].hedge_of : 0;

    return hedge_of && decide_is_open(&request->attempts[hedge_of - 1]) ? hedge_of - 1 : attempt;
}

static void decide_final(struct failover_state *request, const struct failover_event *event, double now,
                         struct failover_actions *actions)
{
    struct attempt_state *attempt = event->attempt >= 0 ? &request->attempts[event->attempt] : NULL;
    int free = request->state == REQUEST_TRYING && !(attempt && attempt->bound);
    int own_failure = event->retriable && !(attempt && attempt->bound);
    unsigned open, ringing = 0, i;

    if (attempt)
        decide_end_attempt(attempt, event->heard);
    open = decide_count_open(request);
    for (i = 0; i < request->attempt_count; i++)
        ringing += decide_is_open(&request->attempts[i]) && request->attempts[i].provisional;
    if (own_failure && request->ruling == RULING_NONE && free && !open && failover_has_candidate(request)) {
        actions->acknowledge = request->invite;
        decide_retry(request, RETRY_CODE, event->attempt, actions);
        actions->code = event->code;
        actions->move_along = 1;
        decide_hold(request, event->attempt, actions);
    } else if ((own_failure && (open || request->ruling != RULING_NONE)) ||
               (request->invite && event->code >= 300 && ringing)) {
        actions->acknowledge = request->invite;
        decide_hold(request, event->attempt, actions);
    } else if (event->askable && request->ruling == RULING_NONE && free && failover_has_candidate(request)) {
        decide_ask(request, event, now, actions);
    } else {
        decide_complete(request, event->attempt, now);
        decide_pass(request, event, actions);
    }
}

/* Returns whether no response can matter any more: the servers of an INVITE repeat theirs, and each repetition needs an ACK. */
static int decide_is_done(const struct failover_state *request)
{
    return !decide_count_open(request) && !(request->invite && request->attempt_count > 1);
}

static void decide_response(struct failover_state *request, const struct failover_event *event, double now,
                            struct failover_actions *actions)
{
    struct attempt_state *attempt = event->attempt >= 0 ? &request->attempts[event->attempt] : NULL;
    int final = event->code >= 200;

    if (attempt && attempt->guessed && event->heard) {
        attempt->ended = attempt->guessed = 0; /* the earlier response was another server's */
        if (request->winner == event->attempt)
            request->winner = -1;
    }
    if (request->state == REQUEST_COMPLETED) {
        decide_late(request, event, actions);
    } else if (attempt && attempt->ended && event->code / 100 != 2) {
        /* The server repeats a held response, or its connection ended before the response was read. */
        if (final) {
            actions->acknowledge = request->invite;
            decide_hold(request, event->attempt, actions);
        }
    } else if (!final) {
        if (attempt) {
            attempt->provisional = 1;
            attempt->bound |= event->code > 100;
        }
        if (request->cancelled && request->attempt_count > 1)
            actions->cancel = decide_bit(event->attempt);
        if (request->invite && !request->answered)
            request->expires_at = now + RINGING_S;
        request->answered = 1;
        if (event->code > 100)
            request->state = REQUEST_PROCEEDING;
        decide_pass(request, event, actions);
    } else {
        decide_final(request, event, now, actions);
    }
    decide_suspect_overtaken(request, event->attempt, final, actions);
    actions->forget = request->state == REQUEST_COMPLETED && decide_is_done(request);
}

/* --- time -------------------------------------------------------------------------------------------------------- */

/* Returns whether the server may have lost the only datagram that was sent to it. */
static int decide_wants_second_copy(const struct failover_state *request, const struct attempt_state *attempt)
{
    return !request->reliable && !attempt->reliable && !request->invite && attempt->suspected &&
           !attempt->began_suspect && !attempt->refused && attempt->sends == 1;
}

/* Returns when an attempt over UDP is repeated by us because pjsip's transaction repeats nothing, or no more; INFINITY: never. */
static double decide_repeat_at(const struct failover_state *request, const struct attempt_state *attempt)
{
    const int stopped = request->reliable || (request->invite && request->answered);
    double interval = T1_S * (double)(1u << (attempt->sends < 10 ? attempt->sends - 1 : 9));

    if (!stopped || attempt->reliable || attempt->ended || attempt->refused || request->cancelled ||
        request->state == REQUEST_COMPLETED ||
        (request->invite && (attempt->provisional || attempt->sends >= MAX_SENDS)))
        return INFINITY;
    return attempt->last_sent + (request->invite ? interval : attempt->provisional ? T2_S : fmin(interval, T2_S));
}

/* Returns when an unanswered attempt counts as silent because of time alone; INFINITY: never. */
static double decide_silent_at(const struct attempt_state *attempt)
{
    if (attempt->silent)
        return INFINITY;
    if (attempt->reliable)
        return attempt->first_sent + CONNECTION_SILENT_S;
    return attempt->overtaken && attempt->sends > 1 ? attempt->first_sent + OVERTAKEN_SILENT_S : INFINITY;
}

/*
 * Returns when the request ends with what is held, or without a response, because no server is left and the last one is silent;
 * INFINITY: pjsip ends it, or a server works on it.
 */
static double decide_ends_at(const struct failover_state *request)
{
    if (request->state != REQUEST_TRYING || request->ruling != RULING_NONE || failover_has_candidate(request) ||
        decide_is_worked_on(request))
        return INFINITY;
    if (request->holds)
        return decide_newest(request)->first_sent + HELD_RESPONSE_S;
    return request->invite && request->answered ? decide_newest(request)->first_sent + TIMER_F_S : INFINITY;
}

static void decide_attempt_timer(struct failover_state *request, unsigned index, double now,
                                 struct failover_actions *actions)
{
    struct attempt_state *attempt = &request->attempts[index];

    if (decide_repeat_at(request, attempt) <= now + SLACK_S) {
        decide_count_send(request, (int)index, now, actions);
        actions->resend |= 1u << index;
    }
    if (!decide_is_unanswered(attempt))
        return;
    if (decide_silent_at(attempt) <= now + SLACK_S) {
        attempt->silent = 1;
        actions->silent |= 1u << index;
    }
    if (request->candidate_count && attempt->reliable && !attempt->abandoned &&
        attempt->first_sent + CONNECTION_SILENT_S <= now + SLACK_S) {
        attempt->abandoned = 1;
        actions->abandon |= 1u << index;
    }
    if (attempt->first_sent + request->timeout > now + SLACK_S)
        return;
    if (!attempt->suspected) {
        attempt->suspected = 1;
        actions->suspect |= 1u << index;
    } else if (decide_wants_second_copy(request, attempt) &&
               attempt->first_sent + request->timeout + SECOND_COPY_S <= now + SLACK_S) {
        decide_count_send(request, (int)index, now, actions);
        actions->resend |= 1u << index;
    }
}

static void decide_deliver_or_end(struct failover_state *request, double now, struct failover_actions *actions)
{
    if (request->holds) {
        actions->deliver_held = 1;
        request->holds = 0;
        decide_complete(request, -1, now);
    } else {
        actions->end_transaction = actions->forget = 1;
    }
}

/* Does what the application has decided, or what its time has: the response is passed on then. */
static void decide_ruled(struct failover_state *request, double now, struct failover_actions *actions)
{
    int retry = request->ruling == RULING_RETRY;

    request->ruling = RULING_NONE;
    if (retry && decide_count_open(request))
        return; /* the response is held, as any other that is not the last */
    if (retry && failover_has_candidate(request)) {
        decide_retry(request, RETRY_CODE, request->asked_attempt, actions);
        actions->code = request->asked_code;
        actions->move_along = 1;
    } else {
        decide_deliver_or_end(request, now, actions);
    }
}

/* Ends the request if there is nothing to wait for: every connection has ended, and no candidate is left. */
static void decide_stranded(struct failover_state *request, double now, struct failover_actions *actions)
{
    if (decide_should_wait(request))
        return;
    decide_deliver_or_end(request, now, actions);
    actions->forget = 1;
}

int failover_asks_if_alive(const struct failover_state *request, double now)
{
    return request->attempt_count > 1 && request->answered && request->state != REQUEST_COMPLETED &&
           request->expires_at <= now + SLACK_S;
}

static void decide_timer(struct failover_state *request, const struct failover_event *event, double now,
                         struct failover_actions *actions)
{
    int trying = request->state == REQUEST_TRYING, lost, late, refused, slow, waits;
    unsigned i;

    if (request->expires_at <= now + SLACK_S) {
        actions->forget = !event->alive;
        request->expires_at = now + RINGING_S;
        return;
    }
    decide_release_candidates(request, now);
    lost = request->stranded && request->state != REQUEST_COMPLETED && !decide_count_open(request);
    waits = decide_is_worked_on(request);
    late = !waits && decide_newest(request)->first_sent + request->timeout <= now + SLACK_S;
    refused = !waits && decide_newest(request)->refused;
    if (trying && request->check_port_at <= now + SLACK_S) {
        request->check_port_at = INFINITY;
        actions->check_port = 1;
    }
    slow = request->hedge_at <= now + SLACK_S;
    if (slow) {
        request->hedge_at = INFINITY;
        slow = event->may_hedge && !waits && failover_next_candidate(request, 0, RETRY_SLOW) >= 0;
    }
    for (i = 0; i < request->attempt_count; i++)
        decide_attempt_timer(request, i, now, actions);
    if (request->ruling != RULING_NONE) {
        if (request->ruling != RULING_AWAITED || request->ruling_until <= now + SLACK_S)
            decide_ruled(request, now, actions);
    } else if (trying && (lost || refused || late || slow) && failover_has_candidate(request)) {
        decide_retry(request,
                     lost      ? RETRY_LOST
                     : refused ? RETRY_REFUSED
                     : late    ? RETRY_SILENT
                               : RETRY_SLOW,
                     request->newest, actions);
        actions->move_along = lost;
    } else if (decide_ends_at(request) <= now + SLACK_S) {
        decide_deliver_or_end(request, now, actions);
    } else if (lost) {
        decide_stranded(request, now, actions);
    }
}

double failover_due(const struct failover_state *request)
{
    int trying = request->state == REQUEST_TRYING;
    double due = request->expires_at;
    unsigned i;

    if (trying) {
        due = fmin(due, fmin(request->hedge_at, request->check_port_at));
        due = fmin(due, decide_ends_at(request));
        if (request->ruling != RULING_NONE)
            due = fmin(due, request->ruling == RULING_AWAITED ? request->ruling_until : 0);
        else if (failover_has_candidate(request) && !decide_is_worked_on(request))
            due = fmin(due, decide_newest(request)->first_sent + request->timeout);
        else if (!failover_has_candidate(request) && request->unreachable && isfinite(request->timeout))
            due = fmin(due, request->retry_unreachable_at);
        if (request->deferred)
            due = fmin(due, request->retry_deferred_at);
    }
    for (i = 0; i < request->attempt_count; i++) {
        const struct attempt_state *attempt = &request->attempts[i];

        due = fmin(due, decide_repeat_at(request, attempt));
        if (!decide_is_unanswered(attempt))
            continue;
        due = fmin(due, decide_silent_at(attempt));
        if (!attempt->suspected)
            due = fmin(due, attempt->first_sent + request->timeout);
        else if (decide_wants_second_copy(request, attempt))
            due = fmin(due, attempt->first_sent + request->timeout + SECOND_COPY_S);
        if (request->candidate_count && attempt->reliable && !attempt->abandoned)
            due = fmin(due, attempt->first_sent + CONNECTION_SILENT_S);
    }
    return due;
}

/* --- the rest ---------------------------------------------------------------------------------------------------- */

static void decide_connection_ended(struct failover_state *request, const struct failover_event *event, double now,
                                    struct failover_actions *actions)
{
    struct attempt_state *attempt = &request->attempts[event->attempt];

    attempt->ended = attempt->silent = 1;
    failover_note_unreachable(request, attempt->candidates, now);
    if (event->kept) {
        request->stranded = 1;
        return;
    }
    if (request->state != REQUEST_COMPLETED)
        decide_complete(request, -1, now); /* the transaction ends too, or has ended before */
    actions->forget = decide_is_done(request);
}

static void decide_nobody_left(struct failover_state *request, const struct failover_event *event, double now,
                               struct failover_actions *actions)
{
    if (request->state == REQUEST_COMPLETED)
        return; /* another thread has completed it meanwhile */
    if (event->reason == RETRY_CODE && !event->code) {
        decide_deliver_or_end(request, now, actions);
    } else if (event->reason == RETRY_CODE) {
        request->holds = 0;
        decide_complete(request, event->attempt, now);
        decide_pass(request, event, actions);
    } else if (event->reason == RETRY_LOST) {
        decide_stranded(request, now, actions);
    }
}

void failover_decide(struct failover_state *request, const struct failover_event *event, double now,
                     struct failover_actions *actions)
{
    memset(actions, 0, sizeof *actions);
    actions->move_to = actions->left = -1;
    switch (event->kind) {
    case FAILOVER_RESPONSE: decide_response(request, event, now, actions); break;
    case FAILOVER_TIMER: decide_timer(request, event, now, actions); break;
    case FAILOVER_CONNECTION_ENDED: decide_connection_ended(request, event, now, actions); break;
    case FAILOVER_PORT_CLOSED:
        if (decide_is_unanswered(&request->attempts[event->attempt]) && request->state != REQUEST_COMPLETED)
            request->attempts[event->attempt].refused = request->attempts[event->attempt].suspected = 1;
        break;
    case FAILOVER_NOBODY_LEFT: decide_nobody_left(request, event, now, actions); break;
    case FAILOVER_RULED:
        if (request->ruling == RULING_AWAITED)
            request->ruling = event->retriable ? RULING_RETRY : RULING_PASS;
        break;
    case FAILOVER_CANCELLED:
        request->cancelled = 1;
        if (request->attempt_count > 1)
            actions->cancel = decide_list_ringing(request, event->attempt);
        break;
    case FAILOVER_GIVEN_UP:
        /* The servers are still watched; their responses do not reach the application. */
        request->state = REQUEST_COMPLETED;
        request->ruling = RULING_NONE;
        request->winner = -1;
        decide_timer(request, event, now, actions);
        actions->forget |= decide_is_done(request);
        break;
    case FAILOVER_DETACH:
        actions->forget = 1;
        actions->deliver_held = request->ruling != RULING_NONE;
        if (request->invite && request->attempt_count > 1 && request->state != REQUEST_COMPLETED)
            actions->cancel = decide_list_ringing(request, -1);
        break;
    }
}
