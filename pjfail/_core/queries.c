#include "queries.h"

#include "address.h"
#include "connection_attempts.h"
#include "event_queue.h"
#include "hash_table.h"
#include "send_guard.h"

#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* How long the system's resolver may take when Python did not answer, and how many of its calls may be under way. */
#define SYSTEM_TIME 1.5
enum { MAX_SYSTEM_CALLS = 16 };

/* Those who wait for one target; or one request that is asked about by itself, and has an id. */
struct group {
    struct hash_link link;           /* by the target, or the id */
    unsigned id;
    struct plan *own;           /* the one that was made for it */
    struct group *next;         /* in the list of all, or of those ready */
    unsigned long long place;   /* in that of those ready */
    pf_target target;
    double deadline;
    int asking_system;
    enum answer_from from;
    answer *found;              /* by the system's resolver */
    unsigned count;
    struct pending_query *waiters;
};

/* Guarded by lock: the table and list of the waiting, the list of the ready, whether open. plans.c's lock may be taken inside. */
static struct {
    pthread_mutex_t lock;
    int open;
    double deadline;
    void (*wake)(void);
    struct hash_table table;
    struct group *waiting, *ready, **ready_end;
    unsigned long long count;
    unsigned long long last_place;
    unsigned system_calls;
    unsigned last_id;
} self = { .lock = PTHREAD_MUTEX_INITIALIZER, .ready_end = &self.ready };

static struct {
    atomic_ullong numeric, from_plan, questions, from_stale, from_system, failed;
} counted;

static atomic_int each;

void pf_ask_each(int on) { atomic_store(&each, on); }

int queries_each(void) { return atomic_load_explicit(&each, memory_order_relaxed); }

static void ask_system(struct group *group);

/* --- the waiting, under self.lock -------------------------------------------------------------------------------- */

static uint64_t id_hash(unsigned id) { return hash_bytes(HASH_SEED, &id, sizeof id); }

static struct group *find_request(unsigned id)
{
    struct hash_link *link;

    for (link = hash_table_first(&self.table, id_hash(id)); link; link = hash_table_next(link)) {
        struct group *group = entry_of(link, struct group, link);
        if (group->id == id)
            return group;
    }
    return NULL;
}

static struct group *find_group(const pf_target *target, uint64_t hash)
{
    struct hash_link *link;

    for (link = hash_table_first(&self.table, hash); link; link = hash_table_next(link)) {
        struct group *group = entry_of(link, struct group, link);
        if (!group->id && group->target.port == target->port && group->target.transport == target->transport &&
            group->target.secure == target->secure && group->target.ipv6 == target->ipv6 &&
            !strcmp(group->target.host, target->host))
            return group;
    }
    return NULL;
}

static struct group *find_waiting(const pf_target *target, unsigned id)
{
    return id ? find_request(id) : find_group(target, target_hash(target));
}

static void make_ready(struct group *group, enum answer_from from)
{
    group->from = from;
    group->next = NULL;
    group->place = ++self.last_place;
    *self.ready_end = group;
    self.ready_end = &group->next;
}

static void end_group(struct group *group, enum answer_from from)
{
    struct group **place = &self.waiting;

    while (*place != group)
        place = &(*place)->next;
    *place = group->next;
    hash_table_remove(&self.table, &group->link);
    make_ready(group, from);
}

/* --- asking and ending ------------------------------------------------------------------------------------------- */

void queries_open(double deadline, void (*wake)(void))
{
    pthread_mutex_lock(&self.lock);
    self.deadline = deadline;
    self.wake = wake;
    self.open = 1;
    pthread_mutex_unlock(&self.lock);
    atomic_store(&counted.numeric, 0);
    atomic_store(&counted.from_plan, 0);
    atomic_store(&counted.questions, 0);
    atomic_store(&counted.from_stale, 0);
    atomic_store(&counted.from_system, 0);
    atomic_store(&counted.failed, 0);
}

static void forget_link(struct hash_link *link) { (void)link; }

struct pending_query *queries_close(void)
{
    struct group *lists[2], *group, *next;
    struct pending_query *all = NULL, **end = &all;
    int i;

    pthread_mutex_lock(&self.lock);
    self.open = 0;
    lists[0] = self.waiting;
    lists[1] = self.ready;
    self.waiting = self.ready = NULL;
    self.ready_end = &self.ready;
    self.count = 0;
    hash_table_clear(&self.table, &forget_link);
    pthread_mutex_unlock(&self.lock);
    for (i = 0; i < 2; i++)
        for (group = lists[i]; group; group = next) {
            next = group->next;
            *end = group->waiters;
            while (*end)
                end = &(*end)->next;
            plans_drop(group->own);
            free(group->found);
            free(group);
        }
    return all;
}

int queries_ask(const pf_target *target, uint64_t hash, struct pending_query *waiter, pf_query *question)
{
    int alone = queries_each() && question->method[0], new = 0;
    struct group *group;

    pthread_mutex_lock(&self.lock);
    group = self.open && !alone ? find_group(target, hash) : NULL;
    if (self.open && !group) {
        group = calloc(1, sizeof *group);
        if (group) {
            if (alone && !++self.last_id)
                self.last_id = 1;
            group->id = question->id = alone ? self.last_id : 0;
            group->target = *target;
            group->link.hash = alone ? id_hash(group->id) : hash;
            group->deadline = question->until = clock_now() + self.deadline;
            if (hash_table_put(&self.table, &group->link)) {
                group->next = self.waiting;
                self.waiting = group;
                new = 1;
            } else {
                free(group);
                group = NULL;
            }
        }
    }
    if (group) {
        waiter->next = group->waiters;
        group->waiters = waiter;
        self.count++;
    }
    pthread_mutex_unlock(&self.lock);
    if (!group)
        return 0;
    atomic_fetch_add(&counted.questions, 1);
    if (new)
        event_queue_post_query(question);
    else
        pf_free_query(question);
    return 1;
}

int queries_defer(const pf_target *target, struct pending_query *waiter, struct plan *own)
{
    struct group *group = calloc(1, sizeof *group);
    void (*wake)(void) = NULL;

    if (!group)
        return 0;
    group->target = *target;
    group->own = own;
    group->waiters = waiter;
    pthread_mutex_lock(&self.lock);
    if (self.open) {
        make_ready(group, ANSWER_PLAN);
        self.count++;
        wake = self.wake;
    }
    pthread_mutex_unlock(&self.lock);
    if (wake)
        wake();
    else
        free(group);
    return wake != NULL;
}

void queries_end(const pf_target *target, unsigned id, enum answer_from from)
{
    struct group *group;
    void (*wake)(void) = NULL;

    pthread_mutex_lock(&self.lock);
    group = self.open ? find_waiting(target, id) : NULL;
    if (group && from == ANSWER_SYSTEM) {
        /* As if its deadline had come: the polling thread starts the call, if it has not yet. */
        if (!group->asking_system) {
            group->deadline = 0;
            wake = self.wake;
        }
    } else if (group) {
        end_group(group, from);
        wake = self.wake;
    }
    pthread_mutex_unlock(&self.lock);
    if (wake)
        wake();
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
    struct group *group;
    void (*wake)(void) = NULL;

    if (count && !own)
        return 0;
    pthread_mutex_lock(&self.lock);
    group = self.open ? find_request(id) : NULL;
    if (group) {
        group->own = own;
        end_group(group, ANSWER_PLAN);
        wake = self.wake;
    }
    pthread_mutex_unlock(&self.lock);
    if (wake)
        wake();
    else
        plans_drop(own);
    return wake != NULL;
}

/* --- answering --------------------------------------------------------------------------------------------------- */

/*
 * Gives one waiter its answer, and frees it, or hands it over to a race; found is what the system's resolver said, if it was
 * asked. Polling thread, no lock.
 */
static void answer_waiter(const struct group *group, struct pending_query *waiter)
{
    answer planned;
    const answer *given = NULL;
    int refresh;

    if (group->from == ANSWER_SYSTEM && group->found) {
        unsigned i;

        /* The name must be one that outlives the call, and each waiter has its own. */
        for (i = 0; i < group->count; i++)
            answer_set_name(group->found, i, &waiter->info.addr.host);
        given = group->found;
        atomic_fetch_add(&counted.from_system, 1);
    } else if (group->own) {
        plans_answer_by(group->own, &waiter->asker, &waiter->info.addr.host, &planned);
        given = &planned;
    } else if (group->from != ANSWER_ERROR) {
        enum plan_found found = plans_answer(&group->target, target_hash(&group->target), &waiter->asker,
                                             &waiter->info.addr.host, 1, &planned, &refresh);
        if (found != PLAN_NONE)
            given = &planned;
        if (found == PLAN_STALE)
            atomic_fetch_add(&counted.from_stale, 1);
    }
    if (given == &planned && connection_attempts_are_useful(&planned, &waiter->asker) && connection_attempts_start(waiter, &planned))
        return;
    if (!given)
        atomic_fetch_add(&counted.failed, 1);
    /* PJ_ERESOLVE is the one status that a transaction turns into 502. */
    send_guard_answer(waiter, given ? PJ_SUCCESS : PJ_ERESOLVE, given ? &given->addresses : NULL);
    free(waiter);
}

void queries_run(void)
{
    unsigned long long last;

    /* What an application asks when it is answered, over and over maybe, has woken this thread again, and waits for that. */
    pthread_mutex_lock(&self.lock);
    last = self.last_place;
    pthread_mutex_unlock(&self.lock);
    for (;;) {
        struct pending_query *waiter, *next;
        struct group *group;

        pthread_mutex_lock(&self.lock);
        group = self.ready && self.ready->place <= last ? self.ready : NULL;
        if (group) {
            self.ready = group->next;
            if (!self.ready)
                self.ready_end = &self.ready;
            for (waiter = group->waiters; waiter; waiter = waiter->next)
                self.count--;
        }
        pthread_mutex_unlock(&self.lock);
        if (!group)
            return;
        for (waiter = group->waiters; waiter; waiter = next) {
            next = waiter->next;
            answer_waiter(group, waiter);
        }
        plans_drop(group->own);
        free(group->found);
        free(group);
    }
}

void queries_tick(double now)
{
    struct group *group, *next;

    pthread_mutex_lock(&self.lock);
    for (group = self.waiting; group; group = next) {
        next = group->next;
        if (group->deadline > now)
            continue;
        if (group->asking_system)
            end_group(group, ANSWER_ERROR);
        else if (plans_have(&group->target, target_hash(&group->target)))
            end_group(group, ANSWER_STALE);
        else
            ask_system(group);
    }
    pthread_mutex_unlock(&self.lock);
    queries_run();
}

/* --- the system's resolver, when Python says nothing ------------------------------------------------------------- */

/* What getaddrinfo() found, with pjsip's own rules for port and transport. */
static answer *answer_of(const pf_target *target, const struct addrinfo *list, unsigned *count)
{
    answer *found = calloc(1, sizeof *found);
    pj_str_t name = { "", 0 };
    pf_address address;

    *count = 0;
    if (!found)
        return NULL;
    for (; list && *count < answer_limit() / 2; list = list->ai_next) {
        pj_sockaddr sockaddr;
        int length, type = target->transport == PF_TLS || target->secure ? PJSIP_TRANSPORT_TLS
                         : target->transport == PF_TCP                   ? PJSIP_TRANSPORT_TCP
                                                                         : PJSIP_TRANSPORT_UDP;

        if (list->ai_addrlen > sizeof sockaddr)
            continue;
        memset(&sockaddr, 0, sizeof sockaddr);
        memcpy(&sockaddr, list->ai_addr, list->ai_addrlen);
        if (!address_of(&address, &sockaddr, type))
            continue;
        address.port = target->port ? target->port : type == PJSIP_TRANSPORT_TLS ? 5061 : 5060;
        length = address_to_sockaddr(&address, &sockaddr);
        answer_set(found, (*count)++, &name, address_pjsip_type(&address), &sockaddr, length, 0, 0);
    }
    answer_set_count(found, *count);
    if (!*count) {
        free(found);
        return NULL;
    }
    return found;
}

struct call {
    pf_target target;
    unsigned id;                /* of the request that waits, 0: all for the target */
};

/* A thread of its own, unknown to pjsip and to Python; owns its call. */
static void *call_system(void *argument)
{
    struct call *call = argument;
    const pf_target *target = &call->target;
    struct addrinfo hints, *list = NULL;
    void (*wake)(void) = NULL;
    struct group *group;
    answer *found;
    unsigned count;

    memset(&hints, 0, sizeof hints);
    hints.ai_family = target->ipv6 ? AF_INET6 : AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(target->host, NULL, &hints, &list) != 0)
        list = NULL;
    found = answer_of(target, list, &count);
    if (list)
        freeaddrinfo(list);
    pthread_mutex_lock(&self.lock);
    self.system_calls--;
    group = self.open ? find_waiting(target, call->id) : NULL;
    if (group && group->asking_system) {
        group->found = found;
        group->count = count;
        end_group(group, found ? ANSWER_SYSTEM : ANSWER_ERROR);
        found = NULL;
        wake = self.wake;
    }
    pthread_mutex_unlock(&self.lock);
    free(found);
    free(call);
    if (wake)
        wake();
    return NULL;
}

/* Polling thread, under self.lock. When no thread can be had, the next deadline ends the question. */
static void ask_system(struct group *group)
{
    struct call *call;
    pthread_t thread;

    group->asking_system = 1;
    group->deadline = clock_now() + SYSTEM_TIME;
    if (self.system_calls >= MAX_SYSTEM_CALLS)
        return;
    call = malloc(sizeof *call);
    if (!call)
        return;
    call->target = group->target;
    call->id = group->id;
    if (pthread_create(&thread, NULL, &call_system, call) != 0) {
        free(call);
        return;
    }
    pthread_detach(thread);
    self.system_calls++;
}

/* --- counters ---------------------------------------------------------------------------------------------------- */

void queries_count_inline(int from_plan)
{
    atomic_fetch_add_explicit(from_plan ? &counted.from_plan : &counted.numeric, 1, memory_order_relaxed);
}

unsigned long long queries_waiting(void)
{
    unsigned long long count;

    pthread_mutex_lock(&self.lock);
    count = self.count;
    pthread_mutex_unlock(&self.lock);
    return count;
}

void queries_count(pf_counters *counters)
{
    counters->waiting = queries_waiting();
    counters->numeric = atomic_load(&counted.numeric);
    counters->from_plan = atomic_load(&counted.from_plan);
    counters->questions = atomic_load(&counted.questions);
    counters->resolved = counters->numeric + counters->from_plan + counters->questions;
    counters->from_stale = atomic_load(&counted.from_stale);
    counters->from_system = atomic_load(&counted.from_system);
    counters->failed = atomic_load(&counted.failed);
}
