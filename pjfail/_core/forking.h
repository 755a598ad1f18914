/*
 * forking.h: an INVITE that was sent to several servers is answered by one of them in the end; the others get CANCEL,
 * ACK and BYE from us.
 *
 * SIP threads that hold no lock of ours. The connection over may be NULL: it is then found, or opened.
 */
#pragma once

#include "requests.h"

/* Sends the request to one of its servers over that transport, which its Via then names. */
pj_status_t forking_send(const struct request *request, const pf_address *server, pjsip_transport *over);

/* Cancels the INVITE at the server. */
void forking_cancel(const struct request *request, const pf_address *server);

/* Sends the ACK for a final response other than 2xx, in place of the transaction. */
void forking_acknowledge(const struct request *request, const pf_address *server, pjsip_transport *over,
                         pjsip_rx_data *response);

/* Acknowledges the 2xx of a call that nobody wants any more, and ends the call. */
void forking_hang_up(const struct request *request, const pf_address *server, pjsip_transport *over,
                     pjsip_rx_data *response);
