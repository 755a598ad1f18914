/*
 * transaction.h: pjsip's own transaction of a request under way: moved to the server that answers, kept from hearing of a
 * connection's end, given back, ended. What has no transaction any more is left alone.
 *
 * What was moved is as pjsip itself would have it: the strings that its message points to are the message's own, its transport is
 * referenced, and pjsip's own listener is on that transport, but while it is kept from hearing of an end.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"

#include <stdint.h>

/* What a client transaction is found by. */
struct transaction_key {
    char method[16];
    pjsip_method_e method_id;
    const char *branch;
    size_t branch_size;
};

/* Returns a hash of branch and method, of a transaction's key. Any thread. */
uint64_t transaction_hash(const pj_str_t *branch, const pj_str_t *method);

/*
 * Waits until the thread that asked where this request goes has left its transaction: on its way out it tells the application
 * that the request is sent, for which pjsua2 encodes the message, with no lock against who answers meanwhile and sends it. (Seen:
 * both encode, and twice the message's length of memory goes out on the wire.) Polling thread, no lock held; what it waits
 * for is the lock that sending takes next.
 */
void transaction_wait_for_unlock(pjsip_tx_data *tdata);

/*
 * Waits until the message that the client transaction of that branch was sending has been sent, for so many seconds at the most.
 * SIP thread, no lock held, none taken but the transaction table's.
 */
void transaction_wait_until_sent(pj_str_t branch, const pjsip_method *method, double seconds);

/* --- SIP threads that hold no lock of ours; the transaction's is taken -------------------------------------------- */

/* Returns whether it is there and has no final response. */
int transaction_awaits_final(const struct transaction_key *key);

/* Returns whether it is an INVITE's whose call was hung up: pjsip sends no CANCEL before the first response. */
int transaction_is_hung_up(const struct transaction_key *key);

/*
 * From now on it is server's, over that transport. One of another kind, or family, has the request's Via name it, and pjsip repeats
 * nothing any more, on no transport. Returns 0 when it cannot be moved.
 */
int transaction_move(const struct transaction_key *key, const pf_address *server, pjsip_transport *transport);

/* Returns whether it waits for a response on no connection any more, for it was kept from hearing of that one's end. */
int transaction_is_kept(const struct transaction_key *key);

/* Fills in the server that it sends to. Returns 0 when it is over. */
int transaction_where(const struct transaction_key *key, pf_address *server);

/* Returns whether it is there at all. */
int transaction_exists(const struct transaction_key *key);

/* Hands it a response, as if that had just come. */
void transaction_receive(const struct transaction_key *key, pjsip_rx_data *response);

/* Ends it, as its transport would. */
void transaction_end(const struct transaction_key *key);

/*
 * Ends the transaction of that request, not an INVITE, as if its time were over: it is not retransmitted any more. Does nothing
 * if the transaction has ended. Polling thread, no lock held; the caller owns a reference to tdata.
 */
void transaction_cancel(const pjsip_tx_data *tdata);

/* Keeps it from hearing of its connection's end. 0: it is over, or not under way yet. */
int transaction_keep_alive(const struct transaction_key *key, const pjsip_transport *transport);

/* As that where it is wanted, but does not wait for who is at the transaction, lest two threads wait in a circle. *busy: somebody is. */
int transaction_try_keep_alive(const struct transaction_key *key, const pjsip_transport *transport, int wanted,
                               int *busy);
