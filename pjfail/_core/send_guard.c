#include "send_guard.h"

#include "connections.h"
#include "transaction.h"

#include <pthread.h>
#include <stdatomic.h>

/*
 * Seconds: a request sent on a connection that was connecting leaves once it is established, by the thread that learns
 * of that.
 */
#define NEW_CONNECTION_S 2.0

/* A request being sent; on the stack of the sending thread. */
struct sending {
    struct sending *next;
    uint64_t hash; /* transaction_hash() */
    pthread_t thread;
};

/* Guarded by lock; count is read without it. */
static struct {
    pthread_mutex_t lock;
    struct sending *first;
    atomic_uint count;
} send_guard = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Lists the sending of the query's request, if the query belongs to a request. No lock held. */
static void send_guard_begin(struct sending *sending, const struct pending_query *query)
{
    pjsip_tx_data *tdata;
    pjsip_via_hdr *via;

    if (!query->request_info.sends)
        return;
    tdata = ((pjsip_send_state *)query->token)->tdata;
    via = host.pjsip_msg_find_hdr(tdata_msg(tdata), PJSIP_H_VIA, NULL);
    sending->hash = via ? transaction_hash(&via->branch_param, &tdata_msg(tdata)->line.req.method.name) : 0;
    sending->thread = pthread_self();
    pthread_mutex_lock(&send_guard.lock);
    sending->next = send_guard.first;
    send_guard.first = sending;
    atomic_fetch_add(&send_guard.count, 1);
    pthread_mutex_unlock(&send_guard.lock);
    transaction_wait_for_unlock(tdata);
}

static void send_guard_end(struct sending *sending, const struct pending_query *query)
{
    struct sending **place = &send_guard.first;

    if (!query->request_info.sends)
        return;
    pthread_mutex_lock(&send_guard.lock);
    while (*place != sending)
        place = &(*place)->next;
    *place = sending->next;
    atomic_fetch_sub(&send_guard.count, 1);
    pthread_mutex_unlock(&send_guard.lock);
}

void send_guard_answer(const struct pending_query *query, pj_status_t status, const pjsip_server_addresses *addresses)
{
    struct sending sending;

    send_guard_begin(&sending, query);
    connections_answer(query->callback, status, query->token, addresses);
    send_guard_end(&sending, query);
}

void send_guard_return(struct pending_query *query)
{
    struct sending sending;

    send_guard_begin(&sending, query);
    host.pjsip_endpt_resolve(host_endpoint(), query->pool, &query->info, query->token, query->callback);
    send_guard_end(&sending, query);
}

static int send_guard_is_sending_elsewhere(uint64_t hash)
{
    const struct sending *sending;

    if (!atomic_load(&send_guard.count))
        return 0;
    pthread_mutex_lock(&send_guard.lock);
    for (sending = send_guard.first; sending; sending = sending->next)
        if (sending->hash == hash && !pthread_equal(sending->thread, pthread_self()))
            break;
    pthread_mutex_unlock(&send_guard.lock);
    return sending != NULL;
}

int send_guard_wait(uint64_t hash, double seconds)
{
    double until = clock_now() + seconds;
    int sending;

    while ((sending = send_guard_is_sending_elsewhere(hash)) && clock_now() < until)
        clock_pause(1e-4);
    return !sending;
}

void send_guard_wait_for_sender(const pjsip_rx_data *response)
{
    const pjsip_via_hdr *via = RDATA_INFO(response)->via;
    const pjsip_cseq_hdr *cseq = RDATA_INFO(response)->cseq;

    if (!via || !cseq)
        return;
    if (atomic_load(&send_guard.count))
        send_guard_wait(transaction_hash(&via->branch_param, &cseq->method.name), SEND_TIMEOUT_S);
    if (connections_is_new(response->tp_info.transport, NEW_CONNECTION_S))
        transaction_wait_until_sent(via->branch_param, &cseq->method, response->tp_info.transport, SEND_TIMEOUT_S);
}
