#include "transaction.h"

#include "plans.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Written while attaching. */
static pjsip_endpoint *endpoint;

void transaction_open(pjsip_endpoint *endpt) { endpoint = endpt; }

/* The client transaction of that branch, with a reference (drop()); NULL when it is over. May hold a transaction's lock. */
static pjsip_transaction *find_branch(pj_str_t branch, const pjsip_method *method)
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
    pool = rdata ? host.pjsip_endpt_create_pool(endpoint, "pjfail", 512, 512) : NULL;
    if (pool) {
        via.branch_param = branch;
        LAYOUT_AT(pjsip_via_hdr *, rdata, offsetof(pjsip_rx_data, msg_info.via) + layout.rdata_shift) = &via;
        if (host.pjsip_tsx_create_key(pool, &key, PJSIP_ROLE_UAC, method, rdata) == PJ_SUCCESS)
            tsx = host.pjsip_tsx_layer_find_tsx2(&key, PJ_TRUE);
        host.pjsip_endpt_release_pool(endpoint, pool);
    }
    free(rdata);
    return tsx;
}

static pjsip_transaction *find(const struct request *request)
{
    const pj_str_t branch = { (char *)(uintptr_t)request->branch, (pj_ssize_t)request->branch_size };
    pjsip_method method;

    method.id = request->method_id;
    method.name.ptr = (char *)(uintptr_t)request->method;
    method.name.slen = (pj_ssize_t)strlen(request->method);
    return find_branch(branch, &method);
}

/* Its lock is what is referenced: the transaction itself may be gone once that is released. */
static void drop(pj_grp_lock_t *lock) { host.pj_grp_lock_dec_ref(lock); }

/* --- its transport, under its lock -------------------------------------------------------------------------------- */

/* As pjsip keeps those that hear of a transport's end; the same in every version. */
struct transport_listener {
    void *previous, *next;
    pjsip_tp_state_callback callback;
    void *user_data;
};

/*
 * pjsip's own callback by which every transaction hears of its transport's end. It is static in sip_transaction.c, and so is learnt
 * from the first transaction that stops listening. NULL: not yet.
 */
static _Atomic pjsip_tp_state_callback transaction_listener;

/* From now on the end of its transport does not end it: the caller sees to that. */
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

/* What it sends from now on goes over that transport, whose end it hears of; as tsx_update_transport() has it. */
static void transaction_change_transport_locked(pjsip_transaction *tsx, pjsip_transport *transport)
{
    pjsip_transport *old = tsx_transport(tsx);

    transaction_unlisten_locked(tsx);
    tdata_own_via(tsx_last_sent(tsx));
    tdata_set_transport(tsx_last_sent(tsx), transport);
    host.pjsip_transport_add_ref(transport);
    tsx_set_transport(tsx, transport);
    if (transaction_listener)
        host.pjsip_transport_add_state_listener(transport, transaction_listener, tsx, tsx_listener_key(tsx));
    if (old)
        host.pjsip_transport_dec_ref(old);
}

/* --- what it does -------------------------------------------------------------------------------------------------- */

/* As find(), of the request in that message. */
static pjsip_transaction *transaction_find_of(const pjsip_tx_data *tdata)
{
    pjsip_via_hdr *via = host.pjsip_msg_find_hdr(tdata_msg(tdata), PJSIP_H_VIA, NULL);

    return via ? find_branch(via->branch_param, &tdata_msg(tdata)->line.req.method) : NULL;
}

void transaction_cancel(const pjsip_tx_data *tdata)
{
    pjsip_transaction *tsx = transaction_find_of(tdata);
    pj_grp_lock_t *lock;

    if (!tsx)
        return;
    lock = tsx_lock(tsx);
    host.pjsip_tsx_terminate(tsx, PJSIP_SC_TSX_TIMEOUT);
    drop(lock);
}

void transaction_settle(pjsip_tx_data *tdata)
{
    pjsip_transaction *tsx = transaction_find_of(tdata);
    pj_grp_lock_t *lock;

    if (!tsx)
        return;
    lock = tsx_lock(tsx);
    host.pj_grp_lock_acquire(lock);
    host.pj_grp_lock_release(lock);
    drop(lock);
}

void transaction_await_sent(pj_str_t branch, const pjsip_method *method, double seconds)
{
    const struct timespec pause = { 0, 100000 };
    pjsip_transaction *tsx = find_branch(branch, method);
    double until = host_now() + seconds;
    pj_grp_lock_t *lock;

    if (!tsx)
        return;
    lock = tsx_lock(tsx);
    while (tsx_is_sending(tsx) && host_now() < until)
        nanosleep(&pause, NULL);
    drop(lock);
}

void transaction_receive(const struct request *request, pjsip_rx_data *response)
{
    pjsip_transaction *tsx = find(request);
    pj_grp_lock_t *lock;

    if (!tsx)
        return;
    lock = tsx_lock(tsx);
    host.pjsip_tsx_recv_msg(tsx, response);
    drop(lock);
}

int transaction_is_unanswered(const struct request *request)
{
    pjsip_transaction *tsx = find(request);
    pj_grp_lock_t *lock;
    int unanswered;

    if (!tsx)
        return 0;
    lock = tsx_lock(tsx);
    host.pj_grp_lock_acquire(lock);
    unanswered = tsx_is_unanswered(tsx);
    host.pj_grp_lock_release(lock);
    drop(lock);
    return unanswered;
}

int transaction_exists(const struct request *request)
{
    pjsip_transaction *tsx = find(request);

    if (tsx)
        drop(tsx_lock(tsx));
    return tsx != NULL;
}

int transaction_where(const struct request *request, pf_address *server)
{
    pjsip_transaction *tsx = find(request);
    pj_grp_lock_t *lock;
    int known;

    if (!tsx)
        return 0;
    lock = tsx_lock(tsx);
    host.pj_grp_lock_acquire(lock);
    known = tsx_transport(tsx) && address_of(server, tsx_address(tsx), transport_type(tsx_transport(tsx)));
    host.pj_grp_lock_release(lock);
    drop(lock);
    return known;
}

int transaction_is_kept(const struct request *request)
{
    pjsip_transaction *tsx = find(request);
    pj_grp_lock_t *lock;
    int kept;

    if (!tsx)
        return 0;
    lock = tsx_lock(tsx);
    host.pj_grp_lock_acquire(lock);
    kept = tsx_is_open(tsx) && !*tsx_listener_key(tsx);
    host.pj_grp_lock_release(lock);
    drop(lock);
    return kept;
}

int transaction_move(const struct request *request, const pf_address *server, pjsip_transport *transport)
{
    pjsip_transaction *tsx = find(request);
    pj_grp_lock_t *lock;
    pj_sockaddr address;
    int length = address_to_sockaddr(server, &address), moved;

    if (!tsx)
        return 0;
    lock = tsx_lock(tsx);
    host.pj_grp_lock_acquire(lock);
    moved = tsx_is_open(tsx) && tsx_transport(tsx);
    if (moved) {
        pjsip_tx_data *sent = tsx_last_sent(tsx);
        const pjsip_server_addresses *addresses = tdata_addresses(sent);
        unsigned i;

        for (i = 0; i < answer_count(addresses); i++) {
            pf_address each;

            if (address_of(&each, answer_address(addresses, i), answer_type(addresses, i)) &&
                !memcmp(&each, server, sizeof each)) {
                tdata_keep_address(sent, i);
                break;
            }
        }
        tdata_set_destination(sent, &address, length);
        if (transport != tsx_transport(tsx))
            transaction_change_transport_locked(tsx, transport);
        tsx_set_address(tsx, &address, length);
    }
    host.pj_grp_lock_release(lock);
    drop(lock);
    return moved;
}

void transaction_end(const struct request *request)
{
    pjsip_transaction *tsx = find(request);
    pj_grp_lock_t *lock;

    if (!tsx)
        return;
    lock = tsx_lock(tsx);
    host.pjsip_tsx_terminate(tsx, PJSIP_SC_TSX_TRANSPORT_ERROR);
    drop(lock);
}

/* Under the transaction's lock. */
static int keep_alive(pjsip_transaction *tsx, const pjsip_transport *transport)
{
    if (!tsx_is_open(tsx))
        return 0;
    if (tsx_transport(tsx) == transport)
        transaction_unlisten_locked(tsx);
    return 1;
}

int transaction_keep_alive(const struct request *request, const pjsip_transport *transport)
{
    pjsip_transaction *tsx = find(request);
    pj_grp_lock_t *lock;
    int kept;

    if (!tsx)
        return 0;
    lock = tsx_lock(tsx);
    host.pj_grp_lock_acquire(lock);
    kept = keep_alive(tsx, transport);
    host.pj_grp_lock_release(lock);
    drop(lock);
    return kept;
}

int transaction_try_keep_alive(const struct request *request, const pjsip_transport *transport, int wanted, int *busy)
{
    pjsip_transaction *tsx = find(request);
    const struct timespec pause = { 0, 100000 };
    pj_grp_lock_t *lock;
    int kept = 0, i;

    *busy = 0;
    if (!tsx)
        return 0;
    lock = tsx_lock(tsx);
    /* Who sends is done at once, as a rule. */
    for (i = 0; (*busy = host.pj_grp_lock_tryacquire(lock) != PJ_SUCCESS) && i < 10; i++)
        nanosleep(&pause, NULL);
    if (!*busy) {
        kept = wanted && keep_alive(tsx, transport);
        host.pj_grp_lock_release(lock);
    }
    drop(lock);
    return kept;
}
