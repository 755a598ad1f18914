/*
 * send_guard.h: a response waits while another thread is still sending the request that it answers.
 *
 * pjsip takes the transaction's lock only after the message is on the wire: in send_msg_callback(), when a resolver has answered,
 * or when a connect has succeeded (tcp_flush_pending_tx()). A response that another polling thread brings before then ends the
 * transaction, whose reference is counted down twice: pjsip's assertion in lock.c ends the program. (So it does without us, where
 * several threads poll.)
 */
#pragma once

#include "layout.h"
#include "request_info.h"

/* What pjsip wants to be called back with. */
struct pending_query {
    struct pending_query *next;
    pj_pool_t *pool;
    pjsip_host_info info; /* its host is in name */
    void *token;
    pjsip_resolver_callback *callback;
    struct request_info request_info;
    double since; /* when it was asked */
    char name[PF_MAX_HOST];
};

/* Calls back whoever made the query, by connections_answer(). Polling thread, no lock held. */
void send_guard_answer(const struct pending_query *query, pj_status_t status, const pjsip_server_addresses *addresses);

/* Has pjsip's own resolver answer query. Not for a SIP thread: a name is looked up on the spot. No lock held. */
void send_guard_return(struct pending_query *query);

/* Waits while another thread is sending the request that this answers. SIP thread, no lock held. Detached, too. */
void send_guard_wait_for_sender(const pjsip_rx_data *response);

/* Waits as send_guard_wait_for_sender() does, for a transaction_hash(). */
void send_guard_wait(uint64_t hash);

/* Returns whether another thread is sending that request. Any thread. */
int send_guard_is_sending_elsewhere(uint64_t hash);
