#include "connection_attempts.h"

#include "address.h"
#include "connections.h"
#include "event_queue.h"
#include "lock.h"
#include "send_guard.h"
#include "servers.h"
#include "text.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* The most servers of a plan that take part in a race. */
enum { MAX_ATTEMPTS_OF_RACE = 8 };

/* UDP is the server's last word on a request that TCP was wanted for: it waits so long for the connections before it. */
#define DATAGRAM_DELAY_S 1.0

/* A race gets at least this long, even if it began late because the plan came late. */
#define MIN_RACE_S 1.0

enum connection_attempt_state { WAITING, CONNECTING, CONNECTED, FAILED };

struct connection_attempt {
    pf_address server;
    unsigned place; /* index in the answer */
    enum connection_attempt_state state;
    pjsip_transport *transport; /* referenced */
};

struct race {
    struct race *next;
    struct pending_query *query;
    server_addresses planned;
    struct connection_attempt attempts[MAX_ATTEMPTS_OF_RACE];
    unsigned count;
    double began, next_start, deadline;
    int busy; /* a polling thread works on it */
    int news; /* something happened meanwhile */
};

/* lock guards the list, and of each race: busy, news, and the states and transports of its attempts. */
static struct {
    pthread_mutex_t lock;
    struct race *first;
    unsigned long long count;
    int open;
    double deadline;
    double delay; /* seconds between connects; negative: no races; written while attaching */
    void (*wake_at)(double when);
} races = { .lock = PTHREAD_MUTEX_INITIALIZER };

static atomic_ullong races_counted;

/* --- asking ------------------------------------------------------------------------------------------------------ */

static int race_is_same_server(const pf_address *one, const pf_address *other)
{
    const pf_address originals[2] = { servers_original(one), servers_original(other) };

    return address_equals(&originals[0], &originals[1]);
}

/*
 * The servers that run: with TLS first, those with TLS alone; with TCP first, UDP too, which needs no connection. Of a bound request,
 * its own server alone.
 */
static unsigned race_list_attempts(const server_addresses *planned, const struct request_info *info,
                                   struct connection_attempt *attempts, unsigned room)
{
    unsigned count = 0, i;

    for (i = 0; i < addresses_count(&planned->addresses) && count < room; i++) {
        struct connection_attempt *attempt = &attempts[count];

        if (!address_of(&attempt->server, addresses_address(&planned->addresses, i),
                        addresses_type(&planned->addresses, i)))
            continue;
        if (!count && attempt->server.transport == PF_UDP)
            return 0;
        if (attempt->server.transport != attempts[0].server.transport &&
            (attempts[0].server.transport == PF_TLS || attempt->server.transport == PF_TLS))
            continue;
        if (info->bound && !race_is_same_server(&attempt->server, &info->server))
            continue;
        attempt->place = i;
        attempt->state = WAITING;
        attempt->transport = NULL;
        count++;
    }
    return count;
}

int connection_attempts_are_useful(const server_addresses *planned, const struct request_info *info)
{
    struct connection_attempt attempts[2];

    return info->free_to_race && races.delay > 0 && race_list_attempts(planned, info, attempts, 2) == 2 &&
           !connections_has(&attempts[0].server) &&
           (servers_is_copy(&attempts[0].server) || !servers_answered_within(&attempts[0].server, RECENT_ANSWER_S));
}

int connection_attempts_start(struct pending_query *query, const server_addresses *planned)
{
    struct race *race = calloc(1, sizeof *race);
    double now = clock_now();
    int taken = 0;

    if (!race)
        return 0;
    race->query = query;
    memcpy(&race->planned, planned, sizeof race->planned);
    race->count = race_list_attempts(planned, &query->request_info, race->attempts, MAX_ATTEMPTS_OF_RACE);
    race->began = race->next_start = now;
    pthread_mutex_lock(&races.lock);
    if (races.open) {
        race->deadline = fmax(query->since + races.deadline, now + MIN_RACE_S);
        race->next = races.first;
        races.first = race;
        races.count++;
        taken = 1;
    }
    pthread_mutex_unlock(&races.lock);
    if (!taken) {
        free(race);
        return 0;
    }
    atomic_fetch_add(&races_counted, 1);
    races.wake_at(now);
    return 1;
}

/* --- running, on the polling thread ------------------------------------------------------------------------------ */

static void race_report(const struct race *race, const struct connection_attempt *winner)
{
    pjsip_msg *msg = tdata_msg(((pjsip_send_state *)race->query->token)->tdata);
    pjsip_cid_hdr *call_id = host.pjsip_msg_find_hdr(msg, PJSIP_H_CALL_ID, NULL);
    const pj_str_t *method = &msg->line.req.method.name;
    pf_failover *failover = calloc(1, sizeof *failover);

    if (!failover)
        return;
    failover->left = servers_original(&race->attempts[0].server);
    failover->taken = servers_original(&winner->server);
    failover->why = PF_REASON_RACE;
    failover->after = clock_now() - race->began;
    copy_text(failover->method, sizeof failover->method, method);
    if (call_id)
        copy_text(failover->call_id, sizeof failover->call_id, &call_id->id);
    event_queue_post(EVENT_FAILOVER, failover);
}

static void race_copy_place(server_addresses *to, unsigned *count, struct race *race, unsigned place)
{
    const pjsip_server_addresses *from = &race->planned.addresses;

    addresses_set(to, (*count)++, &race->query->info.addr.host, addresses_type(from, place),
                  addresses_address(from, place), addresses_length(from, place), addresses_priority(from, place), 0);
}

static const struct connection_attempt *race_attempt_at(const struct race *race, unsigned place)
{
    unsigned i;

    for (i = 0; i < race->count; i++)
        if (race->attempts[i].place == place)
            return &race->attempts[i];
    return NULL;
}

/* Returns whether pjsip would try that server before the winner, for the account prefers its address family. */
static int race_is_preferred_to(const struct race *race, unsigned place, const struct connection_attempt *winner)
{
    const int family = addresses_address(&race->planned.addresses, place)->addr.sa_family == AF_INET ? 4 : 6;

    return winner && family != winner->server.family && family == race->query->request_info.prefers;
}

/* Answers and frees the race, which is in no list any more. No lock held. */
static void race_finish(struct race *race, const struct connection_attempt *winner)
{
    unsigned total = addresses_count(&race->planned.addresses), count = 0, failed, i;
    server_addresses given;

    /* The winner, then the others in the plan's order; those whose connect has failed come last. */
    if (winner)
        race_copy_place(&given, &count, race, winner->place);
    for (failed = 0; failed <= 1; failed++)
        for (i = 0; i < total; i++) {
            const struct connection_attempt *attempt = race_attempt_at(race, i);

            if ((!attempt || attempt != winner) && failed == (attempt && attempt->state == FAILED) &&
                !race_is_preferred_to(race, i, winner))
                race_copy_place(&given, &count, race, i);
        }
    addresses_set_count(&given, count);
    if (race->query->request_info.large)
        addresses_keep_udp(&given);
    for (i = 0; i < race->count; i++)
        if (race->attempts[i].state == CONNECTING) {
            connections_watch_late(race->attempts[i].transport, &race->attempts[i].server,
                                   !(winner && race_is_same_server(&race->attempts[i].server, &winner->server)));
            race->attempts[i].transport = NULL;
        }
    if (winner && !race_is_same_server(&race->attempts[0].server, &winner->server))
        race_report(race, winner);
    send_guard_answer(race->query, PJ_SUCCESS, &given.addresses);
    for (i = 0; i < race->count; i++)
        if (race->attempts[i].transport)
            host.pjsip_transport_dec_ref(race->attempts[i].transport);
    free(race->query);
    free(race);
}

static void race_unlist_locked(struct race *race)
{
    struct race **place = &races.first;

    while (*place != race)
        place = &(*place)->next;
    *place = race->next;
    races.count--;
}

/* Returns after how long the next attempt starts. */
static double race_delay_after(const struct race *race, const struct connection_attempt *attempt)
{
    const struct connection_attempt *next = attempt + 1;

    return next < race->attempts + race->count && next->server.transport == PF_UDP ? fmax(races.delay, DATAGRAM_DELAY_S)
                                                                                   : races.delay;
}

/*
 * Starts one connect. No lock held: if the connect fails at once, pjsip calls connection_attempts_on_transport_state()
 * from within.
 */
static void race_connect(struct race *race, struct connection_attempt *attempt, double now)
{
    pjsip_transport *transport = NULL;
    const pjsip_tpselector *selector = tdata_selector(((pjsip_send_state *)race->query->token)->tdata);
    const int datagram = attempt->server.transport == PF_UDP;
    pj_status_t status =
        datagram ? PJ_SUCCESS : connections_connect(&attempt->server, race->query->name, selector, &transport);
    HOLD_LOCK(&races.lock);

    race->next_start = now + race_delay_after(race, attempt);
    if (datagram) {
        attempt->state = CONNECTED;
    } else if (status != PJ_SUCCESS) {
        attempt->state = FAILED;
    } else {
        attempt->transport = transport;
        attempt->state = connections_is_up(transport) ? CONNECTED : CONNECTING;
    }
}

/*
 * Runs a race that is this thread's until it is over, and frees it then, or until it has to wait. Polling thread, no
 * lock held.
 */
static void race_run(struct race *race, double now)
{
    for (;;) {
        struct connection_attempt *winner = NULL, *next = NULL;
        unsigned connecting = 0, i;
        int over;

        pthread_mutex_lock(&races.lock);
        race->news = 0;
        for (i = race->count; i-- > 0;)
            switch (race->attempts[i].state) {
            case CONNECTED: winner = &race->attempts[i]; break;
            case CONNECTING: connecting++; break;
            case WAITING: next = &race->attempts[i]; break;
            case FAILED: break;
            }
        over = winner || (!connecting && !next) || now >= race->deadline || !races.open;
        if (over)
            race_unlist_locked(race);
        else if (!next || (connecting && now < race->next_start)) {
            race->busy = 0;
            pthread_mutex_unlock(&races.lock);
            return;
        }
        pthread_mutex_unlock(&races.lock);
        if (over) {
            race_finish(race, winner);
            return;
        }
        race_connect(race, next, now);
    }
}

void connection_attempts_tick(double now)
{
    /* Answering a race may make the application start another, again and again; such races wait for the next tick. */
    const double entered = clock_now();
    double next = INFINITY;
    struct race *race;

    for (;;) {
        pthread_mutex_lock(&races.lock);
        next = INFINITY;
        for (race = races.first; race; race = race->next) {
            unsigned i;
            int waiting = 0, connecting = 0;

            if (race->busy || race->began > entered)
                continue;
            for (i = 0; i < race->count; i++) {
                waiting += race->attempts[i].state == WAITING;
                connecting += race->attempts[i].state == CONNECTING;
            }
            if (race->news || now >= race->deadline || (waiting && now >= race->next_start) || !connecting)
                break;
            next = fmin(next, fmin(race->deadline, waiting ? race->next_start : INFINITY));
        }
        if (race)
            race->busy = 1;
        pthread_mutex_unlock(&races.lock);
        if (!race)
            break;
        race_run(race, now);
    }
    if (isfinite(next))
        races.wake_at(next);
}

void connection_attempts_on_transport_state(const pjsip_transport *transport, pjsip_transport_state state)
{
    enum connection_attempt_state now = state == PJSIP_TP_STATE_CONNECTED ? CONNECTED
                                        : state == PJSIP_TP_STATE_DISCONNECTED || state == PJSIP_TP_STATE_DESTROY
                                            ? FAILED
                                            : WAITING;
    struct race *race;
    int news = 0;
    unsigned i;

    if (now == WAITING)
        return;
    pthread_mutex_lock(&races.lock);
    for (race = races.first; race; race = race->next)
        for (i = 0; i < race->count; i++)
            if (race->attempts[i].transport == transport && race->attempts[i].state == CONNECTING) {
                race->attempts[i].state = now;
                race->news = news = 1;
            }
    pthread_mutex_unlock(&races.lock);
    if (news)
        races.wake_at(clock_now());
}

/* --- opening and closing ----------------------------------------------------------------------------------------- */

void connection_attempts_open(double deadline, double delay, void (*wake_at)(double when))
{
    HOLD_LOCK(&races.lock);
    races.delay = delay;
    atomic_store(&races_counted, 0);
    races.deadline = deadline;
    races.wake_at = wake_at;
    races.open = 1;
}

struct pending_query *connection_attempts_close(struct pending_query *all)
{
    struct race *race;
    unsigned i;

    for (;;) {
        pthread_mutex_lock(&races.lock);
        races.open = 0;
        /* A race that a polling thread works on will be answered by that thread. */
        for (race = races.first; race && race->busy; race = race->next)
            ;
        if (race)
            race_unlist_locked(race);
        pthread_mutex_unlock(&races.lock);
        if (!race)
            return all;
        race->query->next = all;
        all = race->query;
        for (i = 0; i < race->count; i++)
            if (race->attempts[i].transport)
                host.pjsip_transport_dec_ref(race->attempts[i].transport);
        free(race);
    }
}

void connection_attempts_count(pf_counters *counters)
{
    pthread_mutex_lock(&races.lock);
    counters->waiting += races.count;
    pthread_mutex_unlock(&races.lock);
    counters->raced = atomic_load(&races_counted);
}
