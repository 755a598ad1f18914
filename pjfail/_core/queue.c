#include "queue.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { ROOM = 4096 };

struct note {
    struct note *next;
};

struct notes {
    struct note *first, **end;
};

/* Guarded by lock: the questions, the notes, the ring of outcomes, the descriptor. */
static struct {
    pthread_mutex_t lock;
    int fd;
    int signalled;
    pf_question *first, **end;
    struct notes notes[NOTE_KINDS];
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
}

int queue_open(void)
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
    return first;
}

void queue_close(void)
{
    pf_question *question, *next;
    struct note *notes[NOTE_KINDS], *next_note;
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
    for (kind = 0; kind < NOTE_KINDS; kind++)
        notes[kind] = take_notes(&queue.notes[kind]);
    pthread_mutex_unlock(&queue.lock);
    for (; question; question = next) {
        next = question->next;
        free(question);
    }
    for (kind = 0; kind < NOTE_KINDS; kind++)
        for (; notes[kind]; notes[kind] = next_note) {
            next_note = notes[kind]->next;
            free(notes[kind]);
        }
}

void queue_put_question(pf_question *question)
{
    question->next = NULL;
    pthread_mutex_lock(&queue.lock);
    if (queue.fd >= 0) {
        *queue.end = question;
        queue.end = &question->next;
        question = NULL;
        signal_worker();
    }
    pthread_mutex_unlock(&queue.lock);
    free(question);
}

void queue_put_note(enum note_kind kind, void *note)
{
    struct notes *notes = &queue.notes[kind];

    pthread_mutex_lock(&queue.lock);
    if (queue.fd >= 0) {
        if (!notes->first)
            notes->end = &notes->first;
        ((struct note *)note)->next = NULL;
        *notes->end = note;
        notes->end = &((struct note *)note)->next;
        note = NULL;
        signal_worker();
    }
    pthread_mutex_unlock(&queue.lock);
    free(note);
}

void queue_put_outcome(const pf_outcome *outcome)
{
    pthread_mutex_lock(&queue.lock);
    if (queue.ring && queue.used < ROOM) {
        queue.ring[(queue.head + queue.used++) % ROOM] = *outcome;
        signal_worker();
    } else {
        queue.dropped++;
    }
    pthread_mutex_unlock(&queue.lock);
}

unsigned long long queue_dropped(void)
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

pf_question *pf_next_question(void)
{
    pf_question *question;
    uint64_t count;

    pthread_mutex_lock(&queue.lock);
    if (queue.fd >= 0 && queue.signalled && read(queue.fd, &count, sizeof count) == (ssize_t)sizeof count)
        queue.signalled = 0;
    question = queue.first;
    if (question) {
        queue.first = question->next;
        if (!queue.first)
            queue.end = &queue.first;
    }
    pthread_mutex_unlock(&queue.lock);
    return question;
}

static void *next_note(enum note_kind kind)
{
    struct note *note;

    pthread_mutex_lock(&queue.lock);
    note = queue.notes[kind].first;
    if (note)
        queue.notes[kind].first = note->next;
    pthread_mutex_unlock(&queue.lock);
    return note;
}

pf_dns_answer *pf_next_dns_answer(void) { return next_note(NOTE_DNS_ANSWER); }

pf_failover *pf_next_failover(void) { return next_note(NOTE_FAILOVER); }

pf_registration *pf_next_registration(void) { return next_note(NOTE_REGISTRATION); }

pf_response *pf_next_response(void) { return next_note(NOTE_RESPONSE); }

void pf_free_dns_answer(pf_dns_answer *answer) { free(answer); }

void pf_free_failover(pf_failover *failover) { free(failover); }

void pf_free_registration(pf_registration *registration) { free(registration); }

void pf_free_response(pf_response *response) { free(response); }

void pf_free_question(pf_question *question) { free(question); }

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
