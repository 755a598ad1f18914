/*
 * failover.h: tries the request under way at the plan's next server when its server is silent, answers 503, or loses
 * the connection: in the same transaction, without the application. It also watches every request for what that says
 * about its servers.
 *
 * We send the request's octets to the next server ourselves; the transaction layer matches the response by branch and
 * method, whichever server sends it. When the response comes, the transaction itself is moved to the server that sent
 * it, so that ACK, CANCEL and the answer to a challenge go there. The earlier servers still have the request, and a
 * late response of theirs counts as well.
 *
 * failover_decide() decides; this file only does what it says.
 */
#pragma once

#include "contact.h"
#include "layout.h"
#include "pjfail.h"

/*
 * wake_at: makes the polling thread call failover_tick() at that time. begin_ticks: tells that a request is under way
 * now. Attaching thread.
 */
void failover_open(void (*wake_at)(double when), void (*begin_ticks)(void), double (*polled_since)(double now));

/*
 * Gives all requests back to pjsip, and frees them. The detaching thread, once no SIP thread is inside the gate; no
 * lock of ours or of pjsip's held, because transactions' locks are taken.
 */
void failover_close(void);

/*
 * Called by our pjsip_module for each request that is sent. SIP threads; the transaction's lock is held, no lock of
 * ours.
 */
void failover_on_tx_request(pjsip_tx_data *tdata);

/*
 * Returns whether to keep the response from the transaction, and so from the application. Of a final response to a REGISTER it fills
 * in what was sent. SIP threads, no lock held.
 */
pj_bool_t failover_on_rx_response(pjsip_rx_data *rdata, struct contact_sent *sent);

/* Called by the transport manager's state callback, before pjsip's own listeners. */
void failover_on_transport_state(pjsip_transport *transport, pjsip_transport_state state,
                                 const pjsip_transport_state_info *info);

/* Processes the requests that are due. pjsip's polling thread. */
void failover_tick(double now);

/* Returns the seconds between two connects of a race; negative: no races. Attaching thread. */
double failover_connection_attempt_delay(void);

/* Returns how many requests are watched. Any thread. */
unsigned long long failover_outstanding(void);

void failover_count(pf_counters *counters);
