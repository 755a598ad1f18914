/*
 * connection_attempts.h: connection attempts side by side (RFC 8305). Before a request goes to a server that may be
 * down, connections to that server and to those behind it in the plan are started, a short delay apart; the first one
 * established gets the request.
 *
 * Needed because pjsip does not limit how long a TCP or TLS connect may take, and a request that waits for one cannot
 * be taken back. One mutex; that of connections.c may be taken inside. The polling thread opens the connections, holding
 * no lock.
 */
#pragma once

#include "send_guard.h"

/*
 * Begins to take races. deadline: seconds that a query may take in all; delay: between two connects, negative: no
 * races. Attaching thread.
 */
void connection_attempts_open(double deadline, double delay, void (*wake_at)(double when));

/*
 * Stops the races. Puts their queries in front of the list all, and returns it; the caller answers and frees them.
 * Detaching thread.
 */
struct pending_query *connection_attempts_close(struct pending_query *all);

/*
 * Returns whether to race for this answer: its first server needs a connection, has none, and has not answered lately.
 * No lock.
 */
int connection_attempts_are_useful(const server_addresses *planned, const struct request_info *info);

/*
 * Starts a race, and takes ownership of query. Returns 0 and does not take it if closed or out of memory. The caller
 * may hold a transaction's lock.
 */
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

/* Adds the races to the count of waiting queries, and counts the races begun. Any thread. */
void connection_attempts_count(pf_counters *counters);
