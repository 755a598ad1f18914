/*
 * steering.h: the request under way goes on to the plan's next server when the one that has it is silent, says 503, or has
 * lost its connection: in the same transaction, underneath the application.
 *
 * The request's bytes are sent to the next server by hand; the transaction layer matches the answer by branch and method,
 * whoever gives it. The transaction itself is moved when the answer comes, to where it came from, so that ACK, CANCEL and a
 * challenge's answer follow. The servers that had it before keep theirs, and pjsip's retransmissions: their late answer is
 * as good, and nobody is worse off than without us.
 */
#ifndef PJFAIL_STEERING_H
#define PJFAIL_STEERING_H

#include "layout.h"
#include "pjfail.h"

/* Attaching and detaching thread. wake_at: has the polling thread call steering_tick() at that time. */
void steering_open(pjsip_endpoint *endpt, void (*wake_at)(double when));
void steering_close(void);

/* For the pjsip_module, after the observer. SIP threads, the transaction's lock held, no lock of ours. */
void steering_on_tx_request(pjsip_tx_data *tdata);

/* SIP threads, no lock held. Whether the application, and the transaction, shall not see the response. */
pj_bool_t steering_on_rx_response(pjsip_rx_data *rdata);

/* For the transport manager's state callback, before pjsip's own listeners hear of it. */
void steering_on_transport_state(pjsip_transport *transport, pjsip_transport_state state);

/* pjsip's polling thread. */
void steering_tick(double now);

/* Whether the application wants races, and how far apart their connects are; negative: no races. Any thread. */
double steering_race_gap(void);

/* A race was started. Any thread. */
void steering_count_race(void);

void steering_count(pf_counters *counters);

#endif
