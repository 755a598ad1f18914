/*
 * sip_write.h: writes the messages that belong to an INVITE sent to several servers: ACK, CANCEL, BYE. No lock; any
 * thread that pjsip knows.
 */
#pragma once

#include "layout.h"

/*
 * The request in bytes as pjsip would write it for that transport, into text, which has room for SIP_WRITE_VIA_ROOM octets more; its
 * length. Its topmost Via names the transport, and keeps its branch.
 */
enum { SIP_WRITE_VIA_ROOM = 300 };
size_t sip_write_for_transport(char *text, const pjsip_transport *transport, const char *bytes, size_t size);

/*
 * Writes an ACK (with the To of the response that it acknowledges) or a CANCEL for the INVITE in bytes. Returns the
 * length; 0: no room. RFC 3261 sections 9.1 and 17.1.1.3.
 */
size_t sip_write_request(char *text, size_t room, const char *method, const char *bytes, size_t size,
                         const pjsip_to_hdr *to);

/*
 * Writes an ACK or a BYE in the dialog that this 2xx has set up. Returns as sip_write_request(). RFC 3261 sections
 * 13.2.2.4 and 15.1.1.
 */
size_t sip_write_in_dialog(char *text, size_t room, const char *method, const pjsip_rx_data *response,
                           const char *bytes, size_t size);
