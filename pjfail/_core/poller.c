#include "poller.h"

#include "gate.h"
#include "lock.h"
#include "pjfail.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* How often deadlines and silence are looked at, while there is any. */
#define TICK_S 0.1

/* How long an attach waits for a free key of pjsip's ioqueue. */
#define KEY_TIMEOUT_S 1.0

/* How many of our keys may be on their way back at once, each for this long: with none left pjsip aborts the program. */
enum { MAX_KEYS = 8 };
#define KEY_REST_S 0.6

/* Guarded by the lock of attach.c, unless said otherwise. */
static struct {
    pj_pool_t *pool;
    pj_ioqueue_key_t *key;         /* of the socket that wakes the polling thread; its memory is pool's */
    pj_ioqueue_op_key_t receiving; /* the polling thread's */
    char received[8];
    void (*on_wake)(double now);
    double key_gone[MAX_KEYS]; /* when the last keys were let go, a ring */
    unsigned keys_gone;
    pthread_mutex_t wake_lock;
    int wake_socket;           /* guarded by wake_lock */
    pthread_mutex_t tick_lock; /* guards what follows */
    int ticking;
    int timer;      /* a timerfd, set to the sooner of the next two */
    double regular; /* when the next tick is */
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
    if (poller.wake_socket >= 0) /* one that is full will wake it as well */
        (void)!send(poller.wake_socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    pthread_mutex_unlock(&poller.wake_lock);
}

/* Listens again, and calls on_wake. pjsip's polling thread. */
static void poller_on_woken(pj_ioqueue_key_t *key, pj_ioqueue_op_key_t *operation, pj_ssize_t received)
{
    pj_ssize_t size = sizeof poller.received;

    if (gate_is_forked_child())
        return;
    /*
     * Threads that poll side by side are told of one wake-up together; who finds nothing more must listen again too. So must
     * who is woken for nothing before the attach is complete, by a descriptor number that was another's a moment ago.
     */
    (void)received;
    host.pj_ioqueue_recv(key, operation, poller.received, &size, PJ_IOQUEUE_ALWAYS_ASYNC);
    if (!gate_enter())
        return;
    poller.on_wake(clock_now());
    gate_leave();
}

/*
 * Has the timer go off at that time, at once where that is past. A timer, for setting it wakes nobody, as signalling a
 * condition would; at 0 it would never go off.
 */
static void poller_set_timer_locked(double when)
{
    const double at = fmax(when, 1);
    const struct itimerspec next = { .it_value = { (time_t)at, (long)((at - (double)(time_t)at) * 1e9) } };

    timerfd_settime(poller.timer, TFD_TIMER_ABSTIME, &next, NULL);
}

/* Waits: a key that was let go is free again only half a second later, and an ioqueue has few: leave it some, and wait for one. */
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
    pthread_mutex_unlock(&poller.wake_lock);
    poller.on_wake = on_wake;
    pthread_mutex_lock(&poller.tick_lock);
    poller.ticking = 1;
    poller.due = INFINITY;
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
    host.pj_ioqueue_unregister(poller.key); /* closes its socket */
    poller.key_gone[poller.keys_gone++ % MAX_KEYS] = clock_now();
    host.pjsip_endpt_release_pool(host_endpoint(), poller.pool);
    close(poller.timer);
}

/* --- time -------------------------------------------------------------------------------------------------------- */

/* Returns 0 when it is time to end. */
static int poller_tick(int (*on_tick)(void))
{
    HOLD_LOCK(&poller.tick_lock);
    double now = clock_now();

    if (!poller.ticking)
        return 0;
    if (on_tick() || now >= poller.due)
        poller_wake();
    if (now >= poller.due)
        poller.due = INFINITY;
    if (now >= poller.regular)
        poller.regular = now + TICK_S;
    poller_set_timer_locked(fmin(poller.regular, poller.due));
    return 1;
}

void poller_run(int (*on_tick)(void))
{
    unsigned long long times;

    do
        (void)!read(poller.timer, &times, sizeof times);
    while (poller_tick(on_tick));
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
