/*
 * raw_send.h: sends what pjsip does not send by itself: a request's bytes to another server, and the messages that
 * follow from that.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"

/*
 * Returns, in *connection, a connection to server for host_name, opened if there is none; it may still be connecting.
 * The caller drops its reference. selector: from which listener (NULL: any). A SIP thread that holds no lock of ours.
 */
pj_status_t raw_send_connect(const pf_address *server, const char *host_name, const pjsip_tpselector *selector,
                             pjsip_transport **connection);

/* Whether raw_send_over() logs what it sends, which passes no module of pjsip's: pjsua's own logger does not see that. */
void raw_send_set_logged(int logged);

/*
 * Sends to the server over that transport: at once over UDP, or over its connection, once that is there. A SIP thread that holds no lock
 * of ours.
 */
pj_status_t raw_send_over(pjsip_transport *transport, const pf_address *server, const char *bytes, size_t size);
