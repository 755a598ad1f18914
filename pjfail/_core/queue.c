#include "queue.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { ROOM = 4096 };

/* Guarded by lock: the questions, the answers, the ring of outcomes, the descriptor. */
static struct {
    pthread_mutex_t lock;
    int fd;
    int signalled;
    pf_question *first, **end;
    pf_dns_answer *answers;             /* newest first: each finds its own question */
    pf_failover *failovers, **failovers_end;
    pf_outcome *ring;
    unsigned head, used;
    unsigned long long dropped;
} queue = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1, .end = &queue.first, .failovers_end = &queue.failovers };

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

void queue_close(void)
{
    pf_question *question, *next;
    pf_dns_answer *answer, *next_answer;
    pf_failover *failover, *next_failover;

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
    answer = queue.answers;
    queue.answers = NULL;
    failover = queue.failovers;
    queue.failovers = NULL;
    queue.failovers_end = &queue.failovers;
    pthread_mutex_unlock(&queue.lock);
    for (; question; question = next) {
        next = question->next;
        free(question);
    }
    for (; answer; answer = next_answer) {
        next_answer = answer->next;
        free(answer);
    }
    for (; failover; failover = next_failover) {
        next_failover = failover->next;
        free(failover);
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

void queue_put_dns_answer(pf_dns_answer *answer)
{
    pthread_mutex_lock(&queue.lock);
    if (queue.fd >= 0) {
        answer->next = queue.answers;
        queue.answers = answer;
        answer = NULL;
        signal_worker();
    }
    pthread_mutex_unlock(&queue.lock);
    free(answer);
}

void queue_put_failover(pf_failover *failover)
{
    failover->next = NULL;
    pthread_mutex_lock(&queue.lock);
    if (queue.fd >= 0) {
        *queue.failovers_end = failover;
        queue.failovers_end = &failover->next;
        failover = NULL;
        signal_worker();
    }
    pthread_mutex_unlock(&queue.lock);
    free(failover);
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

pf_dns_answer *pf_next_dns_answer(void)
{
    pf_dns_answer *answer;

    pthread_mutex_lock(&queue.lock);
    answer = queue.answers;
    if (answer)
        queue.answers = answer->next;
    pthread_mutex_unlock(&queue.lock);
    return answer;
}

pf_failover *pf_next_failover(void)
{
    pf_failover *failover;

    pthread_mutex_lock(&queue.lock);
    failover = queue.failovers;
    if (failover) {
        queue.failovers = failover->next;
        if (!queue.failovers)
            queue.failovers_end = &queue.failovers;
    }
    pthread_mutex_unlock(&queue.lock);
    return failover;
}

void pf_free_failover(pf_failover *failover) { free(failover); }

void pf_free_dns_answer(pf_dns_answer *answer) { free(answer); }

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
