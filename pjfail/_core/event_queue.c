#include "event_queue.h"

#include "clock.h"
#include "hash_table.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* How many of each kind wait for the worker, where nobody else bounds them. */
enum { ROOM = 4096 };

/* The worker is woken for news once in this time at the most. */
#define NEWS_PAUSE_S 0.01

struct note {
    struct note *next;
};

struct notes {
    struct note *first, **end;
    unsigned count;
};

/* The latest that was told of an account since the notes of its kind are full. */
struct latest {
    struct hash_link link;           /* by 64 bits of the hash of account and AOR, which stand for them */
    struct latest *next;
    pf_registration *registration;
};

/* Guarded by lock: the questions, the notes, the ring of outcomes, the descriptor. */
static struct {
    pthread_mutex_t lock;
    int fd;
    int signalled;
    int news;                   /* something has come that the worker was not woken for */
    double news_at;             /* when it was last woken for such */
    pf_query *first, **end;
    unsigned questions;
    struct notes notes[EVENT_KINDS];
    struct hash_table latest;
    struct latest *latest_first, **latest_end;
    pf_outcome *ring;
    unsigned head, used;
    unsigned long long dropped;
} queue = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1, .end = &queue.first };

/* Under queue.lock. */
static void signal_worker(void)
{
    const uint64_t one = 1;

    /* A full counter is as good a signal as one more. */
    if (!queue.signalled && write(queue.fd, &one, sizeof one) == (ssize_t)sizeof one)
        queue.signalled = 1;
    queue.news = 0;
}

/*
 * Under queue.lock. For what nobody waits for: at once after a pause, else with the next tick, so that an outage in which thousands of
 * requests go on does not wake the worker for each.
 */
static void event_queue_signal_news_locked(void)
{
    double now = clock_now();

    queue.news = 1;
    if (queue.news_at + NEWS_PAUSE_S > now && queue.used < ROOM / 2 && queue.notes[EVENT_FAILOVER].count < ROOM / 2)
        return;
    queue.news_at = now;
    signal_worker();
}

void event_queue_tick(void)
{
    pthread_mutex_lock(&queue.lock);
    if (queue.news && queue.fd >= 0)
        signal_worker();
    pthread_mutex_unlock(&queue.lock);
}

int event_queue_open(void)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pf_outcome *ring = malloc(ROOM * sizeof *ring);

    if (fd < 0 || !ring) {
        if (fd >= 0)
            close(fd);
        free(ring);
        return 0;
    }
    pthread_mutex_lock(&queue.lock);
    queue.fd = fd;
    queue.ring = ring;
    queue.signalled = 0;
    queue.head = queue.used = 0;
    queue.dropped = 0;
    pthread_mutex_unlock(&queue.lock);
    return 1;
}

/* Under queue.lock. */
static struct note *take_notes(struct notes *notes)
{
    struct note *first = notes->first;

    notes->first = NULL;
    notes->count = 0;
    return first;
}

/* Under queue.lock. */
static pf_query *event_queue_take_query_locked(void)
{
    pf_query *question = queue.first;

    if (question) {
        queue.first = question->next;
        queue.questions--;
        if (!queue.first)
            queue.end = &queue.first;
    }
    return question;
}

/* Under queue.lock. */
static pf_registration *event_queue_take_latest_locked(void)
{
    struct latest *latest = queue.latest_first;
    pf_registration *registration;

    if (!latest)
        return NULL;
    queue.latest_first = latest->next;
    hash_table_remove(&queue.latest, &latest->link);
    registration = latest->registration;
    free(latest);
    return registration;
}

static void event_queue_drop_link(struct hash_link *link) { (void)link; }

void event_queue_close(void)
{
    pf_query *question, *next;
    struct note *notes[EVENT_KINDS], *next_note;
    pf_registration *registration;
    int kind;

    pthread_mutex_lock(&queue.lock);
    if (queue.fd >= 0) {
        signal_worker();        /* it holds a copy of the descriptor, and learns that this is the end */
        close(queue.fd);
    }
    queue.fd = -1;
    free(queue.ring);
    queue.ring = NULL;
    queue.used = 0;
    question = queue.first;
    queue.first = NULL;
    queue.end = &queue.first;
    queue.questions = 0;
    for (kind = 0; kind < EVENT_KINDS; kind++)
        notes[kind] = take_notes(&queue.notes[kind]);
    while ((registration = event_queue_take_latest_locked()) != NULL)
        free(registration);
    hash_table_clear(&queue.latest, &event_queue_drop_link);
    pthread_mutex_unlock(&queue.lock);
    for (; question; question = next) {
        next = question->next;
        free(question);
    }
    for (kind = 0; kind < EVENT_KINDS; kind++)
        for (; notes[kind]; notes[kind] = next_note) {
            next_note = notes[kind]->next;
            free(notes[kind]);
        }
}

/*
 * Under queue.lock. Makes room for one more question: takes out the oldest, of which all who waited have been answered at their
 * deadline, and returns them for the caller to free. Refreshes, for which nobody waits, may go at any time: a plan that is not
 * refreshed becomes too old, and is asked about again.
 */
static pf_query *event_queue_make_room_locked(double now)
{
    pf_query *gone = NULL;

    while (queue.questions >= ROOM && queue.first->until <= now) {
        pf_query *oldest = event_queue_take_query_locked();

        oldest->next = gone;
        gone = oldest;
        queue.dropped++;
    }
    return gone;
}

void event_queue_post_query(pf_query *question)
{
    pf_query *gone = NULL;

    question->next = NULL;
    pthread_mutex_lock(&queue.lock);
    if (queue.fd >= 0) {
        if (queue.questions >= ROOM)
            gone = event_queue_make_room_locked(clock_now());
        if (question->refresh && queue.questions >= ROOM) {
            queue.dropped++;
        } else {
            *queue.end = question;
            queue.end = &question->next;
            queue.questions++;
            question = NULL;
        }
        signal_worker();
    }
    pthread_mutex_unlock(&queue.lock);
    free(question);
    for (; gone; gone = question) {
        question = gone->next;
        free(gone);
    }
}

/* Under queue.lock. Keeps the registration in place of the one that was the account's latest, which is returned; else NULL. */
static pf_registration *event_queue_put_latest_locked(pf_registration *registration)
{
    uint64_t hash = hash_bytes(hash_bytes(HASH_SEED, registration->aor, strlen(registration->aor)), &registration->account,
                               sizeof registration->account);
    struct hash_link *link = hash_table_first(&queue.latest, hash);
    struct latest *latest = link ? entry_of(link, struct latest, link) : calloc(1, sizeof *latest);
    pf_registration *old;

    if (!latest)
        return registration;
    old = latest->registration;
    if (!old) {
        latest->link.hash = hash;
        if (!hash_table_put(&queue.latest, &latest->link)) {
            free(latest);
            return registration;
        }
        if (!queue.latest_first)
            queue.latest_end = &queue.latest_first;
        *queue.latest_end = latest;
        queue.latest_end = &latest->next;
    }
    latest->registration = registration;
    return old;
}

/*
 * Responses and DNS answers have no bound of their own: Python has asked for each of them, and whoever did waits for it. Of
 * registrations the latest of each account stays in any case, so that whoever follows it learns how it is.
 */
void event_queue_post(enum event_kind kind, void *note)
{
    struct notes *notes = &queue.notes[kind];
    int bounded = kind == EVENT_FAILOVER || kind == EVENT_REGISTRATION;

    pthread_mutex_lock(&queue.lock);
    if (queue.fd >= 0) {
        if (bounded && (notes->count >= ROOM || (kind == EVENT_REGISTRATION && queue.latest_first))) {
            if (kind == EVENT_REGISTRATION)
                note = event_queue_put_latest_locked(note);
            queue.dropped += note != NULL;
        } else {
            if (!notes->first)
                notes->end = &notes->first;
            ((struct note *)note)->next = NULL;
            *notes->end = note;
            notes->end = &((struct note *)note)->next;
            notes->count++;
            note = NULL;
        }
        if (kind == EVENT_FAILOVER)
            event_queue_signal_news_locked();
        else
            signal_worker();
    }
    pthread_mutex_unlock(&queue.lock);
    free(note);
}

void event_queue_post_outcome(const pf_outcome *outcome)
{
    pthread_mutex_lock(&queue.lock);
    if (queue.ring && queue.used < ROOM) {
        queue.ring[(queue.head + queue.used++) % ROOM] = *outcome;
        event_queue_signal_news_locked();
    } else {
        queue.dropped++;
    }
    pthread_mutex_unlock(&queue.lock);
}

unsigned long long event_queue_dropped(void)
{
    unsigned long long dropped;

    pthread_mutex_lock(&queue.lock);
    dropped = queue.dropped;
    pthread_mutex_unlock(&queue.lock);
    return dropped;
}

int pf_event_fd(void)
{
    int fd;

    pthread_mutex_lock(&queue.lock);
    fd = queue.fd;
    pthread_mutex_unlock(&queue.lock);
    return fd;
}

pf_query *pf_next_query(void)
{
    pf_query *question;
    uint64_t count;

    pthread_mutex_lock(&queue.lock);
    if (queue.fd >= 0 && queue.signalled && read(queue.fd, &count, sizeof count) == (ssize_t)sizeof count)
        queue.signalled = 0;
    question = event_queue_take_query_locked();
    pthread_mutex_unlock(&queue.lock);
    return question;
}

static void *next_note(enum event_kind kind)
{
    struct note *note;

    pthread_mutex_lock(&queue.lock);
    note = queue.notes[kind].first;
    if (note) {
        queue.notes[kind].first = note->next;
        queue.notes[kind].count--;
    }
    pthread_mutex_unlock(&queue.lock);
    return note;
}

pf_dns_answer *pf_next_dns_answer(void) { return next_note(EVENT_DNS_ANSWER); }

pf_failover *pf_next_failover(void) { return next_note(EVENT_FAILOVER); }

pf_registration *pf_next_registration(void)
{
    pf_registration *registration = next_note(EVENT_REGISTRATION);

    if (!registration) {
        pthread_mutex_lock(&queue.lock);
        registration = event_queue_take_latest_locked();
        pthread_mutex_unlock(&queue.lock);
    }
    return registration;
}

pf_response *pf_next_response(void) { return next_note(EVENT_RESPONSE); }

void pf_free_dns_answer(pf_dns_answer *answer) { free(answer); }

void pf_free_failover(pf_failover *failover) { free(failover); }

void pf_free_registration(pf_registration *registration) { free(registration); }

void pf_free_response(pf_response *response) { free(response); }

void pf_free_query(pf_query *question) { free(question); }

int pf_next_outcomes(pf_outcome *outcomes, int size)
{
    int count = 0;

    pthread_mutex_lock(&queue.lock);
    while (count < size && queue.used) {
        outcomes[count++] = queue.ring[queue.head];
        queue.head = (queue.head + 1) % ROOM;
        queue.used--;
    }
    pthread_mutex_unlock(&queue.lock);
    return count;
}
