#include "transaction.h"

#include "address.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

uint64_t transaction_hash(const pj_str_t *branch, const pj_str_t *method)
{
    uint64_t beginning = HASH_SEED;

    /* No two methods (RFC 3261 and its extensions) begin with the same eight octets. */
    memcpy(&beginning, method->ptr, method->slen < 8 ? (size_t)method->slen : 8);
    return hash_text(beginning, branch);
}

/*
 * Returns the client transaction of that branch, with a reference (transaction_drop()); NULL: it has ended. The caller
 * may hold a transaction's lock.
 */
static pjsip_transaction *transaction_find_branch(pj_str_t branch, const pjsip_method *method)
{
    pjsip_transaction *tsx = NULL;
    pjsip_rx_data *rdata;
    pjsip_via_hdr via;
    pj_pool_t *pool;
    pj_str_t key;

    /* Of a message with a branch of RFC 3261, pjsip_tsx_create_key() reads that alone. */
    if (branch.slen <= 7 || memcmp(branch.ptr, "z9hG4bK", 7) != 0)
        return NULL;
    rdata = malloc(sizeof *rdata + (size_t)(layout.rdata_shift > 0 ? layout.rdata_shift : 0));
    pool = rdata ? host.pjsip_endpt_create_pool(host_endpoint(), "pjfail", 512, 512) : NULL;
    if (pool) {
        via.branch_param = branch;
        LAYOUT_AT(pjsip_via_hdr *, rdata, offsetof(pjsip_rx_data, msg_info.via) + layout.rdata_shift) = &via;
        if (host.pjsip_tsx_create_key(pool, &key, PJSIP_ROLE_UAC, method, rdata) == PJ_SUCCESS)
            tsx = host.pjsip_tsx_layer_find_tsx2(&key, PJ_TRUE);
        host.pjsip_endpt_release_pool(host_endpoint(), pool);
    }
    free(rdata);
    return tsx;
}

static pjsip_transaction *transaction_find(const struct transaction_key *key)
{
    const pj_str_t branch = { (char *)(uintptr_t)key->branch, (pj_ssize_t)key->branch_size };
    pjsip_method method;

    method.id = key->method_id;
    method.name.ptr = (char *)(uintptr_t)key->method;
    method.name.slen = (pj_ssize_t)strlen(key->method);
    return transaction_find_branch(branch, &method);
}

/* The reference is to its lock: the transaction itself may be freed once that is released. */
static void transaction_drop(pj_grp_lock_t *lock) { host.pj_grp_lock_dec_ref(lock); }

/* A transaction, referenced and locked; NULL: it has ended. */
struct transaction_held {
    pjsip_transaction *tsx;
    pj_grp_lock_t *lock;
};

static struct transaction_held transaction_acquire(pjsip_transaction *tsx)
{
    struct transaction_held held = { tsx, tsx ? tsx_lock(tsx) : NULL };

    if (tsx)
        host.pj_grp_lock_acquire(held.lock);
    return held;
}

static void transaction_release(struct transaction_held *held)
{
    if (!held->tsx)
        return;
    host.pj_grp_lock_release(held->lock);
    transaction_drop(held->lock);
}

/* Acquires the transaction that find returned, to the end of the block. */
#define HOLD_TRANSACTION(found)                                                                                        \
    __attribute__((cleanup(transaction_release))) struct transaction_held held = transaction_acquire(found);           \
    pjsip_transaction *const tsx __attribute__((unused)) = held.tsx

/* --- its transport, under its lock -------------------------------------------------------------------------------- */

/* pjsip's record of a listener to a transport's end; the same in every version. */
struct transport_listener {
    void *previous, *next;
    pjsip_tp_state_callback callback;
    void *user_data;
};

/*
 * pjsip's own callback, by which every transaction hears of its transport's end. It is static in sip_transaction.c, so
 * we learn it from the first transaction that stops listening. NULL: not yet.
 */
static _Atomic pjsip_tp_state_callback transaction_listener;

/* Takes the transaction out of its transport's listeners: the caller must then handle the transport's end. */
static void transaction_unlisten_locked(pjsip_transaction *tsx)
{
    pjsip_tp_state_listener_key **key = tsx_listener_key(tsx);
    const struct transport_listener *listener = (const struct transport_listener *)*key;

    if (!listener)
        return;
    if (listener->user_data == tsx)
        transaction_listener = listener->callback;
    if (tsx_transport(tsx))
        host.pjsip_transport_remove_state_listener(tsx_transport(tsx), *key, tsx);
    *key = NULL;
}

/* Adds the "alias" of a Via over connections, or takes it out; as stateless_send_transport_cb() has it. */
static void transaction_set_alias(pjsip_via_hdr *via, pj_pool_t *pool, int wanted)
{
    static const pj_str_t name = { "alias", 5 };
    pjsip_param *param = via->other_param.next;

    while (param != &via->other_param &&
           (param->name.slen != name.slen || memcmp(param->name.ptr, name.ptr, (size_t)name.slen) != 0))
        param = param->next;
    if (wanted && param == &via->other_param && (param = host.pj_pool_alloc(pool, sizeof *param)) != NULL) {
        memset(param, 0, sizeof *param);
        param->name = name;
        param->prev = via->other_param.prev;
        param->next = &via->other_param;
        param->prev->next = param->next->prev = param;
    } else if (!wanted && param != &via->other_param) {
        param->prev->next = param->next;
        param->next->prev = param->prev;
    }
}

/*
 * Has the message's Via name that transport, as pjsip would write it: its ACK and CANCEL are made of it. The text that was sent stays as
 * it is.
 */
static void transaction_write_via_locked(pjsip_transaction *tsx, const pjsip_transport *transport)
{
    pjsip_tx_data *sent = tsx_last_sent(tsx);
    pjsip_via_hdr *via = host.pjsip_msg_find_hdr(tdata_msg(sent), PJSIP_H_VIA, NULL);
    pjsip_host_port sent_by = *transport_local_name(transport);
    char *copy = via ? host.pj_pool_alloc(tdata_pool(sent), (pj_size_t)sent_by.host.slen + 1) : NULL;

    if (!copy)
        return;
    memcpy(copy, sent_by.host.ptr, (size_t)sent_by.host.slen);
    sent_by.host.ptr = copy;
    via->transport = address_via_name(transport_type(transport));
    via->sent_by = sent_by;
    if (host_writes_via_alias())
        transaction_set_alias(via, tdata_pool(sent), !transport_is_udp(transport));
    tdata_set_via(sent, &sent_by, transport);
}

/*
 * From now on pjsip repeats nothing: it would send the text that was sent before, whose Via names another transport. The caller repeats
 * what has to be.
 */
static void transaction_stop_repeating_locked(pjsip_transaction *tsx)
{
    pj_timer_heap_t *heap = host.pjsip_endpt_get_timer_heap(host_endpoint());

    tsx_set_reliable(tsx);
    host.pj_timer_heap_cancel_if_active(heap, tsx_retransmit_timer(tsx), 0);
}

/* Makes the transaction send over that transport, and listen to its end, as tsx_update_transport() does. */
static void transaction_change_transport_locked(pjsip_transaction *tsx, pjsip_transport *transport)
{
    pjsip_transport *old = tsx_transport(tsx);

    transaction_unlisten_locked(tsx);
    if (transport_type(transport) == transport_type(old)) {
        tdata_own_via(tsx_last_sent(tsx));
    } else {
        transaction_write_via_locked(tsx, transport);
        transaction_stop_repeating_locked(tsx);
    }
    tdata_set_transport(tsx_last_sent(tsx), transport);
    host.pjsip_transport_add_ref(transport);
    tsx_set_transport(tsx, transport);
    if (transaction_listener)
        host.pjsip_transport_add_state_listener(transport, transaction_listener, tsx, tsx_listener_key(tsx));
    if (old)
        host.pjsip_transport_dec_ref(old);
}

/* --- what it does -------------------------------------------------------------------------------------------------- */

/* Returns the transaction of the request in that message. */
static pjsip_transaction *transaction_find_of(const pjsip_tx_data *tdata)
{
    pjsip_via_hdr *via = host.pjsip_msg_find_hdr(tdata_msg(tdata), PJSIP_H_VIA, NULL);

    return via ? transaction_find_branch(via->branch_param, &tdata_msg(tdata)->line.req.method) : NULL;
}

/* Ends the transaction with that code, unless tsx is NULL. Drops the caller's reference. */
static void transaction_terminate(pjsip_transaction *tsx, int code)
{
    pj_grp_lock_t *lock;

    if (!tsx)
        return;
    lock = tsx_lock(tsx);
    host.pjsip_tsx_terminate(tsx, code);
    transaction_drop(lock);
}

void transaction_cancel(const pjsip_tx_data *tdata)
{
    transaction_terminate(transaction_find_of(tdata), PJSIP_SC_TSX_TIMEOUT);
}

void transaction_wait_for_unlock(pjsip_tx_data *tdata) { HOLD_TRANSACTION(transaction_find_of(tdata)); }

static int transaction_is_sending_over(pj_str_t branch, const pjsip_method *method, const pjsip_transport *transport)
{
    HOLD_TRANSACTION(transaction_find_branch(branch, method));
    return tsx && tsx_is_sending(tsx) && tsx_last_sent(tsx) && tdata_transport(tsx_last_sent(tsx)) == transport;
}

void transaction_wait_until_sent(pj_str_t branch, const pjsip_method *method, const pjsip_transport *transport,
                                 double seconds)
{
    double until = clock_now() + seconds;

    while (transaction_is_sending_over(branch, method, transport) && clock_now() < until)
        clock_pause(1e-4);
}

void transaction_receive(const struct transaction_key *key, pjsip_rx_data *response)
{
    pjsip_transaction *tsx = transaction_find(key);
    pj_grp_lock_t *lock;

    if (!tsx)
        return;
    lock = tsx_lock(tsx);
    host.pjsip_tsx_recv_msg(tsx, response);
    transaction_drop(lock);
}

int transaction_awaits_final(const struct transaction_key *key)
{
    HOLD_TRANSACTION(transaction_find(key));
    return tsx && tsx_awaits_final(tsx);
}

/* The dialog has the transaction as its own, and so is there as long as that awaits a response; its session is of the same memory. */
int transaction_is_hung_up(const struct transaction_key *key)
{
    HOLD_TRANSACTION(transaction_find(key));
    pjsip_dialog *dialog = tsx && tsx_awaits_final(tsx) ? host.pjsip_tsx_get_dlg(tsx) : NULL;
    const pjsip_inv_session *session = dialog ? host.pjsip_dlg_get_inv_session(dialog) : NULL;

    return session && session_is_hung_up(session);
}

int transaction_exists(const struct transaction_key *key)
{
    pjsip_transaction *tsx = transaction_find(key);

    if (tsx)
        transaction_drop(tsx_lock(tsx));
    return tsx != NULL;
}

int transaction_where(const struct transaction_key *key, pf_address *server)
{
    HOLD_TRANSACTION(transaction_find(key));
    return tsx && tsx_transport(tsx) && address_of(server, tsx_address(tsx), transport_type(tsx_transport(tsx)));
}

int transaction_is_kept(const struct transaction_key *key)
{
    HOLD_TRANSACTION(transaction_find(key));
    return tsx && tsx_is_open(tsx) && !*tsx_listener_key(tsx);
}

int transaction_move(const struct transaction_key *key, const pf_address *server, pjsip_transport *transport)
{
    HOLD_TRANSACTION(transaction_find(key));
    pjsip_tx_data *sent;
    pj_sockaddr address;
    int length = address_to_sockaddr(server, &address);

    if (!tsx || !tsx_is_open(tsx) || !tsx_transport(tsx))
        return 0;
    sent = tsx_last_sent(tsx);
    tdata_set_only_address(sent, address_pjsip_type(server), &address, length);
    tdata_set_destination(sent, &address, length);
    if (transport != tsx_transport(tsx))
        transaction_change_transport_locked(tsx, transport);
    tsx_set_address(tsx, &address, length);
    return 1;
}

void transaction_end(const struct transaction_key *key)
{
    transaction_terminate(transaction_find(key), PJSIP_SC_TSX_TRANSPORT_ERROR);
}

/* Under the transaction's lock. */
static int transaction_keep_alive_locked(pjsip_transaction *tsx, const pjsip_transport *transport)
{
    if (!tsx_is_open(tsx))
        return 0;
    if (tsx_transport(tsx) == transport)
        transaction_unlisten_locked(tsx);
    return 1;
}

int transaction_keep_alive(const struct transaction_key *key, const pjsip_transport *transport)
{
    HOLD_TRANSACTION(transaction_find(key));
    return tsx && transaction_keep_alive_locked(tsx, transport);
}

int transaction_try_keep_alive(const struct transaction_key *key, const pjsip_transport *transport, int wanted,
                               double seconds, int *busy)
{
    pjsip_transaction *tsx = transaction_find(key);
    const double until = clock_now() + seconds;
    pj_grp_lock_t *lock;
    int kept = 0;

    *busy = 0;
    if (!tsx)
        return 0;
    lock = tsx_lock(tsx);
    while ((*busy = host.pj_grp_lock_tryacquire(lock) != PJ_SUCCESS) && clock_now() < until)
        clock_pause(1e-4);
    if (!*busy) {
        kept = wanted && transaction_keep_alive_locked(tsx, transport);
        host.pj_grp_lock_release(lock);
    }
    transaction_drop(lock);
    return kept;
}

/* --- subscriptions ------------------------------------------------------------------------------------------------ */

/* Returns the SUBSCRIBE's event, or TRANSACTION_UNSUBSCRIBES if it ends the subscription; -1: another event. */
static int transaction_event_of(pjsip_msg *request)
{
    static const struct {
        const char *name;
        enum transaction_event event;
    } events[] = { { "presence", TRANSACTION_PRESENCE },
                   { "dialog", TRANSACTION_DIALOG },
                   { "message-summary", TRANSACTION_MESSAGE_SUMMARY } };
    const pjsip_expires_hdr *expires = host.pjsip_msg_find_hdr(request, PJSIP_H_EXPIRES, NULL);
    const pjsip_hdr *header;
    size_t i;

    for (header = request->hdr.next; header != &request->hdr; header = header->next) {
        const pj_str_t *type = &((const pjsip_event_hdr *)header)->event_type;

        if (header->name.slen != 5 || strncasecmp(header->name.ptr, "Event", 5) != 0)
            continue;
        for (i = 0; i < PJ_ARRAY_SIZE(events); i++)
            if (type->slen == (pj_ssize_t)strlen(events[i].name) &&
                !strncasecmp(type->ptr, events[i].name, (size_t)type->slen))
                return expires && !expires->ivalue ? TRANSACTION_UNSUBSCRIBES : (int)events[i].event;
    }
    return -1;
}

int transaction_subscription(pj_str_t branch, const pjsip_method *method, pjsip_evsub **evsub,
                             enum transaction_event *event)
{
    HOLD_TRANSACTION(transaction_find_branch(branch, method));
    pjsip_evsub *found = tsx ? host.pjsip_tsx_get_evsub(tsx) : NULL;
    int of = found && tsx_last_sent(tsx) ? transaction_event_of(tdata_msg(tsx_last_sent(tsx))) : -1;

    if (of < 0)
        return 0;
    host.pjsip_evsub_add_ref(found);
    *evsub = found;
    *event = (enum transaction_event)of;
    return 1;
}
