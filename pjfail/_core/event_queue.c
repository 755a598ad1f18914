#include "event_queue.h"

#include "clock.h"
#include "hash_table.h"
#include "lock.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The most events of each kind that wait for the worker, unless something else bounds them. */
enum { MAX_EVENTS = 4096 };

/* How many held responses the worker is asked about at once; each has a copy of its message. */
enum { MAX_RULINGS = 256 };

/* The worker is woken for news at most once in this many seconds. */
#define NEWS_PAUSE_S 0.01

struct event {
    struct event *next;
};

struct events {
    struct event *first, **end;
    unsigned count;
};

/* The latest registration of an account, kept here when the queue of registrations is full. */
struct latest {
    struct hash_link link; /* by 64 bits of a hash of account and AOR; the hash stands for them */
    struct latest *next;
    pf_registration *registration;
};

/* Guarded by lock: the queries, the events, the ring of outcomes, the descriptor. */
static struct {
    pthread_mutex_t lock;
    int fd;
    int signalled;
    int news;       /* an event has come for which the worker was not woken */
    double news_at; /* when it was last woken for news */
    pf_query *first, **end;
    unsigned queries;
    struct events events[EVENT_KINDS];
    struct hash_table latest;
    struct latest *latest_first, **latest_end;
    pf_outcome *ring;
    unsigned head, used;
    unsigned long long dropped;
    void (*begin_ticks)(void);
} event_queue = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1, .end = &event_queue.first };

static void event_queue_signal_locked(void)
{
    const uint64_t one = 1;

    /* A full counter wakes the worker just as well. */
    if (!event_queue.signalled && write(event_queue.fd, &one, sizeof one) == (ssize_t)sizeof one)
        event_queue.signalled = 1;
    event_queue.news = 0;
}

/*
 * Wakes the worker for what nobody waits for: at once after a pause, else with the next tick, so that an outage in
 * which thousands of requests go on does not wake the worker for each. Returns what begins the ticks, if they are
 * needed; the caller calls it without the lock.
 */
static void (*event_queue_signal_news_locked(void))(void)
{
    double now = clock_now();

    event_queue.news = 1;
    if (event_queue.news_at + NEWS_PAUSE_S > now && event_queue.used < MAX_EVENTS / 2 &&
        event_queue.events[EVENT_FAILOVER].count < MAX_EVENTS / 2)
        return event_queue.begin_ticks;
    event_queue.news_at = now;
    event_queue_signal_locked();
    return NULL;
}

void event_queue_tick(void)
{
    HOLD_LOCK(&event_queue.lock);
    if (event_queue.news && event_queue.fd >= 0)
        event_queue_signal_locked();
}

int event_queue_has_news(void)
{
    HOLD_LOCK(&event_queue.lock);
    return event_queue.news && event_queue.fd >= 0;
}

int event_queue_open(void (*begin_ticks)(void))
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pf_outcome *ring = malloc(MAX_EVENTS * sizeof *ring);

    if (fd < 0 || !ring) {
        if (fd >= 0)
            close(fd);
        free(ring);
        return 0;
    }
    pthread_mutex_lock(&event_queue.lock);
    event_queue.fd = fd;
    event_queue.ring = ring;
    event_queue.begin_ticks = begin_ticks;
    event_queue.signalled = 0;
    event_queue.head = event_queue.used = 0;
    event_queue.dropped = 0;
    pthread_mutex_unlock(&event_queue.lock);
    return 1;
}

static struct event *event_queue_take_all_locked(struct events *events)
{
    struct event *first = events->first;

    events->first = NULL;
    events->count = 0;
    return first;
}

static pf_query *event_queue_take_query_locked(void)
{
    pf_query *query = event_queue.first;

    if (query) {
        event_queue.first = query->next;
        event_queue.queries--;
        if (!event_queue.first)
            event_queue.end = &event_queue.first;
    }
    return query;
}

static pf_registration *event_queue_take_latest_locked(void)
{
    struct latest *latest = event_queue.latest_first;
    pf_registration *registration;

    if (!latest)
        return NULL;
    event_queue.latest_first = latest->next;
    hash_table_remove(&event_queue.latest, &latest->link);
    registration = latest->registration;
    free(latest);
    return registration;
}

void event_queue_close(void)
{
    pf_query *query, *next;
    struct event *events[EVENT_KINDS], *next_event;
    pf_registration *registration;
    int kind;

    pthread_mutex_lock(&event_queue.lock);
    if (event_queue.fd >= 0) {
        event_queue_signal_locked(); /* the worker holds a copy of the descriptor, and learns that this is the end */
        close(event_queue.fd);
    }
    event_queue.fd = -1;
    free(event_queue.ring);
    event_queue.ring = NULL;
    event_queue.used = 0;
    query = event_queue.first;
    event_queue.first = NULL;
    event_queue.end = &event_queue.first;
    event_queue.queries = 0;
    for (kind = 0; kind < EVENT_KINDS; kind++)
        events[kind] = event_queue_take_all_locked(&event_queue.events[kind]);
    while ((registration = event_queue_take_latest_locked()) != NULL)
        free(registration);
    hash_table_clear(&event_queue.latest, NULL); /* it is empty */
    pthread_mutex_unlock(&event_queue.lock);
    for (; query; query = next) {
        next = query->next;
        free(query);
    }
    for (kind = 0; kind < EVENT_KINDS; kind++)
        for (; events[kind]; events[kind] = next_event) {
            next_event = events[kind]->next;
            free(events[kind]);
        }
}

/*
 * Makes room for one more query. Takes out the oldest queries whose waiting requests have all been answered at their
 * deadline, and returns them for the caller to free. Refreshes, which no request waits for, may go at any time: a plan
 * that is not refreshed becomes too old, and is asked for again.
 */
static pf_query *event_queue_make_room_locked(double now)
{
    pf_query *gone = NULL;

    while (event_queue.queries >= MAX_EVENTS && event_queue.first->until <= now) {
        pf_query *oldest = event_queue_take_query_locked();

        oldest->next = gone;
        gone = oldest;
        event_queue.dropped++;
    }
    return gone;
}

void event_queue_post_query(pf_query *query)
{
    pf_query *gone = NULL;

    query->next = NULL;
    pthread_mutex_lock(&event_queue.lock);
    if (event_queue.fd >= 0) {
        if (event_queue.queries >= MAX_EVENTS)
            gone = event_queue_make_room_locked(clock_now());
        if (query->refresh && event_queue.queries >= MAX_EVENTS) {
            event_queue.dropped++;
        } else {
            *event_queue.end = query;
            event_queue.end = &query->next;
            event_queue.queries++;
            query = NULL;
        }
        event_queue_signal_locked();
    }
    pthread_mutex_unlock(&event_queue.lock);
    free(query);
    for (; gone; gone = query) {
        query = gone->next;
        free(gone);
    }
}

/* Keeps the registration as its account's latest. Returns the one that was the latest, or NULL. */
static pf_registration *event_queue_put_latest_locked(pf_registration *registration)
{
    uint64_t hash = hash_bytes(hash_bytes(HASH_SEED, registration->aor, strlen(registration->aor)),
                               &registration->account, sizeof registration->account);
    struct hash_link *link = hash_table_first(&event_queue.latest, hash);
    struct latest *latest = link ? entry_of(link, struct latest, link) : calloc(1, sizeof *latest);
    pf_registration *old;

    if (!latest)
        return registration;
    old = latest->registration;
    if (!old) {
        latest->link.hash = hash;
        if (!hash_table_put(&event_queue.latest, &latest->link)) {
            free(latest);
            return registration;
        }
        if (!event_queue.latest_first)
            event_queue.latest_end = &event_queue.latest_first;
        *event_queue.latest_end = latest;
        event_queue.latest_end = &latest->next;
    }
    latest->registration = registration;
    return old;
}

/*
 * Responses, DNS answers and accounts have no bound here: Python has asked for each, and waits for it. Each account's latest
 * registration is always kept, so that the worker learns the account's state.
 */
int event_queue_post(enum event_kind kind, void *event)
{
    struct events *events = &event_queue.events[kind];
    int bounded = kind == EVENT_CALL || kind == EVENT_FAILOVER || kind == EVENT_REGISTRATION || kind == EVENT_RULING ||
                  kind == EVENT_STANDBY;
    void (*begin_ticks)(void) = NULL;
    int taken = 0;
    const unsigned most = kind == EVENT_RULING ? MAX_RULINGS : MAX_EVENTS;

    pthread_mutex_lock(&event_queue.lock);
    if (event_queue.fd >= 0) {
        if (bounded && (events->count >= most || (kind == EVENT_REGISTRATION && event_queue.latest_first))) {
            if (kind == EVENT_REGISTRATION)
                event = event_queue_put_latest_locked(event);
            event_queue.dropped += event != NULL;
        } else {
            if (!events->first)
                events->end = &events->first;
            ((struct event *)event)->next = NULL;
            *events->end = event;
            events->end = &((struct event *)event)->next;
            events->count++;
            event = NULL;
            taken = 1;
        }
        if (kind == EVENT_FAILOVER)
            begin_ticks = event_queue_signal_news_locked();
        else
            event_queue_signal_locked();
    }
    pthread_mutex_unlock(&event_queue.lock);
    if (begin_ticks)
        begin_ticks();
    free(event);
    return taken;
}

void event_queue_post_outcome(const pf_outcome *outcome)
{
    void (*begin_ticks)(void) = NULL;

    pthread_mutex_lock(&event_queue.lock);
    if (event_queue.ring && event_queue.used < MAX_EVENTS) {
        event_queue.ring[(event_queue.head + event_queue.used++) % MAX_EVENTS] = *outcome;
        begin_ticks = event_queue_signal_news_locked();
    } else {
        event_queue.dropped++;
    }
    pthread_mutex_unlock(&event_queue.lock);
    if (begin_ticks)
        begin_ticks();
}

unsigned long long event_queue_dropped(void)
{
    HOLD_LOCK(&event_queue.lock);
    return event_queue.dropped;
}

int pf_event_fd(void)
{
    HOLD_LOCK(&event_queue.lock);
    return event_queue.fd;
}

pf_query *pf_next_query(void)
{
    HOLD_LOCK(&event_queue.lock);
    uint64_t count;

    if (event_queue.fd >= 0 && event_queue.signalled &&
        read(event_queue.fd, &count, sizeof count) == (ssize_t)sizeof count)
        event_queue.signalled = 0;
    return event_queue_take_query_locked();
}

static void *event_queue_next(enum event_kind kind)
{
    HOLD_LOCK(&event_queue.lock);
    struct event *event = event_queue.events[kind].first;

    if (event) {
        event_queue.events[kind].first = event->next;
        event_queue.events[kind].count--;
    }
    return event;
}

pf_call *pf_next_call(void) { return event_queue_next(EVENT_CALL); }

pf_dns_answer *pf_next_dns_answer(void) { return event_queue_next(EVENT_DNS_ANSWER); }

pf_failover *pf_next_failover(void) { return event_queue_next(EVENT_FAILOVER); }

pf_registration *pf_next_registration(void)
{
    pf_registration *registration = event_queue_next(EVENT_REGISTRATION);

    if (!registration) {
        pthread_mutex_lock(&event_queue.lock);
        registration = event_queue_take_latest_locked();
        pthread_mutex_unlock(&event_queue.lock);
    }
    return registration;
}

pf_found_account *pf_next_found_account(void) { return event_queue_next(EVENT_ACCOUNT); }

pf_ruling *pf_next_ruling(void) { return event_queue_next(EVENT_RULING); }

pf_standby *pf_next_standby(void) { return event_queue_next(EVENT_STANDBY); }

pf_response *pf_next_response(void) { return event_queue_next(EVENT_RESPONSE); }

void pf_free(void *fetched) { free(fetched); }

int pf_next_outcomes(pf_outcome *outcomes, int size)
{
    HOLD_LOCK(&event_queue.lock);
    int count = 0;

    while (count < size && event_queue.used) {
        outcomes[count++] = event_queue.ring[event_queue.head];
        event_queue.head = (event_queue.head + 1) % MAX_EVENTS;
        event_queue.used--;
    }
    return count;
}
