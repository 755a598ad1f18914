/*
 * core.c: plugs the parts into the endpoint and takes them out again, leaving pjsip as it was found.
 *
 * Attached and detached by Python, or detached by the endpoint's own end (our module's stop()). One lock orders these; nothing
 * waits for another thread with it held, but an attach for pjsip to take our module.
 *
 * Each attachment has a thread of its own. It registers the module, ticks, and after the detach clears what the parts hold, once
 * nobody is inside the gate: a thread that detaches, or leaves the gate, may hold any lock of pjsip's, and this one holds none.
 */
#include "core.h"

#include "affinity.h"
#include "connections.h"
#include "dialogs.h"
#include "dns.h"
#include "failover.h"
#include "gate.h"
#include "layout.h"
#include "outgoing.h"
#include "pjfail.h"
#include "queue.h"
#include "race.h"
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

/* How long a detach waits until what the parts hold is cleared; the attachment's thread goes on with that by itself. */
#define DETACH_TIMEOUT_S 2.0

/* As that, for the endpoint's end; stock pjsip waits for its own threads, which look names up, without a limit. */
#define ENDPOINT_END_TIMEOUT_S 30.0

/* How long an attach waits for pjsip to take our module: in a SIP callback it may wait for itself. */
#define REGISTER_TIMEOUT_S 5.0

/* How long an attach waits for a free key of pjsip's ioqueue. */
#define KEY_TIME 1.0

/* How many of our keys may be on their way back at once, each for this long: with none left pjsip aborts the program. */
enum { MOST_KEYS = 8 };
#define KEY_REST 0.6

/* Guarded by lock, unless said otherwise. */
static struct {
    pthread_mutex_t lock;
    atomic_int attached;            /* the number of the attachment, 0: none; read by SIP threads */
    atomic_int attachments;         /* so far */
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
    atomic_int living;              /* the thread of the attachment, or of the one before */
    atomic_int registered;          /* the pj_status_t of registering the module; PJ_EPENDING */
    pthread_mutex_t tick_lock;      /* guards what follows; inside only the queue's, connections', questions' and wake_lock */
    pthread_cond_t tick_end;
    int ticking;
    double due;                     /* when somebody wants to be woken sooner */
    struct waiter *returning;       /* questions for pjsip's own resolver, once ticking is over */
    _Atomic pjsip_tp_state_callback chained;    /* SIP threads read it; found in the slot by us */
    _Atomic pjsip_tp_state_callback below;      /* SIP threads read it; found in the slot by pjsua, pjsip's own */
} self = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .wake_lock = PTHREAD_MUTEX_INITIALIZER,
    .wake_socket = -1,
    .tick_lock = PTHREAD_MUTEX_INITIALIZER,
};

int core_attached(void) { return atomic_load(&self.attached); }

int core_is_foreign(void) { return atomic_load_explicit(&self.foreign, memory_order_relaxed); }

static void mark_foreign(void)
{
    atomic_store(&self.foreign, 1);
    gate_close();
}

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
    if (!gate_enter())
        return;
    affinity_run();
    outgoing_run();
    now = host_now();
    questions_tick(now);
    connections_tick(now);
    failover_tick(now);
    race_tick(now);
    gate_leave();
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
 * Wakes the polling thread every now and then while something has a deadline, until the detach. (pjsip's timers are reached by
 * other names and layouts in every build.) The attachment's own thread.
 */
static void tick(void)
{
    double regular = host_now() + TICK_MS * 1e-3;

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

/* --- our module -------------------------------------------------------------------------------------------------- */

static pj_status_t on_tx_request(pjsip_tx_data *tdata)
{
    pj_status_t status = PJ_SUCCESS;

    if (!gate_enter())
        return PJ_SUCCESS;
    if (connections_has_ended_under(tdata)) {
        status = PJ_STATUS_FROM_OS(ECONNRESET);
    } else {
        failover_on_tx_request(tdata);
        if (tdata_msg(tdata)->line.req.method.id == PJSIP_BYE_METHOD)
            dialogs_on_bye(tdata_msg(tdata), 0);
    }
    gate_leave();
    return status;
}

static pj_bool_t on_rx_response(pjsip_rx_data *rdata)
{
    pj_bool_t hidden;

    if (core_is_foreign())
        return PJ_FALSE;
    sending_settle(rdata);      /* also while a detach has a thread of ours still send */
    if (!gate_enter())
        return PJ_FALSE;
    hidden = failover_on_rx_response(rdata);
    gate_leave();
    return hidden;
}

static pj_bool_t on_rx_request(pjsip_rx_data *rdata)
{
    if (!gate_enter())
        return PJ_FALSE;
    if (RDATA_INFO(rdata)->msg->line.req.method.id == PJSIP_BYE_METHOD)
        dialogs_on_bye(RDATA_INFO(rdata)->msg, 1);
    gate_leave();
    return PJ_FALSE;
}

/*
 * A module stays registered until its endpoint ends, and passes everything through while we are detached. Unregistering it would
 * link it to itself (pj_list_erase()), and a thread that has just left our callback spins for ever in
 * pjsip_endpt_process_rx_data(), which reads the module's next one only then (pjsip 2.17; PJSIP_SAFE_MODULE is 0).
 */
enum { MAX_ENDPOINTS = 4 };

static pj_status_t core_on_stop(unsigned index);

#define ON_STOP(index) static pj_status_t on_stop_##index(void) { return core_on_stop(index); }
ON_STOP(0) ON_STOP(1) ON_STOP(2) ON_STOP(3)

#define MODULE(index) { NULL, { NULL, NULL, { "mod-pjfail", 10 }, -1, PJSIP_MOD_PRIORITY_TRANSPORT_LAYER - 1,             \
                                NULL, NULL, &on_stop_##index, NULL, &on_rx_request, &on_rx_response, &on_tx_request, NULL, \
                                NULL } }

/* Guarded by lock. A module's id is -1 while it is not registered with endpt: pjsip sets that at the endpoint's end. */
static struct module_slot {
    pjsip_endpoint *endpt;
    pjsip_module module;
} core_module_slots[MAX_ENDPOINTS] = { MODULE(0), MODULE(1), MODULE(2), MODULE(3) };

/* Returns the endpoint's slot, or a free one for it; NULL: there is none. Under self.lock. */
static struct module_slot *core_slot_for_locked(pjsip_endpoint *endpt)
{
    struct module_slot *found = NULL;
    int i;

    for (i = 0; i < MAX_ENDPOINTS; i++) {
        struct module_slot *each = &core_module_slots[i];

        if (each->module.id >= 0 && each->endpt == endpt)
            return each;
        if (each->module.id < 0)
            found = each;
    }
    if (found)
        found->endpt = endpt;
    return found;
}

/* --- the life of an attachment ----------------------------------------------------------------------------------- */

/* Frees what the parts hold. Nobody is inside the gate; no lock held. */
static void core_clear(void)
{
    failover_close();
    connections_clear();
    dialogs_clear();
    affinity_close();
    outgoing_close();
    plans_clear();
    close_wake(self.endpt);
    pthread_cond_destroy(&self.tick_end);
}

/* Those who waited are answered as if we had never been. pjsip may look names up on the spot, which takes its time. */
static void return_waiters(void)
{
    struct waiter *waiter = self.returning, *next;

    for (; waiter; waiter = next) {
        next = waiter->next;
        sending_return(self.endpt, waiter);
        free(waiter);
    }
}

/* The attachment's own thread, unknown to Python; self.living says that it is there. */
static void *core_live(void *argument)
{
    const struct timespec pause = { 0, 1000000 };
    struct module_slot *slot = argument;

    host_register_thread();
    if (slot->module.id < 0)
        atomic_store(&self.registered, host.pjsip_endpt_register_module(slot->endpt, &slot->module));
    tick();
    return_waiters();
    while (gate_others())
        nanosleep(&pause, NULL);
    core_clear();
    atomic_store(&self.living, 0);
    return NULL;
}

/* Under self.lock. 0: no thread can be had. */
static int core_start_life_locked(struct module_slot *slot)
{
    pthread_condattr_t attributes;
    pthread_t thread;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&self.tick_end, &attributes);
    pthread_condattr_destroy(&attributes);
    atomic_store(&self.registered, slot->module.id < 0 ? PJ_EPENDING : PJ_SUCCESS);
    self.returning = NULL;
    self.ticking = 1;
    self.due = INFINITY;
    atomic_store(&self.living, 1);
    if (pthread_create(&thread, NULL, &core_live, slot) == 0) {
        pthread_detach(thread);
        return 1;
    }
    self.ticking = 0;
    atomic_store(&self.living, 0);
    return 0;
}

/* Has the attachment's thread answer the waiters, which are its own from then on, and clear. */
static void core_end_life(struct waiter *waiters)
{
    pthread_mutex_lock(&self.tick_lock);
    self.returning = waiters;
    self.ticking = 0;
    pthread_cond_signal(&self.tick_end);
    pthread_mutex_unlock(&self.tick_lock);
}

/*
 * Waits until the last attachment has been cleared, for so long at the most. Returns whether it has. A thread that is inside the
 * gate itself waits for the others only: it is cleared once that thread has left. No lock of ours held.
 */
static int core_wait_until_cleared(double seconds)
{
    const struct timespec pause = { 0, 1000000 };
    double until = host_now() + seconds;

    while (atomic_load(&self.living) && (!gate_is_inside() || gate_others()) && host_now() < until)
        nanosleep(&pause, NULL);
    return !atomic_load(&self.living);
}

/* Returns PJ_SUCCESS once pjsip has taken our module, PJ_EBUSY when it does not in time. */
static pj_status_t core_wait_until_registered(void)
{
    const struct timespec pause = { 0, 1000000 };
    double until = host_now() + REGISTER_TIMEOUT_S;

    while (atomic_load(&self.registered) == PJ_EPENDING && host_now() < until)
        nanosleep(&pause, NULL);
    return atomic_load(&self.registered) == PJ_EPENDING ? PJ_EBUSY : atomic_load(&self.registered);
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
    if (gate_enter()) {
        failover_on_transport_state(transport, state, info);
        race_on_transport_state(transport, state);
        gate_leave();
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

static struct waiter *join(struct waiter *one, struct waiter *other)
{
    struct waiter **end = &one;

    while (*end)
        end = &(*end)->next;
    *end = other;
    return one;
}

/* Takes us out of pjsip: nobody enters any more. The caller has the attachment's life end then. */
static void core_unplug_locked(void)
{
    resolver_remove(self.endpt);
    unchain_state_callback(self.endpt);
    gate_close();
    atomic_store(&self.attached, 0);
    dns_detach();
    queue_close();
}

/* Returns those that wait, for the caller to answer and free. No lock held: it drops references to transports. */
static struct waiter *core_take_waiters(void) { return join(questions_close(), race_close()); }

static int core_plug_in_locked(pjsip_endpoint *endpt, double deadline)
{
    struct module_slot *slot = core_slot_for_locked(endpt);
    pj_status_t status;
    int result;

    if (!slot)
        return host_problem(PF_PJSIP_FAILED, PJ_ETOOMANY, "one more endpoint in this process");
    if (!queue_open())
        return host_problem(PF_PJSIP_FAILED, PJ_STATUS_FROM_OS(errno), "eventfd()");
    result = open_wake(endpt);
    if (result != PF_OK) {
        queue_close();
        return result;
    }
    self.endpt = endpt;
    plans_clear();              /* of what a late publish of the last attachment may have left */
    questions_open(deadline, &wake);
    affinity_open(&wake);
    failover_open(endpt, &wake_at);
    race_open(endpt, deadline, &wake_at);
    outgoing_open(&wake);
    if (!core_start_life_locked(slot)) {
        core_clear();
        queue_close();
        return host_problem(PF_PJSIP_FAILED, PJ_ENOMEM, "pthread_create()");
    }
    status = core_wait_until_registered();
    if (status != PJ_SUCCESS) {
        core_end_life(NULL);    /* the gate was never open: no question waits */
        queue_close();
        return host_problem(PF_PJSIP_FAILED, status, status == PJ_EBUSY
                                ? "pjsip_endpt_register_module() (attaching from a callback of pjsip's?)"
                                : "pjsip_endpt_register_module() (PJSIP_MAX_MODULE)");
    }
    atomic_store(&self.attachments, self.attachments % INT_MAX + 1);
    atomic_store(&self.attached, self.attachments);
    gate_open();
    chain_state_callback(endpt);
    result = resolver_install(endpt);
    if (result != PF_OK) {
        core_unplug_locked();
        core_end_life(core_take_waiters());
    }
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
    core_wait_until_cleared(DETACH_TIMEOUT_S);
    host_register_thread();
    pthread_mutex_lock(&self.lock);
    if (core_attached())
        result = PF_ALREADY_ATTACHED;
    else if (atomic_load(&self.living))
        result = host_problem(PF_PJSIP_FAILED, PJ_EBUSY,
                              "the end of the last attachment (still waited for by a callback of pjsip's?)");
    else
        result = core_plug_in_locked(host.pjsua_get_pjsip_endpt(), deadline);
    *attachment = self.attachments;
    pthread_mutex_unlock(&self.lock);
    return result;
}

void pf_detach(int attachment)
{
    int ours;

    if (core_is_foreign() || !attachment || atomic_load(&self.attachments) != attachment)
        return;
    pthread_mutex_lock(&self.lock);
    ours = core_attached() == attachment;
    if (ours) {
        host_register_thread();
        core_unplug_locked();
    }
    pthread_mutex_unlock(&self.lock);
    if (ours)
        core_end_life(core_take_waiters());
    core_wait_until_cleared(DETACH_TIMEOUT_S);
}

/* The module's endpoint ends. */
static pj_status_t core_on_stop(unsigned index)
{
    pjsip_endpoint *endpt = core_module_slots[index].endpt;
    struct waiter *waiter = NULL, *next;
    int last, ours;

    if (core_is_foreign())
        return PJ_SUCCESS;
    pthread_mutex_lock(&self.lock);
    last = self.endpt == endpt;
    ours = last && core_attached();
    if (ours)
        core_unplug_locked();
    pthread_mutex_unlock(&self.lock);
    if (ours) {
        waiter = core_take_waiters();
        core_end_life(NULL);
    }
    for (; waiter; waiter = next) {
        next = waiter->next;
        connections_answer(waiter->callback, PJ_ECANCELLED, waiter->token, NULL);
        free(waiter);
    }
    if (last)
        core_wait_until_cleared(ENDPOINT_END_TIMEOUT_S);
    dns_close(endpt);
    return PJ_SUCCESS;
}

int core_with_endpoint(int (*work)(pjsip_endpoint *endpt, void *argument), void *argument)
{
    int result;

    if (!gate_enter())
        return PF_NO_ENDPOINT;
    host_register_thread();
    result = work(self.endpt, argument);
    gate_leave();
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
