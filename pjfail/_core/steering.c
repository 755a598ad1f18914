#include "steering.h"

#include "byhand.h"
#include "connections.h"
#include "course.h"
#include "dialogs.h"
#include "observer.h"
#include "plans.h"
#include "ports.h"
#include "queue.h"
#include "resolver.h"
#include "sending.h"
#include "text.h"
#include "transaction.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Who is sent to by hand is left out of retransmissions that follow within this: the timers of both may coincide. */
#define JUST_NOW 0.4

/* What may be saved up of the budget for hedging: so many requests at once. */
#define MOST_SAVED 10.0

/* How long after its time a server that got a single packet gets a second: pjsip's own retransmission comes first, if any. */
#define ECHO 0.05

/* A connection that is silent for so long is given up: what comes next shall not wait on it. */
#define DEAD_SECONDS 5.0

/* When the last server has been silent for so long, the application gets the answer that was kept back instead. */
#define LAST_WORD 4.0

/* A lost request goes on so often, at the most, to a server that no connect was due to. */
enum { MOST_RETRIES = 10 };

/* So long after a connection's end pjsip has ended the transaction because of it, if it does. */
#define SETTLED 0.02

/* Ends of times that were meant to coincide. */
#define SLACK 0.005

/* A server is not taken for slow sooner than this, however fast it was: a tenth of a second. */
#define SOONEST (0.1 + SLACK)

/* Guarded by courses.lock, but what is only written by steering_open() while nothing runs. */
static struct {
    double saved;                       /* of the budget, in requests */
    double due;                         /* the soonest that the tick was asked for */
    pjsip_endpoint *endpt;
    void (*wake_at)(double when);
    atomic_int on;
    pf_steering steering;
} self;

static struct {
    atomic_ullong steered, hedged, swallowed, raced;
} counted;

static pf_steering wanted;

void pf_steer(const pf_steering *steering) { wanted = *steering; }

/* No lock held. */
static void look_again(double when)
{
    int sooner;

    pthread_mutex_lock(&courses.lock);
    sooner = when < self.due;
    if (sooner)
        self.due = when;
    pthread_mutex_unlock(&courses.lock);
    if (sooner)
        self.wake_at(when);
}

/* Looks whether the server's port is closed, where udp is a UDP transport. No lock of ours held. */
static void check_port(const pf_address *server, pjsip_transport *udp, double now)
{
    double due = INFINITY;

    if (server->transport == PF_UDP && self.steering.port_check)
        due = ports_check(server, udp, now);
    if (isfinite(due))
        look_again(due);
}

/* --- the answer that is kept back --------------------------------------------------------------------------------- */

/* Keeps a copy of the response, in place of the last one. No lock held. */
static void keep(struct course *course, struct leg *leg, pjsip_rx_data *rdata)
{
    pjsip_rx_data *copy = NULL, *old;

    if (host.pjsip_rx_data_clone(rdata, 0, &copy) != PJ_SUCCESS)
        return;
    pthread_mutex_lock(&courses.lock);
    old = course->kept;
    course->kept = copy;
    course->kept_from = leg;
    pthread_mutex_unlock(&courses.lock);
    if (old)
        host.pjsip_rx_data_free_cloned(old);
}

/* The transaction gets the answer that was kept back, for there is no better one. 0: there is none at all. No lock held. */
static int give_kept(struct course *course)
{
    pjsip_rx_data *rdata;

    pthread_mutex_lock(&courses.lock);
    rdata = course->final ? NULL : course->kept;
    if (rdata) {
        course->kept = NULL;
        course->final = 1;
        course->winner = course->kept_from;
    }
    pthread_mutex_unlock(&courses.lock);
    if (!rdata)
        return 0;
    transaction_receive(course, rdata);
    host.pjsip_rx_data_free_cloned(rdata);
    return 1;
}

/* --- a request is sent ------------------------------------------------------------------------------------------- */

/* After how many seconds of silence the method goes on; INFINITY: never. */
static double silence_of(const pj_str_t *method)
{
    int i;

    for (i = 0; i < self.steering.silences; i++)
        if (strlen(self.steering.silence[i].method) == (size_t)method->slen &&
            !memcmp(self.steering.silence[i].method, method->ptr, (size_t)method->slen))
            return self.steering.silence[i].after;
    return INFINITY;
}

/* Whether the request may go to any server but this one (DESIGN.md, rule 10). */
static int is_free(pjsip_tx_data *tdata, const pf_address *server)
{
    pjsip_msg *msg = tdata_msg(tdata);
    pjsip_to_hdr *to = host.pjsip_msg_find_hdr(msg, PJSIP_H_TO, NULL);
    pjsip_cid_hdr *call_id = host.pjsip_msg_find_hdr(msg, PJSIP_H_CALL_ID, NULL);
    const pjsip_tpselector *selector = tdata_selector(tdata);
    struct asker asker;

    if (!to || to->tag.slen || !call_id || resolver_is_sending_to(tdata) || !plans_know(server))
        return 0;
    /* The application's own choice of a connection is none between servers; its choice of a UDP socket is. */
    if (server->transport != PF_UDP && (selector->type == PJSIP_TPSELECTOR_TRANSPORT ||
                                        selector->type == PJSIP_TPSELECTOR_LISTENER))
        return 0;
    memset(&asker, 0, sizeof asker);
    dialogs_find(&call_id->id, 0, &asker);
    return !asker.bound;
}

/* The other servers that pjsip was given for this request, over the same transport: Via and Contact stay true. */
static unsigned list_candidates(const pjsip_tx_data *tdata, const pf_address *server, pf_address *candidates, unsigned room,
                                uint64_t *last_resorts)
{
    const pjsip_server_addresses *addresses = tdata_addresses(tdata);
    unsigned total = answer_count(addresses), current = tdata_current(tdata), count = 0, i;

    *last_resorts = 0;
    for (i = 0; i < total && count < room; i++) {
        unsigned at = (current + i) % total;
        pf_address *each = &candidates[count];

        if (address_of(each, answer_address(addresses, at), answer_type(addresses, at)) &&
            each->transport == server->transport && each->family == server->family) {
            if (answer_priority(addresses, at) >= LAST_RESORT)
                *last_resorts |= UINT64_C(1) << count;
            count++;
        }
    }
    return count;
}

static struct course *make_course(pjsip_tx_data *tdata, const pf_address *server, const pjsip_via_hdr *via, double now)
{
    pjsip_msg *msg = tdata_msg(tdata);
    const pjsip_method *method = &msg->line.req.method;
    pjsip_cid_hdr *call_id = host.pjsip_msg_find_hdr(msg, PJSIP_H_CALL_ID, NULL);
    pf_address candidates[32];
    uint64_t last_resorts;
    unsigned count = list_candidates(tdata, server, candidates, PJ_ARRAY_SIZE(candidates), &last_resorts);
    struct course *course;
    const char *bytes;
    size_t size;

    bytes = tdata_bytes(tdata, &size);
    if (count < 2 || !size || method->name.slen >= 16 || tdata_dest_name(tdata)->slen >= PF_MAX_HOST)
        return NULL;
    course = calloc(1, sizeof *course + (size_t)via->branch_param.slen + size);
    if (!course)
        return NULL;
    course->refs = 1;
    course->began = now;
    course->after = silence_of(&method->name);
    course->invite = method->id == PJSIP_INVITE_METHOD;
    course->method_id = method->id;
    memcpy(course->candidates, candidates, count * sizeof *candidates);
    course->candidate_count = count;
    course->last_resorts = last_resorts;
    copy_text(course->method, sizeof course->method, &method->name);
    copy_text(course->call_id, sizeof course->call_id, &call_id->id);
    copy_text(course->name, sizeof course->name, tdata_dest_name(tdata));
    course->branch = course->room;
    course->branch_size = (size_t)via->branch_param.slen;
    memcpy(course->branch, via->branch_param.ptr, course->branch_size);
    course->bytes = course->room + course->branch_size;
    course->size = size;
    memcpy(course->bytes, bytes, size);
    if (server->transport == PF_UDP) {
        course->udp = tdata_transport(tdata);
        host.pjsip_transport_add_ref(course->udp);
    }
    course->soon = INFINITY;
    /* An INVITE forks where it goes, so it waits for its time; the others may go on once this server is late by its own measure. */
    if (isfinite(course->after) && !course->invite && self.steering.budget > 0) {
        double overdue = plans_overdue(server);

        if (overdue >= 0 && fmax(overdue, SOONEST) < course->after)
            course->soon = now + fmax(overdue, SOONEST);
    }
    /* The port of a server that is well is looked at only once its answer is overdue. */
    course->check = plans_is_well(server, WELL_SECONDS) ? now + fmax(plans_overdue(server), SOONEST) : INFINITY;
    course->due = fmin(fmin(course->soon, course->check), now + course->after);
    if (!course->udp)
        course->due = fmin(course->due, now + DEAD_SECONDS);
    course_add_leg(course, server, tdata_transport(tdata), now);
    return course;
}

/* A request goes out for the first time, or to a server that pjsip walked on to by itself. */
static void begin(pjsip_tx_data *tdata, const pf_address *server, const pjsip_via_hdr *via, uint64_t hash, double now)
{
    struct course *course = is_free(tdata, server) ? make_course(tdata, server, via, now) : NULL;
    double due;
    int put, well;

    if (!course)
        return;
    due = course->due;
    well = isfinite(course->check);
    pthread_mutex_lock(&courses.lock);
    self.saved = fmin(self.saved + self.steering.budget, MOST_SAVED);
    put = course_put(course, hash);
    pthread_mutex_unlock(&courses.lock);
    if (!put) {
        course_release(course);
        return;
    }
    if (isfinite(due))
        look_again(due);
    if (!well)
        check_port(server, tdata_transport(tdata), now);
}

/* pjsip sends the course's request again: the other servers that have it get theirs. */
static void repeat(struct course *course, const pf_address *server, double now)
{
    pf_address others[MOST_LEGS];
    unsigned count = 0, i;

    pthread_mutex_lock(&courses.lock);
    for (i = 0; i < course->count && course->udp && !course->final; i++) {
        struct leg *leg = &course->legs[i];
        int here = !memcmp(&leg->server, server, sizeof *server);

        if (here || (!leg->ended && !leg->provisional && leg->last_sent + JUST_NOW < now)) {
            leg->last_sent = now;
            leg->sends++;
            if (!here)
                others[count++] = leg->server;
        }
    }
    pthread_mutex_unlock(&courses.lock);
    for (i = 0; i < count; i++) {
        byhand_send_datagram(course->udp, &others[i], course->bytes, course->size);
        observer_note_sent(course->link.hash, course->method, &others[i], course->udp);
    }
}

/* Sends to one of the course's servers by hand. No lock held. PJ_SUCCESS: it is on its way. */
static pj_status_t send_to(const struct course *course, const pf_address *server, pjsip_transport *over, const char *bytes,
                           size_t size)
{
    pjsip_transport *connection;
    pj_status_t status;

    if (course->udp) {
        byhand_send_datagram(course->udp, server, bytes, size);
        return PJ_SUCCESS;
    }
    if (over)
        return byhand_send_over(self.endpt, over, bytes, size);
    status = byhand_connect(self.endpt, server, course->name, &connection);
    if (status == PJ_SUCCESS) {
        status = byhand_send_over(self.endpt, connection, bytes, size);
        host.pjsip_transport_dec_ref(connection);
    }
    return status;
}

/* Cancels the INVITE at the servers that ring, but for one. No lock held. */
static void cancel_others(struct course *course, const pf_address *but)
{
    char text[4000];
    pf_address others[MOST_LEGS];
    unsigned count = 0, i;
    size_t size;

    pthread_mutex_lock(&courses.lock);
    for (i = 0; i < course->count; i++)
        if (course->legs[i].provisional && !course->legs[i].ended && memcmp(&course->legs[i].server, but, sizeof *but))
            others[count++] = course->legs[i].server;
    pthread_mutex_unlock(&courses.lock);
    size = count ? byhand_write(text, sizeof text, "CANCEL", course->bytes, course->size, NULL) : 0;
    for (i = 0; i < count && size; i++)
        send_to(course, &others[i], NULL, text, size);
}

static void on_cancel(const pjsip_via_hdr *via, const pf_address *server)
{
    static const pj_str_t invite = { "INVITE", 6 };
    struct course *course = course_hold(request_hash(&via->branch_param, &invite));

    if (!course)
        return;
    cancel_others(course, server);
    course_release(course);
}

void steering_on_tx_request(pjsip_tx_data *tdata)
{
    const pjsip_method *method = &tdata_msg(tdata)->line.req.method;
    struct course *course;
    pjsip_via_hdr *via;
    pf_address server;
    double now;
    uint64_t hash;
    int walked_on;

    if (!atomic_load_explicit(&self.on, memory_order_relaxed) || method->id == PJSIP_ACK_METHOD ||
        !address_of(&server, tdata_destination(tdata), transport_type(tdata_transport(tdata))))
        return;
    via = host.pjsip_msg_find_hdr(tdata_msg(tdata), PJSIP_H_VIA, NULL);
    if (!via || !via->branch_param.slen)
        return;
    if (method->id == PJSIP_CANCEL_METHOD) {
        on_cancel(via, &server);
        return;
    }
    now = host_now();
    hash = request_hash(&via->branch_param, &method->name);
    course = course_hold(hash);
    if (!course) {
        begin(tdata, &server, via, hash, now);
        return;
    }
    pthread_mutex_lock(&courses.lock);
    /* A connect has failed: the bytes are others now, and the time begins anew. */
    walked_on = !course->udp && course->count == 1 && course->legs[0].transport != tdata_transport(tdata);
    if (!walked_on && !course_leg_of(course, &server))
        course_add_leg(course, &server, tdata_transport(tdata), now);
    pthread_mutex_unlock(&courses.lock);
    if (walked_on) {
        course_forget(course);
        begin(tdata, &server, via, hash, now);
    } else {
        repeat(course, &server, now);
    }
    course_release(course);
}

/* --- going on ---------------------------------------------------------------------------------------------------- */

static void tell(const struct course *course, const pf_address *left, const pf_address *taken, int why, int code)
{
    pf_failover *failover = calloc(1, sizeof *failover);

    atomic_fetch_add(why == PF_WHY_SLOW ? &counted.hedged : &counted.steered, 1);
    if (!failover)
        return;
    failover->left = *left;
    failover->taken = *taken;
    failover->why = why;
    failover->code = code;
    failover->after = host_now() - course->began;
    memcpy(failover->method, course->method, sizeof failover->method);
    memcpy(failover->call_id, course->call_id, sizeof failover->call_id);
    queue_put_note(NOTE_FAILOVER, failover);
}

/*
 * Sends the request to the next server that will have it; 0: there is none. With move, the transaction goes along at once: where
 * it was there is nothing to hope for. A SIP thread, no lock held.
 */
static int go_on(struct course *course, const pf_address *left, int why, int code, int move)
{
    for (;;) {
        pjsip_transport *connection = NULL;
        pj_status_t status = PJ_SUCCESS;
        pf_address server;
        int candidate;

        pthread_mutex_lock(&courses.lock);
        candidate = course_next_candidate(course);
        if (candidate >= 0) {
            server = course->candidates[candidate];
            course->tried |= UINT64_C(1) << candidate;
        }
        pthread_mutex_unlock(&courses.lock);
        if (candidate < 0)
            return 0;
        if (!course->udp) {
            status = connections_connect(self.endpt, &server, course->name, &connection);
            if (status != PJ_SUCCESS) {
                pthread_mutex_lock(&courses.lock);
                if (status == PJ_ETOOMANYCONN)
                    course_note_withheld(course, &server);
                else
                    course_note_unreachable(course, &server);
                pthread_mutex_unlock(&courses.lock);
                continue;
            }
        }
        /* It is on the books before it is on the wire: its answer may be quick. */
        pthread_mutex_lock(&courses.lock);
        course_add_leg(course, &server, connection ? connection : course->udp, host_now());
        pthread_mutex_unlock(&courses.lock);
        observer_note_sent(course->link.hash, course->method, &server, connection ? connection : course->udp);
        if (move)
            transaction_move(course, &server, connection ? connection : course->udp);
        status = send_to(course, &server, connection, course->bytes, course->size);
        if (connection)
            host.pjsip_transport_dec_ref(connection);
        if (status == PJ_SUCCESS) {
            if (!plans_is_well(&server, WELL_SECONDS))
                check_port(&server, course->udp, host_now());
            tell(course, left, &server, why, code);
            return 1;
        }
        pthread_mutex_lock(&courses.lock);
        course_leg_of(course, &server)->ended = 1;
        pthread_mutex_unlock(&courses.lock);
    }
}

/* Under courses.lock. Whether the budget has one more. */
static int may_hedge(void)
{
    if (self.saved < 1)
        return 0;
    self.saved -= 1;
    return 1;
}

/* Under courses.lock. Whether the server may have lost the one packet that it got. */
static int wants_echo(const struct course *course, const struct leg *leg)
{
    return course->udp && !course->invite && leg->suspected && !leg->refused && leg->sends == 1;
}

/* Whom nobody has heard of for as long as that method waits is suspect, until it answers a second packet. No lock held. */
static void suspect(struct course *course, double now)
{
    pf_address servers[MOST_LEGS], again[MOST_LEGS];
    unsigned count = 0, repeats = 0, i;

    pthread_mutex_lock(&courses.lock);
    for (i = 0; i < course->count; i++) {
        struct leg *leg = &course->legs[i];

        if (leg->ended || leg->provisional || leg->first_sent + course->after > now + SLACK)
            continue;
        if (!leg->suspected) {
            leg->suspected = 1;
            servers[count++] = leg->server;
        } else if (wants_echo(course, leg) && leg->first_sent + course->after + ECHO <= now + SLACK) {
            leg->sends++;
            leg->last_sent = now;
            again[repeats++] = leg->server;
        }
    }
    pthread_mutex_unlock(&courses.lock);
    for (i = 0; i < repeats; i++) {
        byhand_send_datagram(course->udp, &again[i], course->bytes, course->size);
        observer_note_sent(course->link.hash, course->method, &again[i], course->udp);
    }
    for (i = 0; i < count; i++)
        plans_suspect(&servers[i]);
}

/* When to look at the course again. No lock held. */
static void plan_look(struct course *course)
{
    double due = INFINITY;
    unsigned i;

    pthread_mutex_lock(&courses.lock);
    if (!course->final && !course->provisional) {
        due = fmin(course->soon, course->check);
        if (course_next_candidate(course) >= 0)
            due = fmin(due, course->legs[course->count - 1].first_sent + course->after);
        else if (course->unreachable && isfinite(course->after))
            due = fmin(due, course->again);
        if (course->withheld)
            due = fmin(due, course->retry);
        if (course->kept && course_next_candidate(course) < 0)
            due = fmin(due, course->legs[course->count - 1].first_sent + LAST_WORD);
    }
    for (i = 0; i < course->count; i++) {
        const struct leg *leg = &course->legs[i];

        if (leg->ended || leg->provisional)
            continue;
        if (!leg->suspected || wants_echo(course, leg))
            due = fmin(due, leg->first_sent + course->after + (leg->suspected ? ECHO : 0));
        if (!course->udp && !leg->given_up)
            due = fmin(due, leg->first_sent + DEAD_SECONDS);
    }
    course->due = fmin(course->due, due);       /* something may have happened to it meanwhile */
    pthread_mutex_unlock(&courses.lock);
    if (isfinite(due))
        look_again(due);
}

/* Closes connections whose server has said nothing at all since the request was sent. Who waits on them still may do so. No lock held. */
static void give_up_connections(struct course *course, double now)
{
    struct { pf_address server; const pjsip_transport *transport; double silent; } dead[MOST_LEGS];
    unsigned count = 0, i;

    pthread_mutex_lock(&courses.lock);
    for (i = 0; i < course->count && !course->udp; i++) {
        struct leg *leg = &course->legs[i];

        if (leg->ended || leg->provisional || leg->given_up || leg->first_sent + DEAD_SECONDS > now + SLACK)
            continue;
        leg->given_up = 1;
        dead[count].server = leg->server;
        dead[count].silent = now - leg->first_sent;
        dead[count++].transport = leg->transport;
    }
    pthread_mutex_unlock(&courses.lock);
    for (i = 0; i < count; i++) {
        pjsip_transport *connection;

        /* Asked for by its address, for the pointer may be one of the past by now. */
        if (!plans_is_well(&dead[i].server, dead[i].silent) && connections_knows(dead[i].transport) &&
            byhand_connect(self.endpt, &dead[i].server, course->name, &connection) == PJ_SUCCESS) {
            if (connection == dead[i].transport)
                host.pjsip_transport_shutdown2(connection, PJ_FALSE);
            host.pjsip_transport_dec_ref(connection);
        }
    }
}

/* Whether there is a server that no connect was due to just now, and it is worth waiting for. No lock held. */
static int waits(struct course *course)
{
    int worth_it;

    pthread_mutex_lock(&courses.lock);
    worth_it = course->withheld && course->retries < MOST_RETRIES;
    pthread_mutex_unlock(&courses.lock);
    return worth_it;
}

/*
 * Catches up with a connection that has ended while another thread was at the transaction, sending it most likely: pjsip itself
 * forgets that end, for it starts the transaction's timeout afterwards, or is about to end the transaction, which the next look
 * tells. 0: there is nothing to do now. Polling thread, no lock held.
 */
static int settle(struct course *course)
{
    const double next = host_now() + SETTLED;
    const pjsip_transport *ended;
    int listed;

    pthread_mutex_lock(&courses.lock);
    ended = course->unsettled;
    course->unsettled = NULL;
    listed = course->listed;
    pthread_mutex_unlock(&courses.lock);
    if (!ended)
        return 1;
    if (!listed)
        return 0;                       /* that thread has walked on with the request */
    sending_await(course->link.hash);
    if (!transaction_keep_alive(course, ended)) {
        course_forget(course);
        return 0;
    }
    pthread_mutex_lock(&courses.lock);
    course->due = fmin(course->due, next);
    pthread_mutex_unlock(&courses.lock);
    look_again(next);
    return 0;
}

/* A course whose time has come. Polling thread, no lock held. */
static void look_at(struct course *course, double now)
{
    int open, lost, refused, check, late, sooner, last, more = 0;
    pf_address left;

    if (!settle(course))
        return;
    pthread_mutex_lock(&courses.lock);
    open = !course->final && !course->provisional;
    if (open && course->unreachable && course->again <= now + SLACK && isfinite(course->after) && course_next_candidate(course) < 0) {
        course->tried &= ~course->unreachable;
        course->unreachable = 0;
    }
    if (course->withheld && course->retry <= now + SLACK) {
        course->tried &= ~course->withheld;
        course->withheld = 0;
        course->retries++;
    }
    lost = course->lost && !course->final && !course_pending_legs(course);
    late = course->legs[course->count - 1].first_sent + course->after <= now + SLACK;
    refused = open && course->legs[course->count - 1].refused;
    check = open && course->check <= now + SLACK;
    if (check)
        course->check = INFINITY;
    sooner = !late && course->soon <= now + SLACK;
    if (sooner) {
        course->soon = INFINITY;
        sooner = course_next_candidate(course) >= 0 && may_hedge();
    }
    last = course->kept && course_next_candidate(course) < 0 &&
           course->legs[course->count - 1].first_sent + LAST_WORD <= now + SLACK;
    left = course->legs[course->count - 1].server;
    pthread_mutex_unlock(&courses.lock);
    if (open && !transaction_is_unanswered(course)) {
        course_forget(course);         /* it has been given up */
        return;
    }
    if (check)
        check_port(&left, course->udp, now);
    suspect(course, now);
    give_up_connections(course, now);
    if (open && (lost || refused || late || sooner))
        more = go_on(course, &left,
                     lost ? PF_WHY_LOST : refused ? PF_WHY_REFUSED : late ? PF_WHY_SILENT : PF_WHY_SLOW, 0, lost);
    if (lost && !more && !(open && waits(course))) {
        if (!give_kept(course))
            transaction_end(course);
        course_forget(course);
    } else {
        if (open && last)
            give_kept(course);
        plan_look(course);
    }
}

/* The server's port is closed: its requests go on at once. Polling thread, no lock held. */
static void on_refused(const pf_address *server)
{
    struct course *course;
    pf_outcome outcome;
    unsigned i;

    memset(&outcome, 0, sizeof outcome);
    outcome.seen = PF_REFUSED;
    outcome.retry_after = -1;
    plans_note_failure(server, &outcome);
    pthread_mutex_lock(&courses.lock);
    for (course = courses.oldest; course; course = course->newer)
        for (i = 0; i < course->count; i++) {
            struct leg *leg = &course->legs[i];

            if (memcmp(&leg->server, server, sizeof *server) || leg->ended || leg->provisional || course->final)
                continue;
            leg->refused = leg->suspected = 1;
            course->due = 0;
        }
    pthread_mutex_unlock(&courses.lock);
}

void steering_tick(double now)
{
    enum { BATCH = 32 };
    struct course *due[BATCH], *old[BATCH], *course, *newer;
    int count, outdated = 0, i;
    double next, next_port;
    pf_address server;

    while (ports_next_refused(now + SLACK, &server, &next_port))
        on_refused(&server);
    do {
        count = outdated = 0;
        next = next_port;
        pthread_mutex_lock(&courses.lock);
        for (course = courses.oldest; course && count < BATCH && outdated < BATCH; course = newer) {
            newer = course->newer;
            if (now - course->began > (course->provisional && course->invite && !course->final ? RINGING : PATIENCE)) {
                course_take_out(course);
                old[outdated++] = course;
            } else if (course->due <= now + SLACK) {
                course->due = INFINITY;
                course->refs++;
                due[count++] = course;
            } else if (course->due < next) {
                next = course->due;
            }
        }
        self.due = next;
        pthread_mutex_unlock(&courses.lock);
        for (i = 0; i < outdated; i++)
            course_release(old[i]);
        for (i = 0; i < count; i++) {
            look_at(due[i], now);
            course_release(due[i]);
        }
    } while (count == BATCH || outdated == BATCH);
    if (isfinite(next))
        self.wake_at(next);
}

/* --- an answer comes --------------------------------------------------------------------------------------------- */

static int is_failover_code(int code)
{
    int i;

    for (i = 0; i < self.steering.code_count; i++)
        if (self.steering.codes[i] == code)
            return 1;
    return 0;
}

static int is_challenge(int code) { return code == 401 || code == 407; }

/* What pjsip would acknowledge is acknowledged by us, to whom it came from. */
static void acknowledge(const struct course *course, const pf_address *server, pjsip_rx_data *rdata)
{
    char text[4000];
    size_t size = byhand_write(text, sizeof text, "ACK", course->bytes, course->size, RDATA_INFO(rdata)->to);

    if (size)
        send_to(course, server, course->udp ? NULL : rdata->tp_info.transport, text, size);
}

/* A call that nobody wants any more was taken: it is acknowledged, as it must be, and ended. */
static void hang_up(const struct course *course, const pf_address *server, pjsip_rx_data *rdata)
{
    static const char *const methods[] = { "ACK", "BYE" };
    char text[4000];
    int i;

    for (i = 0; i < 2; i++) {
        size_t size = byhand_write_in_dialog(text, sizeof text, methods[i], rdata, course->bytes, course->size);

        if (size)
            send_to(course, server, course->udp ? NULL : rdata->tp_info.transport, text, size);
    }
}

/* An answer after the application has its own. Whether it is kept back. */
static int on_late(struct course *course, const pf_address *server, pjsip_rx_data *rdata)
{
    int code = RDATA_INFO(rdata)->msg->line.status.code;

    if (course->invite && code >= 200 && code < 300)
        hang_up(course, server, rdata);
    else if (course->invite && code >= 300)
        acknowledge(course, server, rdata);
    else if (course->invite && code > 100)
        cancel_others(course, &course->winner->server);
    return 1;
}

/* What to do with a response, decided under the lock. */
enum verdict { PASS, LATE, TAKE_BACK, KEEP_BACK };

/* Under courses.lock. */
static enum verdict judge(struct course *course, struct leg *leg, int code)
{
    unsigned others, i, ringing = 0;
    int own_failure;

    if (course->final) {
        leg->provisional |= code < 200;
        leg->ended |= code >= 200;
        return leg == course->winner ? PASS : LATE;
    }
    if (leg->ended && code >= 200)
        return KEEP_BACK;                       /* a retransmission of what was kept back */
    if (code < 200) {
        leg->provisional = course->provisional = 1;
        return PASS;
    }
    own_failure = is_failover_code(code) && !leg->provisional;
    leg->ended = 1;
    others = course_pending_legs(course);
    for (i = 0; i < course->count; i++)
        ringing += !course->legs[i].ended && course->legs[i].provisional;
    if (own_failure && !course->provisional && !others && course_next_candidate(course) >= 0)
        return TAKE_BACK;
    if ((own_failure && others) || (course->invite && code >= 300 && ringing))
        return KEEP_BACK;
    course->final = 1;
    course->winner = leg;
    return PASS;
}

/*
 * Under courses.lock. The servers that had the request before the one that has answered it, and are silent still: suspect at once,
 * until they answer too.
 */
static unsigned list_overtaken(struct course *course, const struct leg *answered, pf_address *servers)
{
    unsigned count = 0, i;

    for (i = 0; i < course->count; i++) {
        struct leg *leg = &course->legs[i];

        if (leg->first_sent < answered->first_sent && !leg->ended && !leg->provisional && !leg->suspected) {
            leg->suspected = 1;
            servers[count++] = leg->server;
        }
    }
    return count;
}

pj_bool_t steering_on_rx_response(pjsip_rx_data *rdata)
{
    pjsip_via_hdr *via = RDATA_INFO(rdata)->via;
    pjsip_cseq_hdr *cseq = RDATA_INFO(rdata)->cseq;
    int code = RDATA_INFO(rdata)->msg->line.status.code, hide = 0, over = 0;
    pjsip_transport *transport = rdata->tp_info.transport;
    struct course *course;
    enum verdict verdict;
    pf_address source, server, overtaken[MOST_LEGS];
    struct leg *leg = NULL;
    unsigned count, i;

    if (!atomic_load_explicit(&self.on, memory_order_relaxed) || !via || !cseq || !via->branch_param.slen)
        return PJ_FALSE;
    course = course_hold(request_hash(&via->branch_param, &cseq->method.name));
    if (!course)
        return PJ_FALSE;
    pthread_mutex_lock(&courses.lock);
    if (address_of(&source, RDATA_SOURCE(rdata), transport_type(transport)))
        leg = course_leg_of(course, &source);
    if (!leg)
        leg = &course->legs[0];                 /* a server with several addresses; pjsip does not mind, nor do we */
    server = leg->server;
    verdict = judge(course, leg, code);
    count = list_overtaken(course, leg, overtaken);
    over = course->final && !course_pending_legs(course) && !(course->invite && course->count > 1);
    pthread_mutex_unlock(&courses.lock);
    for (i = 0; i < count; i++)
        plans_suspect(&overtaken[i]);
    switch (verdict) {
    case PASS:
        /* Where its own connection is not there yet, the transaction cannot be moved, nor send an ACK. */
        if ((course->count > 1 || is_challenge(code)) &&
            !transaction_move(course, &server, course->udp ? course->udp : transport) && course->count > 1 &&
            course->invite && code >= 300)
            acknowledge(course, &server, rdata);
        if (course->invite && code >= 200)
            cancel_others(course, &server);
        break;
    case LATE:
        hide = on_late(course, &server, rdata);
        break;
    case TAKE_BACK:
        if (course->invite)
            acknowledge(course, &server, rdata);
        hide = go_on(course, &server, PF_WHY_CODE, code, 1);
        if (hide) {
            keep(course, leg, rdata);
            plan_look(course);
        } else {                /* those that were left could not even be connected to */
            pthread_mutex_lock(&courses.lock);
            course->final = 1;
            course->winner = leg;
            pthread_mutex_unlock(&courses.lock);
        }
        break;
    case KEEP_BACK:
        if (course->invite)
            acknowledge(course, &server, rdata);
        keep(course, leg, rdata);
        plan_look(course);
        hide = 1;
        break;
    }
    if (hide && code >= 200)
        atomic_fetch_add(&counted.swallowed, 1);
    if (over)
        course_forget(course);
    course_release(course);
    return hide;
}

/* --- a connection ends ------------------------------------------------------------------------------------------- */

void steering_on_transport_state(pjsip_transport *transport, pjsip_transport_state state)
{
    enum { BATCH = 64 };
    struct course *lost[BATCH], *course;
    int count = 0, i;
    unsigned j;

    if (state != PJSIP_TP_STATE_DISCONNECTED || !atomic_load_explicit(&self.on, memory_order_relaxed))
        return;
    pthread_mutex_lock(&courses.lock);
    for (course = courses.oldest; course && count < BATCH; course = course->newer)
        for (j = 0; j < course->count; j++)
            if (course->legs[j].transport == transport && !course->legs[j].ended && !course->final && !course->udp) {
                course->refs++;
                lost[count++] = course;
                break;
            }
    pthread_mutex_unlock(&courses.lock);
    for (i = 0; i < count; i++) {
        int more, kept, busy;

        course = lost[i];
        pthread_mutex_lock(&courses.lock);
        /* With nobody left to ask, and the transaction listening still, pjsip ends it by itself. */
        more = (!course->provisional && (course_next_candidate(course) >= 0 || course->withheld)) ||
               course_pending_legs(course) > 1 || course->count > 1;
        pthread_mutex_unlock(&courses.lock);
        busy = sending_is_elsewhere(course->link.hash);
        kept = !busy && transaction_try_keep_alive(course, transport, more, &busy);
        pthread_mutex_lock(&courses.lock);
        for (j = 0; j < course->count; j++)
            if (course->legs[j].transport == transport && !course->legs[j].ended) {
                course->legs[j].ended = 1;
                course_note_unreachable(course, &course->legs[j].server);
            }
        if (busy)
            course->unsettled = transport;
        if (kept || busy) {
            course->lost = 1;
            course->due = 0;
        }
        pthread_mutex_unlock(&courses.lock);
        if (kept || busy)
            look_again(host_now());
        else
            course_forget(course);
        course_release(course);
    }
}

/* --- opening and closing ----------------------------------------------------------------------------------------- */

void steering_open(pjsip_endpoint *endpt, void (*wake_at)(double when))
{
    pthread_mutex_lock(&courses.lock);
    self.endpt = endpt;
    transaction_open(endpt);
    self.wake_at = wake_at;
    self.steering = wanted;
    courses.attempts = wanted.attempts > 0 && wanted.attempts < MOST_LEGS ? (unsigned)wanted.attempts : MOST_LEGS;
    self.saved = 1;
    self.due = INFINITY;
    pthread_mutex_unlock(&courses.lock);
    atomic_store(&counted.steered, 0);
    atomic_store(&counted.hedged, 0);
    atomic_store(&counted.swallowed, 0);
    atomic_store(&counted.raced, 0);
    atomic_store(&self.on, wanted.on);
}

static void drop_nothing(struct link *link) { (void)link; }

void steering_close(void)
{
    struct course *course;

    atomic_store(&self.on, 0);
    ports_close();
    for (;;) {
        pthread_mutex_lock(&courses.lock);
        course = courses.oldest;
        if (course)
            course_take_out(course);
        else
            table_clear(&courses.table, &drop_nothing);
        pthread_mutex_unlock(&courses.lock);
        if (!course)
            return;
        course_release(course);
    }
}

double steering_race_gap(void)
{
    return atomic_load_explicit(&self.on, memory_order_relaxed) ? self.steering.race_gap : -1;
}

void steering_count_race(void) { atomic_fetch_add(&counted.raced, 1); }

void steering_count(pf_counters *counters)
{
    counters->steered = atomic_load(&counted.steered);
    counters->hedged = atomic_load(&counted.hedged);
    counters->swallowed = atomic_load(&counted.swallowed);
    counters->raced = atomic_load(&counted.raced);
}
