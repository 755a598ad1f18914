/*
 * transaction.h: works with pjsip's own transaction of a request under way: moves it to the server that answers, keeps
 * it from hearing of a connection's end, gives it back, ends it. Does nothing if the transaction has ended.
 *
 * A moved transaction is as pjsip itself would have it: the strings that its message points to belong to the message,
 * its transport is referenced, and pjsip's own listener is on that transport, except while the transaction is kept
 * from hearing of an end.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"

#include <stdint.h>

/* The key of a client transaction. */
struct transaction_key {
    char method[16];
    pjsip_method_e method_id;
    const char *branch;
    size_t branch_size;
};

/* Return a hash of branch and method, given these or a transaction's key. Any thread. */
uint64_t transaction_hash(const pj_str_t *branch, const pj_str_t *method);

/*
 * Waits until the thread that asked for this request's server has left its transaction. On its way out that thread
 * tells the application that the request is sent; for that pjsua2 encodes the message, without a lock against the
 * thread that answers meanwhile and sends it. (Seen: both encode, and twice the message's length of memory is sent.)
 * Polling thread, no lock held; it waits for the lock that sending takes next.
 */
void transaction_wait_for_unlock(pjsip_tx_data *tdata);

/*
 * Waits, at most so many seconds, until the client transaction of that branch has sent its message over that transport, if
 * that is what it sends it over: to another server it may wait for a connection for long. SIP thread, no lock held.
 */
void transaction_wait_until_sent(pj_str_t branch, const pjsip_method *method, const pjsip_transport *transport,
                                 double seconds);

/* --- SIP threads that hold no lock of ours; the transaction's is taken -------------------------------------------- */

/* Returns whether it is there and has no final response. */
int transaction_awaits_final(const struct transaction_key *key);

/* Returns whether it is an INVITE's whose call was hung up: pjsip sends no CANCEL before the first response. */
int transaction_is_hung_up(const struct transaction_key *key);

/* What a SUBSCRIBE subscribes to: as pjsua does, and nothing else. */
enum transaction_event {
    TRANSACTION_UNSUBSCRIBES,
    TRANSACTION_PRESENCE,
    TRANSACTION_DIALOG,
    TRANSACTION_MESSAGE_SUMMARY
};

/*
 * Fills in the subscription that the client transaction of that branch belongs to, referenced, and its event. Returns 0 if
 * there is none, or of another event.
 */
int transaction_subscription(pj_str_t branch, const pjsip_method *method, pjsip_evsub **evsub,
                             enum transaction_event *event);

/*
 * Moves the transaction to the server, over that transport. Returns 0 if that is not possible.
 */
int transaction_move(const struct transaction_key *key, const pf_address *server, pjsip_transport *transport);

/*
 * Returns whether the transaction waits on no connection any more, because it was kept from hearing of the
 * connection's end.
 */
int transaction_is_kept(const struct transaction_key *key);

/* Fills in the server that the transaction sends to. Returns 0 if the transaction has ended. */
int transaction_where(const struct transaction_key *key, pf_address *server);

/* Returns whether the transaction exists. */
int transaction_exists(const struct transaction_key *key);

/* Passes a response to the transaction, as if it had just come. */
void transaction_receive(const struct transaction_key *key, pjsip_rx_data *response);

/* Ends the transaction, as the end of its transport would. */
void transaction_end(const struct transaction_key *key);

/*
 * Ends the transaction of that request, not an INVITE, as if its time were over: it is not retransmitted any more. Does nothing
 * if the transaction has ended. Polling thread, no lock held; the caller owns a reference to tdata.
 */
void transaction_cancel(const pjsip_tx_data *tdata);

/*
 * Keeps the transaction from hearing of its connection's end. Returns 0 if the transaction has ended, or is not under
 * way yet.
 */
int transaction_keep_alive(const struct transaction_key *key, const pjsip_transport *transport);

/*
 * Does the same if wanted is set, but waits for a thread that holds the transaction for so many seconds at most, so that two
 * threads do not wait for each other. *busy: another thread still holds it.
 */
int transaction_try_keep_alive(const struct transaction_key *key, const pjsip_transport *transport, int wanted,
                               double seconds, int *busy);
