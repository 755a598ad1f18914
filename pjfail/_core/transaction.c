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
    pj_pool_t *pool = host.pjsip_endpt_create_pool(endpoint, "pjfail", 512, 512);
    pjsip_transaction *tsx = NULL;
    pjsip_rx_data *rdata;
    pjsip_via_hdr via;
    pj_str_t key;

    if (!pool)
        return NULL;
    rdata = calloc(1, sizeof *rdata + (size_t)(layout.rdata_shift > 0 ? layout.rdata_shift : 0));
    /* A branch of RFC 2543 would want more of a message than this one has. */
    if (rdata && branch.slen > 7 && !memcmp(branch.ptr, "z9hG4bK", 7)) {
        memset(&via, 0, sizeof via);
        via.branch_param = branch;
        LAYOUT_AT(pjsip_via_hdr *, rdata, offsetof(pjsip_rx_data, msg_info.via) + layout.rdata_shift) = &via;
        if (host.pjsip_tsx_create_key(pool, &key, PJSIP_ROLE_UAC, method, rdata) == PJ_SUCCESS)
            tsx = host.pjsip_tsx_layer_find_tsx2(&key, PJ_TRUE);
    }
    free(rdata);
    host.pjsip_endpt_release_pool(endpoint, pool);
    return tsx;
}

static pjsip_transaction *find(const struct course *course)
{
    const pj_str_t branch = { course->branch, (pj_ssize_t)course->branch_size };
    pjsip_method method;

    method.id = course->method_id;
    method.name.ptr = (char *)(uintptr_t)course->method;
    method.name.slen = (pj_ssize_t)strlen(course->method);
    return find_branch(branch, &method);
}

/* Its lock is what is referenced: the transaction itself may be gone once that is released. */
static void drop(pj_grp_lock_t *lock) { host.pj_grp_lock_dec_ref(lock); }

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

void transaction_receive(const struct course *course, pjsip_rx_data *response)
{
    pjsip_transaction *tsx = find(course);
    pj_grp_lock_t *lock;

    if (!tsx)
        return;
    lock = tsx_lock(tsx);
    host.pjsip_tsx_recv_msg(tsx, response);
    drop(lock);
}

int transaction_is_unanswered(const struct course *course)
{
    pjsip_transaction *tsx = find(course);
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

int transaction_move(const struct course *course, const pf_address *server, pjsip_transport *transport)
{
    pjsip_transaction *tsx = find(course);
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
        tsx_move(tsx, transport, &address, length);
    }
    host.pj_grp_lock_release(lock);
    drop(lock);
    return moved;
}

void transaction_end(const struct course *course)
{
    pjsip_transaction *tsx = find(course);
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
        tsx_unlisten(tsx);
    return 1;
}

int transaction_keep_alive(const struct course *course, const pjsip_transport *transport)
{
    pjsip_transaction *tsx = find(course);
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

int transaction_try_keep_alive(const struct course *course, const pjsip_transport *transport, int wanted, int *busy)
{
    pjsip_transaction *tsx = find(course);
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
