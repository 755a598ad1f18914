/*
 * raw_send.h: sends what pjsip does not send by itself: a request's bytes to another server, and what follows from that.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"

/* Copies of one message over the same UDP socket. Any thread, whatever it holds: it never waits. */
void raw_send_datagram(pjsip_transport *udp, const pf_address *server, const char *bytes, size_t size);

/*
 * The connection to server for what names host, opened where there is none; the caller drops its reference. It may be
 * connecting still. selector: from which listener (NULL: any). A SIP thread that holds no lock of ours.
 */
pj_status_t raw_send_connect(const pf_address *server, const char *host_name, const pjsip_tpselector *selector,
                             pjsip_transport **connection);

/* Sends over that connection, once it is there. A SIP thread that holds no lock of ours. */
pj_status_t raw_send_over(pjsip_transport *connection, const char *bytes, size_t size);
