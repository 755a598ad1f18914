#include "calls.h"

#include "event_queue.h"
#include "hash_table.h"
#include "lock.h"
#include "text.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* One more call pushes out the one that was set up, or refreshed, longest ago: it is then never refreshed. */
enum { MAX_CALLS = 4096 };

struct call {
    struct hash_link link;             /* by 64 bits of a hash of the Call-ID, which stand for it */
    struct hash_link connected;        /* by the connection, while there is one */
    const pjsip_transport *connection; /* only compared: it may be gone; NULL: over UDP, or it has ended */
    pf_address server;
    int ended;   /* its connection has ended */
    int id;      /* pjsua's number of a call that is being refreshed, and its account's */
    int account; /* negative: it is not being refreshed */
    struct call *newer, *older;
};

/* Guarded by lock. The newest end of the list has the call that was set up or refreshed last. */
static struct {
    pthread_mutex_t lock;
    struct hash_table table;
    struct hash_table connections;
    struct call *newest, *oldest;
} calls = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Room for the host's own pjsua_call_info, whose members up to the Call-ID are the same in every version. */
typedef union call_info {
    pjsua_call_info info;
    char room[4 * sizeof(pjsua_call_info)];
} call_info;

/* --- the table, under calls.lock --------------------------------------------------------------------------------- */

static struct call *calls_find_locked(const pj_str_t *call_id)
{
    struct hash_link *link = hash_table_first(&calls.table, hash_text(HASH_SEED, call_id));

    return link ? entry_of(link, struct call, link) : NULL;
}

static void calls_unlist_locked(struct call *call)
{
    *(call->newer ? &call->newer->older : &calls.newest) = call->older;
    *(call->older ? &call->older->newer : &calls.oldest) = call->newer;
}

static void calls_list_locked(struct call *call)
{
    call->newer = NULL;
    call->older = calls.newest;
    *(calls.newest ? &calls.newest->newer : &calls.oldest) = call;
    calls.newest = call;
}

static void calls_disconnect_locked(struct call *call)
{
    if (call->connection)
        hash_table_remove(&calls.connections, &call->connected);
    call->connection = NULL;
}

static void calls_connect_locked(struct call *call, const pjsip_transport *connection)
{
    calls_disconnect_locked(call);
    call->connected.hash = hash_pointer(connection);
    if (hash_table_put(&calls.connections, &call->connected))
        call->connection = connection;
}

static void calls_forget_locked(struct call *call)
{
    calls_unlist_locked(call);
    calls_disconnect_locked(call);
    hash_table_remove(&calls.table, &call->link);
    free(call);
}

/* Returns the call with that Call-ID, as the newest; NULL: there is no memory. */
static struct call *calls_make_locked(const pj_str_t *call_id)
{
    struct call *call = calls_find_locked(call_id);

    if (call) {
        calls_unlist_locked(call);
        calls_list_locked(call);
        return call;
    }
    if (calls.table.count >= MAX_CALLS)
        calls_forget_locked(calls.oldest);
    call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->account = -1;
    call->link.hash = hash_text(HASH_SEED, call_id);
    if (!hash_table_put(&calls.table, &call->link)) {
        free(call);
        return NULL;
    }
    calls_list_locked(call);
    return call;
}

/* --- SIP threads ------------------------------------------------------------------------------------------------- */

static void calls_tell(int account, int id, const pj_str_t *call_id, const struct call *call, int refreshed)
{
    pf_call *news = calloc(1, sizeof *news);

    if (!news)
        return;
    news->account = account;
    news->id = id;
    copy_text(news->call_id, sizeof news->call_id, call_id);
    news->server = call->server;
    news->ended = call->ended;
    news->refreshed = refreshed;
    event_queue_post(EVENT_CALL, news);
}

static int calls_is_set_up_by(const pjsip_method *method)
{
    static const pj_str_t update = { "UPDATE", 6 };

    return method->id == PJSIP_INVITE_METHOD ||
           (method->name.slen == update.slen && !memcmp(method->name.ptr, update.ptr, (size_t)update.slen));
}

void calls_on_accepted(const pj_str_t *call_id, const pjsip_method *method, int code, const pjsip_transport *transport,
                       const pf_address *server)
{
    struct call was = { .account = -1 }, *call;

    if (code < 200 || code >= 300 || !calls_is_set_up_by(method))
        return;
    pthread_mutex_lock(&calls.lock);
    call = calls_make_locked(call_id);
    if (call) {
        call->server = *server;
        call->ended = 0;
        was = *call;
        call->account = -1;
        if (transport_is_udp(transport))
            calls_disconnect_locked(call);
        else
            calls_connect_locked(call, transport);
    }
    pthread_mutex_unlock(&calls.lock);
    if (was.account >= 0)
        calls_tell(was.account, was.id, call_id, &was, 1);
}

void calls_on_bye(const pjsip_msg *bye)
{
    const pjsip_cid_hdr *call_id = host.pjsip_msg_find_hdr(bye, PJSIP_H_CALL_ID, NULL);
    HOLD_LOCK(&calls.lock);
    struct call *call = call_id ? calls_find_locked(&call_id->id) : NULL;

    if (call)
        calls_forget_locked(call);
}

void calls_on_transport_state(const pjsip_transport *transport, pjsip_transport_state state)
{
    const uint64_t hash = hash_pointer(transport);
    struct hash_link *link, *next;

    if (state != PJSIP_TP_STATE_DISCONNECTED && state != PJSIP_TP_STATE_DESTROY)
        return;
    HOLD_LOCK(&calls.lock);
    for (link = hash_table_first(&calls.connections, hash); link; link = next) {
        struct call *call = entry_of(link, struct call, connected);

        next = hash_table_next(link);
        if (call->connection == transport) {
            calls_disconnect_locked(call);
            call->ended = 1;
        }
    }
}

/* --- pjsip's polling thread -------------------------------------------------------------------------------------- */

/* Tells of one call of pjsua's, if it is one of that account. */
static void calls_review_one(int id, int account)
{
    struct call found, *call;
    call_info now;

    if (host.pjsua_call_get_info(id, &now.info) != PJ_SUCCESS || now.info.acc_id != account)
        return;
    pthread_mutex_lock(&calls.lock);
    call = calls_find_locked(&now.info.call_id);
    if (call)
        found = *call;
    pthread_mutex_unlock(&calls.lock);
    if (call)
        calls_tell(account, id, &now.info.call_id, &found, 0);
}

void calls_review(int account)
{
    unsigned count = host.pjsua_call_get_max_count(), i;
    pjsua_call_id *ids = calloc(count ? count : 1, sizeof *ids);

    if (ids && host.pjsua_enum_calls(ids, &count) == PJ_SUCCESS)
        for (i = 0; i < count; i++)
            calls_review_one(ids[i], account);
    free(ids);
}

void calls_refresh(int id, const char *call_id)
{
    const size_t length = strlen(call_id);
    struct call *call;
    call_info now;

    if (host.pjsua_call_get_info(id, &now.info) != PJ_SUCCESS || now.info.call_id.slen != (pj_ssize_t)length ||
        memcmp(now.info.call_id.ptr, call_id, length) != 0)
        return;
    pthread_mutex_lock(&calls.lock);
    call = calls_find_locked(&now.info.call_id);
    if (call) {
        call->id = id;
        call->account = now.info.acc_id;
    }
    pthread_mutex_unlock(&calls.lock);
    if (call)
        host.pjsua_call_reinvite(id, PJSUA_CALL_UPDATE_CONTACT, NULL);
}

static void calls_drop(struct hash_link *link) { free(entry_of(link, struct call, link)); }

void calls_clear(void)
{
    HOLD_LOCK(&calls.lock);
    hash_table_clear(&calls.connections, NULL);
    hash_table_clear(&calls.table, &calls_drop);
    calls.newest = calls.oldest = NULL;
}
