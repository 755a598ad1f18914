/*
 * send_guard.h: makes a response wait while another thread is still sending its request.
 *
 * Symptom: a response that another polling thread brings in ends the transaction while its request is still being
 * sent; its reference is then counted down twice, and pjsip's assertion in lock.c ends the program. pjsip takes the
 * transaction's lock only after the message is on the wire: in send_msg_callback(), when a resolver has answered, and
 * when a connect has succeeded (tcp_flush_pending_tx()). It happens without pjfail, too, if several threads poll.
 */
#pragma once

#include "layout.h"
#include "request_info.h"

/* Seconds: sending itself does not wait, but within it the application may be told of a failure, and do anything. */
#define SEND_TIMEOUT_S 1.0

/* A query of pjsip's, with what its callback needs. */
struct pending_query {
    struct pending_query *next;
    pj_pool_t *pool;
    pjsip_host_info info; /* its host points to name */
    void *token;
    pjsip_resolver_callback *callback;
    struct request_info request_info;
    double since; /* when pjsip asked */
    char name[PF_MAX_HOST];
};

/* Answers the query, by connections_answer(). Polling thread, no lock held. */
void send_guard_answer(const struct pending_query *query, pj_status_t status, const pjsip_server_addresses *addresses);

/* Has pjsip's own resolver answer the query. Not for a SIP thread: it looks a name up on the spot. No lock held. */
void send_guard_return(struct pending_query *query);

/*
 * Waits while another thread is sending the request that this responds to. SIP thread, no lock held; also while
 * detached.
 */
void send_guard_wait_for_sender(const pjsip_rx_data *response);

/* Waits, at most so many seconds, while another thread is sending that request. Returns whether none is. SIP thread, no lock held. */
int send_guard_wait(uint64_t hash, double seconds);
