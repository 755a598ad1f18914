/*
 * sending.h: requests that the polling thread sends as it answers where they go, and their responses meanwhile.
 *
 * pjsip takes the transaction's lock for that only after the message is on the wire. A response that another polling thread
 * brings before then ends the transaction, whose reference is counted down twice: pjsip's assertion ends the program. (So it does
 * with DNS of pjsip's own.) Such a response waits for the sending to be over. What pjsip sends once its own connect succeeds is not
 * seen here.
 */
#ifndef PJFAIL_SENDING_H
#define PJFAIL_SENDING_H

#include "questions.h"

/* Calls a question's asker back, by connections_answer(). Polling thread, no lock held. */
void sending_answer(const struct waiter *waiter, pj_status_t status, const pjsip_server_addresses *addresses);

/* Has pjsip's own resolver answer waiter. Not for a SIP thread: a name is looked up on the spot. No lock held. */
void sending_return(pjsip_endpoint *endpt, struct waiter *waiter);

/* Waits while another thread is sending the request that this answers. SIP thread, no lock held. Detached, too. */
void sending_settle(const pjsip_rx_data *response);

/* As that, for a request_hash(). */
void sending_await(uint64_t hash);

/* Whether another thread is sending that request. Any thread. */
int sending_is_elsewhere(uint64_t hash);

#endif
