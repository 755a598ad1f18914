/*
 * observer.h: sees every request and response on the wire and every connection's end, and notes what they tell of
 * a server. It changes nothing.
 */
#ifndef PJFAIL_OBSERVER_H
#define PJFAIL_OBSERVER_H

#include "layout.h"

/* For the pjsip_module, just above the transport layer. SIP threads, no lock of ours held. */
pj_status_t observer_on_tx_request(pjsip_tx_data *tdata);
pj_bool_t observer_on_rx_response(pjsip_rx_data *rdata);

/* For the transport manager's state callback. */
void observer_on_transport_state(pjsip_transport *transport, pjsip_transport_state state,
                                 const pjsip_transport_state_info *info);

/* Calls back with an answer: the connects that it starts at once are told from others by being inside. Any SIP thread. */
void observer_answer(pjsip_resolver_callback *callback, pj_status_t status, void *token,
                     const pjsip_server_addresses *addresses);

/* pjsip's polling thread: notices silence on connections, forgets what was answered long ago. */
void observer_tick(double now);

unsigned long long observer_outstanding(void);
void observer_clear(void);

#endif
