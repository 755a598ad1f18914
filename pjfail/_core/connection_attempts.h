/*
 * connection_attempts.h: before a request is sent to a server that may be out of order, connections to it and to those behind it in
 * the plan are tried side by side, a little apart; the first that is there gets the request.
 *
 * Needed because pjsip waits for a TCP or TLS connect without a limit of its own, and what waits cannot be taken back. One
 * mutex, no other lock taken inside; connections are opened on pjsip's polling thread with none held.
 */
#pragma once

#include "send_guard.h"

/*
 * Begins to take races. deadline: seconds that a query may take in all; delay: between two connects, negative: no
 * races. Attaching thread.
 */
void connection_attempts_open(double deadline, double delay, void (*wake_at)(double when));

/* Stops the races, and returns their queries in front of all, for the caller to answer and free. Detaching thread. */
struct pending_query *connection_attempts_close(struct pending_query *all);

/* Returns whether to race for that answer: its first server needs a connection, has none, and has not been heard of lately. No lock. */
int connection_attempts_are_useful(const server_addresses *planned, const struct request_info *info);

/* Takes ownership of query, or returns 0 and does not: closed, no memory. May be called with a transaction's lock held. */
int connection_attempts_start(struct pending_query *query, const server_addresses *planned);

/*
 * Notes what became of a connection that is raced for. The thread that tells of the state, after
 * failover_on_transport_state(), no lock of ours held.
 */
void connection_attempts_on_transport_state(const pjsip_transport *transport, pjsip_transport_state state);

/*
 * Begins the connects that are due, and ends the races that are decided or late. pjsip's polling thread, no lock
 * held.
 */
void connection_attempts_tick(double now);

/* Adds the races to those that wait, and counts those begun. Any thread. */
void connection_attempts_count(pf_counters *counters);
