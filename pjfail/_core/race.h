/*
 * race.h: before a request is sent to a server that may be out of order, connections to it and to those behind it in the plan
 * are tried side by side, a little apart; the first that is there gets the request.
 *
 * Needed because pjsip waits for a TCP or TLS connect without a limit of its own, and what waits cannot be taken back. One
 * mutex, no other lock taken inside; connections are opened on pjsip's polling thread with none held.
 */
#ifndef PJFAIL_RACE_H
#define PJFAIL_RACE_H

#include "questions.h"

/* Attaching thread. deadline: seconds that a question may take in all. */
void race_open(pjsip_endpoint *endpt, double deadline, void (*wake_at)(double when));

/* Stops the races and returns their questions, for the caller to answer and free. Detaching thread. */
struct waiter *race_close(void);

/* Whether to race for that answer: its first server needs a connection, has none, and has not been heard of lately. No lock. */
int race_is_worth_it(const answer *planned, const struct asker *asker);

/* Takes ownership of waiter, or returns 0 and does not: closed, no memory. May be called with a transaction's lock held. */
int race_start(struct waiter *waiter, const answer *planned);

/* For the transport manager's state callback, after failover.c's. */
void race_on_transport_state(const pjsip_transport *transport, pjsip_transport_state state);

/* pjsip's polling thread. */
void race_tick(double now);

unsigned long long race_waiting(void);

#endif
