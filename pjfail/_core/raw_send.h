/*
 * raw_send.h: sends what pjsip does not send by itself: a request's bytes to another server, and the messages that
 * follow from that.
 */
#pragma once

#include "layout.h"
#include "pjfail.h"

/* Sends a copy of a message over pjsip's UDP socket. Any thread, whatever locks it holds: it never waits. */
void raw_send_datagram(pjsip_transport *udp, const pf_address *server, const char *bytes, size_t size);

/*
 * Returns, in *connection, a connection to server for host_name, opened if there is none; it may still be connecting.
 * The caller drops its reference. A SIP thread that holds no lock of ours.
 */
pj_status_t raw_send_connect(const pf_address *server, const char *host_name, pjsip_transport **connection);

/* Sends over the connection, once it is established. A SIP thread that holds no lock of ours. */
pj_status_t raw_send_over(pjsip_transport *connection, const char *bytes, size_t size);
