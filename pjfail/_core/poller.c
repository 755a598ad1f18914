#include "poller.h"

#include "gate.h"
#include "lock.h"
#include "pjfail.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Seconds between two looks at deadlines and silent servers, while there are any, or requests under way. */
#define TICK_S 0.1

/* A wake-up that is this late tells that the polling thread did not run: it was busy elsewhere, or the whole process was stopped. */
#define STALL_S 0.3

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
    int wake_socket;           /* guarded by wake_lock, as what follows */
    double woken_at;           /* since when a wake-up is on its way; 0: none is */
    double beat_at;            /* when the attachment's own thread ran last; INFINITY: it rests */
    double polled_since;       /* since when the polling thread has run */
    atomic_int resting;        /* there are no regular ticks; written under tick_lock */
    pthread_mutex_t tick_lock; /* guards the fields below */
    int ticking;
    int timer;      /* a timerfd, set to the sooner of the next two */
    double regular; /* when the next tick is; INFINITY: there is none */
    double due;     /* when somebody wants to be woken sooner */
} poller = {
    .wake_lock = PTHREAD_MUTEX_INITIALIZER,
    .wake_socket = -1,
    .tick_lock = PTHREAD_MUTEX_INITIALIZER,
};

/* --- waking pjsip's polling thread ------------------------------------------------------------------------------- */

void poller_wake(void)
{
    pthread_mutex_lock(&poller.wake_lock);
    if (poller.wake_socket >= 0) { /* one that is full will wake it as well */
        if (!poller.woken_at)
            poller.woken_at = clock_now();
        (void)!send(poller.wake_socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    pthread_mutex_unlock(&poller.wake_lock);
}

/* Notes where the time between is one in which the polling thread did not run. Under wake_lock. */
static void poller_note_stall_locked(double now)
{
    if ((poller.woken_at && now - poller.woken_at > STALL_S) || now - poller.beat_at > TICK_S + STALL_S)
        poller.polled_since = now;
}

double poller_polled_since(double now)
{
    double since;

    pthread_mutex_lock(&poller.wake_lock);
    poller_note_stall_locked(now);
    since = poller.polled_since;
    pthread_mutex_unlock(&poller.wake_lock);
    return since;
}

double pf_polled_since(void) { return gate_is_forked_child() ? 0 : poller_polled_since(clock_now()); }

/* Notes that the polling thread runs. */
static void poller_note_woken(double now)
{
    pthread_mutex_lock(&poller.wake_lock);
    poller_note_stall_locked(now);
    poller.woken_at = 0;
    pthread_mutex_unlock(&poller.wake_lock);
}

/* Notes that the attachment's own thread runs: where that does not, the whole process was stopped. */
static void poller_note_beat(double now)
{
    pthread_mutex_lock(&poller.wake_lock);
    poller_note_stall_locked(now);
    poller.beat_at = now;
    pthread_mutex_unlock(&poller.wake_lock);
}

/* Waits for the next wake-up, and calls on_wake. pjsip's polling thread. */
static void poller_on_woken(pj_ioqueue_key_t *key, pj_ioqueue_op_key_t *operation, pj_ssize_t received)
{
    pj_ssize_t size = sizeof poller.received;
    double now = clock_now();

    if (gate_is_forked_child())
        return;
    poller_note_woken(now);
    /*
     * Threads that poll side by side all see one wake-up; a thread that finds nothing to read must wait again, too. So
     * must a thread that is woken before the attach is complete, by a descriptor number that was another's a moment
     * ago.
     */
    (void)received;
    host.pj_ioqueue_recv(key, operation, poller.received, &size, PJ_IOQUEUE_ALWAYS_ASYNC);
    if (!gate_enter())
        return;
    poller.on_wake(now);
    gate_leave();
}

/*
 * Has the timer go off at that time, at once where that is past, never for INFINITY. A timer, for setting it wakes
 * nobody, as signalling a condition would.
 */
static void poller_set_timer_locked(double when)
{
    const double at = isfinite(when) ? fmax(when, 1) : 0; /* 0 stops the timer */
    const struct itimerspec next = { .it_value = { (time_t)at, (long)((at - (double)(time_t)at) * 1e9) } };

    timerfd_settime(poller.timer, TFD_TIMER_ABSTIME, &next, NULL);
}

/*
 * Registers the socket with pjsip's ioqueue. Waits for a key: one that was let go is free again only half a second later, and an
 * ioqueue has few, some of which are left to pjsip. Attaching thread.
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

    poller.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (poller.timer < 0)
        return host_problem(PF_PJSIP_FAILED, PJ_STATUS_FROM_OS(errno), "timerfd_create()");
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        close(poller.timer);
        return host_problem(PF_PJSIP_FAILED, PJ_STATUS_FROM_OS(errno), "socketpair()");
    }
    poller.pool = host.pjsip_endpt_create_pool(host_endpoint(), "pjfail", 1000, 1000);
    status = poller.pool ? poller_register_socket_locked(pair[0]) : PJ_ENOMEM;
    if (status != PJ_SUCCESS) {
        close(poller.timer);
        close(pair[0]);
        close(pair[1]);
        if (poller.pool)
            host.pjsip_endpt_release_pool(host_endpoint(), poller.pool);
        return host_problem(PF_PJSIP_FAILED, status, "pj_ioqueue_register_sock() (PJ_IOQUEUE_MAX_HANDLES)");
    }
    pthread_mutex_lock(&poller.wake_lock);
    poller.wake_socket = pair[1];
    poller.woken_at = poller.polled_since = 0;
    poller.beat_at = clock_now();
    pthread_mutex_unlock(&poller.wake_lock);
    poller.on_wake = on_wake;
    pthread_mutex_lock(&poller.tick_lock);
    poller.ticking = 1;
    poller.due = INFINITY;
    atomic_store(&poller.resting, 0);
    poller.regular = clock_now() + TICK_S;
    poller_set_timer_locked(poller.regular);
    pthread_mutex_unlock(&poller.tick_lock);
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
    close(poller.timer);
}

/* --- time -------------------------------------------------------------------------------------------------------- */

/* Notes that the attachment's own thread may sleep for long without being stopped. */
static void poller_note_rest(void)
{
    pthread_mutex_lock(&poller.wake_lock);
    poller.beat_at = INFINITY;
    pthread_mutex_unlock(&poller.wake_lock);
}

/* Returns 0 when it is time to end. */
static int poller_tick(int (*on_tick)(void), int (*needs_ticks)(void))
{
    HOLD_LOCK(&poller.tick_lock);
    double now = clock_now();

    poller_note_beat(now);
    if (!poller.ticking)
        return 0;
    if (on_tick() || now >= poller.due)
        poller_wake();
    if (now >= poller.due)
        poller.due = INFINITY;
    if (now >= poller.regular) {
        /* First this, then the look: who begins something after the look waits for tick_lock, and has the ticks begin again. */
        atomic_store(&poller.resting, 1);
        atomic_store(&poller.resting, !needs_ticks());
        poller.regular = atomic_load(&poller.resting) ? INFINITY : now + TICK_S;
    }
    if (atomic_load(&poller.resting))
        poller_note_rest();
    poller_set_timer_locked(fmin(poller.regular, poller.due));
    return 1;
}

void poller_run(int (*on_tick)(void), int (*needs_ticks)(void))
{
    unsigned long long times;

    do
        (void)!read(poller.timer, &times, sizeof times);
    while (poller_tick(on_tick, needs_ticks));
}

void poller_begin_ticks(void)
{
    if (!atomic_load(&poller.resting))
        return;
    HOLD_LOCK(&poller.tick_lock);
    double now = clock_now();

    if (!poller.ticking || isfinite(poller.regular))
        return;
    poller_note_beat(now);
    atomic_store(&poller.resting, 0);
    poller.regular = now + TICK_S;
    poller_set_timer_locked(fmin(poller.regular, poller.due));
}

void poller_stop(void)
{
    HOLD_LOCK(&poller.tick_lock);
    poller.ticking = 0;
    poller_set_timer_locked(clock_now());
}

void poller_wake_at(double when)
{
    HOLD_LOCK(&poller.tick_lock);
    if (poller.ticking && when < poller.due) {
        poller.due = when;
        poller_set_timer_locked(fmin(poller.regular, when));
    }
}
