#include "sending.h"

#include "connections.h"
#include "requests.h"
#include "transaction.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

/* Sending waits for nobody, but the application may be told of its failure within it, and do anything. */
#define LONGEST 1.0

/* What was sent on a connection while it was being made is sent once it is there, by the thread that hears of it. */
#define NEW_CONNECTION_S 2.0

/* On the stack of its thread. */
struct sending {
    struct sending *next;
    uint64_t hash;              /* request_hash() */
    pthread_t thread;
};

/* Guarded by lock; count is read without it. */
static struct {
    pthread_mutex_t lock;
    struct sending *first;
    atomic_uint count;
} self = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Lists the sending of the waiter's request, if it is about one. No lock held. */
static void begin(struct sending *sending, const struct waiter *waiter)
{
    pjsip_tx_data *tdata;
    pjsip_via_hdr *via;

    if (!waiter->asker.sends)
        return;
    tdata = ((pjsip_send_state *)waiter->token)->tdata;
    via = host.pjsip_msg_find_hdr(tdata_msg(tdata), PJSIP_H_VIA, NULL);
    sending->hash = via ? request_hash(&via->branch_param, &tdata_msg(tdata)->line.req.method.name) : 0;
    sending->thread = pthread_self();
    pthread_mutex_lock(&self.lock);
    sending->next = self.first;
    self.first = sending;
    atomic_fetch_add(&self.count, 1);
    pthread_mutex_unlock(&self.lock);
    transaction_settle(tdata);
}

static void end(struct sending *sending, const struct waiter *waiter)
{
    struct sending **place = &self.first;

    if (!waiter->asker.sends)
        return;
    pthread_mutex_lock(&self.lock);
    while (*place != sending)
        place = &(*place)->next;
    *place = sending->next;
    atomic_fetch_sub(&self.count, 1);
    pthread_mutex_unlock(&self.lock);
}

void sending_answer(const struct waiter *waiter, pj_status_t status, const pjsip_server_addresses *addresses)
{
    struct sending sending;

    begin(&sending, waiter);
    connections_answer(waiter->callback, status, waiter->token, addresses);
    end(&sending, waiter);
}

void sending_return(pjsip_endpoint *endpt, struct waiter *waiter)
{
    struct sending sending;

    begin(&sending, waiter);
    host.pjsip_endpt_resolve(endpt, waiter->pool, &waiter->info, waiter->token, waiter->callback);
    end(&sending, waiter);
}

int sending_is_elsewhere(uint64_t hash)
{
    const struct sending *sending;

    if (!atomic_load(&self.count))
        return 0;
    pthread_mutex_lock(&self.lock);
    for (sending = self.first; sending; sending = sending->next)
        if (sending->hash == hash && !pthread_equal(sending->thread, pthread_self()))
            break;
    pthread_mutex_unlock(&self.lock);
    return sending != NULL;
}

void sending_await(uint64_t hash)
{
    const struct timespec pause = { 0, 100000 };
    double until = host_now() + LONGEST;

    while (sending_is_elsewhere(hash) && host_now() < until)
        nanosleep(&pause, NULL);
}

void sending_settle(const pjsip_rx_data *response)
{
    const pjsip_via_hdr *via = RDATA_INFO(response)->via;
    const pjsip_cseq_hdr *cseq = RDATA_INFO(response)->cseq;

    if (!via || !cseq)
        return;
    if (atomic_load(&self.count))
        sending_await(request_hash(&via->branch_param, &cseq->method.name));
    if (connections_is_new(response->tp_info.transport, NEW_CONNECTION_S))
        transaction_await_sent(via->branch_param, &cseq->method, LONGEST);
}
