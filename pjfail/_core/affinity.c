#include "affinity.h"

#include "account.h"
#include "core.h"
#include "queue.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct pin {
    struct link link;           /* by the AOR's hash */
    pf_pin is;
};

/* Something that pjsua is to do with an account. */
struct job {
    struct job *next;
    int what;                   /* PF_REGISTER, ... */
    int account;
    pf_address server;
    char aor[PF_MAX_URI];       /* an id may be another account's by then */
};

/* Guarded by lock; count is read without it. */
static struct {
    pthread_mutex_t lock;
    struct table pins;
    atomic_uint count;
    struct job *first, **end;
    void (*wake)(void);         /* NULL: detached */
} self = { .lock = PTHREAD_MUTEX_INITIALIZER, .end = &self.first };

/* --- pins, under self.lock --------------------------------------------------------------------------------------- */

static uint64_t aor_hash(const char *aor) { return hash_bytes(HASH_SEED, aor, strlen(aor)); }

/* Two accounts of one AOR are told apart by their next hops, if at all. */
static struct pin *find_pin(const char *aor, const pf_target *next_hop)
{
    struct link *link;

    for (link = table_first(&self.pins, aor_hash(aor)); link; link = table_next(link)) {
        struct pin *pin = entry_of(link, struct pin, link);
        const pf_target *own = &pin->is.next_hop;

        if (!strcmp(pin->is.aor, aor) && own->port == next_hop->port && own->transport == next_hop->transport &&
            own->secure == next_hop->secure && !strcmp(own->host, next_hop->host))
            return pin;
    }
    return NULL;
}

static struct pin *pin_of(const char *aor, int account)
{
    struct link *link;

    for (link = table_first(&self.pins, aor_hash(aor)); link; link = table_next(link)) {
        struct pin *pin = entry_of(link, struct pin, link);
        if (pin->is.account == account && !strcmp(pin->is.aor, aor))
            return pin;
    }
    return NULL;
}

static int aor_of(pjsip_msg *request, char *aor, size_t size)
{
    pjsip_from_hdr *from = host.pjsip_msg_find_hdr(request, PJSIP_H_FROM, NULL);

    return from && account_aor(from->uri, aor, size);
}

/* --- SIP threads ------------------------------------------------------------------------------------------------- */

int affinity_answer(const pf_target *target, pjsip_msg *request, struct asker *asker)
{
    char aor[PF_MAX_URI];
    struct pin *pin;
    int alone = 0;

    if (!atomic_load_explicit(&self.count, memory_order_acquire) || !request || !aor_of(request, aor, sizeof aor))
        return 0;
    pthread_mutex_lock(&self.lock);
    pin = find_pin(aor, target);
    if (pin && !pin->is.idle) {
        alone = asker->bound || !pin->is.followed;
        if (!asker->bound) {
            asker->server = pin->is.registrar.family && request->line.req.method.id == PJSIP_REGISTER_METHOD
                                ? pin->is.registrar : pin->is.server;
            asker->follows = pin->is.followed;
        }
    }
    pthread_mutex_unlock(&self.lock);
    return alone;
}

int affinity_registers(pjsip_msg *request)
{
    char aor[PF_MAX_URI];
    struct link *link;
    int account = -1;

    if (!atomic_load_explicit(&self.count, memory_order_acquire) ||
        request->line.req.method.id != PJSIP_REGISTER_METHOD || !aor_of(request, aor, sizeof aor))
        return -1;
    pthread_mutex_lock(&self.lock);
    for (link = table_first(&self.pins, aor_hash(aor)); link; link = table_next(link)) {
        const pf_pin *pin = &entry_of(link, struct pin, link)->is;
        if (pin->followed && !strcmp(pin->aor, aor))
            account = pin->account;
    }
    pthread_mutex_unlock(&self.lock);
    return account;
}

/* --- jobs -------------------------------------------------------------------------------------------------------- */

static int still_is(const struct job *job)
{
    pf_account *account = malloc(sizeof *account);
    int is = account && account_read(host.pjsua_get_pjsip_endpt(), job->account, account) == PF_OK &&
             !strcmp(account->aor, job->aor);

    free(account);
    return is;
}

static void tell_unsent(const struct job *job, pj_status_t status)
{
    pf_registration *registration = calloc(1, sizeof *registration);

    if (registration) {
        registration->account = job->account;
        registration->status = status;
        registration->retry_after = -1;
        queue_put_note(NOTE_REGISTRATION, registration);
    }
}

static void run(const struct job *job)
{
    pj_status_t status;

    if (!still_is(job)) {
        tell_unsent(job, PJ_ENOTFOUND);
    } else if (job->what == PF_REGISTER) {
        status = host.pjsua_acc_set_registration(job->account, PJ_TRUE);
        if (status != PJ_SUCCESS)
            tell_unsent(job, status);
    } else {
        account_native_pin(job->account, &job->server);
    }
}

void affinity_run(void)
{
    struct job *job, *next;

    pthread_mutex_lock(&self.lock);
    job = self.first;
    self.first = NULL;
    self.end = &self.first;
    pthread_mutex_unlock(&self.lock);
    for (; job; job = next) {
        next = job->next;
        run(job);
        free(job);
    }
}

/* --- attaching, under core.c's lock ------------------------------------------------------------------------------ */

void affinity_open(void (*wake)(void))
{
    pthread_mutex_lock(&self.lock);
    self.wake = wake;
    pthread_mutex_unlock(&self.lock);
}

static void drop(struct link *link)
{
    struct pin *pin = entry_of(link, struct pin, link);

    plans_release(&pin->is.server);
    free(pin);
}

void affinity_close(void)
{
    struct table pins;
    struct job *job, *next;

    pthread_mutex_lock(&self.lock);
    self.wake = NULL;
    pins = self.pins;
    memset(&self.pins, 0, sizeof self.pins);
    atomic_store(&self.count, 0);
    job = self.first;
    self.first = NULL;
    self.end = &self.first;
    pthread_mutex_unlock(&self.lock);
    table_clear(&pins, &drop);
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
    pin->link.hash = aor_hash(is->aor);
    if (is->server.family && !plans_hold(&is->server)) {
        free(pin);
        return 0;
    }
    pthread_mutex_lock(&self.lock);
    if (self.wake) {
        old = pin_of(is->aor, is->account);
        done = table_put(&self.pins, &pin->link);
        if (done && old)
            table_remove(&self.pins, &old->link);
        atomic_store(&self.count, (unsigned)self.pins.count);
    }
    pthread_mutex_unlock(&self.lock);
    if (done && old)
        drop(&old->link);
    if (!done)
        drop(&pin->link);
    return done;
}

void pf_drop_pin(const char *aor, int account)
{
    struct pin *pin;

    pthread_mutex_lock(&self.lock);
    pin = pin_of(aor, account);
    if (pin)
        table_remove(&self.pins, &pin->link);
    atomic_store(&self.count, (unsigned)self.pins.count);
    pthread_mutex_unlock(&self.lock);
    if (pin)
        drop(&pin->link);
}

int pf_account_job(int what, int account, const char *aor, const pf_address *server)
{
    struct job *job = calloc(1, sizeof *job);
    void (*wake)(void);

    if (!job)
        return 0;
    job->what = what;
    job->account = account;
    if (server)
        job->server = *server;
    strncpy(job->aor, aor, sizeof job->aor - 1);
    pthread_mutex_lock(&self.lock);
    wake = self.wake;
    if (wake) {
        *self.end = job;
        self.end = &job->next;
    }
    pthread_mutex_unlock(&self.lock);
    if (wake)
        wake();
    else
        free(job);
    return wake != NULL;
}
