#include "subscriptions.h"

#include "accounts.h"
#include "hash_table.h"
#include "transaction.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of accounts that are not followed, or not yet, no more are kept once there are so many in all: each holds a dialog of pjsip's. */
enum { MAX_UNKNOWN_AT = 1024 };

struct subscription {
    struct hash_link link; /* by account and AOR; after it was taken out, link.next leads to the next one taken out */
    pjsip_evsub *evsub;    /* referenced */
    enum transaction_event event;
    pf_address server; /* that accepted it */
    int account;
    char aor[PF_MAX_URI];
};

static struct {
    pthread_mutex_t lock;
    struct hash_table table;
} subscriptions = { .lock = PTHREAD_MUTEX_INITIALIZER };

int pf_can_move_subscriptions(void)
{
    return host.pjsip_tsx_get_evsub && host.pjsip_evsub_add_ref && host.pjsip_evsub_dec_ref &&
           host.pjsip_evsub_get_state && host.pjsip_evsub_terminate && host.pjsua_enum_buddies &&
           host.pjsua_buddy_update_pres && host.pjsua_start_mwi;
}

static uint64_t subscriptions_hash(int account, const char *aor)
{
    return hash_bytes(hash_bytes(HASH_SEED, aor, strlen(aor)), &account, sizeof account);
}

static struct subscription *subscriptions_of(struct hash_link *link)
{
    return entry_of(link, struct subscription, link);
}

static int subscriptions_have_ended(const struct subscription *subscription)
{
    return host.pjsip_evsub_get_state(subscription->evsub) == PJSIP_EVSUB_STATE_TERMINATED;
}

/*
 * Takes out the account's subscriptions that have ended; those of evsub, if not NULL; and those at other servers than server,
 * if not NULL. Returns a list of them.
 */
static struct hash_link *subscriptions_take_locked(int account, const char *aor, const pjsip_evsub *evsub,
                                                   const pf_address *server)
{
    struct hash_link *link = hash_table_first(&subscriptions.table, subscriptions_hash(account, aor)), *next;
    struct hash_link *taken = NULL;

    for (; link; link = next) {
        struct subscription *each = subscriptions_of(link);

        next = hash_table_next(link);
        if (each->account != account || strcmp(each->aor, aor) ||
            !(subscriptions_have_ended(each) || each->evsub == evsub ||
              (server && memcmp(&each->server, server, sizeof *server))))
            continue;
        hash_table_remove(&subscriptions.table, link);
        link->next = taken;
        taken = link;
    }
    return taken;
}

/* Frees those of a list. No lock held, as the last reference frees pjsip's dialog. */
static void subscriptions_release(struct hash_link *taken)
{
    struct hash_link *next;

    for (; taken; taken = next) {
        next = taken->next;
        host.pjsip_evsub_dec_ref(subscriptions_of(taken)->evsub);
        free(subscriptions_of(taken));
    }
}

void subscriptions_on_success(int account, pjsip_rx_data *rdata, const pf_address *server)
{
    pjsip_msg *response = RDATA_INFO(rdata)->msg;
    const pjsip_from_hdr *from = host.pjsip_msg_find_hdr(response, PJSIP_H_FROM, NULL);
    struct subscription *subscription;
    struct hash_link *taken;
    int put = 0;

    if (!pf_can_move_subscriptions() || !from || !(subscription = calloc(1, sizeof *subscription)))
        return;
    if (!accounts_write_aor(from->uri, subscription->aor, sizeof subscription->aor) ||
        !transaction_subscription(RDATA_INFO(rdata)->via->branch_param, &RDATA_INFO(rdata)->cseq->method,
                                  &subscription->evsub, &subscription->event)) {
        free(subscription);
        return;
    }
    subscription->account = account;
    subscription->server = *server;
    subscription->link.hash = subscriptions_hash(account, subscription->aor);
    pthread_mutex_lock(&subscriptions.lock);
    taken = subscriptions_take_locked(account, subscription->aor, subscription->evsub, NULL);
    if (subscription->event != TRANSACTION_UNSUBSCRIBES &&
        (account != SUBSCRIPTIONS_UNKNOWN || subscriptions.table.count < MAX_UNKNOWN_AT))
        put = hash_table_put(&subscriptions.table, &subscription->link);
    pthread_mutex_unlock(&subscriptions.lock);
    subscriptions_release(taken);
    if (!put) {
        subscription->link.next = NULL;
        subscriptions_release(&subscription->link);
    }
}

/* Ends those of the list of that event. Returns whether there were any. */
static int subscriptions_end(const struct hash_link *taken, enum transaction_event event)
{
    int any = 0;

    for (; taken; taken = taken->next) {
        const struct subscription *each = entry_of(taken, struct subscription, link);

        if (each->event != event || subscriptions_have_ended(each))
            continue;
        host.pjsip_evsub_terminate(each->evsub, PJ_TRUE);
        any = 1;
    }
    return any;
}

/* Has pjsua subscribe to all buddies that have no subscription now, as its own timer does now and then. */
static void subscriptions_renew_buddies(pj_status_t (*update)(pjsua_buddy_id))
{
    enum { MAX_BUDDIES = 4096 };
    pjsua_buddy_id *ids = calloc(MAX_BUDDIES, sizeof *ids);
    unsigned count = MAX_BUDDIES, i;

    if (ids && update && host.pjsua_enum_buddies(ids, &count) == PJ_SUCCESS)
        for (i = 0; i < count; i++)
            update(ids[i]);
    free(ids);
}

void subscriptions_move(int account, const char *aor, const pf_address *server)
{
    struct hash_link *taken;

    if (!pf_can_move_subscriptions())
        return;
    pthread_mutex_lock(&subscriptions.lock);
    taken = subscriptions_take_locked(account, aor, NULL, server);
    pthread_mutex_unlock(&subscriptions.lock);
    /* Each event by itself: pjsua_buddy_update_pres() makes a buddy without a subscription one of presence. */
    if (subscriptions_end(taken, TRANSACTION_PRESENCE))
        subscriptions_renew_buddies(host.pjsua_buddy_update_pres);
    if (host.pjsua_buddy_update_dlg_event && subscriptions_end(taken, TRANSACTION_DIALOG))
        subscriptions_renew_buddies(host.pjsua_buddy_update_dlg_event);
    if (subscriptions_end(taken, TRANSACTION_MESSAGE_SUMMARY))
        host.pjsua_start_mwi(account, PJ_FALSE);
    subscriptions_release(taken);
}

void subscriptions_adopt(int account, const char *aor)
{
    static const pf_address none;
    struct hash_link *taken, *next, *ended = NULL;

    pthread_mutex_lock(&subscriptions.lock);
    taken = subscriptions_take_locked(SUBSCRIPTIONS_UNKNOWN, aor, NULL, &none);
    for (; taken; taken = next) {
        next = taken->next;
        subscriptions_of(taken)->account = account;
        taken->hash = subscriptions_hash(account, aor);
        if (!hash_table_put(&subscriptions.table, taken)) {
            taken->next = ended;
            ended = taken;
        }
    }
    pthread_mutex_unlock(&subscriptions.lock);
    subscriptions_release(ended);
}

void subscriptions_forget(int account, const char *aor)
{
    static const pf_address none;
    struct hash_link *taken;

    if (!pf_can_move_subscriptions())
        return;
    pthread_mutex_lock(&subscriptions.lock);
    taken = subscriptions_take_locked(account, aor, NULL, &none);
    pthread_mutex_unlock(&subscriptions.lock);
    subscriptions_release(taken);
}

static void subscriptions_drop(struct hash_link *link)
{
    link->next = NULL;
    subscriptions_release(link);
}

void subscriptions_clear(void)
{
    struct hash_table table;

    pthread_mutex_lock(&subscriptions.lock);
    table = subscriptions.table;
    memset(&subscriptions.table, 0, sizeof subscriptions.table);
    pthread_mutex_unlock(&subscriptions.lock);
    hash_table_clear(&table, &subscriptions_drop);
}
