/*
 * byhand.h: sends what pjsip does not send by itself: a request's bytes to another server, and what follows from that.
 */
#ifndef PJFAIL_BYHAND_H
#define PJFAIL_BYHAND_H

#include "layout.h"
#include "pjfail.h"

/* Copies of one message over the same UDP socket. Any thread, whatever it holds: it never waits. */
void byhand_send_datagram(pjsip_transport *udp, const pf_address *server, const char *bytes, size_t size);

/*
 * The connection to server for what names host, opened where there is none; the caller drops its reference. It may be
 * connecting still. A SIP thread that holds no lock of ours.
 */
pj_status_t byhand_connect(pjsip_endpoint *endpt, const pf_address *server, const char *host_name,
                           pjsip_transport **connection);

/* Sends over that connection, once it is there. A SIP thread that holds no lock of ours. */
pj_status_t byhand_send_over(pjsip_endpoint *endpt, pjsip_transport *connection, const char *bytes, size_t size);

/*
 * An ACK (with the To of what it acknowledges) or a CANCEL for the INVITE in bytes, into text; its length, 0 when there is no
 * room. RFC 3261 sections 9.1 and 17.1.1.3.
 */
size_t byhand_write(char *text, size_t room, const char *method, const char *bytes, size_t size, const pjsip_to_hdr *to);

/* An ACK or a BYE in the dialog that this 2xx has set up, as byhand_write(). RFC 3261 sections 13.2.2.4 and 15.1.1. */
size_t byhand_write_in_dialog(char *text, size_t room, const char *method, const pjsip_rx_data *response,
                              const char *bytes, size_t size);

#endif
