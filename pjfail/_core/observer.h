/*
 * observer.h: sees every request and response on the wire and every connection's end, and notes what they tell of
 * a server. It changes nothing.
 */
#ifndef PJFAIL_OBSERVER_H
#define PJFAIL_OBSERVER_H

#include "layout.h"
#include "pjfail.h"

#include <stdint.h>

/* For the pjsip_module, just above the transport layer. SIP threads, no lock of ours held. */
pj_status_t observer_on_tx_request(pjsip_tx_data *tdata);
pj_bool_t observer_on_rx_response(pjsip_rx_data *rdata);

/* For the transport manager's state callback. */
void observer_on_transport_state(pjsip_transport *transport, pjsip_transport_state state,
                                 const pjsip_transport_state_info *info);

/*
 * Calls back with an answer: the connects that it starts at once are told from others by being inside. While too many connections
 * have ended just now, it is PJ_ETOOMANYCONN, or those servers alone that need no new one. Any SIP thread.
 */
void observer_answer(pjsip_resolver_callback *callback, pj_status_t status, void *token,
                     const pjsip_server_addresses *addresses);

/*
 * A copy of the request with this hash (of branch and method) is sent to server by hand: what its server does counts as with
 * pjsip's own. Any thread.
 */
void observer_note_sent(uint64_t hash, const char *method, const pf_address *server, const pjsip_transport *transport);

/*
 * byhand_connect(), with what becomes of the connection watched. PJ_ETOOMANYCONN: the server has none, and has just refused one,
 * or too many were begun lately.
 */
pj_status_t observer_connect(pjsip_endpoint *endpt, const pf_address *server, const char *host_name,
                             pjsip_transport **connection);

/* As that, for whom it is this server or none, whatever is known of it, as long as pjsip bears it; UDP too. A SIP thread that holds
 * no lock of ours. */
pj_status_t observer_acquire(pjsip_endpoint *endpt, const pf_address *server, const char *host_name,
                             pjsip_transport **transport);

/*
 * Somebody has waited for that connection long enough: its server is suspect until it is there, and it is closed when it never
 * is. Takes over the reference to transport.
 */
void observer_note_late(pjsip_transport *transport, const pf_address *server);

/* Whether that connection is there still, or in the making. */
int observer_knows(const pjsip_transport *transport);

/* Whether that connection is known to be up. */
int observer_is_connected(const pjsip_transport *transport);

/* Whether any connection to the server is known to be up. */
int observer_has_connection(const pf_address *server);

/* pjsip's polling thread: notices silence on connections, forgets what was answered long ago. */
void observer_tick(double now);

unsigned long long observer_outstanding(void);

/* Whether observer_tick() has anything to look at. */
int observer_is_watching(void);
void observer_clear(void);

#endif
