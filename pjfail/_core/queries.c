#include "queries.h"

#include "address.h"
#include "connection_attempts.h"
#include "event_queue.h"
#include "hash_table.h"
#include "lock.h"
#include "send_guard.h"

#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/*
 * Seconds that the system's resolver may take if Python has not answered, and how many of its calls may be under way.
 */
#define SYSTEM_TIMEOUT_S 1.5
enum { MAX_SYSTEM_CALLS = 16 };

/* The queries that wait for one target; or that of one request which asks for itself, and has an id. */
struct query_group {
    struct hash_link link; /* by the target, or the id */
    unsigned id;
    struct plan *own;         /* a plan made for this request */
    struct query_group *next; /* in the list of all, or of those ready */
    unsigned long long place; /* in the order of the ready */
    pf_target target;
    double deadline;
    int asking_system;
    enum answer_from from;
    server_addresses *found; /* by the system's resolver */
    unsigned count;
    struct pending_query *pending;
};

/* Guarded by lock: the table and list of the waiting, the list of the ready, whether open. plans.c's lock may be taken inside. */
static struct {
    pthread_mutex_t lock;
    int open;
    double deadline;
    void (*wake)(void);
    void (*begin_ticks)(void);
    struct hash_table table;
    struct query_group *waiting, *ready, **ready_end;
    unsigned long long count;
    unsigned long long last_place;
    unsigned system_calls;
    unsigned last_id;
} queries = { .lock = PTHREAD_MUTEX_INITIALIZER, .ready_end = &queries.ready };

static struct {
    atomic_ullong numeric, from_plan, questions, from_stale, from_system, failed;
} queries_counted;

static atomic_int queries_each_on;

void pf_ask_each(int on) { atomic_store(&queries_each_on, on); }

int queries_each(void) { return atomic_load_explicit(&queries_each_on, memory_order_relaxed); }

static void queries_ask_system_locked(struct query_group *group);

/* --- the waiting, under queries.lock -------------------------------------------------------------------------------- */

static uint64_t queries_id_hash(unsigned id) { return hash_bytes(HASH_SEED, &id, sizeof id); }

static struct query_group *queries_find_request_locked(unsigned id)
{
    struct hash_link *link;

    for (link = hash_table_first(&queries.table, queries_id_hash(id)); link; link = hash_table_next(link)) {
        struct query_group *group = entry_of(link, struct query_group, link);
        if (group->id == id)
            return group;
    }
    return NULL;
}

static struct query_group *queries_find_group_locked(const pf_target *target, uint64_t hash)
{
    struct hash_link *link;

    for (link = hash_table_first(&queries.table, hash); link; link = hash_table_next(link)) {
        struct query_group *group = entry_of(link, struct query_group, link);
        if (!group->id && group->target.port == target->port && group->target.transport == target->transport &&
            group->target.secure == target->secure && group->target.ipv6 == target->ipv6 &&
            !strcmp(group->target.host, target->host))
            return group;
    }
    return NULL;
}

static struct query_group *queries_find_waiting_locked(const pf_target *target, unsigned id)
{
    return id ? queries_find_request_locked(id) : queries_find_group_locked(target, target_hash(target));
}

static void queries_make_ready_locked(struct query_group *group, enum answer_from from)
{
    group->from = from;
    group->next = NULL;
    group->place = ++queries.last_place;
    *queries.ready_end = group;
    queries.ready_end = &group->next;
}

static void queries_end_group_locked(struct query_group *group, enum answer_from from)
{
    struct query_group **place = &queries.waiting;

    while (*place != group)
        place = &(*place)->next;
    *place = group->next;
    hash_table_remove(&queries.table, &group->link);
    queries_make_ready_locked(group, from);
}

/* --- asking and ending ------------------------------------------------------------------------------------------- */

void queries_open(double deadline, void (*wake)(void), void (*begin_ticks)(void))
{
    pthread_mutex_lock(&queries.lock);
    queries.deadline = deadline;
    queries.wake = wake;
    queries.begin_ticks = begin_ticks;
    queries.open = 1;
    pthread_mutex_unlock(&queries.lock);
    atomic_store(&queries_counted.numeric, 0);
    atomic_store(&queries_counted.from_plan, 0);
    atomic_store(&queries_counted.questions, 0);
    atomic_store(&queries_counted.from_stale, 0);
    atomic_store(&queries_counted.from_system, 0);
    atomic_store(&queries_counted.failed, 0);
}

struct pending_query *queries_close(void)
{
    struct query_group *lists[2], *group, *next;
    struct pending_query *all = NULL, **end = &all;
    int i;

    pthread_mutex_lock(&queries.lock);
    queries.open = 0;
    lists[0] = queries.waiting;
    lists[1] = queries.ready;
    queries.waiting = queries.ready = NULL;
    queries.ready_end = &queries.ready;
    queries.count = 0;
    hash_table_clear(&queries.table, NULL);
    pthread_mutex_unlock(&queries.lock);
    for (i = 0; i < 2; i++)
        for (group = lists[i]; group; group = next) {
            next = group->next;
            *end = group->pending;
            while (*end)
                end = &(*end)->next;
            plans_drop(group->own);
            free(group->found);
            free(group);
        }
    return all;
}

int queries_ask(const pf_target *target, uint64_t hash, struct pending_query *query, pf_query *asked)
{
    int alone = queries_each() && asked->method[0], new = 0;
    struct query_group *group;

    pthread_mutex_lock(&queries.lock);
    group = queries.open && !alone ? queries_find_group_locked(target, hash) : NULL;
    if (queries.open && !group) {
        group = calloc(1, sizeof *group);
        if (group) {
            if (alone && !++queries.last_id)
                queries.last_id = 1;
            group->id = asked->id = alone ? queries.last_id : 0;
            group->target = *target;
            group->link.hash = alone ? queries_id_hash(group->id) : hash;
            group->deadline = asked->until = clock_now() + queries.deadline;
            if (hash_table_put(&queries.table, &group->link)) {
                group->next = queries.waiting;
                queries.waiting = group;
                new = 1;
            } else {
                free(group);
                group = NULL;
            }
        }
    }
    if (group) {
        query->next = group->pending;
        group->pending = query;
        queries.count++;
    }
    pthread_mutex_unlock(&queries.lock);
    if (!group)
        return 0;
    queries.begin_ticks();
    atomic_fetch_add(&queries_counted.questions, 1);
    if (new)
        event_queue_post_query(asked);
    else
        pf_free(asked);
    return 1;
}

int queries_defer(const pf_target *target, struct pending_query *query, struct plan *own)
{
    HOLD_LOCK(&queries.lock);
    struct query_group *group = queries.open ? calloc(1, sizeof *group) : NULL;

    if (!group)
        return 0;
    group->target = *target;
    group->own = own;
    group->pending = query;
    queries_make_ready_locked(group, ANSWER_PLAN);
    queries.count++;
    queries.wake();
    return 1;
}

void queries_end(const pf_target *target, unsigned id, enum answer_from from)
{
    HOLD_LOCK(&queries.lock);
    struct query_group *group = queries.open ? queries_find_waiting_locked(target, id) : NULL;

    if (!group || (from == ANSWER_SYSTEM && group->asking_system))
        return;
    if (from == ANSWER_SYSTEM)
        group->deadline = 0; /* as if it had passed: the polling thread asks the system's resolver */
    else
        queries_end_group_locked(group, from);
    queries.wake();
}

int pf_publish(const pf_target *target, const pf_entry *entries, int count, int drawn, double refresh_at,
               double fresh_until)
{
    int published = plans_publish(target, entries, count, drawn, refresh_at, fresh_until);

    if (published >= 0)
        queries_end(target, 0, published ? ANSWER_PLAN : ANSWER_SYSTEM);
    return published > 0;
}

void pf_fail(const pf_target *target, unsigned id, int stale)
{
    queries_end(target, id, stale ? ANSWER_STALE : ANSWER_ERROR);
}

void pf_pass(const pf_target *target, unsigned id) { queries_end(target, id, ANSWER_SYSTEM); }

int pf_answer(unsigned id, const pf_target *target, const pf_entry *entries, int count)
{
    struct plan *own = count ? plans_make(target, entries, count) : NULL;
    HOLD_LOCK(&queries.lock);
    struct query_group *group = queries.open && (own || !count) ? queries_find_request_locked(id) : NULL;

    if (!group) {
        plans_drop(own);
        return 0;
    }
    group->own = own;
    queries_end_group_locked(group, ANSWER_PLAN);
    queries.wake();
    return 1;
}

/* --- answering --------------------------------------------------------------------------------------------------- */

/*
 * Answers one query and frees it, or passes it to a race; found is the answer of the system's resolver, if that was
 * asked. Polling thread, no lock.
 */
static void queries_answer(const struct query_group *group, struct pending_query *query)
{
    server_addresses planned;
    const server_addresses *given = NULL;
    int refresh;

    if (group->from == ANSWER_SYSTEM && group->found) {
        unsigned i;

        /* The name must outlive the call, and each query has its own. */
        for (i = 0; i < group->count; i++)
            addresses_set_name(group->found, i, &query->info.addr.host);
        given = group->found;
        atomic_fetch_add(&queries_counted.from_system, 1);
    } else if (group->own) {
        plans_answer_by(group->own, &query->request_info, &query->info.addr.host, &planned);
        given = &planned;
    } else if (group->from != ANSWER_ERROR) {
        enum plan_found found = plans_answer(&group->target, target_hash(&group->target), &query->request_info,
                                             &query->info.addr.host, 1, &planned, &refresh);
        if (found != PLAN_NONE)
            given = &planned;
        if (found == PLAN_STALE)
            atomic_fetch_add(&queries_counted.from_stale, 1);
    }
    if (given == &planned && connection_attempts_are_useful(&planned, &query->request_info) &&
        connection_attempts_start(query, &planned))
        return;
    if (!given)
        atomic_fetch_add(&queries_counted.failed, 1);
    /* PJ_ERESOLVE is the one status that a transaction turns into 502. */
    send_guard_answer(query, given ? PJ_SUCCESS : PJ_ERESOLVE, given ? &given->addresses : NULL);
    free(query);
}

void queries_run(void)
{
    unsigned long long last;

    /*
     * An answer may make the application ask again, again and again; such queries have woken this thread, and wait for
     * that.
     */
    pthread_mutex_lock(&queries.lock);
    last = queries.last_place;
    pthread_mutex_unlock(&queries.lock);
    for (;;) {
        struct pending_query *query, *next;
        struct query_group *group;

        pthread_mutex_lock(&queries.lock);
        group = queries.ready && queries.ready->place <= last ? queries.ready : NULL;
        if (group) {
            queries.ready = group->next;
            if (!queries.ready)
                queries.ready_end = &queries.ready;
            for (query = group->pending; query; query = query->next)
                queries.count--;
        }
        pthread_mutex_unlock(&queries.lock);
        if (!group)
            return;
        for (query = group->pending; query; query = next) {
            next = query->next;
            queries_answer(group, query);
        }
        plans_drop(group->own);
        free(group->found);
        free(group);
    }
}

void queries_tick(double now)
{
    struct query_group *group, *next;

    pthread_mutex_lock(&queries.lock);
    for (group = queries.waiting; group; group = next) {
        next = group->next;
        if (group->deadline > now)
            continue;
        if (group->asking_system)
            queries_end_group_locked(group, ANSWER_ERROR);
        else if (plans_have(&group->target, target_hash(&group->target)))
            queries_end_group_locked(group, ANSWER_STALE);
        else
            queries_ask_system_locked(group);
    }
    pthread_mutex_unlock(&queries.lock);
    queries_run();
}

/* --- the system's resolver, when Python says nothing ------------------------------------------------------------- */

/* Makes addresses of what getaddrinfo() found, with pjsip's own rules for port and transport. */
static server_addresses *queries_addresses_of(const pf_target *target, const struct addrinfo *list, unsigned *count)
{
    server_addresses *found = calloc(1, sizeof *found);
    pj_str_t name = { "", 0 };
    pf_address address;

    *count = 0;
    if (!found)
        return NULL;
    for (; list && *count < addresses_limit() / 2; list = list->ai_next) {
        pj_sockaddr sockaddr;
        int length, type = target->transport == PF_TLS || target->secure ? PJSIP_TRANSPORT_TLS
                           : target->transport == PF_TCP                 ? PJSIP_TRANSPORT_TCP
                                                                         : PJSIP_TRANSPORT_UDP;

        if (list->ai_addrlen > sizeof sockaddr)
            continue;
        memset(&sockaddr, 0, sizeof sockaddr);
        memcpy(&sockaddr, list->ai_addr, list->ai_addrlen);
        if (!address_of(&address, &sockaddr, type))
            continue;
        address.port = target->port ? target->port : type == PJSIP_TRANSPORT_TLS ? 5061 : 5060;
        length = address_to_sockaddr(&address, &sockaddr);
        addresses_set(found, (*count)++, &name, address_pjsip_type(&address), &sockaddr, length, 0, 0);
    }
    addresses_set_count(found, *count);
    if (!*count) {
        free(found);
        return NULL;
    }
    return found;
}

struct call {
    pf_target target;
    unsigned id; /* of the request that waits; 0: all that wait for the target */
};

/* Calls getaddrinfo(). A thread of its own, unknown to pjsip and to Python; owns its call. */
static void *queries_call_system(void *argument)
{
    struct call *call = argument;
    const pf_target *target = &call->target;
    struct addrinfo hints, *list = NULL;
    struct query_group *group;
    server_addresses *found;
    unsigned count;

    memset(&hints, 0, sizeof hints);
    hints.ai_family = target->ipv6 ? AF_INET6 : AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(target->host, NULL, &hints, &list) != 0)
        list = NULL;
    found = queries_addresses_of(target, list, &count);
    if (list)
        freeaddrinfo(list);
    pthread_mutex_lock(&queries.lock);
    queries.system_calls--;
    group = queries.open ? queries_find_waiting_locked(target, call->id) : NULL;
    if (group && group->asking_system) {
        group->found = found;
        group->count = count;
        queries_end_group_locked(group, found ? ANSWER_SYSTEM : ANSWER_ERROR);
        found = NULL;
        queries.wake();
    }
    pthread_mutex_unlock(&queries.lock);
    free(found);
    free(call);
    return NULL;
}

/*
 * Starts a call of the system's resolver. If no thread can be started, the next deadline ends the query. Polling
 * thread, under queries.lock.
 */
static void queries_ask_system_locked(struct query_group *group)
{
    struct call *call;
    pthread_t thread;

    group->asking_system = 1;
    group->deadline = clock_now() + SYSTEM_TIMEOUT_S;
    if (queries.system_calls >= MAX_SYSTEM_CALLS)
        return;
    call = malloc(sizeof *call);
    if (!call)
        return;
    call->target = group->target;
    call->id = group->id;
    if (pthread_create(&thread, NULL, &queries_call_system, call) != 0) {
        free(call);
        return;
    }
    pthread_detach(thread);
    queries.system_calls++;
}

/* --- counters ---------------------------------------------------------------------------------------------------- */

void queries_count_inline(int from_plan)
{
    atomic_fetch_add_explicit(from_plan ? &queries_counted.from_plan : &queries_counted.numeric, 1,
                              memory_order_relaxed);
}

unsigned long long queries_waiting(void)
{
    HOLD_LOCK(&queries.lock);
    return queries.count;
}

void queries_count(pf_counters *counters)
{
    counters->waiting = queries_waiting();
    counters->numeric = atomic_load(&queries_counted.numeric);
    counters->from_plan = atomic_load(&queries_counted.from_plan);
    counters->questions = atomic_load(&queries_counted.questions);
    counters->resolved = counters->numeric + counters->from_plan + counters->questions;
    counters->from_stale = atomic_load(&queries_counted.from_stale);
    counters->from_system = atomic_load(&queries_counted.from_system);
    counters->failed = atomic_load(&queries_counted.failed);
}
