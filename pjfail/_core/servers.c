#include "servers.h"

#include "address.h"
#include "clock.h"
#include "event_queue.h"
#include "lock.h"
#include "round_trips.h"

#include <stdlib.h>
#include <string.h>

/* Seconds that the core's own suspicion lasts if Python says nothing: timer F's 32 s. */
#define LOCAL_SUSPICION_S 32.0

/* For so many seconds after a connect to a TCP copy was given up, large requests go to the server over UDP at once. */
#define COPY_REST_S 300.0

/* Seconds after which a measured round trip says nothing about the next one. */
#define RTT_FORGET_S 60.0

struct servers servers = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- the table, under servers.lock ------------------------------------------------------------------------------- */

static struct server *servers_find_exact_locked(const pf_address *address, uint64_t hash)
{
    struct hash_link *link;

    for (link = hash_table_first(&servers.table, hash); link; link = hash_table_next(link)) {
        struct server *server = entry_of(link, struct server, link);
        if (address_equals(&server->address, address))
            return server;
    }
    return NULL;
}

/* Does the work of servers_find_locked(), given the address_hash() of the address. */
static struct server *servers_find_hashed_locked(const pf_address *address, uint64_t hash)
{
    struct server *server = servers_find_exact_locked(address, hash);
    pf_address original = *address;

    if (server || address->transport != PF_TCP)
        return server;
    original.transport = PF_UDP;
    return servers_find_exact_locked(&original, address_hash(&original));
}

struct server *servers_find_locked(const pf_address *address)
{
    return servers_find_hashed_locked(address, address_hash(address));
}

struct server *servers_hold_locked(const pf_address *address)
{
    const uint64_t hash = address_hash(address);
    struct server *server = servers_find_exact_locked(address, hash);

    if (!server) {
        server = calloc(1, sizeof *server);
        if (!server)
            return NULL;
        server->address = *address;
        server->link.hash = hash;
        server->last_answer = server->connection_failed = server->copy_timed_out = server->rtt = -1;
        server->answered_options = server->answered_other = -1;
        server->report_answer = 1;
        if (!hash_table_put(&servers.table, &server->link)) {
            free(server);
            return NULL;
        }
    }
    server->refs++;
    return server;
}

void servers_release_locked(struct server *server)
{
    if (--server->refs)
        return;
    hash_table_remove(&servers.table, &server->link);
    free(server);
}

/* --- what was seen of a server ----------------------------------------------------------------------------------- */

int servers_know(const pf_address *server)
{
    HOLD_LOCK(&servers.lock);
    return servers_find_locked(server) != NULL;
}

int servers_hold(const pf_address *address)
{
    HOLD_LOCK(&servers.lock);
    return !address->family || servers_hold_locked(address) != NULL;
}

void servers_release(const pf_address *address)
{
    HOLD_LOCK(&servers.lock);
    struct server *server = servers_find_exact_locked(address, address_hash(address));

    if (server)
        servers_release_locked(server);
}

int servers_is_copy(const pf_address *address)
{
    HOLD_LOCK(&servers.lock);
    const struct server *server = servers_find_locked(address);

    return server && server->address.transport != address->transport;
}

int servers_copy_rests_locked(const struct server *server, double now)
{
    return server->copy_timed_out >= 0 && now - server->copy_timed_out < COPY_REST_S;
}

pf_address servers_original(const pf_address *address)
{
    if (address->transport != PF_TCP)
        return *address; /* copies are of TCP */
    HOLD_LOCK(&servers.lock);
    const struct server *server = servers_find_locked(address);

    return server ? server->address : *address;
}

/*
 * Updates the round trip by RFC 6298 section 2, with its alpha and beta; starts anew if it was not measured for long.
 */
static void servers_measure_locked(struct server *server, double rtt, double now)
{
    if (server->rtt < 0 || now - server->last_answer > RTT_FORGET_S) {
        server->rtt = (float)rtt;
        server->rttvar = (float)(rtt / 2);
    } else {
        double off = server->rtt - rtt;
        server->rttvar = (float)(0.75 * server->rttvar + 0.25 * (off < 0 ? -off : off));
        server->rtt = (float)(0.875 * server->rtt + 0.125 * rtt);
    }
}

/* Fills in what every outcome says. */
static void servers_fill_outcome_locked(struct server *server, pf_outcome *outcome)
{
    outcome->server = server->address;
    outcome->rtt = server->rtt;
    outcome->answers = server->good - server->reported;
    server->reported = server->good;
}

/* Fills in a bad outcome: the next answer is news then, and so is the next one to its method. */
static void servers_fill_failure_locked(struct server *server, pf_outcome *outcome)
{
    servers_fill_outcome_locked(server, outcome);
    outcome->sequence = ++server->sequence;
    server->report_answer = 1;
    if (outcome->method[0])
        memcpy(server->failed_method, outcome->method, sizeof server->failed_method);
}

void servers_record_answer(const pf_address *address, uint64_t hash, const char *method, int code, int error,
                           double rtt, double now)
{
    pf_outcome outcome;
    struct server *server;
    int news = 0;

    pthread_mutex_lock(&servers.lock);
    server = servers_find_hashed_locked(address, hash);
    if (server) {
        int failed_before = !strncmp(server->failed_method, method, sizeof server->failed_method - 1);

        if (rtt >= 0) {
            servers_measure_locked(server, rtt, now);
            round_trips_add(address->transport, rtt);
        }
        server->answers++;
        server->last_answer = now;
        if (code != PJSIP_SC_REQUEST_TIMEOUT)
            *(strcmp(method, "OPTIONS") ? &server->answered_other : &server->answered_options) = now;
        server->suspect_until = 0;
        server->good += !error && code >= 200;
        news = error || server->report_answer || failed_before;
        if (news) {
            outcome = (pf_outcome){ .code = code, .retry_after = -1, .at = now, .began = now };
            outcome.seen = error ? PF_SERVER_ERROR : PF_ANSWERED;
            outcome.sequence = server->sequence;
            strncpy(outcome.method, method, sizeof outcome.method - 1);
            error ? servers_fill_failure_locked(server, &outcome) : servers_fill_outcome_locked(server, &outcome);
        }
        if (!error && code >= 200) { /* a provisional response shows that it is alive; the final one is still news */
            server->report_answer = 0;
            if (failed_before)
                server->failed_method[0] = '\0';
        }
    }
    pthread_mutex_unlock(&servers.lock);
    if (news)
        event_queue_post_outcome(&outcome);
}

void servers_record_failure(const pf_address *address, pf_outcome *outcome)
{
    struct server *server;
    int copy;

    outcome->server = *address;
    outcome->at = clock_now();
    if (!outcome->began)
        outcome->began = outcome->at;
    pthread_mutex_lock(&servers.lock);
    server = servers_find_locked(address);
    copy = server && server->address.transport != address->transport;
    if (copy && outcome->seen == PF_REFUSED) {
        if (outcome->status == PJ_ETIMEDOUT)
            server->copy_timed_out = outcome->at;
        server = NULL; /* that it takes no TCP says nothing of its UDP */
    }
    if (server) {
        /* A certificate, or a 503 from further downstream, says nothing about the server itself. */
        if (outcome->seen != PF_CERTIFICATE && !outcome->after_provisional)
            server->suspect_until = outcome->at + LOCAL_SUSPICION_S;
        if ((outcome->seen == PF_REFUSED || outcome->seen == PF_DISCONNECTED) && !copy)
            server->connection_failed = outcome->at;
        servers_fill_failure_locked(server, outcome);
        switch (outcome->seen) {
        case PF_SILENT: server->silences++; break;
        case PF_UNAVAILABLE: server->unavailable++; break;
        default: server->refusals++;
        }
    }
    pthread_mutex_unlock(&servers.lock);
    if (server)
        event_queue_post_outcome(outcome);
}

void servers_suspect(const pf_address *address)
{
    HOLD_LOCK(&servers.lock);
    struct server *server = servers_find_locked(address);

    if (server) {
        server->suspect_until = clock_now() + LOCAL_SUSPICION_S;
        server->report_answer = 1;
        server->sequence++; /* Python's earlier judgements must not lift it */
    }
}

void pf_suspect(const pf_address *address) { servers_suspect(address); }

void servers_clear_suspect(const pf_address *address)
{
    HOLD_LOCK(&servers.lock);
    struct server *server = servers_find_locked(address);

    if (server)
        server->suspect_until = 0;
}

int servers_is_suspect(const pf_address *address)
{
    HOLD_LOCK(&servers.lock);
    struct server *server = servers_find_locked(address);

    return server && server->suspect_until > clock_now();
}

int servers_failed_within(const pf_address *address, double seconds)
{
    HOLD_LOCK(&servers.lock);
    struct server *server = servers_find_locked(address);

    return server && server->connection_failed >= 0 && server->connection_failed > clock_now() - seconds;
}

static int servers_answered_within_locked(const struct server *server, double seconds, double now)
{
    return server->suspect_until <= now && server->last_answer >= 0 && server->last_answer > now - seconds;
}

int servers_answered_within(const pf_address *address, double seconds)
{
    HOLD_LOCK(&servers.lock);
    const struct server *server = servers_find_locked(address);

    return server && servers_answered_within_locked(server, seconds, clock_now());
}

int servers_view(const pf_address *address, double now, struct server_view *view)
{
    const uint64_t hash = address_hash(address);
    HOLD_LOCK(&servers.lock);
    const struct server *server = servers_find_hashed_locked(address, hash);

    *view = (struct server_view){ .hash = hash, .rto = -1 };
    if (!server)
        return 0;
    view->suspect = server->suspect_until > now;
    view->answered_recently = servers_answered_within_locked(server, RECENT_ANSWER_S, now);
    if (server->rtt >= 0)
        view->rto = server->rtt + 4 * server->rttvar;
    return 1;
}

unsigned long long servers_count(void)
{
    HOLD_LOCK(&servers.lock);
    return servers.table.count;
}

/* --- from Python ------------------------------------------------------------------------------------------------- */

void pf_clear_suspect(const pf_address *address, unsigned sequence)
{
    HOLD_LOCK(&servers.lock);
    struct server *server = servers_find_locked(address);

    if (server && server->sequence == sequence)
        server->suspect_until = 0;
}

int pf_read_stats(const pf_address *address, pf_stats *stats)
{
    struct server *server;

    memset(stats, 0, sizeof *stats);
    pthread_mutex_lock(&servers.lock);
    server = servers_find_locked(address);
    if (server) {
        stats->server = *address;
        stats->last_answer = server->last_answer;
        stats->answered_options = server->answered_options;
        stats->answered_other = server->answered_other;
        stats->rtt = server->rtt;
        stats->rttvar = server->rttvar;
        stats->answers = server->answers;
        stats->silences = server->silences;
        stats->refusals = server->refusals;
        stats->unavailable = server->unavailable;
        stats->suspect = server->suspect_until > clock_now();
    }
    pthread_mutex_unlock(&servers.lock);
    return server != NULL;
}
