#include "poller.h"

#include "gate.h"
#include "pjfail.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

/* Seconds between two looks at deadlines and silent servers, while there are any. */
#define TICK_S 0.1

/* Seconds that an attach waits for a free key of pjsip's ioqueue. */
#define KEY_TIMEOUT_S 1.0

/*
 * The most of our keys that may be on their way back to pjsip at once, each for this long: pjsip aborts the program if
 * none is left.
 */
enum { MAX_KEYS = 8 };
#define KEY_REST_S 0.6

/* Guarded by the lock of attach.c, except where a field says otherwise. */
static struct {
    pj_pool_t *pool;
    pj_ioqueue_key_t *key;         /* of the socket that wakes the polling thread; its memory is in pool */
    pj_ioqueue_op_key_t receiving; /* used by the polling thread */
    char received[8];
    void (*on_wake)(double now);
    double key_gone[MAX_KEYS]; /* when the last keys were given back, a ring */
    unsigned keys_gone;
    pthread_mutex_t wake_lock;
    int wake_socket;           /* guarded by wake_lock */
    pthread_mutex_t tick_lock; /* guards the fields below */
    pthread_cond_t tick_end;
    int ticking;
    double due; /* the soonest time asked for with poller_wake_at() */
} poller = {
    .wake_lock = PTHREAD_MUTEX_INITIALIZER,
    .wake_socket = -1,
    .tick_lock = PTHREAD_MUTEX_INITIALIZER,
};

/* --- waking pjsip's polling thread ------------------------------------------------------------------------------- */

void poller_wake(void)
{
    pthread_mutex_lock(&poller.wake_lock);
    if (poller.wake_socket >= 0) /* a full socket wakes it as well */
        (void)!send(poller.wake_socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    pthread_mutex_unlock(&poller.wake_lock);
}

/* Waits for the next wake-up, and calls on_wake. pjsip's polling thread. */
static void poller_on_woken(pj_ioqueue_key_t *key, pj_ioqueue_op_key_t *operation, pj_ssize_t received)
{
    pj_ssize_t size = sizeof poller.received;

    if (gate_is_forked_child())
        return;
    /*
     * Threads that poll side by side all see one wake-up; a thread that finds nothing to read must wait again, too. So
     * must a thread that is woken before the attach is complete, by a descriptor number that was another's a moment
     * ago.
     */
    (void)received;
    host.pj_ioqueue_recv(key, operation, poller.received, &size, PJ_IOQUEUE_ALWAYS_ASYNC);
    if (!gate_enter())
        return;
    poller.on_wake(clock_now());
    gate_leave();
}

/* Initialises the condition variable of poller_run(). */
static void poller_reset(void)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&poller.tick_end, &attributes);
    pthread_condattr_destroy(&attributes);
    poller.ticking = 1;
    poller.due = INFINITY;
}

/*
 * Registers the socket with pjsip's ioqueue. A key that was given back is free only half a second later, and an
 * ioqueue has few: leaves it some, and waits for one.
 */
static pj_status_t poller_register_socket_locked(int socket)
{
    static const pj_ioqueue_callback callback = { .on_read_complete = &poller_on_woken };
    double until;
    pj_status_t status;

    while (poller.keys_gone >= MAX_KEYS && clock_now() < poller.key_gone[poller.keys_gone % MAX_KEYS] + KEY_REST_S)
        clock_pause(0.02);
    until = clock_now() + KEY_TIMEOUT_S;
    for (;;) {
        status = host.pj_ioqueue_register_sock(poller.pool, host.pjsip_endpt_get_ioqueue(host_endpoint()), socket, NULL,
                                               &callback, &poller.key);
        if (status != PJ_ETOOMANY || clock_now() > until)
            return status;
        clock_pause(0.02);
    }
}

int poller_open(void (*on_wake)(double now))
{
    pj_ssize_t size = sizeof poller.received;
    pj_status_t status;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        return host_problem(PF_PJSIP_FAILED, PJ_STATUS_FROM_OS(errno), "socketpair()");
    poller.pool = host.pjsip_endpt_create_pool(host_endpoint(), "pjfail", 1000, 1000);
    status = poller.pool ? poller_register_socket_locked(pair[0]) : PJ_ENOMEM;
    if (status != PJ_SUCCESS) {
        close(pair[0]);
        close(pair[1]);
        if (poller.pool)
            host.pjsip_endpt_release_pool(host_endpoint(), poller.pool);
        return host_problem(PF_PJSIP_FAILED, status, "pj_ioqueue_register_sock() (PJ_IOQUEUE_MAX_HANDLES)");
    }
    pthread_mutex_lock(&poller.wake_lock);
    poller.wake_socket = pair[1];
    pthread_mutex_unlock(&poller.wake_lock);
    poller.on_wake = on_wake;
    poller_reset();
    host.pj_ioqueue_op_key_init(&poller.receiving, sizeof poller.receiving);
    host.pj_ioqueue_recv(poller.key, &poller.receiving, poller.received, &size, PJ_IOQUEUE_ALWAYS_ASYNC);
    return PF_OK;
}

void poller_close(void)
{
    pthread_mutex_lock(&poller.wake_lock);
    close(poller.wake_socket);
    poller.wake_socket = -1;
    pthread_mutex_unlock(&poller.wake_lock);
    host.pj_ioqueue_unregister(poller.key); /* this closes its socket, too */
    poller.key_gone[poller.keys_gone++ % MAX_KEYS] = clock_now();
    host.pjsip_endpt_release_pool(host_endpoint(), poller.pool);
    pthread_cond_destroy(&poller.tick_end);
}

/* --- time -------------------------------------------------------------------------------------------------------- */

void poller_run(int (*on_tick)(void))
{
    double regular = clock_now() + TICK_S;

    pthread_mutex_lock(&poller.tick_lock);
    while (poller.ticking) {
        double now, until = fmin(regular, poller.due);
        struct timespec next = { (time_t)until, (long)((until - (double)(time_t)until) * 1e9) };

        pthread_cond_timedwait(&poller.tick_end, &poller.tick_lock, &next);
        now = clock_now();
        if (!poller.ticking || (now < regular && now < poller.due))
            continue;
        if (on_tick() || now >= poller.due)
            poller_wake();
        if (now >= poller.due)
            poller.due = INFINITY;
        if (now >= regular)
            regular = now + TICK_S;
    }
    pthread_mutex_unlock(&poller.tick_lock);
}

void poller_stop(void)
{
    pthread_mutex_lock(&poller.tick_lock);
    poller.ticking = 0;
    pthread_cond_signal(&poller.tick_end);
    pthread_mutex_unlock(&poller.tick_lock);
}

void poller_wake_at(double when)
{
    pthread_mutex_lock(&poller.tick_lock);
    if (poller.ticking && when < poller.due) {
        poller.due = when;
        pthread_cond_signal(&poller.tick_end);
    }
    pthread_mutex_unlock(&poller.tick_lock);
}
