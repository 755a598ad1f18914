#include "attach.h"

#include "accounts.h"
#include "affinity.h"
#include "calls.h"
#include "clock.h"
#include "connection_attempts.h"
#include "connections.h"
#include "dialogs.h"
#include "dns.h"
#include "event_queue.h"
#include "failover.h"
#include "gate.h"
#include "host.h"
#include "module.h"
#include "outgoing.h"
#include "plans.h"
#include "poller.h"
#include "queries.h"
#include "registrations.h"
#include "requests.h"
#include "resolver.h"
#include "send_guard.h"
#include "servers.h"
#include "standby.h"
#include "subscriptions.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* How long a detach waits until everything is freed; after that the attachment's thread continues alone. */
#define DETACH_TIMEOUT_S 2.0

/* The same at the endpoint's end; stock pjsip waits there without a limit for its own threads, which look names up. */
#define ENDPOINT_END_TIMEOUT_S 30.0

/*
 * How long an attach waits until pjsip has registered our module; called in a SIP callback, it could wait for itself.
 */
#define REGISTER_TIMEOUT_S 5.0

/* How often a waiting thread checks what it waits for. */
#define POLL_S 1e-3

/* Guarded by lock, except the atomics. */
static struct {
    pthread_mutex_t lock;
    atomic_int attached;    /* the number of the attachment; 0: none */
    atomic_int attachments; /* how many there have been */
    atomic_int living;      /* whether the thread of this attachment, or of the one before, runs */
    atomic_int registered;  /* the pj_status_t of registering the module; PJ_EPENDING: not done yet */
    atomic_int exiting;     /* the process ends: nobody waits for an answer any more */
    atomic_int returners;   /* threads that have pjsip's own resolver answer queries */
    /* For pjsip's own resolver to answer; written before poller_stop(), read after poller_run(). */
    struct pending_query *returning;
} attach = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* --- the life of an attachment ----------------------------------------------------------------------------------- */

/* Does what is due. pjsip's polling thread, inside the gate, no lock held. */
static void attach_on_wake(double now)
{
    affinity_run();
    standby_run();
    outgoing_run();
    queries_tick(now);
    connections_tick(now, poller_polled_since(now));
    failover_tick(now);
    connection_attempts_tick(now);
}

/* Returns whether the polling thread has anything to do. The attachment's own thread, under poller.tick_lock. */
static int attach_on_tick(void)
{
    event_queue_tick();
    return queries_waiting() || connections_are_late();
}

/*
 * Returns whether a deadline, a connection or the worker needs the ticks, or a request under way, whose server is not
 * judged for a time in which this process was stopped. The attachment's own thread, under poller.tick_lock.
 */
static int attach_needs_ticks(void)
{
    return queries_waiting() || connections_are_late() || event_queue_has_news() || requests_under_way();
}

/* Frees what the parts hold. No thread is inside the gate; no lock held. */
static void attach_clear(void)
{
    failover_close();
    connections_clear();
    dialogs_clear();
    calls_clear();
    affinity_close();
    standby_close();
    registrations_clear();
    subscriptions_clear();
    outgoing_close();
    plans_clear();
    poller_close();
}

/*
 * Has pjsip's own resolver answer the queries, as if we had never been there. The thread of attach_start_returning().
 */
static void *attach_return_queries(void *queries)
{
    struct pending_query *query = queries, *next;

    host_register_thread();
    for (; query; query = next) {
        next = query->next;
        if (!atomic_load(&attach.exiting))
            send_guard_return(query);
        free(query);
    }
    atomic_fetch_sub(&attach.returners, 1);
    return NULL;
}

/*
 * Starts a thread that answers the queries: pjsip may look names up on the spot, for many seconds, and the next
 * attach must not wait for that. The attachment's own thread.
 */
static void attach_start_returning(struct pending_query *queries)
{
    pthread_t thread;

    if (!queries)
        return;
    atomic_fetch_add(&attach.returners, 1);
    if (pthread_create(&thread, NULL, &attach_return_queries, queries) == 0)
        pthread_detach(thread);
    else
        attach_return_queries(queries);
}

/* Runs the attachment's own thread; attach.living says that the thread is there. */
static void *attach_live(void *argument)
{
    host_register_thread();
    atomic_store(&attach.registered, module_register());
    poller_run(&attach_on_tick, &attach_needs_ticks);
    attach_start_returning(attach.returning);
    while (gate_others())
        clock_pause(POLL_S);
    attach_clear();
    atomic_store(&attach.living, 0);
    return argument;
}

/* Starts the attachment's thread. Returns 0 if that fails. */
static int attach_start_life_locked(void)
{
    pthread_t thread;

    atomic_store(&attach.registered, PJ_EPENDING);
    atomic_store(&attach.living, 1);
    attach.returning = NULL;
    if (pthread_create(&thread, NULL, &attach_live, NULL) == 0) {
        pthread_detach(thread);
        return 1;
    }
    atomic_store(&attach.living, 0);
    return 0;
}

/*
 * Ends the attachment's thread, which clears, and gives these queries, its own from now on, to a thread that has
 * pjsip answer them.
 */
static void attach_end_life(struct pending_query *returning)
{
    attach.returning = returning;
    poller_stop();
}

/*
 * Waits until the last attachment has been cleared, at most this long. Returns whether it has. If the calling thread
 * is inside the gate, waits only for the other threads: the rest is freed once the caller has left the gate. No lock
 * of ours held.
 */
static int attach_wait_until_cleared(double seconds)
{
    double until = clock_now() + seconds;

    while (atomic_load(&attach.living) && (!gate_is_inside() || gate_others()) && clock_now() < until)
        clock_pause(POLL_S);
    return !atomic_load(&attach.living);
}

/* Returns PJ_SUCCESS once pjsip has registered our module, PJ_EBUSY if it does not in time. */
static pj_status_t attach_wait_until_registered(void)
{
    double until = clock_now() + REGISTER_TIMEOUT_S;

    while (atomic_load(&attach.registered) == PJ_EPENDING && clock_now() < until)
        clock_pause(POLL_S);
    return atomic_load(&attach.registered) == PJ_EPENDING ? PJ_EBUSY : atomic_load(&attach.registered);
}

/* --- attach and detach ------------------------------------------------------------------------------------------- */

/* Takes us out of pjsip: no thread enters the gate any more. The caller then ends the attachment's life. */
static void attach_unplug_locked(void)
{
    resolver_remove(host_endpoint());
    accounts_resume_lookups();
    module_unchain_state_callback(host_endpoint());
    gate_close();
    atomic_store(&attach.attached, 0);
    dns_detach();
    event_queue_close();
}

/*
 * Returns the queries that wait, which the caller must answer and free. No lock held: references to transports are
 * dropped.
 */
static struct pending_query *attach_take_queries(void) { return connection_attempts_close(queries_close()); }

/* Detaches when the endpoint ends. Called by the thread that ends it, with no lock held. */
static void attach_on_endpoint_end(pjsip_endpoint *endpt)
{
    struct pending_query *query = NULL, *next;
    double until = clock_now() + ENDPOINT_END_TIMEOUT_S;
    int last, ours;

    pthread_mutex_lock(&attach.lock);
    last = host_endpoint() == endpt;
    ours = last && atomic_load(&attach.attached);
    if (ours)
        attach_unplug_locked();
    pthread_mutex_unlock(&attach.lock);
    if (ours) {
        query = attach_take_queries();
        attach_end_life(NULL);
    }
    for (; query; query = next) {
        next = query->next;
        connections_answer(query->callback, PJ_ECANCELLED, query->token, NULL);
        free(query);
    }
    if (last)
        attach_wait_until_cleared(ENDPOINT_END_TIMEOUT_S);
    while (last && atomic_load(&attach.returners) && clock_now() < until)
        clock_pause(POLL_S);
    dns_close(endpt);
}

/* Opens the parts and plugs them into the endpoint. Returns a PF_ result. Waits for pjsip to take our module. */
static int attach_plug_in_locked(pjsip_endpoint *endpt, double deadline)
{
    pj_status_t status;
    int result;

    if (!module_open(endpt, &attach_on_endpoint_end))
        return host_problem(PF_PJSIP_FAILED, PJ_ETOOMANY, "one more endpoint in this process");
    if (!event_queue_open(&poller_begin_ticks))
        return host_problem(PF_PJSIP_FAILED, PJ_STATUS_FROM_OS(errno), "eventfd()");
    host_set_endpoint(endpt);
    result = poller_open(&attach_on_wake);
    if (result != PF_OK) {
        event_queue_close();
        return result;
    }
    plans_clear(); /* plans that a late publish of the last attachment may have left */
    connections_open(&poller_begin_ticks);
    queries_open(deadline, &poller_wake, &poller_begin_ticks);
    affinity_open(&poller_wake);
    standby_open(&poller_wake);
    failover_open(&poller_wake_at, &poller_begin_ticks, &poller_polled_since);
    connection_attempts_open(deadline, failover_connection_attempt_delay(), &poller_wake_at);
    outgoing_open(&poller_wake);
    if (!attach_start_life_locked()) {
        poller_stop();
        attach_clear();
        event_queue_close();
        return host_problem(PF_PJSIP_FAILED, PJ_ENOMEM, "pthread_create()");
    }
    status = attach_wait_until_registered();
    if (status != PJ_SUCCESS) {
        attach_end_life(NULL); /* the gate was never open: no query waits */
        event_queue_close();
        return host_problem(PF_PJSIP_FAILED, status,
                            status == PJ_EBUSY ? "pjsip_endpt_register_module() (attaching from a callback of pjsip's?)"
                                               : "pjsip_endpt_register_module() (PJSIP_MAX_MODULE)");
    }
    atomic_store(&attach.attachments, attach.attachments % INT_MAX + 1);
    atomic_store(&attach.attached, attach.attachments);
    gate_open();
    module_chain_state_callback(endpt);
    result = resolver_install(endpt);
    if (result != PF_OK) {
        attach_unplug_locked();
        attach_end_life(attach_take_queries());
        return result;
    }
    accounts_stop_lookups();
    return PF_OK;
}

int pf_attach(double deadline, int *attachment)
{
    static atomic_int told_of_forks;
    int result;

    if (!atomic_exchange(&told_of_forks, 1))
        pthread_atfork(NULL, NULL, &gate_close_in_forked_child);
    if (gate_is_forked_child())
        return PF_NO_ENDPOINT;
    if (atomic_load(&attach.attached))
        return PF_ALREADY_ATTACHED;
    attach_wait_until_cleared(DETACH_TIMEOUT_S);
    host_register_thread();
    pthread_mutex_lock(&attach.lock);
    if (atomic_load(&attach.attached))
        result = PF_ALREADY_ATTACHED;
    else if (atomic_load(&attach.living))
        result = host_problem(PF_PJSIP_FAILED, PJ_EBUSY,
                              "the end of the last attachment (still waited for by a callback of pjsip's?)");
    else
        result = attach_plug_in_locked(host.pjsua_get_pjsip_endpt(), deadline);
    *attachment = attach.attachments;
    pthread_mutex_unlock(&attach.lock);
    return result;
}

void pf_detach(int attachment)
{
    int ours;

    if (gate_is_forked_child() || !attachment || atomic_load(&attach.attachments) != attachment)
        return;
    pthread_mutex_lock(&attach.lock);
    ours = atomic_load(&attach.attached) == attachment;
    if (ours) {
        host_register_thread();
        attach_unplug_locked();
    }
    pthread_mutex_unlock(&attach.lock);
    if (ours)
        attach_end_life(attach_take_queries());
    attach_wait_until_cleared(DETACH_TIMEOUT_S);
}

void pf_finish_at_exit(void)
{
    double until = clock_now() + DETACH_TIMEOUT_S;

    while (atomic_load(&attach.returners) && !gate_is_forked_child() && clock_now() < until)
        clock_pause(POLL_S);
    atomic_store(&attach.exiting, 1);
}

int pf_is_forked_child(void) { return gate_is_forked_child(); }

int pf_attached(void) { return gate_is_forked_child() ? 0 : atomic_load(&attach.attached); }

void pf_read_counters(pf_counters *counters)
{
    memset(counters, 0, sizeof *counters);
    if (gate_is_forked_child()) /* a thread that does not exist in the forked child may hold a lock */
        return;
    queries_count(counters);
    counters->plans = plans_count();
    counters->servers = servers_count();
    failover_count(counters);
    dialogs_count(counters);
    connection_attempts_count(counters);
    counters->dropped = event_queue_dropped();
}
