#include "registrations.h"

#include "accounts.h"
#include "event_queue.h"
#include "hash_table.h"
#include "keepalive.h"
#include "lock.h"
#include "pjfail.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As many accounts that are not followed yet are kept. */
enum { MAX_UNKNOWN = 20000 };

/* An account, and the connection that answered its last REGISTER. */
struct binding {
    struct hash_link by_account, by_connection;
    const pjsip_transport *connection;
    pj_sockaddr peer;
    int account;          /* REGISTRATIONS_UNKNOWN: not followed yet */
    char aor[PF_MAX_URI]; /* the id may belong to another account by now */
};

static struct {
    pthread_mutex_t lock;
    struct hash_table by_account, by_connection;
} registrations = { .lock = PTHREAD_MUTEX_INITIALIZER };

static uint64_t registrations_account_hash(int account, const char *aor)
{
    return hash_bytes(hash_bytes(HASH_SEED, aor, strlen(aor)), &account, sizeof account);
}

static struct binding *registrations_of_account_locked(int account, const char *aor)
{
    struct hash_link *link = hash_table_first(&registrations.by_account, registrations_account_hash(account, aor));

    for (; link; link = hash_table_next(link)) {
        struct binding *binding = entry_of(link, struct binding, by_account);
        if (binding->account == account && !strcmp(binding->aor, aor))
            return binding;
    }
    return NULL;
}

static struct binding *registrations_of_connection_locked(const pjsip_transport *connection)
{
    struct hash_link *link = hash_table_first(&registrations.by_connection, hash_pointer(connection));

    for (; link; link = hash_table_next(link)) {
        struct binding *binding = entry_of(link, struct binding, by_connection);
        if (binding->connection == connection)
            return binding;
    }
    return NULL;
}

static void registrations_drop_locked(struct binding *binding)
{
    hash_table_remove(&registrations.by_account, &binding->by_account);
    hash_table_remove(&registrations.by_connection, &binding->by_connection);
    free(binding);
}

/* Records the connection, in place of the account's last one. Returns whether no account had it. */
static int registrations_put(int account, const char *aor, const pjsip_transport *connection)
{
    struct binding *binding = calloc(1, sizeof *binding);
    HOLD_LOCK(&registrations.lock);
    struct binding *old = registrations_of_account_locked(account, aor);
    const int is_new = !registrations_of_connection_locked(connection);

    if (old)
        registrations_drop_locked(old);
    if ((old = registrations_of_account_locked(REGISTRATIONS_UNKNOWN, aor)) != NULL)
        registrations_drop_locked(old);
    if (!binding || (account == REGISTRATIONS_UNKNOWN && registrations.by_account.count >= MAX_UNKNOWN)) {
        free(binding);
        return is_new;
    }
    binding->account = account;
    binding->connection = connection;
    binding->peer = *transport_peer(connection);
    snprintf(binding->aor, sizeof binding->aor, "%s", aor);
    binding->by_account.hash = registrations_account_hash(account, aor);
    binding->by_connection.hash = hash_pointer(connection);
    if (!hash_table_put(&registrations.by_account, &binding->by_account)) {
        free(binding);
    } else if (!hash_table_put(&registrations.by_connection, &binding->by_connection)) {
        hash_table_remove(&registrations.by_account, &binding->by_account);
        free(binding);
    }
    return is_new;
}

static int registrations_write_aor(pjsip_msg *message, char *aor, size_t size)
{
    const pjsip_from_hdr *from = host.pjsip_msg_find_hdr(message, PJSIP_H_FROM, NULL);

    return from && accounts_write_aor(from->uri, aor, size);
}

void registrations_on_success(int account, pjsip_msg *response, const pjsip_transport *transport, int removed,
                              double keepalive)
{
    char aor[PF_MAX_URI];

    if (!registrations_write_aor(response, aor, sizeof aor))
        return;
    if (removed || transport_is_udp(transport))
        registrations_forget(account, aor);
    else if (registrations_put(account, aor, transport))
        keepalive_set(transport_peer(transport), keepalive);
}

void registrations_adopt(int account, const char *aor, double keepalive)
{
    struct binding *binding, *old;
    pj_sockaddr peer;

    pthread_mutex_lock(&registrations.lock);
    binding = registrations_of_account_locked(REGISTRATIONS_UNKNOWN, aor);
    if (binding) {
        peer = binding->peer;
        old = registrations_of_account_locked(account, aor);
        if (old)
            registrations_drop_locked(old);
        hash_table_remove(&registrations.by_account, &binding->by_account);
        binding->account = account;
        binding->by_account.hash = registrations_account_hash(account, aor);
        if (!hash_table_put(&registrations.by_account, &binding->by_account)) {
            hash_table_remove(&registrations.by_connection, &binding->by_connection);
            free(binding);
        }
    }
    pthread_mutex_unlock(&registrations.lock);
    if (binding)
        keepalive_set(&peer, keepalive);
}

void registrations_on_removal(int account, pjsip_msg *request)
{
    char aor[PF_MAX_URI];

    if (registrations_write_aor(request, aor, sizeof aor))
        registrations_forget(account, aor);
}

void registrations_forget(int account, const char *aor)
{
    HOLD_LOCK(&registrations.lock);
    struct binding *binding = registrations_of_account_locked(account, aor);

    if (binding)
        registrations_drop_locked(binding);
}

static void registrations_report_end(const struct binding *binding)
{
    pf_registration *registration = calloc(1, sizeof *registration);

    if (!registration)
        return;
    registration->account = binding->account;
    memcpy(registration->aor, binding->aor, sizeof registration->aor);
    registration->retry_after = -1;
    registration->closed = 1;
    event_queue_post(EVENT_REGISTRATION, registration);
}

void registrations_on_transport_state(const pjsip_transport *transport, pjsip_transport_state state,
                                      const pjsip_transport_state_info *info)
{
    /* With this status pjsip_transport_shutdown2() tells of a connection that it closes for us, or the application. */
    const int closed_here = state == PJSIP_TP_STATE_DESTROY || (info && info->status == PJ_ECANCELLED);
    struct binding *binding;

    if (state != PJSIP_TP_STATE_DISCONNECTED && state != PJSIP_TP_STATE_DESTROY)
        return;
    pthread_mutex_lock(&registrations.lock);
    while ((binding = registrations_of_connection_locked(transport)) != NULL) {
        if (!closed_here && binding->account != REGISTRATIONS_UNKNOWN)
            registrations_report_end(binding);
        registrations_drop_locked(binding);
    }
    pthread_mutex_unlock(&registrations.lock);
}

static void registrations_free(struct hash_link *link) { free(entry_of(link, struct binding, by_connection)); }

void registrations_clear(void)
{
    HOLD_LOCK(&registrations.lock);
    hash_table_clear(&registrations.by_account, NULL);
    hash_table_clear(&registrations.by_connection, &registrations_free);
}
