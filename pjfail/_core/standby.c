#include "standby.h"

#include "accounts.h"
#include "address.h"
#include "clock.h"
#include "connections.h"
#include "event_queue.h"
#include "gate.h"
#include "hash_table.h"
#include "keepalive.h"
#include "lock.h"
#include "raw_send.h"
#include "register_copy.h"
#include "text.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Jobs: behind so many, none is taken that only keeps a NAT's binding. */
enum { MAX_WAITING = 4096 };

/* How long a detach waits for the answers to what it has sent. */
#define END_TIMEOUT_S 0.5

/* What the clients' callback posts, beside the jobs of pjfail.h. */
enum { JOB_FINISHED = 100, JOB_MOVE };

struct standby {
    struct hash_link by_id, by_call_id, by_transport;
    struct standby *next; /* of its account */
    struct standby_account *owner;
    unsigned id;
    pf_address server;
    char call_id[128];                /* "": it is in no table by it */
    const pjsip_transport *transport; /* the connection of its last 2xx; NULL: it is in no table by it */
    /* The fields below belong to the thread that runs jobs. */
    pjsip_regc *regc;
    char contact[REGISTER_COPY_MAX_CONTACT];
    char own_contact[REGISTER_COPY_MAX_CONTACT]; /* the account's, of which that was made */
    unsigned number;                             /* its reg-id */
    int unregistering;
    /* The fields below are guarded by the lock. */
    struct contact_place at; /* of the Contact */
    int registered;          /* a 2xx has come */
    int removing;
    int moved; /* its Contact was changed to what its server saw; once */
};

/* An account that has, or shall have, standbys. */
struct standby_account {
    struct hash_link link; /* by the AOR's hash */
    int account;
    char aor[PF_MAX_URI];
    char *message;           /* its last own REGISTER, without what each request has anew; NULL: none was seen */
    struct contact_place at; /* of the Contact in it */
    int as_seen;             /* that is what the account's server saw the REGISTER come from */
    struct standby *first;
    double keepalive; /* seconds, of its standbys' connections; 0: none */
    int forgotten;    /* the table drops it once it has no standby left */
};

struct standby_job {
    struct standby_job *next;
    int what; /* PF_STANDBY_, or JOB_FINISHED */
    int account;
    char aor[PF_MAX_URI];
    pf_address server;
    unsigned number;         /* of PF_STANDBY_REGISTER: its reg-id; of JOB_FINISHED: the standby's id */
    struct contact_place at; /* of JOB_MOVE: what the server saw */
};

/* Guarded by lock; count is read without it. */
static struct {
    pthread_mutex_t lock;
    struct hash_table accounts, by_id, by_call_id, by_transport;
    atomic_uint count; /* accounts */
    unsigned last_id;
    struct standby_job *first, **end;
    unsigned waiting; /* of these jobs */
    int running;
    int ending;         /* pf_standby_end_all() was called: none begins any more */
    void (*wake)(void); /* NULL: detached */
} standbys = { .lock = PTHREAD_MUTEX_INITIALIZER, .end = &standbys.first };

/* --- the tables, under standbys.lock ------------------------------------------------------------------------------- */

static struct standby_account *standby_find_account_locked(int account, const char *aor)
{
    struct hash_link *link = hash_table_first(&standbys.accounts, hash_bytes(HASH_SEED, aor, strlen(aor)));

    for (; link; link = hash_table_next(link)) {
        struct standby_account *owner = entry_of(link, struct standby_account, link);

        if (owner->account == account && !strcmp(owner->aor, aor))
            return owner;
    }
    return NULL;
}

static struct standby *standby_find_locked(const struct standby_account *owner, const pf_address *server)
{
    struct standby *standby = owner ? owner->first : NULL;

    while (standby && (standby->removing || !address_equals(&standby->server, server)))
        standby = standby->next;
    return standby;
}

static struct standby *standby_by_id_locked(unsigned id)
{
    struct hash_link *link = hash_table_first(&standbys.by_id, id);

    return link ? entry_of(link, struct standby, by_id) : NULL;
}

/*
 * Records the connection that the standby is registered over; NULL: none. Returns the keepalive to set where no standby
 * had it before, else 0.
 */
static double standby_set_transport_locked(struct standby *standby, const pjsip_transport *transport)
{
    const uint64_t hash = hash_pointer(transport);
    const int is_new = transport && !hash_table_first(&standbys.by_transport, hash);

    if (standby->transport)
        hash_table_remove(&standbys.by_transport, &standby->by_transport);
    standby->transport = NULL;
    standby->by_transport.hash = hash;
    if (transport && hash_table_put(&standbys.by_transport, &standby->by_transport))
        standby->transport = transport;
    return is_new ? standby->owner->keepalive : 0;
}

static void standby_set_call_id_locked(struct standby *standby, const pj_str_t *call_id)
{
    copy_text(standby->call_id, sizeof standby->call_id, call_id);
    standby->by_call_id.hash = hash_bytes(HASH_SEED, standby->call_id, strlen(standby->call_id));
    if (!hash_table_put(&standbys.by_call_id, &standby->by_call_id))
        standby->call_id[0] = '\0';
}

/* Takes the standby out of all tables; the caller destroys its client and frees it. */
static void standby_take_out_locked(struct standby *standby)
{
    struct standby **place = &standby->owner->first;

    while (*place != standby)
        place = &(*place)->next;
    *place = standby->next;
    hash_table_remove(&standbys.by_id, &standby->by_id);
    if (standby->call_id[0])
        hash_table_remove(&standbys.by_call_id, &standby->by_call_id);
    standby_set_transport_locked(standby, NULL);
}

/*
 * Has pjsip's polling thread do a job, and returns it; NULL: detached, or no memory. Python asks for another keepalive
 * every few seconds, whether that thread runs or not; of the other jobs it awaits the end.
 */
static struct standby_job *standby_post_job_locked(int what, int account, const char *aor, const pf_address *server,
                                                   unsigned number)
{
    const int taken = standbys.wake && (what != PF_STANDBY_KEEP_ALIVE || standbys.waiting < MAX_WAITING);
    struct standby_job *job = taken ? calloc(1, sizeof *job) : NULL;

    if (!job)
        return NULL;
    standbys.waiting++;
    job->what = what;
    job->account = account;
    job->number = number;
    strncpy(job->aor, aor, sizeof job->aor - 1);
    if (server)
        job->server = *server;
    *standbys.end = job;
    standbys.end = &job->next;
    standbys.wake();
    return job;
}

/* Returns what to tell the worker about the standby; the caller posts it without the lock. NULL: there is no memory. */
static pf_standby *standby_make_event_locked(const struct standby *standby, int code, pj_status_t status)
{
    pf_standby *event = calloc(1, sizeof *event);

    if (event) {
        event->account = standby->owner->account;
        memcpy(event->aor, standby->owner->aor, sizeof event->aor);
        event->server = standby->server;
        event->code = code;
        event->status = status;
        event->retry_after = -1;
    }
    return event;
}

static void standby_post_event(pf_standby *event)
{
    if (event)
        event_queue_post(EVENT_STANDBY, event);
}

/* --- SIP threads ------------------------------------------------------------------------------------------------- */

int standby_server_of(pjsip_msg *request, pf_address *server)
{
    const pjsip_cid_hdr *header;
    struct standby *standby;
    struct hash_link *link;
    char call_id[128];

    if (!atomic_load_explicit(&standbys.count, memory_order_acquire) ||
        request->line.req.method.id != PJSIP_REGISTER_METHOD)
        return 0;
    header = host.pjsip_msg_find_hdr(request, PJSIP_H_CALL_ID, NULL);
    if (!header)
        return 0;
    copy_text(call_id, sizeof call_id, &header->id);

    HOLD_LOCK(&standbys.lock);
    link = hash_table_first(&standbys.by_call_id, hash_bytes(HASH_SEED, call_id, strlen(call_id)));
    for (; link; link = hash_table_next(link)) {
        standby = entry_of(link, struct standby, by_call_id);
        if (!strcmp(standby->call_id, call_id)) {
            *server = standby->server;
            return 1;
        }
    }
    return 0;
}

void standby_on_register(int account, pjsip_tx_data *request, int removes)
{
    const pjsip_from_hdr *from = host.pjsip_msg_find_hdr(tdata_msg(request), PJSIP_H_FROM, NULL);
    struct standby_account *owner;
    struct contact_place at;
    char aor[PF_MAX_URI], *message, *old;

    if (!atomic_load_explicit(&standbys.count, memory_order_acquire) || !from ||
        !accounts_write_aor(from->uri, aor, sizeof aor))
        return;
    old = message = removes ? NULL : register_copy_make(request);
    register_copy_read_place(tdata_msg(request), &at);
    pthread_mutex_lock(&standbys.lock);
    owner = standby_find_account_locked(account, aor);
    if (owner && (removes || message)) {
        old = owner->message;
        owner->message = message;
        owner->at = at;
    }
    if (owner && removes)
        standby_post_job_locked(PF_STANDBY_END_ALL, account, aor, NULL, 0);
    pthread_mutex_unlock(&standbys.lock);
    free(old);
}

void standby_on_registered(int account, pjsip_msg *response)
{
    const pjsip_from_hdr *from = host.pjsip_msg_find_hdr(response, PJSIP_H_FROM, NULL);
    struct standby_account *owner;
    struct contact_place seen;
    char aor[PF_MAX_URI];

    if (!atomic_load_explicit(&standbys.count, memory_order_acquire) || !from ||
        !accounts_write_aor(from->uri, aor, sizeof aor))
        return;
    register_copy_read_seen(response, &seen);

    HOLD_LOCK(&standbys.lock);
    owner = standby_find_account_locked(account, aor);
    if (owner)
        owner->as_seen = register_copy_same_place(&owner->at, &seen);
}

void standby_on_transport_state(const pjsip_transport *transport, pjsip_transport_state state)
{
    pf_standby *events = NULL, *event;
    struct hash_link *link;

    if (!atomic_load_explicit(&standbys.count, memory_order_acquire) ||
        (state != PJSIP_TP_STATE_DISCONNECTED && state != PJSIP_TP_STATE_DESTROY))
        return;
    pthread_mutex_lock(&standbys.lock);
    while ((link = hash_table_first(&standbys.by_transport, hash_pointer(transport))) != NULL) {
        struct standby *standby = entry_of(link, struct standby, by_transport);

        standby_set_transport_locked(standby, NULL);
        event = standby->removing ? NULL : standby_make_event_locked(standby, 0, PJ_SUCCESS);
        if (event) {
            event->lost = 1;
            event->next = events;
            events = event;
        }
    }
    pthread_mutex_unlock(&standbys.lock);
    for (; events; events = event) {
        event = events->next;
        standby_post_event(events);
    }
}

/* Tells the worker how a standby's REGISTER ended. A SIP thread, inside the gate. */
static void standby_on_end(const struct pjsip_regc_cbparam *result)
{
    const unsigned id = (unsigned)(uintptr_t)result->token;
    const int good = result->status == PJ_SUCCESS && result->code / 100 == 2;
    const pjsip_retry_after_hdr *retry_after =
        result->rdata ? host.pjsip_msg_find_hdr(RDATA_INFO(result->rdata)->msg, PJSIP_H_RETRY_AFTER, NULL) : NULL;
    pf_standby *event = NULL;
    struct contact_place seen;
    struct standby_job *move;
    struct standby *standby;
    double keepalive = 0;

    memset(&seen, 0, sizeof seen);
    if (good && result->rdata)
        register_copy_read_seen(RDATA_INFO(result->rdata)->msg, &seen);
    pthread_mutex_lock(&standbys.lock);
    standby = standby_by_id_locked(id);
    if (standby && standby->removing) {
        standby->registered |= good;
        standby_post_job_locked(JOB_FINISHED, 0, "", NULL, id);
    } else if (standby) {
        standby->registered |= good;
        if (good && result->rdata && !transport_is_udp(result->rdata->tp_info.transport))
            keepalive = standby_set_transport_locked(standby, result->rdata->tp_info.transport);
        event = standby_make_event_locked(standby, result->code, result->status);
        if (event && retry_after)
            event->retry_after = retry_after->ivalue;
        if (seen.port && standby->owner->as_seen && !standby->moved && !register_copy_same_place(&seen, &standby->at)) {
            move = standby_post_job_locked(JOB_MOVE, 0, "", NULL, id);
            if (move)
                move->at = seen;
        }
    }
    pthread_mutex_unlock(&standbys.lock);
    if (keepalive)
        keepalive_set(transport_peer(result->rdata->tp_info.transport), keepalive);
    standby_post_event(event);
}

/* The clients' callback. A SIP thread. */
static void standby_on_result(struct pjsip_regc_cbparam *result)
{
    if (!gate_enter())
        return;
    standby_on_end(result);
    gate_leave();
}

/* --- jobs: one thread at a time, no lock held ---------------------------------------------------------------------- */

static void standby_free(struct standby *standby)
{
    if (standby->regc)
        host.pjsip_regc_destroy(standby->regc);
    free(standby);
}

/* Drops an account that is forgotten and has no standby left. */
static void standby_drop_account_locked(struct standby_account *owner)
{
    if (!owner->forgotten || owner->first)
        return;
    hash_table_remove(&standbys.accounts, &owner->link);
    atomic_store(&standbys.count, (unsigned)standbys.accounts.count);
    free(owner->message);
    free(owner);
}

static void standby_forget(struct standby *standby)
{
    pthread_mutex_lock(&standbys.lock);
    standby_take_out_locked(standby);
    standby_drop_account_locked(standby->owner);
    pthread_mutex_unlock(&standbys.lock);
    standby_free(standby);
}

/* Puts a new standby into the tables, with a client. NULL: there is no memory. */
static struct standby *standby_make(struct standby_account *owner, const pf_address *server)
{
    struct standby *standby = calloc(1, sizeof *standby);

    if (!standby)
        return NULL;
    standby->owner = owner;
    standby->server = *server;
    pthread_mutex_lock(&standbys.lock);
    standby->id = ++standbys.last_id;
    standby->by_id.hash = standby->id;
    if (!hash_table_put(&standbys.by_id, &standby->by_id)) {
        pthread_mutex_unlock(&standbys.lock);
        free(standby);
        return NULL;
    }
    standby->next = owner->first;
    owner->first = standby;
    pthread_mutex_unlock(&standbys.lock);
    if (host.pjsip_regc_create(host_endpoint(), (void *)(uintptr_t)standby->id, &standby_on_result, &standby->regc) !=
        PJ_SUCCESS) {
        standby->regc = NULL;
        standby_forget(standby);
        return NULL;
    }
    return standby;
}

/* Sends what the client has made. */
static pj_status_t standby_send(struct standby *standby, pjsip_tx_data *tdata)
{
    const pjsip_cid_hdr *call_id = host.pjsip_msg_find_hdr(tdata_msg(tdata), PJSIP_H_CALL_ID, NULL);

    pthread_mutex_lock(&standbys.lock);
    if (!standby->call_id[0])
        standby_set_call_id_locked(standby, &call_id->id);
    pthread_mutex_unlock(&standbys.lock);
    return host.pjsip_regc_send(standby->regc, tdata);
}

/* Returns whether the Contact is the account's own, as it stands in its last REGISTER. */
static int standby_shares_contact(const struct standby *standby)
{
    HOLD_LOCK(&standbys.lock);

    return standby->owner->message && strstr(standby->owner->message, standby->contact) != NULL;
}

/*
 * Removes a standby's binding, once no REGISTER of it is under way; destroys it where there is none. The binding stays
 * where its Contact is the account's own, for registrars may share what they know of locations, and the account's binding
 * would go with it; it then ends by itself. An account that unregisters has none.
 */
static void standby_unregister(struct standby *standby)
{
    pjsip_tx_data *tdata;
    pj_status_t status = PJ_EINVALIDOP;
    pjsip_regc_info info;
    int registered;

    pthread_mutex_lock(&standbys.lock);
    registered = standby->registered;
    pthread_mutex_unlock(&standbys.lock);
    if (!standby->unregistering && !standby_shares_contact(standby)) {
        if (registered)
            status = host.pjsip_regc_unregister(standby->regc, &tdata);
        else if (host.pjsip_regc_get_info(standby->regc, &info) == PJ_SUCCESS && info.is_busy)
            return; /* its end posts JOB_FINISHED */
        if (status == PJ_SUCCESS)
            status = standby_send(standby, tdata);
        standby->unregistering = status == PJ_SUCCESS;
        if (status == PJSIP_EBUSY)
            return; /* the same */
    }
    if (status != PJ_SUCCESS)
        standby_forget(standby);
}

static void standby_end(struct standby *standby)
{
    pthread_mutex_lock(&standbys.lock);
    standby->removing = 1;
    standby_set_transport_locked(standby, NULL);
    pthread_mutex_unlock(&standbys.lock);
    standby_unregister(standby);
}

/* Returns a copy of the account's last REGISTER, the caller's to free. */
static char *standby_last_register(const struct standby_account *owner)
{
    char *message;

    pthread_mutex_lock(&standbys.lock);
    message = owner->message ? strdup(owner->message) : NULL;
    pthread_mutex_unlock(&standbys.lock);
    return message;
}

static void standby_report(const struct standby_job *job, pj_status_t status, int unknown)
{
    pf_standby *event = calloc(1, sizeof *event);

    if (event) {
        event->account = job->account;
        memcpy(event->aor, job->aor, sizeof event->aor);
        event->server = job->server;
        event->status = status;
        event->retry_after = -1;
        event->unknown = unknown;
    }
    standby_post_event(event);
}

/*
 * Finds or opens the connection that the REGISTER will go over. Its caller drops the reference; NULL over UDP, which
 * has none. pjsip finds it again by the host name, which TLS shows and checks.
 */
static pj_status_t standby_connect(pj_pool_t *pool, const pjsip_msg *message, const pf_address *server,
                                   pjsip_transport **connection)
{
    const pjsip_route_hdr *route = host.pjsip_msg_find_hdr(message, PJSIP_H_ROUTE, NULL);
    const pjsip_uri *uri = route && route->name_addr.uri ? route->name_addr.uri : message->line.req.uri;
    pjsip_host_info next_hop;
    char name[PF_MAX_HOST];
    pj_status_t status;

    *connection = NULL;
    if (server->transport == PF_UDP)
        return PJ_SUCCESS;
    status = uri ? host.pjsip_get_dest_info(pjsip_uri_get_uri(uri), NULL, pool, &next_hop) : PJ_EINVAL;
    if (status != PJ_SUCCESS)
        return status;
    if (next_hop.addr.host.slen >= (pj_ssize_t)sizeof name)
        return PJ_ENAMETOOLONG;
    copy_text(name, sizeof name, &next_hop.addr.host);
    return connections_acquire(server, name, NULL, connection);
}

/*
 * Gives a standby another Contact, to be sent next. Returns the standby, or NULL where it cannot: then it has been let
 * go. pjsip's client has its next REGISTER remove the last Contact, which must be neither the account's own nor that of
 * an outbound registration, which each new one replaces (RFC 5626 section 6).
 */
static struct standby *standby_change_contact(struct standby *standby, char contact[REGISTER_COPY_MAX_CONTACT])
{
    pj_str_t text = { contact, (pj_ssize_t)strlen(contact) };

    if (!strcmp(standby->contact, contact))
        return standby;
    if (!standby_shares_contact(standby) && !strstr(contact, ";reg-id=") &&
        host.pjsip_regc_update_contact(standby->regc, 1, &text) == PJ_SUCCESS) {
        strcpy(standby->contact, contact);
        return standby;
    }
    standby_forget(standby);
    return NULL;
}

/* Registers at the server, with a Contact of that place (port 0: the account's). */
static pj_status_t standby_register_as(struct standby_account *owner, const struct standby_job *job,
                                       const struct contact_place *at, const char *own_contact, pjsip_msg *message,
                                       pj_pool_t *pool)
{
    struct standby *standby;
    char contact[REGISTER_COPY_MAX_CONTACT];
    pjsip_tx_data *tdata;
    pj_status_t status;

    if (!register_copy_write_contact(pool, message, at, job->number, contact))
        return PJ_EINVAL;
    pthread_mutex_lock(&standbys.lock);
    standby = standby_find_locked(owner, &job->server);
    pthread_mutex_unlock(&standbys.lock);
    standby = standby ? standby_change_contact(standby, contact) : NULL;
    if (!standby) {
        standby = standby_make(owner, &job->server);
        if (!standby)
            return PJ_ENOMEM;
        strcpy(standby->contact, contact);
        status = register_copy_prepare(standby->regc, message, standby->contact);
        if (status != PJ_SUCCESS) {
            standby_forget(standby);
            return status;
        }
    }
    standby->number = job->number;
    strcpy(standby->own_contact, own_contact);
    pthread_mutex_lock(&standbys.lock);
    standby->moved = job->what == JOB_MOVE;
    register_copy_read_place(message, &standby->at);
    pthread_mutex_unlock(&standbys.lock);
    status = accounts_lend_credentials(owner->account, owner->aor, standby->regc); /* they may be others by now */
    if (status == PJ_SUCCESS)
        status = host.pjsip_regc_register(standby->regc, PJ_TRUE, &tdata);
    if (status == PJ_SUCCESS)
        status = standby_send(standby, tdata);
    return status == PJSIP_EBUSY ? PJ_SUCCESS : status;
}

/*
 * Registers with a copy of the account's REGISTER. Where the account's Contact is what its server sees, its standby's
 * has the port of its own connection at first, and then what its own server sees.
 */
static pj_status_t standby_register_with(struct standby_account *owner, const struct standby_job *job, char *text,
                                         pj_pool_t *pool)
{
    pjsip_msg *message = host.pjsip_parse_msg(pool, text, strlen(text), NULL);
    struct contact_place at = job->at;
    const struct contact_place nowhere = { "", 0 };
    const struct standby *standby;
    char own_contact[REGISTER_COPY_MAX_CONTACT];
    pjsip_transport *connection;
    pj_status_t status;
    int as_seen;

    if (!message || !register_copy_write_contact(pool, message, &nowhere, job->number, own_contact))
        return PJ_EINVAL;
    pthread_mutex_lock(&standbys.lock);
    as_seen = owner->as_seen;
    standby = standby_find_locked(owner, &job->server);
    pthread_mutex_unlock(&standbys.lock);
    if (job->what == PF_STANDBY_UPDATE && (!standby || !strcmp(standby->own_contact, own_contact)))
        return PJ_SUCCESS;
    status = standby_connect(pool, message, &job->server, &connection);
    if (status != PJ_SUCCESS)
        return status;
    if (connection && as_seen && !at.port) {
        register_copy_read_place(message, &at);
        at.port = ntohs(transport_local_address(connection)->ipv4.sin_port); /* IPv6 has it at the same place */
    }
    status = standby_register_as(owner, job, &at, own_contact, message, pool);
    if (connection)
        host.pjsip_transport_dec_ref(connection);
    return status;
}

static void standby_register(struct standby_account *owner, const struct standby_job *job)
{
    char *text = standby_last_register(owner);
    pj_pool_t *pool = host.pjsip_endpt_create_pool(host_endpoint(), "pjfail", 4000, 4000);
    pj_status_t status = PJ_ENOMEM;

    if (pool && text)
        status = standby_register_with(owner, job, text, pool);
    if (pool)
        host.pjsip_endpt_release_pool(host_endpoint(), pool);
    if (status != PJ_SUCCESS)
        standby_report(job, status, !text);
    free(text);
}

/* Gives the standby the Contact that its server sees. */
static void standby_move(struct standby *standby, const struct contact_place *at)
{
    struct standby_account *owner = standby->owner;
    struct standby_job job = { .what = JOB_MOVE, .account = owner->account, .number = standby->number, .at = *at };

    memcpy(job.aor, owner->aor, sizeof job.aor);
    job.server = standby->server;
    standby_register(owner, &job);
}

static void standby_end_all(struct standby_account *owner)
{
    struct standby *standby = owner->first, *next;

    for (; standby; standby = next) {
        next = standby->next;
        if (!standby->removing)
            standby_end(standby);
    }
}

/*
 * Has the NATs on the way renew what they know of the standby's socket, as pjsua does for the account's own server. The
 * client holds a reference to the transport of its last 2xx.
 */
static void standby_keep_alive(const struct standby *standby)
{
    pjsip_regc_info info;

    if (host.pjsip_regc_get_info(standby->regc, &info) == PJ_SUCCESS && info.transport && !info.is_busy)
        raw_send_over(info.transport, &standby->server, "\r\n", 2);
}

static void standby_forget_account(struct standby_account *owner)
{
    pthread_mutex_lock(&standbys.lock);
    owner->forgotten = 1;
    standby_drop_account_locked(owner);
    pthread_mutex_unlock(&standbys.lock);
}

/* Begins to keep copies of the account's REGISTERs. */
static void standby_watch(const struct standby_job *job)
{
    struct standby_account *owner = calloc(1, sizeof *owner), *known;
    HOLD_LOCK(&standbys.lock);

    known = standby_find_account_locked(job->account, job->aor);
    if (known) {
        known->forgotten = 0;
        known->keepalive = job->number / 1e3;
    }
    if (!owner || known) {
        free(owner);
        return;
    }
    owner->account = job->account;
    owner->keepalive = job->number / 1e3;
    memcpy(owner->aor, job->aor, sizeof owner->aor);
    owner->link.hash = hash_bytes(HASH_SEED, owner->aor, strlen(owner->aor));
    if (hash_table_put(&standbys.accounts, &owner->link))
        atomic_store(&standbys.count, (unsigned)standbys.accounts.count);
    else
        free(owner);
}

/* Returns whether the job sends a REGISTER that makes a binding. */
static int standby_registers(const struct standby_job *job)
{
    return job->what == PF_STANDBY_REGISTER || job->what == PF_STANDBY_UPDATE || job->what == JOB_MOVE;
}

static void standby_do_job(const struct standby_job *job)
{
    struct standby_account *owner;
    struct standby *standby;
    int ending;

    pthread_mutex_lock(&standbys.lock);
    ending = standbys.ending;
    owner = standby_find_account_locked(job->account, job->aor);
    standby = job->what >= JOB_FINISHED ? standby_by_id_locked(job->number) : standby_find_locked(owner, &job->server);
    pthread_mutex_unlock(&standbys.lock);
    if (ending && standby_registers(job))
        return;
    if (job->what == JOB_MOVE) {
        if (standby && !standby->removing)
            standby_move(standby, &job->at);
        return;
    }
    if (job->what == JOB_FINISHED) {
        if (standby)
            standby_unregister(standby);
        return;
    }
    if (job->what == PF_STANDBY_WATCH)
        standby_watch(job);
    if (!owner)
        return;
    switch (job->what) {
    case PF_STANDBY_WATCH: break;
    case PF_STANDBY_REGISTER:
    case PF_STANDBY_UPDATE: standby_register(owner, job); break;
    case PF_STANDBY_END:
        if (standby)
            standby_end(standby);
        break;
    case PF_STANDBY_LET_GO:
        if (standby)
            standby_forget(standby);
        break;
    case PF_STANDBY_KEEP_ALIVE:
        if (standby)
            standby_keep_alive(standby);
        break;
    default:
        standby_end_all(owner);
        if (job->what == PF_STANDBY_FORGET)
            standby_forget_account(owner);
    }
}

void standby_run(void)
{
    struct standby_job *job;

    pthread_mutex_lock(&standbys.lock);
    if (standbys.running) { /* that thread does these, too */
        pthread_mutex_unlock(&standbys.lock);
        return;
    }
    standbys.running = 1;
    while ((job = standbys.first) != NULL) {
        standbys.first = job->next;
        if (!standbys.first)
            standbys.end = &standbys.first;
        standbys.waiting--;
        pthread_mutex_unlock(&standbys.lock);
        standby_do_job(job);
        free(job);
        pthread_mutex_lock(&standbys.lock);
    }
    standbys.running = 0;
    pthread_mutex_unlock(&standbys.lock);
}

/* --- attaching --------------------------------------------------------------------------------------------------- */

void standby_open(void (*wake)(void))
{
    HOLD_LOCK(&standbys.lock);
    standbys.wake = wake;
    standbys.ending = 0;
}

static void standby_free_account(struct hash_link *link)
{
    struct standby_account *owner = entry_of(link, struct standby_account, link);
    struct standby *standby, *next;

    for (standby = owner->first; standby; standby = next) {
        next = standby->next;
        standby_free(standby);
    }
    free(owner->message);
    free(owner);
}

void standby_close(void)
{
    struct hash_table accounts;
    struct standby_job *job, *next;

    pthread_mutex_lock(&standbys.lock);
    standbys.wake = NULL;
    accounts = standbys.accounts;
    memset(&standbys.accounts, 0, sizeof standbys.accounts);
    hash_table_clear(&standbys.by_id, NULL);
    hash_table_clear(&standbys.by_call_id, NULL);
    hash_table_clear(&standbys.by_transport, NULL);
    atomic_store(&standbys.count, 0);
    job = standbys.first;
    standbys.first = NULL;
    standbys.end = &standbys.first;
    standbys.waiting = 0;
    pthread_mutex_unlock(&standbys.lock);
    hash_table_clear(&accounts, &standby_free_account);
    for (; job; job = next) {
        next = job->next;
        free(job);
    }
}

/* --- from Python ------------------------------------------------------------------------------------------------- */

int pf_standby_job(int what, int account, const char *aor, const pf_address *server, unsigned number)
{
    HOLD_LOCK(&standbys.lock);

    return standby_post_job_locked(what, account, aor, server, number) != NULL;
}

/* Posts the end of all accounts' standbys, at a detach. */
static void standby_post_end_of_all(void)
{
    struct hash_link *link;
    size_t i;
    HOLD_LOCK(&standbys.lock);

    standbys.ending = 1;
    for (i = 0; i < standbys.accounts.size; i++)
        for (link = standbys.accounts.buckets[i]; link; link = link->next) {
            const struct standby_account *owner = entry_of(link, struct standby_account, link);

            standby_post_job_locked(PF_STANDBY_FORGET, owner->account, owner->aor, NULL, 0);
        }
}

static int standby_any(void)
{
    HOLD_LOCK(&standbys.lock);

    return standbys.by_id.count != 0;
}

void pf_standby_end_all(void)
{
    double until = clock_now() + END_TIMEOUT_S;

    if (!host_enter())
        return;
    standby_post_end_of_all();
    standby_run(); /* here, for this may be the thread that polls */
    while (standby_any() && clock_now() < until)
        clock_pause(0.005);
    host_leave(0);
}

int pf_standby_is_possible(void) { return layout.proxies != 0; }
