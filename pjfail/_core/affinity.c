#include "affinity.h"

#include "accounts.h"
#include "address.h"
#include "calls.h"
#include "event_queue.h"
#include "hash_table.h"
#include "lock.h"
#include "registrations.h"
#include "servers.h"
#include "standby.h"
#include "subscriptions.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct pin {
    struct hash_link link; /* by the AOR's hash */
    pf_pin is;
};

/* A queued call to pjsua for an account. */
struct job {
    struct job *next;
    int what; /* PF_REGISTER, ... */
    int account;
    pf_address server;
    char aor[PF_MAX_URI]; /* the id may belong to another account by then */
    int call;
    char call_id[PF_MAX_CALL_ID]; /* not empty: of the call to refresh */
};

/* Guarded by lock; count and finds are read without it. */
static struct {
    pthread_mutex_t lock;
    struct hash_table pins;
    atomic_uint count;
    atomic_int finds; /* the REGISTERs of accounts that are not followed are told, too */
    struct job *first, **end;
    void (*wake)(void); /* NULL: detached */
} affinity = { .lock = PTHREAD_MUTEX_INITIALIZER, .end = &affinity.first };

/* --- pins, under affinity.lock --------------------------------------------------------------------------------------- */

static uint64_t affinity_aor_hash(const char *aor) { return hash_bytes(HASH_SEED, aor, strlen(aor)); }

/* Returns whether the target names no port or the account's own, which may be the usual one where the account names none. */
static int affinity_port_leads_to(const pf_target *target, const pf_target *next_hop)
{
    return !target->port || target->port == next_hop->port ||
           (!next_hop->port && target->port == (target->secure || next_hop->secure ? 5061 : 5060));
}

/*
 * Returns whether a request for target goes to the account's next hop. A URI that names no port or transport (a
 * buddy's, the one that PUBLISH goes to) means those that the account speaks; and pjsip asks for the transport of an
 * account that is bound to one, where the URI of its next hop leaves that open.
 */
static int affinity_leads_to(const pf_target *target, const pf_target *next_hop, int transport)
{
    if (strcmp(target->host, next_hop->host) || !affinity_port_leads_to(target, next_hop))
        return 0;
    if (target->transport == PF_ANY)
        return !target->secure || next_hop->secure;
    return target->transport == (next_hop->transport == PF_ANY ? transport : next_hop->transport) &&
           (target->secure || !next_hop->secure);
}

/*
 * Returns the pin of the account that sends to target; NULL: none. Two accounts of one AOR are told apart by their
 * next hops, if at all: the one that is the target to the letter comes first. transport: that of the request's own
 * dialog, PF_ANY where there is none.
 */
static struct pin *affinity_find_pin_locked(const char *aor, const pf_target *target, int transport)
{
    struct pin *found = NULL;
    struct hash_link *link;

    for (link = hash_table_first(&affinity.pins, affinity_aor_hash(aor)); link; link = hash_table_next(link)) {
        struct pin *pin = entry_of(link, struct pin, link);
        const pf_target *own = &pin->is.next_hop;

        if (strcmp(pin->is.aor, aor) ||
            !affinity_leads_to(target, own, transport == PF_ANY ? pin->is.server.transport : transport))
            continue;
        if (own->port == target->port && own->transport == target->transport && own->secure == target->secure)
            return pin;
        found = pin;
    }
    return found;
}

static struct pin *affinity_pin_of_locked(const char *aor, int account)
{
    struct hash_link *link;

    for (link = hash_table_first(&affinity.pins, affinity_aor_hash(aor)); link; link = hash_table_next(link)) {
        struct pin *pin = entry_of(link, struct pin, link);
        if (pin->is.account == account && !strcmp(pin->is.aor, aor))
            return pin;
    }
    return NULL;
}

static int affinity_write_aor(pjsip_msg *request, char *aor, size_t size)
{
    pjsip_from_hdr *from = host.pjsip_msg_find_hdr(request, PJSIP_H_FROM, NULL);

    return from && accounts_write_aor(from->uri, aor, size);
}

/* --- SIP threads ------------------------------------------------------------------------------------------------- */

int affinity_answer(const pf_target *target, pjsip_msg *request, struct request_info *info)
{
    char aor[PF_MAX_URI];
    struct pin *pin;
    int alone = 0;

    if (request && standby_server_of(request, &info->server))
        return 1;
    if (!atomic_load_explicit(&affinity.count, memory_order_acquire) || !request ||
        !affinity_write_aor(request, aor, sizeof aor))
        return 0;
    pthread_mutex_lock(&affinity.lock);
    pin = affinity_find_pin_locked(aor, target, info->bound ? info->server.transport : PF_ANY);
    if (pin && (!pin->is.idle || (info->bound && info->in_dialog))) {
        alone = (info->bound && info->in_dialog && !info->may_move) || !pin->is.followed;
        if (!info->bound) {
            info->server = pin->is.registrar.family && request->line.req.method.id == PJSIP_REGISTER_METHOD
                               ? pin->is.registrar
                               : pin->is.server;
            info->follows = pin->is.followed;
        }
    }
    pthread_mutex_unlock(&affinity.lock);
    return alone && info->server.family;
}

int affinity_next_hop(pjsip_tx_data *tdata, pf_target *target)
{
    pjsip_msg *request = tdata_msg(tdata);
    pjsip_route_hdr *route = host.pjsip_msg_find_hdr(request, PJSIP_H_ROUTE, NULL);
    pjsip_uri *uri = route ? route->name_addr.uri : request->line.req.uri;
    pjsip_host_info where;

    memset(target, 0, sizeof *target);
    return uri && host.pjsip_get_dest_info(pjsip_uri_get_uri(uri), NULL, tdata_pool(tdata), &where) == PJ_SUCCESS &&
           target_of_host_info(&where, target);
}

int affinity_finds_accounts(void) { return atomic_load_explicit(&affinity.finds, memory_order_relaxed); }

int affinity_registers(pjsip_tx_data *request, pf_target *next_hop)
{
    char aor[PF_MAX_URI];
    struct pin *pin;
    pf_address standby;
    int account = affinity_finds_accounts() ? AFFINITY_NOT_FOLLOWED : AFFINITY_NO_ACCOUNT;

    if (tdata_msg(request)->line.req.method.id != PJSIP_REGISTER_METHOD)
        return AFFINITY_NO_ACCOUNT;
    if (!host.pjsip_msg_find_hdr(tdata_msg(request), PJSIP_H_CONTACT, NULL) ||
        standby_server_of(tdata_msg(request), &standby))
        return AFFINITY_BESIDE;
    if ((account == AFFINITY_NO_ACCOUNT && !atomic_load_explicit(&affinity.count, memory_order_acquire)) ||
        !affinity_write_aor(tdata_msg(request), aor, sizeof aor) || !affinity_next_hop(request, next_hop))
        return AFFINITY_NO_ACCOUNT;
    pthread_mutex_lock(&affinity.lock);
    pin = affinity_find_pin_locked(aor, next_hop, PF_ANY);
    if (pin && pin->is.followed)
        account = pin->is.account;
    pthread_mutex_unlock(&affinity.lock);
    return account;
}

int affinity_registered(pjsip_msg *response, int account)
{
    char aor[PF_MAX_URI];
    struct hash_link *link;
    int found = AFFINITY_NO_ACCOUNT;

    if (account == AFFINITY_NOT_FOLLOWED)
        return account; /* the worker knows by the request which account is meant */
    if (account == AFFINITY_BESIDE || !atomic_load_explicit(&affinity.count, memory_order_acquire) ||
        !affinity_write_aor(response, aor, sizeof aor))
        return AFFINITY_NO_ACCOUNT;
    pthread_mutex_lock(&affinity.lock);
    for (link = hash_table_first(&affinity.pins, affinity_aor_hash(aor)); link; link = hash_table_next(link)) {
        const pf_pin *pin = &entry_of(link, struct pin, link)->is;

        if (pin->followed && (account < 0 || pin->account == account) && !strcmp(pin->aor, aor))
            found = pin->account;
    }
    pthread_mutex_unlock(&affinity.lock);
    return found;
}

void affinity_tell(int account, pjsip_msg *message, const pf_target *next_hop, const pf_address *server,
                   const pf_address *answered, int code, int retry_after, int removed)
{
    pf_registration *registration = calloc(1, sizeof *registration);
    const pjsip_cid_hdr *call_id = host.pjsip_msg_find_hdr(message, PJSIP_H_CALL_ID, NULL);

    if (!registration)
        return;
    registration->account = account;
    affinity_write_aor(message, registration->aor, sizeof registration->aor);
    if (next_hop)
        registration->next_hop = *next_hop;
    if (call_id)
        registration->call = hash_bytes(HASH_SEED, call_id->id.ptr, (size_t)call_id->id.slen);
    registration->server = *server;
    if (answered)
        registration->answered = *answered;
    registration->code = code;
    registration->retry_after = retry_after;
    registration->removed = removed;
    event_queue_post(EVENT_REGISTRATION, registration);
}

int affinity_is_on(int account, pjsip_msg *response, const pf_address *server)
{
    char aor[PF_MAX_URI];
    const struct pin *pin;
    int is_on;

    if (!affinity_write_aor(response, aor, sizeof aor))
        return 0;
    pthread_mutex_lock(&affinity.lock);
    pin = affinity_pin_of_locked(aor, account);
    is_on = pin && !memcmp(&pin->is.server, server, sizeof *server);
    pthread_mutex_unlock(&affinity.lock);
    return is_on;
}

double affinity_keepalive(int account, pjsip_msg *response)
{
    char aor[PF_MAX_URI];
    const struct pin *pin;
    double keepalive;

    if (!affinity_write_aor(response, aor, sizeof aor))
        return 0;
    pthread_mutex_lock(&affinity.lock);
    pin = affinity_pin_of_locked(aor, account);
    keepalive = pin ? pin->is.keepalive : 0;
    pthread_mutex_unlock(&affinity.lock);
    return keepalive;
}

/* --- jobs -------------------------------------------------------------------------------------------------------- */

static int affinity_is_still_account(const struct job *job, int *registered)
{
    pf_account *account = malloc(sizeof *account);
    int is = account && accounts_read(job->account, account) == PF_OK && !strcmp(account->aor, job->aor);

    *registered = is && account->registered;
    free(account);
    return is;
}

static void affinity_report(const struct job *job, pj_status_t status, int registered)
{
    pf_registration *registration = calloc(1, sizeof *registration);

    if (registration) {
        registration->account = job->account;
        memcpy(registration->aor, job->aor, sizeof registration->aor);
        registration->status = status;
        registration->registered = registered;
        registration->retry_after = -1;
        event_queue_post(EVENT_REGISTRATION, registration);
    }
}

/* Reports the account's settings to the worker. */
static void affinity_read(int account)
{
    pf_found_account *found = calloc(1, sizeof *found);

    if (!found)
        return;
    found->id = account;
    found->found = accounts_read(account, &found->account) == PF_OK;
    event_queue_post(EVENT_ACCOUNT, found);
}

static void affinity_do_job(const struct job *job)
{
    pj_status_t status;
    int registered;

    if (job->what == PF_READ) {
        affinity_read(job->account);
    } else if (job->what == PF_CHANGE_NETWORK) {
        accounts_change_network();
    } else if (!affinity_is_still_account(job, &registered)) {
        affinity_report(job, PJ_ENOTFOUND, 0);
    } else if (job->what == PF_ASK_AFTER) {
        affinity_report(job, PJ_SUCCESS, registered);
    } else if (job->what == PF_REVIEW_CALLS) {
        if (*job->call_id)
            calls_refresh(job->call, job->call_id);
        else
            calls_review(job->account);
    } else if (job->what == PF_REGISTER) {
        status = host.pjsua_acc_set_registration(job->account, PJ_TRUE);
        if (status != PJ_SUCCESS)
            affinity_report(job, status, 0);
    } else if (job->what == PF_RESUBSCRIBE) {
        subscriptions_move(job->account, job->aor, &job->server);
    } else {
        accounts_pin_natively(job->account, &job->server);
    }
}

void affinity_run(void)
{
    struct job *job, *next;

    pthread_mutex_lock(&affinity.lock);
    job = affinity.first;
    affinity.first = NULL;
    affinity.end = &affinity.first;
    pthread_mutex_unlock(&affinity.lock);
    for (; job; job = next) {
        next = job->next;
        affinity_do_job(job);
        free(job);
    }
}

/* Drops the queued calls for the account's native pin that have not begun. */
static void affinity_forget_native(int account)
{
    HOLD_LOCK(&affinity.lock);
    struct job **place, *job;

    for (place = &affinity.first; (job = *place) != NULL;) {
        if ((job->what == PF_NATIVE_PIN || job->what == PF_NATIVE_UNPIN) && job->account == account) {
            *place = job->next;
            free(job);
        } else {
            place = &job->next;
        }
    }
    affinity.end = place;
}

/* --- attaching, under the lock of attach.c ------------------------------------------------------------------------------ */

void affinity_open(void (*wake)(void))
{
    HOLD_LOCK(&affinity.lock);
    affinity.wake = wake;
}

static void affinity_drop_pin(struct hash_link *link)
{
    struct pin *pin = entry_of(link, struct pin, link);

    servers_release(&pin->is.server);
    free(pin);
}

void affinity_close(void)
{
    struct hash_table pins;
    struct job *job, *next;

    pthread_mutex_lock(&affinity.lock);
    affinity.wake = NULL;
    pins = affinity.pins;
    memset(&affinity.pins, 0, sizeof affinity.pins);
    atomic_store(&affinity.count, 0);
    job = affinity.first;
    affinity.first = NULL;
    affinity.end = &affinity.first;
    pthread_mutex_unlock(&affinity.lock);
    hash_table_clear(&pins, &affinity_drop_pin);
    for (; job; job = next) {
        next = job->next;
        free(job);
    }
}

/* --- from Python ------------------------------------------------------------------------------------------------- */

int pf_set_pin(const pf_pin *is)
{
    struct pin *pin = calloc(1, sizeof *pin), *old = NULL;
    int done = 0;

    if (!pin)
        return 0;
    pin->is = *is;
    pin->link.hash = affinity_aor_hash(is->aor);
    if (is->server.family && !servers_hold(&is->server)) {
        free(pin);
        return 0;
    }
    pthread_mutex_lock(&affinity.lock);
    if (affinity.wake) {
        old = affinity_pin_of_locked(is->aor, is->account);
        done = hash_table_put(&affinity.pins, &pin->link);
        if (done && old)
            hash_table_remove(&affinity.pins, &old->link);
        atomic_store(&affinity.count, (unsigned)affinity.pins.count);
    }
    pthread_mutex_unlock(&affinity.lock);
    if (done && old)
        affinity_drop_pin(&old->link);
    if (!done)
        affinity_drop_pin(&pin->link);
    if (done && is->followed && host_enter()) {
        registrations_adopt(is->account, is->aor, is->keepalive);
        subscriptions_adopt(is->account, is->aor);
        host_leave(PF_OK);
    }
    return done;
}

void pf_drop_pin(const char *aor, int account)
{
    struct pin *pin;

    pthread_mutex_lock(&affinity.lock);
    pin = affinity_pin_of_locked(aor, account);
    if (pin)
        hash_table_remove(&affinity.pins, &pin->link);
    atomic_store(&affinity.count, (unsigned)affinity.pins.count);
    pthread_mutex_unlock(&affinity.lock);
    if (pin)
        affinity_drop_pin(&pin->link);
    registrations_forget(account, aor);
    if (host_enter()) {
        subscriptions_forget(account, aor);
        host_leave(PF_OK);
    }
}

void pf_find_accounts(int find) { atomic_store(&affinity.finds, find); }

static struct job *affinity_make_job(int what, int account, const char *aor)
{
    struct job *job = calloc(1, sizeof *job);

    if (job) {
        job->what = what;
        job->account = account;
        strncpy(job->aor, aor, sizeof job->aor - 1);
    }
    return job;
}

/* Takes ownership of job. Returns 0 when there is none, or detached a moment ago. */
static int affinity_queue_job(struct job *job)
{
    HOLD_LOCK(&affinity.lock);

    if (!job || !affinity.wake) {
        free(job);
        return 0;
    }
    *affinity.end = job;
    affinity.end = &job->next;
    affinity.wake();
    return 1;
}

int pf_account_job(int what, int account, const char *aor, const pf_address *server)
{
    struct job *job = affinity_make_job(what, account, aor);

    if (job && server)
        job->server = *server;
    return affinity_queue_job(job);
}

int pf_refresh_call(int account, const char *aor, int call, const char *call_id)
{
    struct job *job = affinity_make_job(PF_REVIEW_CALLS, account, aor);

    if (job) {
        job->call = call;
        strncpy(job->call_id, call_id, sizeof job->call_id - 1);
    }
    return affinity_queue_job(job);
}

static int affinity_pin_natively(int id, const pf_address *server)
{
    pj_status_t status;

    affinity_forget_native(id); /* the last pin has ended, and so have its queued calls */
    status = accounts_pin_natively(id, server);
    return status == PJ_SUCCESS ? PF_OK : host_problem(PF_PJSIP_FAILED, status, "pjsua_acc_set_affinity_addr()");
}

int pf_native_pin(int id, const pf_address *server)
{
    return host_enter() ? host_leave(affinity_pin_natively(id, server)) : PF_NO_ENDPOINT;
}
