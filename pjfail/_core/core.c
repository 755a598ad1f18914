/*
 * core.c: plugs the parts into the endpoint and takes them out again, leaving pjsip as it was found.
 *
 * Attached and detached by Python, or detached by the endpoint's own end (our module's stop()). One lock orders these; no SIP
 * thread takes it but the one that destroys the endpoint.
 */
#include "core.h"

#include "dialogs.h"
#include "dns.h"
#include "observer.h"
#include "pjfail.h"
#include "queue.h"
#include "resolver.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* How often deadlines and silence are looked at, while there is any. */
enum { TICK_MS = 100 };

/* How long a detach waits for pjsip to let go of our module; it goes on by itself when called from a SIP callback. */
#define LETTING_GO 2.0

/* How long an attach waits for a free key of pjsip's ioqueue. */
#define KEY_TIME 1.0

/* Guarded by lock, unless said otherwise. */
static struct {
    pthread_mutex_t lock;
    atomic_int attached;            /* read by SIP threads */
    atomic_int foreign;             /* set in a forked child */
    pjsip_endpoint *endpt;
    pj_pool_t *pool;
    pj_ioqueue_key_t *key;          /* of the socket that wakes the polling thread; its memory is pool's */
    pj_ioqueue_op_key_t receiving;  /* the polling thread's */
    char received[8];
    pthread_mutex_t wake_lock;
    int wake_socket;                /* guarded by wake_lock */
    pthread_t ticker;
    pthread_mutex_t tick_lock;      /* guards ticking, never taken with another but observer's, questions' and wake_lock inside */
    pthread_cond_t tick_end;
    int ticking;
    _Atomic pjsip_tp_state_callback chained;    /* SIP threads read it */
    pthread_mutex_t module_lock;    /* guards module_busy, never taken with another */
    int module_busy;                /* being unregistered by a thread of its own */
} self = {
    /* Recursive: what an application does in a callback that a probe's sending causes may be a detach. */
    .lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP,
    .wake_lock = PTHREAD_MUTEX_INITIALIZER,
    .wake_socket = -1,
    .tick_lock = PTHREAD_MUTEX_INITIALIZER,
    .module_lock = PTHREAD_MUTEX_INITIALIZER,
};

int core_attached(void) { return atomic_load(&self.attached); }

int core_is_foreign(void) { return atomic_load_explicit(&self.foreign, memory_order_relaxed); }

static void mark_foreign(void) { atomic_store(&self.foreign, 1); }

/* --- waking pjsip's polling thread ------------------------------------------------------------------------------- */

/* Any thread. A full socket will wake it as well. */
static void wake(void)
{
    pthread_mutex_lock(&self.wake_lock);
    if (self.wake_socket >= 0)
        (void)!send(self.wake_socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    pthread_mutex_unlock(&self.wake_lock);
}

/* pjsip's polling thread. */
static void on_woken(pj_ioqueue_key_t *key, pj_ioqueue_op_key_t *operation, pj_ssize_t received)
{
    pj_ssize_t size = sizeof self.received;
    double now;

    if (!core_attached() || core_is_foreign())
        return;
    if (received >= 0)
        host.pj_ioqueue_recv(key, operation, self.received, &size, PJ_IOQUEUE_ALWAYS_ASYNC);
    now = host_now();
    questions_tick(now);
    observer_tick(now);
}

/* A key that was let go is free again only half a second later, and an ioqueue has few: wait for one. */
static pj_status_t register_socket(pjsip_endpoint *endpt, int socket)
{
    static const pj_ioqueue_callback callback = { .on_read_complete = &on_woken };
    const struct timespec pause = { 0, 20000000 };
    double until = host_now() + KEY_TIME;
    pj_status_t status;

    for (;;) {
        status = host.pj_ioqueue_register_sock(self.pool, host.pjsip_endpt_get_ioqueue(endpt), socket, NULL, &callback,
                                               &self.key);
        if (status != PJ_ETOOMANY || host_now() > until)
            return status;
        nanosleep(&pause, NULL);
    }
}

static int open_wake(pjsip_endpoint *endpt)
{
    pj_ssize_t size = sizeof self.received;
    pj_status_t status;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        return host_problem(PF_PJSIP_FAILED, PJ_STATUS_FROM_OS(errno), "socketpair()");
    self.pool = host.pjsip_endpt_create_pool(endpt, "pjfail", 1000, 1000);
    status = self.pool ? register_socket(endpt, pair[0]) : PJ_ENOMEM;
    if (status != PJ_SUCCESS) {
        close(pair[0]);
        close(pair[1]);
        if (self.pool)
            host.pjsip_endpt_release_pool(endpt, self.pool);
        return host_problem(PF_PJSIP_FAILED, status, "pj_ioqueue_register_sock() (PJ_IOQUEUE_MAX_HANDLES)");
    }
    pthread_mutex_lock(&self.wake_lock);
    self.wake_socket = pair[1];
    pthread_mutex_unlock(&self.wake_lock);
    host.pj_ioqueue_op_key_init(&self.receiving, sizeof self.receiving);
    host.pj_ioqueue_recv(self.key, &self.receiving, self.received, &size, PJ_IOQUEUE_ALWAYS_ASYNC);
    return PF_OK;
}

static void close_wake(pjsip_endpoint *endpt)
{
    pthread_mutex_lock(&self.wake_lock);
    close(self.wake_socket);
    self.wake_socket = -1;
    pthread_mutex_unlock(&self.wake_lock);
    host.pj_ioqueue_unregister(self.key);   /* closes its socket */
    host.pjsip_endpt_release_pool(endpt, self.pool);
}

/* --- time -------------------------------------------------------------------------------------------------------- */

/*
 * A thread of our own, unknown to pjsip and to Python: wakes the polling thread every now and then while something
 * has a deadline. (pjsip's timers are reached by other names and layouts in every build.)
 */
static void *tick(void *unused)
{
    struct timespec next;

    (void)unused;
    pthread_mutex_lock(&self.tick_lock);
    while (self.ticking) {
        clock_gettime(CLOCK_MONOTONIC, &next);
        next.tv_nsec += TICK_MS * 1000000L;
        next.tv_sec += next.tv_nsec / 1000000000L;
        next.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&self.tick_end, &self.tick_lock, &next);
        if (self.ticking && (questions_waiting() || observer_outstanding()))
            wake();
    }
    pthread_mutex_unlock(&self.tick_lock);
    return NULL;
}

static int start_ticking(void)
{
    pthread_condattr_t attributes;
    int failed;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&self.tick_end, &attributes);
    pthread_condattr_destroy(&attributes);
    self.ticking = 1;
    failed = pthread_create(&self.ticker, NULL, &tick, NULL);
    if (failed) {
        self.ticking = 0;
        pthread_cond_destroy(&self.tick_end);
    }
    return !failed;
}

static void stop_ticking(void)
{
    pthread_mutex_lock(&self.tick_lock);
    self.ticking = 0;
    pthread_cond_signal(&self.tick_end);
    pthread_mutex_unlock(&self.tick_lock);
    pthread_join(self.ticker, NULL);
    pthread_cond_destroy(&self.tick_end);
}

/* --- our module -------------------------------------------------------------------------------------------------- */

static void detach(int endpoint_ends);

static pj_status_t on_tx_request(pjsip_tx_data *tdata)
{
    return core_attached() && !core_is_foreign() ? observer_on_tx_request(tdata) : PJ_SUCCESS;
}

static pj_bool_t on_rx_response(pjsip_rx_data *rdata)
{
    return core_attached() && !core_is_foreign() ? observer_on_rx_response(rdata) : PJ_FALSE;
}

/* Set in the thread that unregisters our module. */
static __thread int unregistering;

/* Called when the module is unregistered, by us or, with the others, because the endpoint ends. */
static pj_status_t on_stop(void)
{
    if (unregistering || core_is_foreign())
        return PJ_SUCCESS;
    pthread_mutex_lock(&self.lock);
    if (core_attached())
        detach(1);
    pthread_mutex_unlock(&self.lock);
    return PJ_SUCCESS;
}

static pjsip_module module = {
    NULL, NULL, { "mod-pjfail", 10 }, -1, PJSIP_MOD_PRIORITY_TRANSPORT_LAYER - 1,
    NULL, NULL, &on_stop, NULL, NULL, &on_rx_response, &on_tx_request, NULL, NULL,
};

static void *unregister_module(void *endpt)
{
    host_register_thread();
    unregistering = 1;
    host.pjsip_endpt_unregister_module(endpt, &module);
    unregistering = 0;
    pthread_mutex_lock(&self.module_lock);
    self.module_busy = 0;
    pthread_mutex_unlock(&self.module_lock);
    return NULL;
}

static int module_is_busy(void)
{
    int busy;

    pthread_mutex_lock(&self.module_lock);
    busy = self.module_busy;
    pthread_mutex_unlock(&self.module_lock);
    return busy;
}

/* Waits until pjsip has let go of the module. 0: it has not in that time. */
static int module_is_free(double seconds)
{
    const struct timespec pause = { 0, 2000000 };
    double until = host_now() + seconds;

    while (module_is_busy() && host_now() < until)
        nanosleep(&pause, NULL);
    return !module_is_busy();
}

/*
 * Unregistering waits until no thread is inside any module. The caller may itself be inside one (a detach from
 * onRegState()), so a thread of its own does it.
 */
static void let_go_of_module(pjsip_endpoint *endpt)
{
    pthread_t thread;

    pthread_mutex_lock(&self.module_lock);
    self.module_busy = 1;
    pthread_mutex_unlock(&self.module_lock);
    if (pthread_create(&thread, NULL, &unregister_module, endpt) != 0) {
        unregister_module(endpt);
        return;
    }
    pthread_detach(thread);
    module_is_free(LETTING_GO);
}

/* --- the transport state callback -------------------------------------------------------------------------------- */

/*
 * pjsip has one slot for it, which pjsua uses, and chains as we do: a pjsua that creates a transport after us puts
 * itself on top, with us as the one to call next, though it is the one that we call next.
 */
static void on_transport_state(pjsip_transport *transport, pjsip_transport_state state,
                               const pjsip_transport_state_info *info)
{
    static __thread int inside;
    pjsip_tp_state_callback chained = atomic_load(&self.chained);

    if (inside)
        return;
    inside = 1;
    if (core_attached() && !core_is_foreign())
        observer_on_transport_state(transport, state, info);
    if (chained && host.pjsip_tpmgr_get_state_cb(transport->tpmgr) != chained)
        chained(transport, state, info);
    inside = 0;
}

static void chain_state_callback(pjsip_endpoint *endpt)
{
    pjsip_tpmgr *manager = host.pjsip_endpt_get_tpmgr(endpt);
    pjsip_tp_state_callback installed = host.pjsip_tpmgr_get_state_cb(manager);

    if (installed != &on_transport_state) {
        atomic_store(&self.chained, installed);
        host.pjsip_tpmgr_set_state_cb(manager, &on_transport_state);
    }
}

/* Where somebody has put himself on top of us, we stay below and pass through. */
static void unchain_state_callback(pjsip_endpoint *endpt)
{
    pjsip_tpmgr *manager = host.pjsip_endpt_get_tpmgr(endpt);

    if (host.pjsip_tpmgr_get_state_cb(manager) == &on_transport_state)
        host.pjsip_tpmgr_set_state_cb(manager, atomic_load(&self.chained));
}

/* --- attach and detach ------------------------------------------------------------------------------------------- */

static int plug_in(pjsip_endpoint *endpt, double deadline)
{
    pj_status_t status;
    int result;

    if (!queue_open())
        return host_problem(PF_PJSIP_FAILED, PJ_STATUS_FROM_OS(errno), "eventfd()");
    result = open_wake(endpt);
    if (result != PF_OK) {
        queue_close();
        return result;
    }
    status = start_ticking() ? host.pjsip_endpt_register_module(endpt, &module) : PJ_ENOMEM;
    if (status != PJ_SUCCESS) {
        if (self.ticking)
            stop_ticking();
        close_wake(endpt);
        queue_close();
        return host_problem(PF_PJSIP_FAILED, status, "pjsip_endpt_register_module() (PJSIP_MAX_MODULE)");
    }
    questions_open(deadline, &wake);
    self.endpt = endpt;
    atomic_store(&self.attached, 1);
    chain_state_callback(endpt);
    result = resolver_install(endpt);
    if (result != PF_OK)
        detach(0);
    return result;
}

int pf_attach(double deadline)
{
    static atomic_int told_of_forks;
    int result;

    if (!atomic_exchange(&told_of_forks, 1))
        pthread_atfork(NULL, NULL, &mark_foreign);
    if (core_is_foreign())
        return PF_NO_ENDPOINT;
    if (core_attached() || !module_is_free(LETTING_GO))
        return PF_ALREADY_ATTACHED;
    host_register_thread();
    pthread_mutex_lock(&self.lock);
    result = core_attached() ? PF_ALREADY_ATTACHED : plug_in(host.pjsua_get_pjsip_endpt(), deadline);
    pthread_mutex_unlock(&self.lock);
    return result;
}

/* Under self.lock. */
static void detach(int endpoint_ends)
{
    pjsip_endpoint *endpt = self.endpt;
    struct waiter *waiter, *next;

    atomic_store(&self.attached, 0);
    dns_close();
    resolver_remove(endpt);
    unchain_state_callback(endpt);
    stop_ticking();
    waiter = questions_close();
    close_wake(endpt);
    for (; waiter; waiter = next) {
        next = waiter->next;
        if (endpoint_ends)
            observer_answer(waiter->callback, PJ_ECANCELLED, waiter->token, NULL);
        else
            resolver_return(endpt, waiter);
        free(waiter);
    }
    if (!endpoint_ends)
        let_go_of_module(endpt);
    observer_clear();
    dialogs_clear();
    plans_clear();
    queue_close();
}

void pf_detach(void)
{
    if (core_is_foreign())
        return;
    pthread_mutex_lock(&self.lock);
    if (core_attached()) {
        host_register_thread();
        detach(0);
    }
    pthread_mutex_unlock(&self.lock);
}

int core_with_endpoint(int (*work)(pjsip_endpoint *endpt, void *argument), void *argument)
{
    int result = PF_NO_ENDPOINT;

    if (core_is_foreign())
        return result;
    pthread_mutex_lock(&self.lock);
    if (core_attached()) {
        host_register_thread();
        result = work(self.endpt, argument);
    }
    pthread_mutex_unlock(&self.lock);
    return result;
}

int pf_attached(void) { return core_attached() && !core_is_foreign(); }

void pf_read_counters(pf_counters *counters)
{
    memset(counters, 0, sizeof *counters);
    questions_count(counters);
    plans_count(&counters->plans, &counters->servers);
    counters->dropped = queue_dropped();
    counters->outstanding = observer_outstanding();
}
