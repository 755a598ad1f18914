/*
 * core.c: plugs the parts into the endpoint and takes them out again, leaving pjsip as it was found.
 *
 * Attached and detached by Python, or detached by the endpoint's own end (our module's stop()). One lock orders these; no SIP
 * thread takes it but the one that destroys the endpoint.
 */
#include "core.h"

#include "affinity.h"
#include "connections.h"
#include "dialogs.h"
#include "dns.h"
#include "failover.h"
#include "layout.h"
#include "pjfail.h"
#include "queue.h"
#include "race.h"
#include "request.h"
#include "resolver.h"
#include "sending.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
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

/* How long the endpoint's end waits for threads of ours; stock pjsip waits for its own, which look names up, without a limit. */
#define SETTLING 30.0

/* How long an attach waits for pjsip to take our module: in a SIP callback it would wait for itself. */
#define TAKING_IN 5.0

/* How long an attach waits for a free key of pjsip's ioqueue. */
#define KEY_TIME 1.0

/* How many of our keys may be on their way back at once, each for this long: with none left pjsip aborts the program. */
enum { MOST_KEYS = 8 };
#define KEY_REST 0.6

/* Guarded by lock, unless said otherwise. */
static struct {
    pthread_mutex_t lock;
    atomic_int attached;            /* the number of the attachment, 0: none; read by SIP threads */
    int attachments;                /* so far */
    atomic_int foreign;             /* set in a forked child */
    pjsip_endpoint *endpt;
    pj_pool_t *pool;
    pj_ioqueue_key_t *key;          /* of the socket that wakes the polling thread; its memory is pool's */
    pj_ioqueue_op_key_t receiving;  /* the polling thread's */
    char received[8];
    double key_gone[MOST_KEYS];     /* when the last keys were let go, a ring */
    unsigned keys_gone;
    pthread_mutex_t wake_lock;
    int wake_socket;                /* guarded by wake_lock */
    pthread_t ticker;
    pthread_mutex_t tick_lock;      /* guards ticking; only observer's, connections', questions' and wake_lock are taken inside */
    pthread_cond_t tick_end;
    int ticking;
    double due;                     /* when somebody wants to be woken sooner; guarded by tick_lock */
    _Atomic pjsip_tp_state_callback chained;    /* SIP threads read it; found in the slot by us */
    _Atomic pjsip_tp_state_callback below;      /* SIP threads read it; found in the slot by pjsua, pjsip's own */
    pthread_mutex_t module_lock;    /* guards what follows; nothing is taken inside */
    int module_busy;                /* being registered or unregistered by a thread of its own */
    int module_given_up;            /* the attach that wanted it registered is over */
    pj_status_t module_status;      /* of registering it */
    struct waiter *returning;       /* questions for pjsip's own resolver, when we are gone */
    unsigned users;                 /* threads inside core_with_endpoint() */
} self = {
    /* Recursive: what an application does in a callback that a detach's answers cause may be an attach. */
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

    if (core_is_foreign())
        return;
    /*
     * Threads that poll side by side are told of one wake-up together; who finds nothing more must listen again too. So must
     * who is woken for nothing before the attach is complete, by a descriptor number that was another's a moment ago.
     */
    (void)received;
    host.pj_ioqueue_recv(key, operation, self.received, &size, PJ_IOQUEUE_ALWAYS_ASYNC);
    if (!core_attached())
        return;
    affinity_run();
    request_run();
    now = host_now();
    questions_tick(now);
    connections_tick(now);
    failover_tick(now);
    race_tick(now);
}

/* A key that was let go is free again only half a second later, and an ioqueue has few: leave it some, and wait for one. */
static pj_status_t register_socket(pjsip_endpoint *endpt, int socket)
{
    static const pj_ioqueue_callback callback = { .on_read_complete = &on_woken };
    const struct timespec pause = { 0, 20000000 };
    double until;
    pj_status_t status;

    while (self.keys_gone >= MOST_KEYS && host_now() < self.key_gone[self.keys_gone % MOST_KEYS] + KEY_REST)
        nanosleep(&pause, NULL);
    until = host_now() + KEY_TIME;
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
    self.key_gone[self.keys_gone++ % MOST_KEYS] = host_now();
    host.pjsip_endpt_release_pool(endpt, self.pool);
}

/* --- time -------------------------------------------------------------------------------------------------------- */

/*
 * A thread of our own, unknown to pjsip and to Python: wakes the polling thread every now and then while something
 * has a deadline. (pjsip's timers are reached by other names and layouts in every build.)
 */
static void *tick(void *unused)
{
    double regular = host_now() + TICK_MS * 1e-3;

    (void)unused;
    pthread_mutex_lock(&self.tick_lock);
    while (self.ticking) {
        double now, until = fmin(regular, self.due);
        struct timespec next = { (time_t)until, (long)((until - (double)(time_t)until) * 1e9) };

        pthread_cond_timedwait(&self.tick_end, &self.tick_lock, &next);
        now = host_now();
        if (!self.ticking || (now < regular && now < self.due))
            continue;
        if (now >= self.due || questions_waiting() || connections_are_late())
            wake();
        if (now >= self.due)
            self.due = INFINITY;
        queue_tick();
        if (now >= regular)
            regular = now + TICK_MS * 1e-3;
    }
    pthread_mutex_unlock(&self.tick_lock);
    return NULL;
}

/* Any thread that holds no lock of ours: has the polling thread tick at that time, too. */
static void wake_at(double when)
{
    pthread_mutex_lock(&self.tick_lock);
    if (self.ticking && when < self.due) {
        self.due = when;
        pthread_cond_signal(&self.tick_end);
    }
    pthread_mutex_unlock(&self.tick_lock);
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
    self.due = INFINITY;
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
    if (!core_attached() || core_is_foreign())
        return PJ_SUCCESS;
    if (connections_has_ended_under(tdata))
        return PJ_STATUS_FROM_OS(ECONNRESET);
    failover_on_tx_request(tdata);
    if (tdata_msg(tdata)->line.req.method.id == PJSIP_BYE_METHOD)
        dialogs_on_bye(tdata_msg(tdata), 0);
    return PJ_SUCCESS;
}

static pj_bool_t on_rx_request(pjsip_rx_data *rdata)
{
    pjsip_msg *msg = RDATA_INFO(rdata)->msg;

    if (core_attached() && !core_is_foreign() && msg->line.req.method.id == PJSIP_BYE_METHOD)
        dialogs_on_bye(msg, 1);
    return PJ_FALSE;
}

static pj_bool_t on_rx_response(pjsip_rx_data *rdata)
{
    if (!core_attached() || core_is_foreign())
        return PJ_FALSE;
    sending_settle(rdata);
    return failover_on_rx_response(rdata);
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
    core_settle();
    return PJ_SUCCESS;
}

static pjsip_module module = {
    NULL, NULL, { "mod-pjfail", 10 }, -1, PJSIP_MOD_PRIORITY_TRANSPORT_LAYER - 1,
    NULL, NULL, &on_stop, NULL, &on_rx_request, &on_rx_response, &on_tx_request, NULL, NULL,
};

static void module_is_done(void)
{
    pthread_mutex_lock(&self.module_lock);
    self.module_busy = 0;
    pthread_mutex_unlock(&self.module_lock);
}

static void unregister(pjsip_endpoint *endpt)
{
    unregistering = 1;
    host.pjsip_endpt_unregister_module(endpt, &module);
    unregistering = 0;
    module_is_done();
}

static int has_users(void)
{
    int users;

    pthread_mutex_lock(&self.module_lock);
    users = self.users != 0;
    pthread_mutex_unlock(&self.module_lock);
    return users;
}

/* Those who waited are answered as if we had never been. pjsip may look names up on the spot, which takes its time. */
static void return_waiters(pjsip_endpoint *endpt)
{
    struct waiter *waiter, *next;

    pthread_mutex_lock(&self.module_lock);
    waiter = self.returning;
    self.returning = NULL;
    pthread_mutex_unlock(&self.module_lock);
    for (; waiter; waiter = next) {
        next = waiter->next;
        resolver_return(endpt, waiter);
        free(waiter);
    }
}

/* Until the last user is gone the module stays, and does nothing but hear of the endpoint's end, which waits then. */
static void *unregister_module(void *endpt)
{
    const struct timespec pause = { 0, 2000000 };

    host_register_thread();
    return_waiters(endpt);
    while (has_users())
        nanosleep(&pause, NULL);
    unregister(endpt);
    return NULL;
}

static void *register_module(void *endpt)
{
    pj_status_t status;
    int given_up;

    host_register_thread();
    status = host.pjsip_endpt_register_module(endpt, &module);
    pthread_mutex_lock(&self.module_lock);
    given_up = self.module_given_up;
    self.module_status = status;
    if (!given_up)
        self.module_busy = 0;
    pthread_mutex_unlock(&self.module_lock);
    if (given_up && status == PJ_SUCCESS)
        unregister(endpt);
    else if (given_up)
        module_is_done();
    return NULL;
}

/* Whether a thread of ours is still about its work with the module or, inside core_with_endpoint(), with the endpoint. */
static int is_busy(void)
{
    int busy;

    pthread_mutex_lock(&self.module_lock);
    busy = self.module_busy || self.users;
    pthread_mutex_unlock(&self.module_lock);
    return busy;
}

/* Waits until pjsip has let go of the module, and we of the endpoint. 0: not in that time. */
static int is_free(double seconds)
{
    const struct timespec pause = { 0, 2000000 };
    double until = host_now() + seconds;

    while (is_busy() && host_now() < until)
        nanosleep(&pause, NULL);
    return !is_busy();
}

void core_settle(void)
{
    if (!core_is_foreign())
        is_free(SETTLING);
}

/*
 * Both wait until no thread is inside any module. The caller may itself be inside one (a detach from onRegState()), so a
 * thread of its own does it.
 */
static int start_on_module(void *(*work)(void *endpt), pjsip_endpoint *endpt)
{
    pthread_t thread;

    pthread_mutex_lock(&self.module_lock);
    self.module_busy = 1;
    self.module_given_up = 0;
    pthread_mutex_unlock(&self.module_lock);
    if (pthread_create(&thread, NULL, work, endpt) != 0)
        return 0;
    pthread_detach(thread);
    return 1;
}

static void let_go_of_module(pjsip_endpoint *endpt, struct waiter *waiters)
{
    pthread_mutex_lock(&self.module_lock);
    self.returning = waiters;
    pthread_mutex_unlock(&self.module_lock);
    if (start_on_module(&unregister_module, endpt)) {
        is_free(LETTING_GO);
    } else {
        return_waiters(endpt);
        unregister(endpt);
    }
}

static pj_status_t take_in_module(pjsip_endpoint *endpt)
{
    pj_status_t status;

    if (!start_on_module(&register_module, endpt)) {
        module_is_done();
        return PJ_ENOMEM;
    }
    is_free(TAKING_IN);
    pthread_mutex_lock(&self.module_lock);
    self.module_given_up = self.module_busy;
    status = self.module_busy ? PJ_EBUSY : self.module_status;
    pthread_mutex_unlock(&self.module_lock);
    return status;
}

/* --- the transport state callback -------------------------------------------------------------------------------- */

/* An event that this thread is telling, and the one in whose telling it happened. */
struct event {
    const struct event *around;
    const pjsip_transport *transport;
    pjsip_transport_state state;
};

/*
 * pjsip has one slot for it, which pjsua uses, and chains as we do: a pjsua that creates a transport after us puts
 * itself on top, with us as the one to call next, though it is the one that we call next. It forgets then whom it called
 * before, pjsip's own, without whom no transaction hears of its connection's end: so that is called by us.
 */
static void on_transport_state(pjsip_transport *transport, pjsip_transport_state state,
                               const pjsip_transport_state_info *info)
{
    static __thread const struct event *inside;
    const struct event here = { inside, transport, state }, *event;
    pjsip_tp_state_callback chained = atomic_load(&self.chained), below = atomic_load(&self.below);

    /* Another event within an event is none of that circle: pjsua shuts down what has disconnected. */
    for (event = here.around; event; event = event->around)
        if (event->transport == transport && event->state == state) {
            if (below)
                below(transport, state, info);
            return;
        }
    inside = &here;
    if (core_attached() && !core_is_foreign()) {
        failover_on_transport_state(transport, state, info);
        race_on_transport_state(transport, state);
    }
    if (host.pjsip_tpmgr_get_state_cb(transport_manager(transport)) == chained)
        chained = below;
    if (chained)
        chained(transport, state, info);
    inside = here.around;
}

static void chain_state_callback(pjsip_endpoint *endpt)
{
    pjsip_tpmgr *manager = host.pjsip_endpt_get_tpmgr(endpt);
    pjsip_tp_state_callback installed = host.pjsip_tpmgr_get_state_cb(manager);

    if (installed != &on_transport_state) {
        pjsip_tp_state_callback found = pjsua_found_callback();

        if (found)
            atomic_store(&self.below, found);
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
    status = start_ticking() ? take_in_module(endpt) : PJ_ENOMEM;
    if (status != PJ_SUCCESS) {
        if (self.ticking)
            stop_ticking();
        close_wake(endpt);
        queue_close();
        return host_problem(PF_PJSIP_FAILED, status, status == PJ_EBUSY
                                ? "pjsip_endpt_register_module() (attaching from a callback of pjsip's?)"
                                : "pjsip_endpt_register_module() (PJSIP_MAX_MODULE)");
    }
    plans_clear();              /* of what a late publish of the last attachment may have left */
    questions_open(deadline, &wake);
    affinity_open(&wake);
    failover_open(endpt, &wake_at);
    race_open(endpt, deadline, &wake_at);
    request_open(&wake);
    self.endpt = endpt;
    self.attachments = self.attachments % INT_MAX + 1;
    atomic_store(&self.attached, self.attachments);
    chain_state_callback(endpt);
    result = resolver_install(endpt);
    if (result != PF_OK)
        detach(0);
    return result;
}

int pf_attach(double deadline, int *attachment)
{
    static atomic_int told_of_forks;
    int result;

    if (!atomic_exchange(&told_of_forks, 1))
        pthread_atfork(NULL, NULL, &mark_foreign);
    if (core_is_foreign())
        return PF_NO_ENDPOINT;
    if (core_attached())
        return PF_ALREADY_ATTACHED;
    if (!is_free(LETTING_GO))
        return host_problem(PF_PJSIP_FAILED, PJ_EBUSY,
                            "the end of the last attachment (still waited for by a callback of pjsip's?)");
    host_register_thread();
    pthread_mutex_lock(&self.lock);
    result = core_attached() ? PF_ALREADY_ATTACHED : plug_in(host.pjsua_get_pjsip_endpt(), deadline);
    *attachment = self.attachments;
    pthread_mutex_unlock(&self.lock);
    return result;
}

static struct waiter *join(struct waiter *one, struct waiter *other)
{
    struct waiter **end = &one;

    while (*end)
        end = &(*end)->next;
    *end = other;
    return one;
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
    waiter = join(questions_close(), race_close());
    close_wake(endpt);
    failover_close();
    if (!endpoint_ends)
        let_go_of_module(endpt, waiter);
    for (; endpoint_ends && waiter; waiter = next) {
        next = waiter->next;
        connections_answer(waiter->callback, PJ_ECANCELLED, waiter->token, NULL);
        free(waiter);
    }
    connections_clear();
    dialogs_clear();
    affinity_close();
    request_close();
    plans_clear();
    queue_close();
}

void pf_detach(int attachment)
{
    if (core_is_foreign())
        return;
    pthread_mutex_lock(&self.lock);
    if (attachment && core_attached() == attachment) {
        host_register_thread();
        detach(0);
    }
    pthread_mutex_unlock(&self.lock);
}

int core_with_endpoint(int (*work)(pjsip_endpoint *endpt, void *argument), void *argument)
{
    pjsip_endpoint *endpt = NULL;
    int result;

    if (core_is_foreign())
        return PF_NO_ENDPOINT;
    pthread_mutex_lock(&self.lock);
    if (core_attached()) {
        endpt = self.endpt;
        pthread_mutex_lock(&self.module_lock);
        self.users++;
        pthread_mutex_unlock(&self.module_lock);
    }
    pthread_mutex_unlock(&self.lock);
    if (!endpt)
        return PF_NO_ENDPOINT;
    /* Without self.lock: work takes pjsip's locks, and who holds one of those (an application's callback) may detach. */
    host_register_thread();
    result = work(endpt, argument);
    pthread_mutex_lock(&self.module_lock);
    self.users--;
    pthread_mutex_unlock(&self.module_lock);
    return result;
}

int pf_foreign(void) { return core_is_foreign(); }

int pf_attached(void) { return core_is_foreign() ? 0 : core_attached(); }

void pf_read_counters(pf_counters *counters)
{
    memset(counters, 0, sizeof *counters);
    if (core_is_foreign())      /* a lock may be held by a thread that a forked child has not got */
        return;
    questions_count(counters);
    plans_count(&counters->plans, &counters->servers);
    failover_count(counters);
    dialogs_count(counters);
    counters->waiting += race_waiting();
    counters->dropped = queue_dropped();
}
