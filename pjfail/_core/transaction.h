/*
 * transaction.h: pjsip's own transaction of a request under way, found by branch and method: moved to the server that answers,
 * kept from hearing of a connection's end, ended. What has no transaction any more is left alone.
 */
#ifndef PJFAIL_TRANSACTION_H
#define PJFAIL_TRANSACTION_H

#include "course.h"
#include "layout.h"

/* Attaching thread. */
void transaction_open(pjsip_endpoint *endpt);

/*
 * Waits until the thread that asked where this request goes has left its transaction: on its way out it tells the application
 * that the request is sent, for which pjsua2 encodes the message, with no lock against who answers meanwhile and sends it. (Seen:
 * both encode, and twice the message's length of memory goes out on the wire.) Polling thread, no lock held; what it waits
 * for is the lock that sending takes next.
 */
void transaction_settle(pjsip_tx_data *tdata);

/* --- SIP threads that hold no lock of ours; the transaction's is taken -------------------------------------------- */

/* Whether it waits for an answer, without any so far. */
int transaction_is_unanswered(const struct course *course);

/* From now on it is server's, over that transport. 0: it cannot be moved. */
int transaction_move(const struct course *course, const pf_address *server, pjsip_transport *transport);

/* Hands it a response, as if that had just come. */
void transaction_receive(const struct course *course, pjsip_rx_data *response);

/* Ends it, as its transport would. */
void transaction_end(const struct course *course);

/*
 * Ends the transaction of that request, not an INVITE, as if its time were over: it is not retransmitted any more. Does nothing
 * if the transaction has ended. Polling thread, no lock held; the caller owns a reference to tdata.
 */
void transaction_cancel(const pjsip_tx_data *tdata);

/* Keeps it from hearing of its connection's end. 0: it is over, or not under way yet. */
int transaction_keep_alive(const struct course *course, const pjsip_transport *transport);

/* As that where it is wanted, but does not wait for who is at the transaction, lest two threads wait in a circle. *busy: somebody is. */
int transaction_try_keep_alive(const struct course *course, const pjsip_transport *transport, int wanted, int *busy);

#endif
