/*
 * observer.h: sees every request and response on the wire and every connection's end, and notes what they tell of
 * a server. It changes nothing.
 */
#ifndef PJFAIL_OBSERVER_H
#define PJFAIL_OBSERVER_H

#include "layout.h"
#include "pjfail.h"

#include <stdint.h>

/* How long a request is awaited: timer F; once it has a provisional answer, as long as a call rings. */
#define PATIENCE 33.0
#define RINGING 300.0

/* What a request is found by: its branch and method. */
uint64_t request_hash(const pj_str_t *branch, const pj_str_t *method);

/* For the pjsip_module, just above the transport layer. SIP threads, no lock of ours held. */
pj_status_t observer_on_tx_request(pjsip_tx_data *tdata);
pj_bool_t observer_on_rx_response(pjsip_rx_data *rdata);

/* For the transport manager's state callback. */
void observer_on_transport_state(pjsip_transport *transport, pjsip_transport_state state,
                                 const pjsip_transport_state_info *info);

/*
 * A copy of the request with this hash (of branch and method) is sent to server by hand: what its server does counts as with
 * pjsip's own. Any thread.
 */
void observer_note_sent(uint64_t hash, const char *method, const pf_address *server, const pjsip_transport *transport);

/* pjsip's polling thread: notices silence on connections, forgets what was answered long ago. While there is anything outstanding. */
void observer_tick(double now);

unsigned long long observer_outstanding(void);

void observer_clear(void);

#endif
