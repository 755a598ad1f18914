/*
 * sending.h: a response waits while another thread is still sending the request that it answers.
 *
 * pjsip takes the transaction's lock only after the message is on the wire: in send_msg_callback(), when a resolver has answered, or
 * when a connect has succeeded (tcp_flush_pending_tx()). A response that another polling thread brings before then ends the
 * transaction, whose reference is counted down twice: pjsip's assertion in lock.c ends the program. (So it does without us, where
 * several threads poll.)
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
