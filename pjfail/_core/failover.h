/*
 * failover.h: the request under way is tried at the plan's next server when the one that has it is silent, says 503, or has
 * lost its connection: in the same transaction, underneath the application. And every request is watched for what it tells of its
 * servers.
 *
 * The request's octets are sent to the next server by ourselves; the transaction layer matches the response by branch and method,
 * whoever gives it. The transaction itself is moved when the response comes, to where it came from, so that ACK, CANCEL and a
 * challenge's answer follow. The servers that had the request before keep it: their late response is as good.
 *
 * failover_decide() decides; what it says is done here, and nothing is decided here.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"

/*
 * Attaching thread. wake_at: has the polling thread call failover_tick() at that time. polled_since: tells since when that thread has
 * run.
 */
void failover_open(void (*wake_at)(double when), double (*polled_since)(double now));

/* Whoever detaches, when no SIP thread is inside us any more; no lock of ours or of pjsip's held: transactions' are taken. */
void failover_close(void);

/* For the pjsip_module. SIP threads, the transaction's lock held, no lock of ours. */
void failover_on_tx_request(pjsip_tx_data *tdata);

/* SIP threads, no lock held. Returns whether the application, and the transaction, shall not see the response. */
pj_bool_t failover_on_rx_response(pjsip_rx_data *rdata);

/* For the transport manager's state callback, before pjsip's own listeners hear of it. */
void failover_on_transport_state(pjsip_transport *transport, pjsip_transport_state state,
                                 const pjsip_transport_state_info *info);

/* pjsip's polling thread. */
void failover_tick(double now);

/* Returns how far apart the connects of a race are, in seconds; negative: no races. Attaching thread. */
double failover_connection_attempt_delay(void);

/* The requests that are watched. Any thread. */
unsigned long long failover_outstanding(void);

void failover_count(pf_counters *counters);
